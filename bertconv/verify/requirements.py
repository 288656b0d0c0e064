"""What running both sides takes: their frameworks, and memory for the model in float64."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from bertconv.checkpoint import Checkpoint
from bertconv.text import human_bytes

OWN_TABLE = "the mapping table is not bertconv's own"
"""Why outputs are not compared where the user gives a table: both sides are run by classes of the built-in one."""

PER_WEIGHT = 3 * 8
"""Bytes of memory per weight that the outputs level needs at most: docs/verify.md has the measurement."""

_MEMORY = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def outputs_obstacle(a: Checkpoint, b: Checkpoint) -> str | None:
    """Why the outputs of two sides had better not be compared unless that is asked for; None where all is there."""
    if not b.table.is_builtin:
        return OWN_TABLE
    needed = dict.fromkeys((side.spoken.framework, side.spoken.title) for side in (a, b))
    if missing := [name for module, name in needed if importlib.util.find_spec(module) is None]:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
    wanted = PER_WEIGHT * max(sum(tensor.spec.count for tensor in side.tensors.values()) for side in (a, b))
    free = available_memory()
    if free is not None and wanted > free:
        return f"that takes up to {human_bytes(wanted)} of memory, and {human_bytes(free)} are free"
    return None


def available_memory() -> int | None:
    """Bytes that this process may still take: of the machine and of its control group; None where neither says.

    Sources: proc(5), MemAvailable; the kernel's documentation of cgroup v2, memory.max and memory.current.
    """
    found = []
    for line in _lines(_MEMORY):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            found.append(int(value.split()[0]) * 1024)
    most, used = (_lines(_CGROUP / name) for name in ("memory.max", "memory.current"))
    if most and used and most[0].isdigit() and used[0].isdigit():
        found.append(int(most[0]) - int(used[0]))
    return min(found, default=None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
