"""`--revision` beside a path: scripts pass "main" whatever they are given, so it is a note and nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import checkpoints as cp
import pytest
from checkpoints import Outcome

from bertconv.cli.main import COMMANDS

MLM = "BertForMaskedLM"
NOTE = "nothing here has revisions: the one that was asked for, 'main', changes nothing"
READING = {"inspect": (), "doctor": (), "hash": ()}
WRITING = {
    "pt2tf": (), "convert": ("--to", "tf"), "cast": ("--dtype", "float16"), "shard": ("--max-size", "20KB"),
    "unshard": (), "resize": ("--size", "200"), "extract": ("--class", "BertModel"), "layers": ("--keep", "0"),
}  # fmt: skip
BACK = {"tf2pt": ()}
OF_REPOSITORIES = {"push", "pull"}
"""These take the name of a repository and never a path."""


def test_every_verb_that_has_it_is_here() -> None:
    having = set()
    for name, place in COMMANDS.items():
        module, _, attribute = place.partition(":")
        options = [one for parameter in getattr(importlib.import_module(module), attribute).params
                   for one in parameter.opts]  # fmt: skip
        having |= {name} if "--revision" in options else set()
    assert having == {*READING, *WRITING, *BACK, *OF_REPOSITORIES}


@pytest.mark.parametrize("verb", [*READING, *WRITING, *BACK])
def test_it_is_a_note(cli: Callable[..., Outcome], tmp_path: Path, verb: str) -> None:
    src = cp.save(tmp_path / "in", MLM, cp.state_dict(MLM), "h5" if verb in BACK else "safetensors")
    options = (READING | WRITING | BACK)[verb]
    outputs = [] if verb in READING else [(tmp_path / "a",), (tmp_path / "b",)]
    plain = cli(verb, src, *(outputs[0] if outputs else ()), *options)
    asked = cli(verb, src, *(outputs[1] if outputs else ()), *options, "--revision", "main")
    assert asked.code == plain.code == (1 if verb == "doctor" else 0), asked.err  # it has no tokenizer, says doctor
    assert " ".join((asked.out + asked.err).split()).count(NOTE) == 1
    assert NOTE not in plain.out + plain.err
    if outputs:
        assert cp.written(outputs[0][0]).keys() == cp.written(outputs[1][0]).keys()
        cp.assert_same(cp.written(outputs[1][0]), cp.written(outputs[0][0]))
