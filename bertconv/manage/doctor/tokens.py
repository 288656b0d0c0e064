"""Findings about the tokenizer: whether there is one, whether it can be read, and whether its ids have rows."""

from __future__ import annotations

from collections.abc import Iterator

from bertconv.manage.doctor.patient import ERROR, NOTE, WARNING, Finding, Patient
from bertconv.manage.doctor.programs import EVERY, ON_TORCH, TENSORFLOW_4
from bertconv.text import shown
from bertconv.tokenizer import Tokenizer, read_tokenizer
from bertconv.tokenizer.rows import fit

_SHOWN = 3
"""Tokens that a sentence names."""


def check(patient: Patient) -> Iterator[Finding]:
    """Findings about the tokenizer."""
    tokenizer = read_tokenizer(patient.source)
    if not tokenizer.files:
        if patient.is_file:
            return
        yield Finding(
            "no-tokenizer", WARNING, (*ON_TORCH, TENSORFLOW_4.key),
            "there are no tokenizer files: AutoTokenizer of transformers 5 makes one of five tokens in silence, "
            "so that every word is unknown, and that of 4.57 raises TypeError.",
            advice="Copy those of the model that it was trained from beside it.",
        )  # fmt: skip
        return
    for problem in tokenizer.problems:
        yield Finding(
            "tokenizer-damaged", WARNING, EVERY, f"{problem}.", advice="Copy or download the file again.",
        )  # fmt: skip
    for note in tokenizer.notes:
        yield Finding(
            "tokenizer-files-disagree", NOTE, EVERY, f"{note}.", advice="Keep the file that was trained with."
        )
    yield from _rows(patient, tokenizer)


def _rows(patient: Patient, tokenizer: Tokenizer) -> Iterator[Finding]:
    found = fit(tokenizer, patient.inspection.sizes.get("vocab_size"))
    if found is None:
        return
    if found.beyond:
        ids = list(found.beyond)
        names = ", ".join(shown(token) for token in list(found.beyond.values())[:_SHOWN])
        more = ", ..." if len(ids) > _SHOWN else ""
        yield Finding(
            "tokens-without-row", ERROR, EVERY,
            f"tokens of the tokenizer have no row in the embedding table of {found.rows} rows, {len(ids):,} in all "
            f"({names}{more}): a text with one of them fails, and on a GPU TensorFlow takes zeros for it.",
            patient.command("resize", "--tokenizer", patient.source.given),
        )  # fmt: skip
    if found.padding:
        first, last = found.padding
        yield Finding(
            "padding-rows", NOTE, EVERY,
            f"the embedding table has rows that are no token's, {first} to {last}: tokens added later get them.",
            advice="They do no harm.",
        )  # fmt: skip
