"""The outside witness: transformers 4.57.6, the last release with TensorFlow classes, judges what bertconv writes.

    python scripts/witness.py                                      tiny models of every family and head
    python scripts/witness.py --families roberta,albert --heads AlbertForMaskedLM
    python scripts/witness.py --sizes tiny,deep,base,large --env DIR

DIR is a virtual environment with transformers 4.57.6, TensorFlow and tf-keras. It is made when it is not there yet, by
default in the user's cache (about 3 GB; TensorFlow 2.19 needs a Python of at most 3.12: see --python). bertconv runs
from the environment of the Python that runs this file. Neither the package nor its tests depend on any of this.

For every case, a random PyTorch checkpoint made by 4.57.6:
    file      our tf_model.h5 and the one that 4.57.6 writes: same groups, paths, lists of names, bits
    load      4.57.6 loads ours with nothing missing, unexpected or mismatched, every value right, and computes what
              PyTorch's model computes; also what `save_pretrained` of our TensorFlow classes wrote
    back      what 4.57.6 wrote comes back as the original checkpoint, bit for bit, and transformers 5 loads it with an
              empty report and computes the same
    our class our TensorFlow class computes the same, from PyTorch's file and from 4.57.6's tf_model.h5
One line per case; exit code 1 when anything differs. Weights that 4.57.6's class makes and that no tensor of PyTorch
fills, or that it does not compute with, may have any value; the line names them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
from safetensors import safe_open
from witness_cases import SIZES, Case, cases

from bertconv.families import families

TRANSFORMERS = "4.57.6"
PACKAGES = (f"transformers=={TRANSFORMERS}", "tensorflow==2.19.*", "tf-keras==2.19.*", "torch==2.13.0")
SIDE, OWN = (Path(__file__).with_name(name) for name in ("witness_side.py", "witness_own.py"))


@dataclass(frozen=True)
class Layer:
    """A top-level group of a tf_model.h5: the list of its weights' names, and its datasets by path."""

    weight_names: list[str]
    datasets: dict[str, h5py.Dataset]

    def leave_out(self, names: Sequence[str]) -> None:
        """Take weights out of both, which are named without the model's name."""
        self.weight_names[:] = [name for name in self.weight_names if name not in names]
        for name in names:
            self.datasets.pop(name, None)


def main() -> int:
    """Make the cases, convert them, ask the witness; 0 when everything agrees."""
    options = arguments()
    python = witness_python(options.env, options.python)
    failed = number = 0
    wanted = {name: families()[name] for name in options.families}
    for size in options.sizes:
        with tempfile.TemporaryDirectory(prefix="bertconv-witness-", dir=options.temp) as temp:
            found = cases(size, Path(temp), wanted)
            chosen = [case for case in found if options.only in case.name]
            chosen = [case for case in chosen if not options.heads or case.head in options.heads]
            number += len(chosen)
            failed += witness(python, chosen, Path(temp))
    print("FAILED" if failed else "everything agrees", f"({failed} of {number} cases differ)")
    return 1 if failed else 0


def witness(python: Path, chosen: Sequence[Case], temp: Path) -> int:
    """Run the cases of one size, print a line for each, return how many failed."""
    jobs = [asdict(case) for case in chosen]
    facts = ask(python, SIDE, "make", jobs, temp)
    jobs = [job | fact for job, fact in zip(jobs, facts, strict=True)]
    results = ask(Path(sys.executable), OWN, "own", jobs, temp)
    judged = [number for number, fact in enumerate(facts) if fact["has_class"] and not refused(results[number])]
    loads = ask(python, SIDE, "load", [jobs[number] for number in judged], temp)
    for number, found in zip(judged, loads, strict=True):
        case, loose = chosen[number], facts[number]["loose"]
        results[number] = {
            "premises": premises(case), "file": compare_files(case, loose), **results[number], **found,
        }  # fmt: skip
    return sum(show(*row) for row in zip(chosen, facts, results, strict=True))


