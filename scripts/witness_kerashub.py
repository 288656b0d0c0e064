#!/usr/bin/env python3
"""Hold bertconv to KerasHub: what KerasHub writes is read, what bertconv writes is loaded and computes the same.

    python scripts/witness_kerashub.py PYTHON [WORK]

PYTHON is that of an environment with keras-hub, tensorflow, torch and transformers; bertconv itself needs none of them.
Every class that both have is made once by each side: presets, `.weights.h5` and `.keras` by KerasHub, whose tensors are
compared with its variables bit by bit, and checkpoints by transformers, which become presets and come back. Outputs are
compared in both directions, in float64 where KerasHub loads it. The exit status is 1 where a number is too large.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from bertconv.convert import convert_checkpoint
from bertconv.errors import BertconvError
from bertconv.source import open_source
from bertconv.source.reading import open_header

SIDE = Path(__file__).with_name("witness_kerashub_side.py")
LIMITS = {"float64": 1e-10, "float32": 2e-5}
"""Largest relative difference of outputs; in float64 the other side computes its gelu in that precision."""
NEITHER = {"BertMaskedLM": 2e-2}
"""Where KerasHub computes the body with one gelu and the head with the other, which no config says."""
EPSILON = {"BertMaskedLM", "AlbertMaskedLM", "DistilBertMaskedLM"}
"""Classes whose head KerasHub normalises with 1e-5, whatever the body has."""


def side(python: str, *arguments: str) -> str:
    """Run the other side, and give what it prints."""
    done = subprocess.run([python, str(SIDE), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)[:200]} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def arrays(path: Path, config: Path | None = None) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """Every tensor that bertconv finds at a place."""
    from bertconv.source import SourceOptions

    with closing(open_header(open_source(str(path), SourceOptions(config=config)))) as header:
        found = []
        for tensor in header.tensors:
            buffer = bytearray(tensor.nbytes)
            tensor.read_into(memoryview(buffer), 0)
            found.append((tensor.name, np.frombuffer(buffer, tensor.dtype).reshape(tensor.shape)))
        return found


def read_problems(place: Path) -> Iterator[str]:
    """What is not equal of the three ways in which KerasHub saved one model."""
    with np.load(place / "variables.npz") as stored:
        wanted = sorted(
            (value.shape, value.tobytes()) for name, value in stored.items() if "seed_generator" not in name
        )
    for kind in ("preset", "whole.weights.h5", "whole.keras"):
        try:
            found = sorted(
                (value.shape, value.tobytes())
                for _, value in arrays(place / kind, None if kind == "preset" else place / "preset" / "config.json")
            )
        except BertconvError as error:
            yield f"{kind}: {error}"
            continue
        if found != wanted:
            yield f"{kind}: {len(found)} tensors, of which {len(set(found) & set(wanted))} of {len(wanted)} are equal"


def same_tensors(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same bits under the same names."""
    first, second = (dict(arrays(path)) for path in (one, other))
    return first.keys() == second.keys() and all(first[name].tobytes() == second[name].tobytes() for name in first)


def main(python: str, work: Path) -> int:
    """Everything, one line a class."""
    if not (work / "made").exists():
        side(python, "make", str(work / "made"))
        side(python, "torch", str(work / "torch"))
    jobs, problems = [], []
    for place in sorted((work / "made").iterdir()):
        found = list(read_problems(place))
        digests = set()
        for kind in ("preset", "whole.weights.h5", "whole.keras"):
            config = None if kind == "preset" else place / "preset" / "config.json"
            out = work / "read" / place.name / kind
            digests.add(convert_checkpoint(place / kind, out, to="pt", config=config, overwrite=True).digest)
        if len(digests) != 1:
            found.append("the three files are three models")
        problems += [f"{place.name}: {one}" for one in found]
        print(f"{place.name:24} read {found or 'bit by bit'}", flush=True)
        jobs.append((place / "preset", work / "read" / place.name / "preset", "float32"))
    for place in sorted((work / "torch").iterdir()):
        convert_checkpoint(place, work / "presets" / place.name, to="keras-hub", overwrite=True)
        convert_checkpoint(work / "presets" / place.name, work / "back" / place.name, to="pt", overwrite=True)
        same = same_tensors(place, work / "back" / place.name)
        print(f"{place.name:24} there and back {'bit by bit' if same else 'OTHER BITS'}", flush=True)
        problems += [] if same else [f"{place.name}: comes back with other bits"]
        jobs += [(work / "presets" / place.name, place, dtype) for dtype in ("float64", "float32")]
    lines = "\n".join("\t".join(map(str, job)) for job in jobs)
    for line in side(python, "compare", lines).splitlines():
        if line.startswith("RESULT "):
            problems += list(judged(*json.loads(line.removeprefix("RESULT "))))
    for problem in problems:
        print(f"PROBLEM {problem}")
    return bool(problems)


def judged(preset: str, dtype: str, differences: dict[str, float]) -> Iterator[str]:
    """One comparison, printed; what is too large of it."""
    path = Path(preset)
    name = path.parent.name if path.name == "preset" else path.name
    limit = NEITHER.get(name, max(LIMITS[dtype], 5e-4 if name in EPSILON else 0.0))
    whose = "KerasHub's" if path.name == "preset" else "bertconv's"
    shown = ", ".join(f"{key} {value:.1e}" for key, value in differences.items())
    print(f"{name:24} {whose} preset, {dtype}: {shown}", flush=True)
    yield from (
        f"{name} ({whose}): {key} differs by {value:.1e}" for key, value in differences.items() if value > limit
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        sys.exit(main(sys.argv[1], Path(sys.argv[2])))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(main(sys.argv[1], Path(folder)))
