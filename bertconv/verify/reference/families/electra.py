"""ELECTRA (Clark and others, arXiv:2003.10555): embeddings of their own size, a discriminator, no pooler."""

from __future__ import annotations

from collections.abc import Iterator

from bertconv import tasks
from bertconv.errors import UnsupportedCheckpoint
from bertconv.verify.reference.family import (
    COMMON_NAMES,
    Act,
    Family,
    Head,
    Linear,
    Mistake,
    Norm,
    Output,
    Values,
)

_HEAD_ACT = "lm_head_act"


def _heads(config: Values) -> dict[str, Head]:
    gelu = Act(config.get(_HEAD_ACT, "gelu"))
    scores = (Linear("generator_predictions.dense"), gelu, Norm("generator_predictions.LayerNorm"),
              Linear("generator_lm_head"))  # fmt: skip
    discriminated = (
        Linear("discriminator_predictions.dense"),
        Act(),
        Linear("discriminator_predictions.dense_prediction"),
    )
    own = (Linear("classifier.dense"), Act(config.get("classifier_act", "gelu")), Linear("classifier.out_proj"))
    return {
        tasks.BASE: Head({"last_hidden_state": Output("every")}),
        tasks.MASKED_LM: Head({"logits": Output("every", scores)}),
        tasks.CAUSAL_LM: Head({"logits": Output("every", scores)}),
        tasks.DISCRIMINATOR: Head({"logits": Output("every", discriminated)}),
        tasks.SEQUENCE_CLASSIFICATION: Head({"logits": Output("first", own)}),
        tasks.MULTIPLE_CHOICE: Head({"logits": Output("first", (*_summary(config), Linear("classifier")))}),
        tasks.TOKEN_CLASSIFICATION: Head({"logits": Output("every", (Linear("classifier"),))}),
        tasks.QUESTION_ANSWERING: Head({"logits": Output("every", (Linear("qa_outputs"),))}),
    }


def _summary(config: Values) -> tuple[Linear | Act, ...]:
    """The first position through a layer and an activation, each of which a config may leave out."""
    dense = Linear("sequence_summary.summary", used=bool(config.get("summary_use_proj", True)))
    return dense, Act(config.get("summary_activation", "gelu") or "linear")


def _check(config: Values, task: str) -> None:
    kind = config.get("summary_type", "first")
    if task == tasks.MULTIPLE_CHOICE and kind != "first":
        raise UnsupportedCheckpoint(
            f"summary_type is {kind!r}, and only 'first' is computed.", hint="Compare weights alone."
        )


def _mistakes(config: Values) -> Iterator[Mistake]:
    if config["hidden_act"] != "gelu":
        sentence = f"B's head has the activation {config['hidden_act']}, A's gelu."
        changed = {_HEAD_ACT: config["hidden_act"], "classifier_act": config["hidden_act"]}
        yield Mistake("activation of the head", sentence, changed)


FAMILY = Family(
    base="electra",
    names={**COMMON_NAMES, "project": "embeddings_project"},
    heads=_heads,
    ties={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
    is_decoder=True,
    projects=lambda config: bool(config["embedding_size"] != config["hidden_size"]),
    check=_check,
    mistakes=_mistakes,
)
