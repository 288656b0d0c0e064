"""Findings about what bertconv itself refuses: the refusal's own way out, as a command where there is one."""

from __future__ import annotations

from collections.abc import Iterator

from bertconv.errors import (
    AmbiguousFamily,
    AmbiguousHead,
    BertconvError,
    DamagedCheckpoint,
    ShapeMismatch,
    UnknownPrefix,
    UnsupportedCheckpoint,
)
from bertconv.manage.doctor.patient import ERROR, WARNING, Finding, Patient
from bertconv.manage.doctor.programs import BERTCONV, EVERY, ON_TORCH, TENSORFLOW_4
from bertconv.text import printable

_KINDS: tuple[tuple[type[BertconvError], str, str, tuple[str, ...]], ...] = (
    (AmbiguousHead, "class-not-certain", WARNING, (BERTCONV.key,)),
    (AmbiguousFamily, "family-not-certain", WARNING, EVERY),
    (DamagedCheckpoint, "config-damaged", ERROR, EVERY),
    (UnsupportedCheckpoint, "unsupported", ERROR, EVERY),
    (BertconvError, "refused", ERROR, (BERTCONV.key,)),
)
"""The first that a refusal is: its id, how bad it is, and whom it concerns."""


def check(patient: Patient) -> Iterator[Finding]:
    """Findings where names, config or shapes were refused."""
    for error in patient.refusals:
        if isinstance(error, UnknownPrefix):
            yield _prefix(patient, error)
        elif isinstance(error, ShapeMismatch) and patient.inspection.config:
            continue  # of every size there is a finding
        elif (labels := _labels(patient, error)) is not None:
            yield labels
        else:
            _, name, severity, affects = next(kind for kind in _KINDS if isinstance(error, kind[0]))
            lines = error.message.splitlines()
            place = f"{printable(error.tensor)}: " if error.tensor else ""
            message = place + " ".join(printable(line.strip()) for line in lines)
            yield Finding(name, severity, affects, message, advice=printable(error.hint.replace("\n", " ")))


def _prefix(patient: Patient, error: UnknownPrefix) -> Finding:
    prefix = printable(error.prefix)
    return Finding(
        "unread-prefix", ERROR, ON_TORCH,
        f"every name begins with {prefix!r}, which transformers does not know: it returns a model of random numbers.",
        patient.command("convert", "--to", patient.dialects.reference.name, "--strip-prefix", error.prefix),
        advice="Look whether it is what some tool put before the names.",
    )  # fmt: skip


def _labels(patient: Patient, error: BertconvError) -> Finding | None:
    """Where the config's number of labels is not that of their names, which no such model can have."""
    number, names = patient.raw.get("num_labels"), patient.raw.get("id2label")
    if (
        not isinstance(error, DamagedCheckpoint)
        or not isinstance(names, dict)
        or not isinstance(number, int)
        or number == len(names)
    ):
        return None
    return Finding(
        "labels-disagree", ERROR, (*ON_TORCH, TENSORFLOW_4.key, BERTCONV.key),
        f"num_labels in the config is {number} and id2label names {len(names)}: transformers 5 makes a head of "
        f"{number} rows, 4.57 one of {len(names)}, and one of them does not load.",
        advice="Take num_labels out of the config: id2label says it.",
    )  # fmt: skip
