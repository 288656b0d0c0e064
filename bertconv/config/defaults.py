"""What programs ask of any config: the keys of transformers 4.57, each with its value where nothing is said.

They are there to be asked for. No family needs them, so `values`, `raw` and what is written know them only where they
were given.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

GENERATION: Mapping[str, Any] = {
    "max_length": 20,
    "min_length": 0,
    "do_sample": False,
    "early_stopping": False,
    "num_beams": 1,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "num_return_sequences": 1,
    "output_scores": False,
    "return_dict_in_generate": False,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "remove_invalid_values": False,
    "exponential_decay_length_penalty": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
}
"""Keys for `generate`."""

ASKED: Mapping[str, Any] = {
    "torchscript": False,
    "pruned_heads": {},
    "is_encoder_decoder": False,
    "cross_attention_hidden_size": None,
    "tie_encoder_decoder": False,
    "architectures": None,
    "finetuning_task": None,
    "task_specific_params": None,
    "tokenizer_class": None,
    "prefix": None,
    "dtype": None,
    "tf_legacy_loss": False,
    "use_bfloat16": False,
    **GENERATION,
}
"""Keys of every config that no family's table has."""

HIDDEN: Mapping[str, Any] = {"transformers_version": None, "_commit_hash": None, "_attn_implementation": None}
"""Further attributes: `to_dict` has them only where they were given."""

DTYPES = ("dtype", "torch_dtype")
"""One key: transformers writes the first since 4.56 and wrote the second before."""

NAMES = ("_name_or_path", "name_or_path")
"""Where a config says what it was loaded as: transformers' own spelling, and that of arguments."""

KNOWN = frozenset((*ASKED, *HIDDEN, *DTYPES, *NAMES, "id2label", "label2id", "model_type"))
"""Every key that a config may be given beside those of its family."""


def asked(name: str) -> Any:
    """The value of a key of `ASKED` or `HIDDEN`, which the caller may change; KeyError for any other."""
    return copy.deepcopy((ASKED if name in ASKED else HIDDEN)[name])
