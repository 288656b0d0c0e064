"""From every format to every other one, every class: the same bits, or exactly what the tables say is lost.

Nothing is expected by hand. What a dialect has no place for, and which classes it has, are the tables' own; formats
are those that can be written, so that a new container or dialect is tested as soon as it is there. Outputs made from
another output must be those made from PyTorch's weights, which is there and back for every ordered pair.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import checkpoints as cp
import pytest

from bertconv.config import Config
from bertconv.config.auto import config_class
from bertconv.convert import convert_checkpoint
from bertconv.errors import MissingTensors, UnsupportedCheckpoint
from bertconv.formats.output import Format, formats
from bertconv.manage.hash import model_digest
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand
from bertconv.mapping.indices import TensorId
from bertconv.mapping.table import Table
from bertconv.report import Report

PT = load_dialects().reference.name
LITTLE = {"num_hidden_layers": 1}
PAIRS = int(os.environ.get("BERTCONV_PAIRS", "3"))
"""Ordered pairs of formats that are tried with each class; BERTCONV_PAIRS=99 tries all with each."""


class Made(NamedTuple):
    """An output that was made from PyTorch's weights."""

    folder: Path
    report: Report


def places(table: Table, form: Format, config: Config, head: str) -> set[str]:
    """Ids of what a dialect holds of a class, copies that are tied left out."""
    groups = [group for group in table.heads[head] if group in table.groups_in(form.dialect)]
    return set(expand(table, form.dialect, config.values, groups)) - set(table.tied)


def speaks(table: Table, form: Format, head: str) -> bool:
    return table.speaks(form.dialect) and head in table.in_dialect(form.dialect).heads


def folded(table: Table, form: Format) -> set[str]:
    """Ids of what a dialect keeps in another form, or within it, of which not everything comes back."""
    folds = table.in_dialect(form.dialect).folds
    return {*folds, *(fold.add_row for fold in folds.values())}


def digests(report: Report, without: set[str]) -> dict[str, str]:
    """By id, of the class's own tensors: a dialect may have more in every file, which no class computes with."""
    table = cp.table_of(report.head)
    aside = without | set(table.tied)
    own = (one for one in report.tensors if TensorId.parse(one.id).group in table.heads[report.head])
    return {one.id: one.digest for one in own if one.id not in aside}


def weights(folder: Path, report: Report) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in report.target["files"]}


def convert(src: Path, dst: Path, form: str, head: str) -> Report:
    return convert_checkpoint(src, dst, to=form, head=head, allow_loss=True)


@cache
def config_of(head: str) -> Config:
    family = cp.table_of(head).family
    return config_class(family).from_dict(cp.config(head, **LITTLE), family=family)


def made_from_pytorch(folder: Path, head: str) -> dict[str, Made]:
    """The outputs in every format that has the class, and room for as many layers; the others refuse it."""
    src = cp.save(folder / "in", head, cp.state_dict(head, **LITTLE), **LITTLE)
    found = {}
    for name, form in formats().items():
        if can_hold(form, head):
            found[name] = Made(folder / name, convert(src, folder / name, name, head))
        else:
            with pytest.raises(UnsupportedCheckpoint):
                convert_checkpoint(src, folder / name, to=name, head=head)
    return found


def can_hold(form: Format, head: str) -> bool:
    return speaks(cp.table_of(head), form, head) and has_room(form, head)


def has_room(form: Format, head: str) -> bool:
    """Whether a dialect has a place for every layer of the model: Model Garden's ALBERT has one for all."""
    table, config = cp.table_of(head), config_of(head)
    lost = places(table, formats()[PT], config, head) - places(table, form, config, head) - folded(table, form)
    return not any(TensorId.parse(place).indices != (0,) * len(TensorId.parse(place).indices) for place in lost)


@pytest.mark.parametrize("head", cp.APART)
def test_any_to_any(tmp_path: Path, head: str) -> None:
    """From PyTorch's to every format, and some of the ordered pairs: over the classes, all of them."""
    made = made_from_pytorch(tmp_path, head)
    check_made(made, head)
    for first, second in pairs()[head]:
        there_and_back(tmp_path / f"{first} {second}", (first, made[first]), (second, made[second]), head)


def check_made(made: Mapping[str, Made], head: str) -> None:
    """Every output from PyTorch's holds what the tables say, with equal digests, and its manifest says so."""
    table, config = cp.table_of(head), config_of(head)
    whole = digests(made[PT].report, set())
    assert set(whole) == places(table, formats()[PT], config, head)
    of_pytorch = digest_of(made[PT].folder)
    for name, one in made.items():
        changed = folded(table, formats()[name])
        held = places(table, formats()[name], config, head) - changed
        assert digests(one.report, changed) == {key: whole[key] for key in held}, name
        manifest = json.loads((one.folder / "bertconv.json").read_bytes())
        assert manifest["target"]["format"] == name
        assert all((one.folder / file).is_file() for file in one.report.target["files"])
        if held == set(whole):
            assert digest_of(one.folder) == of_pytorch == one.report.digest, name


@cache
def pairs() -> dict[str, list[tuple[str, str]]]:
    """For every class, the ordered pairs of formats that fewest classes before it had; none from PyTorch's."""
    possible = {}
    for head in cp.APART:
        names = [name for name, form in formats().items() if can_hold(form, head)]
        possible[head] = [(one, other) for one in names for other in names if PT != one != other]
    common, had = Counter(chain(*possible.values())), Counter[tuple[str, str]]()
    found = {}
    for head, every in possible.items():
        found[head] = sorted(every, key=lambda pair: (had[pair], common[pair]))[:PAIRS]
        had.update(found[head])
    return found


def test_the_pairs_of_the_classes_are_all() -> None:
    every = {(one, other) for one in formats() for other in formats() if PT != one != other}
    assert set(chain(*pairs().values())) == every


def digest_of(folder: Path) -> str:
    """What `bertconv hash` says."""
    return model_digest(folder).digest


def there_and_back(dst: Path, source: tuple[str, Made], target: tuple[str, Made], head: str) -> None:
    """An output made from another one is the one that was made from PyTorch's, as far as both dialects hold it."""
    table, config = cp.table_of(head), config_of(head)
    (first, there), (second, wanted) = source, target
    one, other = formats()[first], formats()[second]
    here, beyond = places(table, one, config, head), places(table, other, config, head)
    changed = folded(table, one) | folded(table, other)
    optional = set(table.optional.get(head, ()))
    lost = here - beyond - folded(table, other)
    absent = {place for place in beyond - here - folded(table, one) if TensorId.parse(place).group not in optional}
    words = f"{head}: {first} to {second}"
    if absent:
        with pytest.raises(MissingTensors):
            convert(there.folder, dst, second, head)
        return
    if lost or folded(table, other):
        with pytest.raises(UnsupportedCheckpoint):
            convert_checkpoint(there.folder, dst, to=second, head=head)
    report = convert(there.folder, dst, second, head)
    assert sum(one.state == "lost" for one in report.left_out) == len(lost), words
    if here >= beyond and not changed:
        assert report.digest == wanted.report.digest, words
        assert weights(dst, report) == weights(wanted.folder, wanted.report), words
    both = digests(wanted.report, changed)
    assert digests(report, changed) == {key: both[key] for key in both if key in here}, words
    shutil.rmtree(dst)
