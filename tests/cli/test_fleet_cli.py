"""`bertconv fleet run`, `status` and `retry`, as a user has them: exit codes, runs that are killed or interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import checkpoints as cp
import pytest
from patience import until

from bertconv import convert_checkpoint
from bertconv.cli import fleet_run
from bertconv.fleet.driver import Progress
from bertconv.fleet.items import VERBS

HEAD = "BertForMaskedLM"
SMALL = {"hidden_size": 6, "num_attention_heads": 2, "intermediate_size": 7, "vocab_size": 13}
Cli = Callable[..., cp.Outcome]


def make(folder: Path, seed: int = 0) -> Path:
    return cp.save(folder, HEAD, cp.state_dict(HEAD, seed=seed, **SMALL), **SMALL)


def make_list(folder: Path, number: int) -> Path:
    sources = [make(folder / "sources" / f"model-{seed}", seed) for seed in range(number)]
    path = folder / "list.jsonl"
    path.write_text("".join(json.dumps({"src": str(source)}) + "\n" for source in sources))
    return path


def damage(folder: Path) -> Path:
    os.truncate(folder / "sources" / "model-0" / "model.safetensors", 500)
    return folder


def run(cli: Cli, folder: Path, *options: str) -> cp.Outcome:
    return cli("fleet", "run", folder / "list.jsonl", folder / "out", "--to", "pt", "--workers", 1, *options)


def test_a_list_is_done_kept_and_repaired(cli: Cli, tmp_path: Path) -> None:
    make_list(tmp_path, 3)
    damage(tmp_path)
    first = run(cli, tmp_path)
    assert first.code == 1
    assert first.out == first.out.splitlines()[0] + "\n"
    assert "2 done, 1 failed" in first.out
    assert "model-0: failed, code 5 (DamagedCheckpoint)" in first.err
    before = cp.snapshot(tmp_path / "out" / "model-1")
    second = run(cli, tmp_path, "--json")
    facts = json.loads(second.out)
    assert (second.code, facts["ok"], facts["counts"]) == (1, False, {"failed": 1, "kept": 2})
    assert facts["failures"][0]["code"] == 5
    shown = cli("fleet", "status", tmp_path / "out")
    assert shown.code == 1
    assert "3 items: 2 done, 1 failed" in shown.out
    assert "is truncated" in shown.out
    make(tmp_path / "sources" / "model-0")
    third = cli("fleet", "retry", tmp_path / "out", "--workers", 1, "--quiet")
    assert (third.code, third.err) == (0, "")
    assert "1 done" in third.out
    assert cp.snapshot(tmp_path / "out" / "model-1") == before
    told = json.loads(cli("fleet", "status", tmp_path / "out", "--json").out)
    assert (told["counts"], told["failures"], len(told["runs"])) == ({"done": 3}, [], 2)  # one had nothing to do


def test_a_lost_ledger_costs_no_output(cli: Cli, tmp_path: Path) -> None:
    make_list(tmp_path, 2)
    assert run(cli, tmp_path).code == 0
    places = {path: path.stat().st_ino for path in (tmp_path / "out").iterdir() if path.name.startswith("model")}
    shutil.rmtree(tmp_path / "out" / ".bertconv-fleet")
    told = cli("fleet", "status", tmp_path / "out", "--list", tmp_path / "list.jsonl")
    assert (told.code, "2 items: 2 done" in told.out) == (0, True)
    again = run(cli, tmp_path)
    assert (again.code, "2 kept" in again.out) == (0, True)
    assert {path: path.stat().st_ino for path in places} == places


def test_parts_of_a_list_are_all_of_it(cli: Cli, tmp_path: Path) -> None:
    make_list(tmp_path, 4)
    counts = [json.loads(run(cli, tmp_path, "--shard", f"{part}/2", "--json").out)["counts"] for part in range(2)]
    assert sum(one.get("done", 0) for one in counts) == 4
    assert "4 done" in cli("fleet", "status", tmp_path / "out").out


def test_other_verbs_and_options(cli: Cli, tmp_path: Path) -> None:
    make_list(tmp_path, 1)
    assert run(cli, tmp_path, "--option", "dtype=float16", "-O", 'allow-unknown=["x"]').code == 0
    convert_checkpoint(
        tmp_path / "sources" / "model-0", tmp_path / "one", to="pt", dtype="float16", allow_unknown=["x"]
    )
    assert cp.snapshot(tmp_path / "out" / "model-0") == cp.snapshot(tmp_path / "one")
    common = ("fleet", "run", tmp_path / "list.jsonl", tmp_path / "out", "--workers", 1)
    make(tmp_path / "sources" / "model-0", seed=1)
    differs = cli(*common, "--verb", "verify", "--to", "pt")
    assert (differs.code, "ParityError" in differs.err) == (1, True)
    told = cli("fleet", "status", tmp_path / "out", "--json")
    assert json.loads(told.out)["counts"] == {"done": 1, "failed": 1}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--option", "colour=red"], "has an option 'colour'"), (["--option", "colour"], "NAME=VALUE"),
        (["--shard", "2/2"], "shard is"), (["--address", "auto"], "Ray cluster"), (["--verb", "export"], "export"),
        (["--workers", "0"], "0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_the_work(options: list[str], said: str, cli: Cli, tmp_path: Path) -> None:
    make_list(tmp_path, 1)
    refused = run(cli, tmp_path, *options)
    assert refused.code == 2
    assert said in refused.err
    assert not (tmp_path / "out" / "model-0").exists()


def test_a_store_needs_a_place_for_the_ledger(cli: Cli, tmp_path: Path) -> None:
    make_list(tmp_path, 1)
    refused = cli("fleet", "run", tmp_path / "list.jsonl", "memory://bucket/out")
    assert (refused.code, "--state DIR" in refused.err) == (2, True)
    for command in ("status", "retry"):
        assert cli("fleet", command, tmp_path / "nothing").code == 2


def test_verbs_are_those_of_items() -> None:
    assert fleet_run.VERBS == VERBS


def test_commands_are_found_and_shown(cli: Cli) -> None:
    shown = cli("fleet", "--help")
    assert shown.code == 0
    assert all(f"  {name} " in shown.out for name in ("run", "status", "retry"))
    assert cli("fleet", "walk").code == 2


# Runs that do not end by themselves


def begin(folder: Path) -> subprocess.Popen[str]:
    arguments = ("fleet", "run", folder / "list.jsonl", folder / "out", "--to", "pt", "--workers", 1)
    process = subprocess.Popen(
        cp.command(arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(lambda: outputs(folder) or process.poll() is not None)
    return process


def outputs(folder: Path) -> list[Path]:
    return list((folder / "out").glob("model-*/bertconv.json"))


def staged(folder: Path) -> list[str]:
    names = [path.name for path in (folder / "out").iterdir()]
    return [name for name in names if name.startswith(".") and name != ".bertconv-fleet"]


def test_a_killed_driver_is_followed_by_one_that_ends_its_work(cli: Cli, tmp_path: Path) -> None:
    make_list(tmp_path, 4)
    process = begin(tmp_path)
    process.kill()
    process.communicate()
    left = tmp_path / "out" / ".model-3.bertconv-tmp-0123456789ab"  # as if a worker had been killed too
    left.mkdir(exist_ok=True)
    ended = run(cli, tmp_path, "--json")
    counts = json.loads(ended.out)["counts"]
    assert (ended.code, sum(counts.values())) == (0, 4)
    assert counts["kept"] >= 1
    assert staged(tmp_path) == []
    for number in range(4):
        convert_checkpoint(tmp_path / f"sources/model-{number}", tmp_path / "one", to="pt", overwrite=True)
        assert cp.snapshot(tmp_path / "out" / f"model-{number}") == cp.snapshot(tmp_path / "one")


def test_an_interrupt_ends_workers_and_leaves_nothing_half_written(cli: Cli, tmp_path: Path) -> None:
    make_list(tmp_path, 12)
    process = begin(tmp_path)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert (process.returncode, "nothing half-written" in said) == (130, True)
    assert staged(tmp_path) == []
    whole = len(outputs(tmp_path))
    assert 0 < whole < 12
    counts = json.loads(cli("fleet", "status", tmp_path / "out", "--json").out)["counts"]
    assert counts["done"] <= whole
    assert sum(counts.values()) == 12


def test_a_line_says_how_far_a_run_is() -> None:
    counts = {"done": 10, "kept": 100}
    line = fleet_run._line(Progress(1000, counts, running=2, waiting=1, nbytes=5_000_000, seconds=10.0))
    assert line == "110 of 1,000 (10 done, 100 kept), 2 running, 1 waiting, 1.0/s, 500 kB/s, 15 min left"
    assert fleet_run._line(Progress(3, {}, 0, 0, 0, 0.0)).startswith("0 of 3 (none yet)")


def test_a_format_that_is_none_is_refused_before_anything_is_begun(cli: Cli, tmp_path: Path) -> None:
    path = make_list(tmp_path, 1)
    found = cli("fleet", "run", path, tmp_path / "out", "--to", "tensorflow")
    assert found.code == 2
    assert "Did you mean 'tf'?" in found.err
    path.write_text(json.dumps({"src": str(tmp_path / "sources" / "model-0"), "options": {"to": "savedmodel"}}) + "\n")
    found = cli("fleet", "run", path, tmp_path / "out")
    assert found.code == 2
    assert "asks for the format 'savedmodel', which nobody can write." in found.err
    assert not (tmp_path / "out").exists()


def test_a_failure_names_its_file(cli: Cli, tmp_path: Path) -> None:
    make_list(tmp_path, 1)
    damage(tmp_path)
    assert ": model.safetensors: " in run(cli, tmp_path).err
    assert "model.safetensors: " in cli("fleet", "status", tmp_path / "out").out
