"""Do two sides call the same output by the same name, and make a prediction of it in the same way?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bertconv.checkpoint import Checkpoint
from bertconv.config import Config
from bertconv.tasks import SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION
from bertconv.text import shown
from bertconv.verify.agreement import Agreement, Mismatch, compared, pair

_LABELLED = (SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION)
"""Tasks whose outputs have labels."""
_UNNAMED = re.compile(r"LABEL_\d+", re.ASCII)


def compare_labels(a: Checkpoint, b: Checkpoint, *, ignored: bool = False) -> Agreement:
    """Names of the outputs, ids of the names, and the problem type, as the two configs have them.

    LABEL_0 and so on are no names: they are what a config means that says nothing.
    """
    if a.task not in _LABELLED:
        return Agreement(about=f"{a.head} has none", ignored=ignored)
    one, other = a.plan.config, b.plan.config
    number = len(one.id2label)
    about = f"{number} label{'' if number == 1 else 's'}"
    return compared(tuple(_differences(one, other, a.task)), about, ignored=ignored)


def _differences(one: Config, other: Config, task: str) -> Iterator[Mismatch]:
    names = [{key: str(name) for key, name in config.id2label.items()} for config in (one, other)]
    if keys := _differing(*names):
        sentence = f"label {shown(keys[0])} is {pair(*(side.get(keys[0]) for side in names))}"
        yield Mismatch("id2label", len(keys), sentence)
    else:
        ids = [_ids(config) for config in (one, other)]
        if keys := _differing(*ids):
            sentence = f"label2id gives {shown(keys[0])} the id {pair(*(side.get(keys[0]) for side in ids))}"
            yield Mismatch("label2id", len(keys), sentence)
    kinds = [_problem(config) for config in (one, other)]
    if task == SEQUENCE_CLASSIFICATION and kinds[0] != kinds[1]:
        yield Mismatch("problem_type", 1, f"problem_type is {pair(*kinds)}")


def _differing(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> list[Any]:
    """Keys whose values differ, numbers before text."""
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return sorted(keys, key=lambda key: (not isinstance(key, int), key if isinstance(key, int) else 0, str(key)))


def _ids(config: Config) -> dict[str, str]:
    """`label2id`; one of LABEL_0 and so on beside real names was left behind by those who set only the names."""
    stated = {str(name): str(number) for name, number in config.label2id.items()}
    if stated and all(_UNNAMED.fullmatch(name) for name in stated):
        return {str(name): str(number) for number, name in config.id2label.items()}
    return stated


def _problem(config: Config) -> str | None:
    """`problem_type` as transformers' pipeline takes it: several labels of which nothing is said exclude each other."""
    kind: str | None = config.values["problem_type"]
    return "single_label_classification" if kind is None and config.values["num_labels"] > 1 else kind
