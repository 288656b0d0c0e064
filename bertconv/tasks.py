"""The tasks of model classes: what a head computes, whatever its family calls the class."""

from __future__ import annotations

BASE = "base"
MASKED_LM = "masked_lm"
CAUSAL_LM = "causal_lm"
PRETRAINING = "pretraining"
NEXT_SENTENCE = "next_sentence"
SEQUENCE_CLASSIFICATION = "sequence_classification"
TOKEN_CLASSIFICATION = "token_classification"  # noqa: S105  (a task, no password)
MULTIPLE_CHOICE = "multiple_choice"
QUESTION_ANSWERING = "question_answering"
DISCRIMINATOR = "discriminator"

TASKS = (
    BASE, MASKED_LM, CAUSAL_LM, PRETRAINING, NEXT_SENTENCE, SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION,
    MULTIPLE_CHOICE, QUESTION_ANSWERING, DISCRIMINATOR,
)  # fmt: skip
"""Every task."""
