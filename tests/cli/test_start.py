"""What a command imports, and what the command line's own process does without: both are most of a small run's time."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

import checkpoints as cp
import pytest

HIDING = Path(__file__).parents[1] / "without_frameworks"
HEAD = "BertForMaskedLM"
NOWHERE = (
    "torch tensorflow keras transformers tokenizers sentencepiece rich huggingface_hub httpx requests http ssl email"
    " urllib.request asyncio multiprocessing unittest difflib importlib.metadata h5py.tests bertconv.models"
    " bertconv.source.hub bertconv.verify.html bertconv.verify.reference"
    " fsspec aiohttp sqlite3 bertconv.source.remote bertconv.formats.remote bertconv.fleet bertconv.catalog"
).split()
"""Modules that no command needs for a local folder, unless it runs a model."""
NO_ELEMENTS = (
    "safetensors numpy h5py ctypes pickle logging subprocess bertconv.formats.staging bertconv.formats.writing".split()
)
"""Those that a command needs only to read or write elements."""
NO_CHECKPOINT = "tomllib hashlib bertconv.source bertconv.mapping bertconv.containers bertconv.tokenizer".split()
"""Those that a command needs only to look at a checkpoint."""

READER = "bertconv.containers.hdf5.reader"
"""What is not needed to write a file."""

AT_EXIT = """
import atexit, gc, json, os, sys
def tell():
    with open({file!r}, "w") as file:
        json.dump([sorted(sys.modules), gc.isenabled(), os.environ.get("OPENBLAS_NUM_THREADS")], file)
atexit.register(tell)
"""


@pytest.fixture(scope="module")
def src(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cp.save(tmp_path_factory.mktemp("made") / "in", HEAD, cp.state_dict(HEAD)).parent / "in"


def after(tmp_path: Path, arguments: str, src: Path, **environment: str) -> tuple[set[str], bool, str | None]:
    """The modules of a process at its end, whether it collected cycles, and OpenBLAS's number of threads."""
    file = tmp_path / "told.json"
    words = arguments.replace("SRC", str(src)).replace("OUT", str(tmp_path / "out")).split()
    done = cp.run(*words, before=AT_EXIT.format(file=str(file)), **environment)
    assert done.code == 0, done.err
    modules, collected, threads = json.loads(file.read_text())
    return set(modules), collected, threads


@pytest.mark.parametrize(
    ("arguments", "without"),
    [
        ("--help", NO_ELEMENTS + NO_CHECKPOINT),
        ("--version", NO_ELEMENTS + NO_CHECKPOINT),
        ("inspect SRC", NO_ELEMENTS),
        ("inspect SRC --json", NO_ELEMENTS),
        ("doctor SRC --for others", NO_ELEMENTS),
        ("gc --dry-run --json SRC", ["numpy", "h5py", "safetensors"]),
        ("tables show bert", NO_ELEMENTS),
        ("verify SRC SRC --level weights", ["h5py"]),
        ("hash SRC --values --per-tensor", ["h5py", "safetensors", "bertconv.verify"]),
        ("diff SRC SRC", ["h5py"]),
        ("pt2tf SRC OUT --dry-run", ["numpy", "h5py", "bertconv.verify"]),
        ("pt2tf SRC OUT --verify none", ["safetensors", "xxhash", "h5py", "bertconv.verify", READER]),
        ("pt2tf SRC OUT --verify weights", ["h5py", "bertconv.verify", READER]),
        ("resize SRC OUT --size 120 --dry-run", ["numpy", "h5py", "bertconv.verify"]),
        ("resize SRC OUT --size 120 --verify weights", ["h5py", "bertconv.verify", READER]),
        ("convert SRC OUT --to pt --verify none", ["numpy", "safetensors", "xxhash", "h5py", "bertconv.verify"]),
        ("convert SRC OUT --to pt --verify weights", ["h5py", "bertconv.verify"]),
        ("shard SRC OUT --max-size 50kB --verify none", ["numpy", "safetensors", "xxhash", "h5py", "bertconv.verify"]),
        (
            "extract SRC OUT --class BertModel --verify none",
            ["numpy", "safetensors", "xxhash", "h5py", "bertconv.verify"],
        ),
        ("cast SRC OUT --dtype float16 --dry-run", ["numpy", "h5py", "bertconv.verify"]),
        ("average SRC SRC --output OUT --verify weights", ["h5py"]),
        ("merge SRC SRC --output OUT --method slerp --verify none", ["h5py", "safetensors", READER]),
    ],
)
def test_nothing_is_imported_that_a_command_does_not_use(
    tmp_path: Path, src: Path, arguments: str, without: list[str]
) -> None:
    modules, _, _ = after(tmp_path, arguments, src)
    assert sorted(modules & {*NOWHERE, *without}) == []


@pytest.mark.parametrize(
    "arguments",
    ["inspect SRC", "diff SRC SRC", "verify SRC SRC --level weights", "pt2tf SRC OUT --dry-run",
     "pt2tf SRC OUT --verify none", "convert SRC OUT --to pt --verify weights"],
)  # fmt: skip
def test_a_process_that_only_copies_collects_no_cycles_and_starts_no_threads(
    tmp_path: Path, src: Path, arguments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert after(tmp_path, arguments, src)[1:] == (False, "1")


def test_a_number_of_threads_that_the_user_set_stays(tmp_path: Path, src: Path) -> None:
    assert after(tmp_path, "pt2tf SRC OUT --verify none", src, OPENBLAS_NUM_THREADS="3")[2] == "3"


@pytest.mark.parametrize("arguments", ["--help", "pt2tf SRC OUT --verify auto"])
def test_other_processes_collect_cycles(tmp_path: Path, src: Path, arguments: str) -> None:
    assert after(tmp_path, arguments, src, PYTHONPATH=str(HIDING))[1]


def test_a_process_of_somebody_else_stays_as_it_is(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    frozen = gc.get_freeze_count()
    assert cp.call("pt2tf", src, tmp_path / "out", "--verify", "none", "--quiet") == 0
    assert gc.isenabled()
    assert gc.get_freeze_count() <= frozen  # what pytest froze may go
    assert "OPENBLAS_NUM_THREADS" not in os.environ