def refused(result: Mapping[str, list[str]]) -> bool:
    """Whether bertconv refused a conversion."""
    return any(check.startswith("bertconv") for check in result)


def show(case: Case, fact: Mapping[str, Any], result: dict[str, list[str]]) -> bool:
    """One line per case, and below it what differs; whether anything does."""
    passed = sum(not problems for problems in result.values())
    reference, tensors = Path(case.folder, "reference/model.safetensors"), 0
    if reference.exists():
        with safe_open(reference, "numpy") as stored:
            tensors = len(stored.keys())
    verdict = "ok  " if passed == len(result) else "FAIL"
    notes = [] if fact["has_class"] else [f"{TRANSFORMERS} has no TensorFlow class for it"]
    notes += [f"any value in {', '.join(fact['loose'])}"] if fact["loose"] else []
    print(f"{verdict} {case.name}: {tensors} tensors, {passed} of {len(result)} checks hold",
          *(f"({note})" for note in notes), flush=True)  # fmt: skip
    for check, problems in result.items():
        for problem in problems[:10]:
            print(f"       {check}: {problem}")
        if len(problems) > 10:
            print(f"       {check}: and {len(problems) - 10} more")
    return passed < len(result)


def premises(case: Case) -> list[str]:
    """What would make a case prove nothing."""
    folder = Path(case.folder)
    with h5py.File(folder / "theirs-h5/tf_model.h5") as theirs:
        names = [name for layer in layers(theirs, 0).values() for name in layer.weight_names]
    parts = [*filter(None, case.outer.split("/"))]
    facts = {
        "our h5 is not sharded": len(list((folder / "ours-h5-shards").glob("tf_model-*.h5"))) > 1,
        "their h5 is not sharded": len(list((folder / "theirs-h5-shards").glob("tf_model-*.h5"))) > 1,
        "our safetensors are not sharded": len(list((folder / "ours-safetensors-shards").glob("model-*"))) > 1,
        "their safetensors are not sharded": len(list((folder / "theirs-safetensors-shards").glob("model-*"))) > 1,
        "the source has the wrong container": (folder / "pt/pytorch_model.bin").exists() == case.pickled,
        "the model's name is not the expected one": {
            (name.split("/")[: len(parts)] == parts, name.split("/")[len(parts)].endswith("_1")) for name in names
        }
        == {(True, case.second)},
    }
    return [problem for problem, holds in facts.items() if not holds]


def compare_files(case: Case, loose: Sequence[str]) -> list[str]:
    """Our tf_model.h5 against theirs; the names of the models only where both are the first of their process."""
    folder = Path(case.folder)
    whole = not (case.second or case.outer or loose)
    scopes = 1 + len([*filter(None, case.outer.split("/"))])
    with h5py.File(folder / "ours-h5/tf_model.h5") as ours, h5py.File(folder / "theirs-h5/tf_model.h5") as theirs:
        mine, other = layers(ours, 0 if whole else 1), layers(theirs, 0 if whole else scopes)
        for found in (*mine.values(), *other.values()):
            found.leave_out(loose)
        if list(mine) != list(other):
            return [f"groups {list(mine)} instead of {list(other)}"]
        return [problem for name in mine for problem in compare_layers(name, mine[name], other[name])]


def compare_layers(group: str, ours: Layer, theirs: Layer) -> Iterator[str]:
    """What differs between two groups."""
    if ours.weight_names != theirs.weight_names:
        yield f"{group}: weight_names differ: {ours.weight_names[:3]}... instead of {theirs.weight_names[:3]}..."
    yield from (f"{group}: only in ours: {path}" for path in sorted(ours.datasets.keys() - theirs.datasets.keys()))
    yield from (f"{group}: only in theirs: {path}" for path in sorted(theirs.datasets.keys() - ours.datasets.keys()))
    for path in sorted(ours.datasets.keys() & theirs.datasets.keys()):
        mine, other = ours.datasets[path], theirs.datasets[path]
        if (mine.dtype, mine.shape) != (other.dtype, other.shape):
            yield f"{group}: {path} is {mine.dtype} {mine.shape} instead of {other.dtype} {other.shape}"
        elif mine[()].tobytes() != other[()].tobytes():
            yield f"{group}: {path} has other bits"


