"""The outside witness: transformers 4.57.6, the last release with TensorFlow classes, judges what bertconv writes.

    python scripts/witness.py                                      tiny models of all nine heads, and BERT-base
    python scripts/witness.py --sizes tiny --heads BertForMaskedLM
    python scripts/witness.py --sizes tiny,base,large --env DIR

DIR is a virtual environment with transformers 4.57.6, TensorFlow and tf-keras. It is made when it is not there yet, by
default in the user's cache (about 3 GB; TensorFlow 2.19 needs a Python of at most 3.12: see --python). bertconv runs
from the environment of the Python that runs this file. Neither the package nor its tests depend on any of this.

For every case, a random PyTorch checkpoint made by 4.57.6:
    file      our tf_model.h5 and the one that 4.57.6 writes: same groups, paths, lists of names, bits
    load      4.57.6 loads ours with nothing missing, unexpected or mismatched, every value right
    back      `bertconv tf2pt` of what 4.57.6 wrote is the original checkpoint, bit for bit
One line per case; exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
from safetensors import safe_open

TRANSFORMERS = "4.57.6"
PACKAGES = (f"transformers=={TRANSFORMERS}", "tensorflow==2.19.*", "tf-keras==2.19.*", "torch==2.13.0")
SIDE = Path(__file__).with_name("witness_side.py")
BERTCONV = (sys.executable, "-c", "from bertconv.cli import main; main()")

HEADS = (
    "BertModel", "BertForPreTraining", "BertForMaskedLM", "BertLMHeadModel", "BertForNextSentencePrediction",
    "BertForSequenceClassification", "BertForMultipleChoice", "BertForTokenClassification", "BertForQuestionAnswering",
)  # fmt: skip

TINY = {
    "vocab_size": 101, "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 37,
    "max_position_embeddings": 19, "type_vocab_size": 5, "num_labels": 7,
}  # fmt: skip
"""Every size another one, so that no axis can pass for another."""
DECODER = {"is_decoder": True, "add_cross_attention": True, "type_vocab_size": 1}
DEEP = {"num_hidden_layers": 64, "hidden_size": 6}
"""So many names that one HDF5 attribute does not hold them."""
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}

CONVERSIONS = {
    "ours-h5": ("pt2tf", "pt"),
    "ours-h5-shards": ("pt2tf", "pt", "--max-shard-size", "{shard}"),
    "ours-h5-float16": ("pt2tf", "pt", "--dtype", "float16"),
    "ours-h5-bfloat16": ("pt2tf", "pt", "--dtype", "bfloat16"),
    "ours-safetensors": ("convert", "pt", "--to", "tf-safetensors"),
    "ours-safetensors-shards": ("convert", "pt", "--to", "tf-safetensors", "--max-shard-size", "{shard}"),
    "back-h5": ("tf2pt", "theirs-h5"),
    "back-h5-shards": ("tf2pt", "theirs-h5-shards"),
    "back-safetensors": ("tf2pt", "theirs-safetensors"),
    "back-safetensors-shards": ("tf2pt", "theirs-safetensors-shards"),
}
"""Folder -> the command that writes it, its source, its options."""


@dataclass(frozen=True)
class Case:
    """One checkpoint.

    Attributes:
        name: what the line says.
        head: model class.
        config: config keys.
        folder: where everything of the case lies.
        model: more arguments of the model class.
        shard: largest shard, where shards are made.
        seed: of the random values.
        second: 4.57.6 converts it as the second model of its process: names begin with `tf_..._1/`.
        outer: 4.57.6 converts it inside of these scopes: names begin with `outer/tf_.../`.
        pickled: pytorch_model.bin instead of model.safetensors.
    """

    name: str
    head: str
    config: dict[str, Any]
    folder: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    shard: str = "20KB"
    seed: int = 0
    second: bool = False
    outer: str = ""
    pickled: bool = False


@dataclass(frozen=True)
class Layer:
    """A top-level group of a tf_model.h5: the list of its weights' names, and its datasets by path."""

    weight_names: list[str]
    datasets: dict[str, h5py.Dataset]


def main() -> int:
    """Make the cases, convert them, ask the witness; 0 when everything agrees."""
    options = arguments()
    python = witness_python(options.env, options.python)
    failed = 0
    for size in options.sizes:
        with tempfile.TemporaryDirectory(prefix="bertconv-witness-", dir=options.temp) as temp:
            chosen = [case for case in cases(size, Path(temp)) if case.head in options.heads]
            failed += witness(python, chosen, Path(temp))
    print("FAILED" if failed else "everything agrees", f"({failed} cases differ)" if failed else "")
    return 1 if failed else 0


def witness(python: Path, chosen: Sequence[Case], temp: Path) -> int:
    """Run the cases of one size, print a line for each, return how many failed."""
    ask(python, "make", chosen, temp)
    refused = [convert(case) for case in chosen]
    converted = [case for case, problems in zip(chosen, refused, strict=True) if not problems]
    loads = iter(ask(python, "load", converted, temp))
    failed = 0
    for case, problems in zip(chosen, refused, strict=True):
        result = problems or {
            "premises": premises(case), "file": compare_files(case), **compare_back(case), **next(loads),
        }  # fmt: skip
        failed += show(case, result)
    return failed


