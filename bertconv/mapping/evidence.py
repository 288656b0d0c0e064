"""What tells apart classes that have the same tensors, beyond the `architectures` of the config.

Only what no other class would have counts: a wrong class converts without an error and computes something else. Sources
of the task names: transformers' example scripts (run_glue, run_xnli, run_ner, run_multiple_choice), which wrote
`finetuning_task` into configs before configs had `architectures`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from bertconv.config import Config
from bertconv.families import family_of_class
from bertconv.mapping.table import Table
from bertconv.tasks import BASE, MULTIPLE_CHOICE, SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION
from bertconv.text import printable

_TASKS = {
    SEQUENCE_CLASSIFICATION: ("cola", "mnli", "mnli-mm", "mrpc", "qnli", "qqp", "rte", "sst-2", "sst2", "sts-b",
                              "stsb", "wnli", "xnli", "text-classification"),
    TOKEN_CLASSIFICATION: ("ner", "pos", "chunk"),
    MULTIPLE_CHOICE: ("arc", "race", "swag", "syn"),
}  # fmt: skip
"""Values of `finetuning_task`."""

_BEGIN_OR_INSIDE = re.compile(r"([BI])-(.+)")
_OTHER_TAGS = re.compile(r"[ELSU]-.+|O|X|\[?(PAD|CLS|SEP)\]?")
_ENTAILMENT = "entailment"

Vote = tuple[str, str]
"""The task that the class must have, and why."""


def votes(config: Config | None) -> Iterator[Vote]:
    """What a config says for certain about the class; several that differ are a contradiction."""
    raw = {} if config is None else config.raw
    task = raw.get("finetuning_task")
    if isinstance(task, str):
        said = f"finetuning_task is {printable(task)!r}"
        yield from ((one, said) for one, names in _TASKS.items() if task.lower().replace("_", "-") in names)
    if isinstance(raw.get("problem_type"), str):
        yield SEQUENCE_CLASSIFICATION, f"problem_type is {raw['problem_type']!r}, which no other class has"
    yield from _labels(raw.get("id2label"))


def scope_vote(scope: str, heads: Iterable[str]) -> str | None:
    """The class after which Keras called a model by default: `tf_bert_for_token_classification_3/`."""
    plain = re.sub(r"_\d+$", "", scope.rstrip("/")).replace("_", "").lower()
    return next((head for head in heads if plain == f"tf{head}".lower()), None)


def named_in(architectures: Collection[str], table: Table, heads: Collection[str]) -> str | None:
    """The first named class that is one of `heads` of a table, or of the task of one of them.

    Classes of other families count by their task (a file of XLM-R says RobertaForMaskedLM), and classes of nobody by
    how their names end (`MyBertForTokenClassification`).
    """
    for named in architectures:
        if named in heads:
            return named
        task = _task_of(named, table)
        if task is not None and (head := table.head_for(task)) in heads:
            return head
    return None


def _task_of(name: str, table: Table) -> str | None:
    """The task of a class that is not the table's own; None where its name does not tell."""
    if (family := family_of_class(name)) is not None:
        return family.tasks[name]
    endings = {head.removeprefix(table.prefix): task for head, task in table.tasks.items() if task != BASE}
    return next((task for end, task in endings.items() if name.endswith(end)), None)


def _labels(names: Any) -> Iterator[Vote]:
    labels = [name for name in names.values() if isinstance(name, str)] if isinstance(names, dict) else []
    tags = [found for label in labels if (found := _BEGIN_OR_INSIDE.fullmatch(label))]
    rest = [label for label in labels if not _BEGIN_OR_INSIDE.fullmatch(label)]
    kinds = {letter: {tag[2] for tag in tags if tag[1] == letter} for letter in "BI"}
    if tags and ("O" in rest or kinds["B"] & kinds["I"]) and all(map(_OTHER_TAGS.fullmatch, rest)):
        yield TOKEN_CLASSIFICATION, f"id2label has tags as {printable(tags[0][0])}"
    if _ENTAILMENT in [label.lower() for label in labels]:
        yield SEQUENCE_CLASSIFICATION, f"id2label has {_ENTAILMENT}"
