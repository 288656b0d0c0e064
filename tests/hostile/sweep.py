"""Gives hostile folders to bertconv in a process of its own, in which nothing else is loaded and memory is limited."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = """
import json, resource, sys
from bertconv.convert import convert_checkpoint
from bertconv.errors import BertconvError
from bertconv.inspection import inspect_checkpoint
from bertconv.text import printable

folders, sound, limit, commands = json.load(sys.stdin)

# The peak of getrusage() begins with that of the process that started this one, and cannot be forgotten.

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(key))

def children():
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10

def forget_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")

def attempt(folder, number, commands=2):
    steps = (lambda: inspect_checkpoint(folder), lambda: convert_checkpoint(folder, f"out-{number}"))
    kinds = []
    for step in steps[:commands]:
        try:
            step()
            kinds.append("")
        except (BertconvError, MemoryError) as error:
            kinds.append(type(error).__name__)
    return kinds

for number, folder in enumerate(sound):
    kinds = attempt(folder, f"sound-{number}")
    if any(kinds):
        sys.exit(f"{folder} is not sound: {kinds}")
printable("\\0")  # loads a codec
modules, facts, usual = set(sys.modules), [], children()
size = status("VmSize")
resource.setrlimit(resource.RLIMIT_AS, (size + limit, size + limit))
for number, folder in enumerate(folders):
    forget_peak()
    floor = status("VmRSS")
    kinds = attempt(folder, number, commands)
    facts.append((folder, kinds, status("VmHWM") - floor, sorted(set(sys.modules) - modules), children() - usual))
print(json.dumps(facts))
"""


@dataclass(frozen=True)
class Fact:
    """What one folder did: the errors' classes, bytes at its peak, modules that are new.

    `children` is the peak of any process that was started until then, over that of those that read the sound models.
    """

    kinds: list[str]
    memory: int
    modules: list[str]
    children: int


def sweep(folders: list[Path], sound: list[Path], work: Path, limit: int, commands: int = 2) -> dict[Path, Fact]:
    """Inspect and convert every folder, in one process.

    Args:
        folders: the hostile ones.
        sound: models to warm up with: what they load and need is not counted.
        work: where outputs would appear.
        limit: bytes of address space that the process may take beyond that.
        commands: 1 to inspect only.
    """
    asked: Any = [list(map(str, folders)), list(map(str, sound)), limit, commands]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(asked), cwd=work, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {Path(folder): Fact(*facts) for folder, *facts in json.loads(done.stdout)}