def show(case: Case, result: dict[str, list[str]]) -> bool:
    """One line per case, and below it what differs; whether anything does."""
    passed = sum(not problems for problems in result.values())
    with safe_open(Path(case.folder, "reference/model.safetensors"), "numpy") as reference:
        tensors = len(reference.keys())
    verdict = "ok  " if passed == len(result) else "FAIL"
    print(f"{verdict} {case.name}: {tensors} tensors, {passed} of {len(result)} checks hold", flush=True)
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


def cases(size: str, temp: Path) -> list[Case]:
    """What is tried in one size."""
    if size != "tiny":
        config, shard = {"base": ({}, "100MB"), "large": (LARGE, "300MB")}[size]
        found = [Case(f"{size} BertForPreTraining", "BertForPreTraining", dict(config), shard=shard)]
    else:
        found = [Case(f"tiny {head}", head, tiny(head)) for head in HEADS]
        found += [
            Case("tiny BertLMHeadModel, decoder with cross-attention, one segment", "BertLMHeadModel",
                 tiny("BertLMHeadModel") | DECODER),
            Case("tiny BertModel without pooler", "BertModel", tiny("BertModel"), model={"add_pooling_layer": False}),
            Case("tiny BertForPreTraining, second model of its process", "BertForPreTraining",
                 tiny("BertForPreTraining"), second=True),
            Case("tiny BertForPreTraining, in one scope", "BertForPreTraining", tiny("BertForPreTraining"),
                 outer="outer"),
            Case("tiny BertForPreTraining, in two scopes", "BertForPreTraining", tiny("BertForPreTraining"),
                 outer="outer/inner"),
            Case("tiny BertForMaskedLM, pytorch_model.bin", "BertForMaskedLM", tiny("BertForMaskedLM"), pickled=True),
            Case("tiny BertForTokenClassification, 64 layers", "BertForTokenClassification",
                 tiny("BertForTokenClassification") | DEEP),
        ]  # fmt: skip
    return [
        Case(**{**vars(case), "folder": str(temp / f"case-{number}"), "seed": number})
        for number, case in enumerate(found)
    ]


def tiny(head: str) -> dict[str, Any]:
    """The tiny config; 4.57.6 builds a question answering model with two labels only."""
    return {**TINY, "num_labels": 2} if head == "BertForQuestionAnswering" else dict(TINY)


def convert(case: Case) -> dict[str, list[str]]:
    """Run every conversion of a case through the command line; what refused, if anything."""
    refused = {}
    folder = Path(case.folder)
    for target, (command, source, *options) in CONVERSIONS.items():
        filled = [option.format(shard=case.shard) for option in options]
        run = subprocess.run(
            [*BERTCONV, command, str(folder / source), str(folder / target), *filled, "--quiet"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if run.returncode:
            refused[f"bertconv {command} {' '.join(filled)}"] = [f"exit code {run.returncode}: {run.stderr.strip()}"]
    return refused


def compare_files(case: Case) -> list[str]:
    """Our tf_model.h5 against theirs; the names of the models only where both are the first of their process."""
    folder = Path(case.folder)
    whole = not (case.second or case.outer)
    scopes = 1 + len([*filter(None, case.outer.split("/"))])
    with h5py.File(folder / "ours-h5/tf_model.h5") as ours, h5py.File(folder / "theirs-h5/tf_model.h5") as theirs:
        mine, other = layers(ours, 0 if whole else 1), layers(theirs, 0 if whole else scopes)
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


def compare_back(case: Case) -> dict[str, list[str]]:
    """What tf2pt made of their files against the checkpoint that they came from."""
    original = Path(case.folder, "reference/model.safetensors")
    backs = [name for name in CONVERSIONS if name.startswith("back-")]
    return {
        name.replace("-", " "): list(compare_safetensors(Path(case.folder, name, "model.safetensors"), original))
        for name in backs
    }


def compare_safetensors(ours: Path, original: Path) -> Iterator[str]:
    """What differs between two safetensors files."""
    with safe_open(ours, "numpy") as mine, safe_open(original, "numpy") as other:
        names, expected = set(mine.keys()), set(other.keys())
        yield from (f"only on one side: {name}" for name in sorted(names ^ expected))
        for name in sorted(names & expected):
            found, wanted = mine.get_tensor(name), other.get_tensor(name)
            if (found.dtype, found.shape) != (wanted.dtype, wanted.shape) or found.tobytes() != wanted.tobytes():
                yield f"{name} has other bits"


def ask(python: Path, verb: str, chosen: Sequence[Case], temp: Path) -> list[dict[str, list[str]]]:
    """Run one step of many cases in the witness environment."""
    jobs, results = temp / f"{verb}-jobs.json", temp / f"{verb}-results.json"
    jobs.write_text(json.dumps([asdict(case) for case in chosen]), encoding="utf-8")
    run = subprocess.run([python, SIDE, verb, jobs, results], capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"The witness failed at `{verb}`:\n{run.stderr[-5000:]}")
    found: list[dict[str, list[str]]] = json.loads(results.read_text(encoding="utf-8"))
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
    parser.add_argument("--sizes", default="tiny,base", help="of tiny, base, large [default: %(default)s]")
    parser.add_argument("--heads", default=",".join(HEADS), help="model classes [default: all]")
    parser.add_argument("--temp", type=Path, help="where the checkpoints go (base: 6 GB, large: 18 GB)")
    options = parser.parse_args()
    options.sizes, options.heads = options.sizes.split(","), options.heads.split(",")
    for given, known in ((options.sizes, ("tiny", "base", "large")), (options.heads, HEADS)):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
