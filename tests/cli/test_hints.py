"""Hints of errors: the commands and options that they name are there, and where one is not, a way out is."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import checkpoints as cp
import click
import pytest

import bertconv
from bertconv.cli.main import COMMANDS
from bertconv.cli.main import cli as group

HEAD = "BertForMaskedLM"
Cli = Callable[..., cp.Outcome]
ANEW = (
    "`bertconv average` has no --config: write that checkpoint anew with it, and give what was written: "
    "bertconv convert SRC DST --to FORMAT --config ..."
)


def texts() -> Iterator[tuple[str, str]]:
    """File -> what stands in it for a person to read, hints and advice among it."""
    root = Path(bertconv.__file__).parent
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "hint":
                yield path.relative_to(root).as_posix(), ast.unparse(node.value)


def commands() -> dict[str, click.Command]:
    """The commands, and those of the groups among them."""
    with click.Context(group) as context:
        found = {name: one for name in COMMANDS if (one := group.get_command(context, name))}
        groups = [(name, one) for name, one in found.items() if isinstance(one, click.Group)]
        inner = {f"{name} {word}": one.get_command(context, word) for name, one in groups
                 for word in one.list_commands(context)}  # fmt: skip
    return found | {name: one for name, one in inner.items() if one is not None}


def test_what_a_hint_names_is_there() -> None:
    known = commands()
    options = {name for one in known.values() for param in one.params for name in param.opts if name.startswith("--")}
    tables = {"--no-deps", "--upgrade"}  # of pip
    hints = list(texts())
    for file, text in hints:
        named = set(re.findall(r"bertconv ([a-z][a-z0-9-]*)", text)) - {"converts", "reads", "wrote"}
        assert named <= set(COMMANDS), (file, text)
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*\w", text)) <= options | tables, (file, text)
    assert len(hints) > 100


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without a config."""
    folder = cp.save(tmp_path_factory.mktemp("bare") / "bare", HEAD, cp.state_dict(HEAD))
    (folder / "config.json").unlink()
    return folder


@pytest.mark.parametrize(
    ("arguments", "way"),
    [
        (("hash", "SRC"), "Give one with --config FILE; shapes alone do not tell the activation."),
        (("diff", "SRC", "SRC"), "Here that is --config-a or --config-b."),
        (("verify", "SRC", "SRC", "--level", "weights"), "Here that is --config-a or --config-b."),
        (("average", "SRC", "SRC", "-o", "DST"), ANEW),
    ],
)  # fmt: skip
def test_an_option_that_a_command_lacks_has_another_way(
    cli: Cli, bare: Path, tmp_path: Path, arguments: tuple[str, ...], way: str
) -> None:
    places = {"SRC": bare, "DST": tmp_path / "out"}
    done = cli(*(places.get(word, word) for word in arguments))
    assert done.code != 0
    assert done.err.splitlines()[-1] == way


def test_the_way_out_is_one(cli: Cli, bare: Path, tmp_path: Path) -> None:
    config = cp.write_config(tmp_path / "config", cp.config(HEAD)) / "config.json"
    assert cli("convert", bare, tmp_path / "anew", "--to", "pt", "--config", config).code == 0
    assert cli("average", tmp_path / "anew", tmp_path / "anew", "-o", tmp_path / "out").code == 0


@pytest.mark.parametrize(("word", "meant"), [("doctr", "'doctor'"), ("merge-adaptor", "'merge-adapter'"), ("xyz", "")])
def test_a_command_that_is_spelled_alike_is_named(cli: Cli, word: str, meant: str) -> None:
    done = cli(word, "somewhere")
    assert done.code == 2
    assert done.err.splitlines()[-1] == f"Error: No such command {word!r}." + (
        f" Did you mean {meant}?" if meant else ""
    )
