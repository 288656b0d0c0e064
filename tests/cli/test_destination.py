"""Where an output goes, and how it is said: in the same ways for every command that makes one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import checkpoints as cp
import pytest

HEAD = "BertForMaskedLM"
Cli = Callable[..., cp.Outcome]

COMMANDS = {
    "pt2tf": (), "convert": ("--to", "pt"), "cast": ("--dtype", "float16"), "shard": ("--max-shard-size", "1MB"),
    "unshard": (), "resize": ("--pad-to", "8"), "extract": ("--head", "BertModel"), "layers": ("--keep", "0"),
}  # fmt: skip


@pytest.fixture(scope="module")
def src(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cp.save(tmp_path_factory.mktemp("src") / "src", HEAD, cp.state_dict(HEAD))


@pytest.mark.parametrize("name", COMMANDS)
def test_an_argument_and_an_option_say_the_same(cli: Cli, src: Path, name: str) -> None:
    rest = ("--dry-run", "--quiet", *COMMANDS[name])
    said = [cli(name, src, "out", *rest), cli(name, src, "-o", "out", *rest), cli(name, "-o", "out", *rest, src)]
    assert [one.code for one in said] == [0, 0, 0], said
    assert {one.out for one in said} == {said[0].out}


def test_not_twice_and_not_at_all(cli: Cli, src: Path) -> None:
    twice = cli("unshard", src, "out", "-o", "other")
    assert (twice.code, twice.err.splitlines()[-1]) == (
        2,
        "Error: DST is given twice: as an argument and as --output.",
    )
    missing = cli("unshard", src)
    assert (missing.code, missing.err.splitlines()[-1]) == (2, "Error: Missing argument 'DST'.")


@pytest.mark.parametrize("name", ["average", "merge", "merge-adapter", "attach"])
def test_where_there_are_several_inputs_the_usage_shows_the_option(cli: Cli, name: str) -> None:
    assert cli(name, "--help").out.startswith(f"Usage: bertconv {name} -o DST [OPTIONS] ")
