"""What is known of tensor bundles before any of their readers is needed."""

from __future__ import annotations

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
"""The last bytes of an index."""