def layers(file: h5py.File, scopes: int) -> dict[str, Layer]:
    """Top-level groups that hold weights, in the order of `layer_names`; so many scopes are taken off the names."""

    def cut(name: str) -> str:
        return name.split("/", scopes)[scopes]

    found = {}
    for name in names_in(file.attrs, "layer_names"):
        datasets = {cut(path): dataset for path, dataset in datasets_below(file[name])}
        if datasets:
            found[name] = Layer([cut(weight) for weight in names_in(file[name].attrs, "weight_names")], datasets)
    return found


def names_in(attributes: h5py.AttributeManager, key: str) -> list[str]:
    """A list of names; Keras splits a long one over key0, key1, ..."""
    chunks = (
        [key] if key in attributes else [part for n in range(len(attributes)) if (part := f"{key}{n}") in attributes]
    )
    values = [value for chunk in chunks for value in attributes[chunk]]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def datasets_below(group: h5py.Group, path: str = "") -> Iterator[tuple[str, h5py.Dataset]]:
    """Every dataset by its path, as often as it is linked (h5py's own walk shows it once)."""
    for name, child in group.items():
        if isinstance(child, h5py.Group):
            yield from datasets_below(child, f"{path}{name}/")
        else:
            yield f"{path}{name}", child


def ask(python: Path, script: Path, verb: str, jobs: Sequence[dict[str, Any]], temp: Path) -> list[dict[str, Any]]:
    """Run one step of many cases in an environment."""
    asked, results = temp / f"{verb}-jobs.json", temp / f"{verb}-results.json"
    asked.write_text(json.dumps(jobs), encoding="utf-8")
    run = subprocess.run([python, script, verb, asked, results], capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"The witness failed at `{verb}`:\n{run.stderr[-5000:]}")
    found: list[dict[str, Any]] = json.loads(results.read_text(encoding="utf-8"))
    return found


def witness_python(env: Path, base: str) -> Path:
    """The interpreter of the witness environment, which is made when it is not there."""
    python = env / "bin/python"
    if not python.exists():
        print(f"Making {env} with {', '.join(PACKAGES)} ...", flush=True)
        started = time.perf_counter()
        subprocess.run([base, "-m", "venv", env], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        print(f"... made in {time.perf_counter() - started:.0f} s", flush=True)
    code = "from importlib.metadata import version; print(version('transformers'))"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()
    if found != TRANSFORMERS:
        sys.exit(
            f"{env} holds transformers {found or '(none)'}, the witness is {TRANSFORMERS}; remove it or give another."
        )
    return python


def arguments() -> argparse.Namespace:
    """The command line."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--env", type=Path, default=cache / "bertconv/witness", help="[default: %(default)s]")
    parser.add_argument("--python", default=sys.executable, help="makes the environment [default: this one]")
    known = list(families())
    parser.add_argument("--sizes", default="tiny", help=f"of {', '.join(SIZES)} [default: %(default)s]")
    parser.add_argument("--families", default=",".join(known), help="model types [default: all]")
    parser.add_argument("--heads", default="", help="model classes [default: all]")
    parser.add_argument("--only", default="", help="a word of the cases' names")
    parser.add_argument("--temp", type=Path, help="where the checkpoints go (base: 6 GB, large: 18 GB)")
    options = parser.parse_args()
    heads = [head for family in families().values() for head in family.tasks]
    for name, possible in (("sizes", SIZES), ("families", known), ("heads", heads)):
        given = [one for one in getattr(options, name).split(",") if one]
        setattr(options, name, given)
        if unknown := [one for one in given if one not in possible]:
            parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(possible)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
