"""What a model class is for, as tables state it under `[heads]`: code goes by task, never by the name of a class."""

from __future__ import annotations

BASE = "base"
MASKED_LM = "masked_lm"
CAUSAL_LM = "causal_lm"
PRETRAINING = "pretraining"
NEXT_SENTENCE = "next_sentence"
SEQUENCE_CLASSIFICATION = "sequence_classification"
TOKEN_CLASSIFICATION = "token_classification"  # noqa: S105  (a token of a text)
MULTIPLE_CHOICE = "multiple_choice"
QUESTION_ANSWERING = "question_answering"
DISCRIMINATOR = "discriminator"

TASKS = (
    BASE,
    MASKED_LM,
    CAUSAL_LM,
    PRETRAINING,
    NEXT_SENTENCE,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
    MULTIPLE_CHOICE,
    QUESTION_ANSWERING,
    DISCRIMINATOR,
)
"""Every task; a family has at most one class for each."""
