"""What decides, beside the vocabulary, which ids a text becomes; in one spelling, so that two files can be compared.

Two readers disagree about tokenizer.json: the tokenizers library follows it, and transformers' BERT tokenizers (4.57
and 5.24) make lower-casing and the like anew from tokenizer_config.json. `settings` is what transformers does, `rules`
what tokenizer.json says, or what transformers would write into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertconv.tokenizer.files import FAST, SENTENCE, SETTINGS, Files
from bertconv.tokenizer.vocabulary import is_id, model_of

UNLIMITED = 10**20
"""A `model_max_length` from here on means no limit (transformers writes 1e30)."""

_STATED: Mapping[str, Any] = {
    "padding_side": "right", "truncation_side": "right", "do_basic_tokenize": True, "never_split": None,
    "split_special_tokens": False, "do_word_tokenize": True, "word_tokenizer_type": "basic",
    "do_subword_tokenize": True, "subword_tokenizer_type": "wordpiece", "mecab_kwargs": None, "sudachi_kwargs": None,
    "jumanpp_kwargs": None,
}  # fmt: skip
"""Keys of tokenizer_config.json that change ids, with what they are where they do not stand (transformers 4.57)."""

_GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Classes that follow tokenizer.json."""
AROUND = "special tokens around a text"
MAX_PIECES = 1000
"""Most tokens around a text that are spelled out; each of a template's pieces may stand for as many again."""
_FLAGS = ("normalized", "single_word")
"""What is said of an added token and decides where it is found in a text."""


def settings_of(files: Files) -> dict[str, Any]:
    """Key -> value, as transformers' tokenizer of this folder works."""
    said = files.settings(SETTINGS)
    normaliser = _of_type(files.settings(FAST).get("normalizer"), "BertNormalizer")
    lower, accents = said.get("do_lower_case", True), said.get("strip_accents")
    chinese = said.get("tokenize_chinese_chars", True)
    if said.get("tokenizer_class") in _GENERIC and normaliser is not None:
        lower, accents = normaliser.get("lowercase", True), normaliser.get("strip_accents")
        chinese = normaliser.get("handle_chinese_chars", True)
    return {
        "do_lower_case": bool(lower),
        "strip_accents": bool(lower if accents is None else accents),
        "tokenize_chinese_chars": bool(chinese),
        **{key: said.get(key, default) for key, default in _STATED.items()},
        "model_max_length": _limit(said.get("model_max_length")),
        "max_seq_length": _limit(files.settings(SENTENCE).get("max_seq_length")),
    }


def rules_of(files: Files, special: Mapping[str, str], tokens: Mapping[str, int]) -> dict[str, Any]:
    """The steps of tokenizer.json; of a vocab.txt alone those that transformers makes of it."""
    if FAST not in files.json:
        return {} if files.words is None else _made(settings_of(files), special, tokens)
    fast = files.json[FAST]
    return {
        "normaliser": _normaliser(fast.get("normalizer")),
        "pre-tokenizer": fast.get("pre_tokenizer"),
        AROUND: _template(fast.get("post_processor")),
        "model": _model(model_of(files)),
    }


def flags_of(token: Mapping[str, Any]) -> dict[str, bool] | None:
    """What a file says about an added token; None where it says nothing."""
    return {key: bool(token[key]) for key in _FLAGS} if all(key in token for key in _FLAGS) else None


def truncation_of(files: Files) -> int | None:
    """The length to which tokenizer.json itself cuts a text."""
    truncation = files.settings(FAST).get("truncation")
    return _limit(truncation.get("max_length")) if isinstance(truncation, dict) else None


def _limit(value: object) -> int | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < UNLIMITED:
        return int(value)
    return None


def _of_type(value: Any, kind: str) -> dict[str, Any] | None:
    """A step of tokenizer.json, if it is of this kind."""
    return value if isinstance(value, dict) and value.get("type") == kind else None


def _made(settings: Mapping[str, Any], special: Mapping[str, str], tokens: Mapping[str, int]) -> dict[str, Any]:
    first, last = (tokens.get(special[role], -1) for role in ("cls_token", "sep_token"))
    return {
        "normaliser": {
            "clean_text": True, "handle_chinese_chars": settings["tokenize_chinese_chars"],
            "lowercase": settings["do_lower_case"], "strip_accents": settings["strip_accents"],
        },
        "pre-tokenizer": {"type": "BertPreTokenizer"},
        AROUND: _around(first, last),
        "model": _model({"unk_token": special["unk_token"]}),
    }  # fmt: skip


def _normaliser(value: Any) -> Any:
    if _of_type(value, "BertNormalizer") is None:
        return value
    lower, accents = bool(value.get("lowercase", True)), value.get("strip_accents")
    return {
        "clean_text": bool(value.get("clean_text", True)),
        "handle_chinese_chars": bool(value.get("handle_chinese_chars", True)),
        "lowercase": lower,
        "strip_accents": lower if accents is None else bool(accents),
    }


def _around(first: int, last: int) -> dict[str, str]:
    """BERT's way: `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`, as ids with their token types."""
    return {"one": f"{first}:0 A:0 {last}:0", "two": f"{first}:0 A:0 {last}:0 B:1 {last}:1"}


def _template(value: Any) -> Any:
    """Either spelling of what is put around a text; anything else as it is."""
    if _of_type(value, "BertProcessing"):
        ends = [value.get(key) for key in ("cls", "sep")]
        if all(isinstance(end, list) and len(end) == 2 and isinstance(end[1], int) for end in ends):
            return _around(ends[0][1], ends[1][1])
    if _of_type(value, "TemplateProcessing"):
        known = value.get("special_tokens")
        parts = {name: _pieces(value.get(key), known) for name, key in (("one", "single"), ("two", "pair"))}
        if all(part is not None for part in parts.values()):
            return parts
    return value


def _pieces(template: Any, known: Any) -> str | None:
    """One template as ids and letters with their token types; None where it is another kind of thing."""
    pieces: list[str] = []
    for piece in template if isinstance(template, list) else [None]:
        if not isinstance(piece, dict) or len(piece) != 1:
            return None
        (kind, facts), = piece.items()  # fmt: skip
        name, side = (facts.get("id"), facts.get("type_id", 0)) if isinstance(facts, dict) else (None, None)
        ids = [name]
        if kind == "SpecialToken" and isinstance(name, str):
            token = known.get(name) if isinstance(known, dict) else None
            listed = token.get("ids") if isinstance(token, dict) else None
            ids = listed if isinstance(listed, list) else ids
        if not isinstance(name, str) or not is_id(side) or len(pieces) + len(ids) > MAX_PIECES:
            return None
        if not all(one is name or is_id(one) for one in ids):
            return None
        pieces += [f"{one}:{side}" for one in ids]
    return " ".join(pieces)


def _model(model: Mapping[str, Any]) -> dict[str, Any]:
    """The algorithm, without the vocabulary of it that is compared token by token."""
    vocabulary = model.get("vocab")
    own = {key: value for key, value in model.items() if key != "vocab" or isinstance(vocabulary, list)}
    if model.get("type", "WordPiece") != "WordPiece":
        return own
    default = {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    return {"type": "WordPiece", **{key: own.get(key, value) for key, value in default.items()}}
