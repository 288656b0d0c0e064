"""Import TensorFlow without its lines about CPU features and missing GPUs, which it writes past every setting."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def import_tensorflow() -> None:
    """Import it; what it wrote is shown when that fails."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _held_back():
        import tensorflow as tf

        tf.zeros(())  # starts the runtime, which has its own lines


@contextmanager
def _held_back() -> Iterator[None]:
    """What is written to file descriptor 2 goes to a file, and from there to its place when there is an error."""
    with suppress(AttributeError, ValueError):  # Python's own stream may be None, or closed
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # the process has no stderr
        yield
        return
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except Exception:
            os.dup2(kept, 2)
            aside.seek(0)
            os.write(2, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
