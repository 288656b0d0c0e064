"""The recipes of docs/scale.md: run as they stand where their engines are, and held to our functions everywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import checkpoints as cp
import pytest

from bertconv.errors import RequestError
from bertconv.fleet.items import Item, placed, shard, write_items
from bertconv.fleet.ledger import read_ledgers
from qa import ROOT

PAGE = (ROOT / "docs" / "scale.md").read_text()
SMALL = {"num_hidden_layers": 1}


def block(language: str, words: str) -> str:
    """The only block of the page in a language that has these words."""
    (found,) = (
        text for text in re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if words in text
    )
    return str(found)


DASK, SPARK, OWN = block("python", "# Dask"), block("python", "# Spark"), block("python", "run_fleet(")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A list of three, one of them broken."""
    names = ("one", "two", "cut")
    for seed, name in enumerate(names):
        cp.save(tmp_path / name, "BertModel", cp.state_dict("BertModel", seed=seed, **SMALL), **SMALL)
    os.truncate(tmp_path / "cut" / "model.safetensors", 5000)
    items = [Item(str(tmp_path / name), options={"to": "tf-safetensors"}) for name in names]
    (tmp_path / "list.jsonl").write_text("".join(write_items(items)))
    return tmp_path


def check(folder: Path) -> None:
    """Each item has its line, and the good ones their outputs."""
    lines = [json.loads(line) for line in (folder / "outcomes.jsonl").read_text().splitlines()]
    found = {Path(line["src"]).name: (line["state"], line["code"]) for line in lines}
    assert found == {"one": ("done", 0), "two": ("done", 0), "cut": ("failed", 5)}
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["one", "two"]
    for name in ("one", "two"):
        assert sorted(cp.written(folder / "out" / name)) == sorted(cp.tf_state(cp.state_dict("BertModel", **SMALL)))


def run_script(text: str, folder: Path, **environment: str) -> None:
    (folder / "recipe.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "recipe.py"], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_fleet_from_python(folder: Path) -> None:
    run_script(OWN.replace("checkpoints/", "."), folder)
    assert sorted(cp.written(folder / "out" / "one")) == sorted(cp.tf_state(cp.state_dict("BertModel", **SMALL)))
    rows = {Path(row.src).name: (row.state, row.code) for row in read_ledgers(folder / "out" / ".bertconv-fleet")}
    assert rows == {"one": ("done", 0), "two": ("done", 0), "cut": ("failed", 5)}


@pytest.mark.skipif(find_spec("dask") is None or find_spec("distributed") is None, reason="Dask is not installed")
def test_dask(folder: Path) -> None:
    run_script(DASK, folder)
    check(folder)


@pytest.mark.skipif(find_spec("pyspark") is None or shutil.which("java") is None, reason="Spark is not installed")
def test_spark(folder: Path) -> None:
    run_script(SPARK, folder, PYSPARK_PYTHON=sys.executable)
    check(folder)


class StandInFuture:
    """Of the stand-in for Dask below: what it has done already."""

    def __init__(self, key: str, result: Any) -> None:
        self.key, self.result = key, result


class StandInClient:
    """Not Dask: its `map` in this process, so that the recipe's use of our functions is tried without it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, function: Callable[[Any], Any], values: Iterable[Any], *, key: list[str]) -> list[StandInFuture]:
        return [StandInFuture(name, function(value)) for name, value in zip(key, values, strict=True)]


def stand_in_completed(futures: list[StandInFuture], *, with_results: bool) -> Iterator[tuple[StandInFuture, Any]]:
    assert with_results
    return ((future, future.result) for future in reversed(futures))


class StandInSpark:
    """Not Spark: one partition after the other in this process."""

    builder: StandInSpark
    sparkContext: StandInSpark  # noqa: N815  (Spark's own name)

    def getOrCreate(self) -> StandInSpark:  # noqa: N802
        return self

    def parallelize(self, values: list[Any], count: int) -> StandInSpark:
        self.parts = [values[number::count] for number in range(count)]
        return self

    def mapPartitions(self, function: Callable[[Iterator[Any]], Iterable[Any]]) -> StandInSpark:  # noqa: N802
        self.parts = [list(function(iter(part))) for part in self.parts]
        return self

    def collect(self) -> list[Any]:
        return [one for part in self.parts for one in part]


StandInSpark.builder = StandInSpark.sparkContext = StandInSpark()


@pytest.mark.parametrize(
    ("text", "name", "members"),
    [
        (DASK, "dask.distributed", {"Client": StandInClient, "as_completed": stand_in_completed}),
        (SPARK, "pyspark.sql", {"SparkSession": StandInSpark}),
    ],
    ids=["dask", "spark"],
)
def test_the_recipes_fit_our_functions(
    text: str, name: str, members: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, module = ModuleType(name.partition(".")[0]), ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, parent.__name__, parent)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.chdir(folder)
    exec(compile(text, "recipe", "exec"), {"__name__": "__main__"})
    check(folder)


@pytest.mark.parametrize("text", [DASK, SPARK], ids=["dask", "spark"])
def test_recipes_are_short(text: str) -> None:
    own = [line for line in text.splitlines() if line and not line.startswith(("#", "import", "from", "if __name__"))]
    assert len(own) <= 10


SLURM = ("sh", "SBATCH", "SLURM_ARRAY_TASK_ID", {"SLURM_ARRAY_TASK_COUNT": "16"})
KUBERNETES = ("yaml", "completionMode", "JOB_COMPLETION_INDEX", {})


@pytest.mark.parametrize(("language", "words", "index", "more"), [SLURM, KUBERNETES], ids=["slurm", "kubernetes"])
def test_the_shards_of_a_job_are_the_list(language: str, words: str, index: str, more: dict[str, str]) -> None:
    """What the page's command gives `--shard` in each of a job's 16 tasks."""
    (argument,) = re.findall(r"--shard (\"[^\"]+\")", block(language, words))
    items = placed([Item(f"org/model-{number}") for number in range(300)], "out")
    parts = []
    for number in range(16):
        said = subprocess.run(
            ["sh", "-c", f"printf %s {argument}"], capture_output=True, text=True, check=True,
            env={**os.environ, **more, index: str(number)},
        ).stdout  # fmt: skip
        parts.append(shard(items, said))
    assert sorted(one.id for part in parts for one in part) == sorted(one.id for one in items)
    assert all(parts)


def test_the_job_of_kubernetes_has_as_many_tasks_as_shards() -> None:
    yaml = pytest.importorskip("yaml")
    spec = yaml.safe_load(block("yaml", "completionMode"))["spec"]
    (command,) = spec["template"]["spec"]["containers"][0]["args"]
    assert spec["completionMode"] == "Indexed"
    assert f'/{spec["completions"]}"' in command
    assert re.search(rf"--array=0-{spec['completions'] - 1}$", block("sh", "SBATCH"), re.MULTILINE)


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_shards_do_not_depend_on_the_lists_order(count: int) -> None:
    items = placed([Item(f"org/model-{number}") for number in range(50)], "out")
    for number in range(count):
        part = shard(items, f"{number}/{count}")
        assert {one.id for one in shard(items[::-1], f"{number}/{count}")} == {one.id for one in part}
    with pytest.raises(RequestError):
        shard(items, f"{count}/{count}")
