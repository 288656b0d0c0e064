"""The old tokens into which the old tokenizer cuts a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

from bertconv.errors import RequestError
from bertconv.manage.resizing.vocabulary import RowPlan
from bertconv.source import Source
from bertconv.text import printable
from bertconv.tokenizer import Tokenizer
from bertconv.tokenizer.files import FAST, MAX_BYTES
from bertconv.tokenizer.wordpiece import WordPieces

_LIBRARY = "tokenizers"


def pieces_of(plan: RowPlan, source: Source, old: Tokenizer, new: Tokenizer) -> dict[int, tuple[int, ...]]:
    """Row of each new token -> old rows of its pieces; a token of which no piece is known is left out.

    Args:
        plan: with the new tokens.
        source: where the old tokenizer is.
        old: what its files say.
        new: what those of the new one say.

    Raises:
        RequestError: its algorithm needs the library tokenizers, which is not there or cannot read it.
    """
    if not plan.new:
        return {}
    known = set(plan.known)
    unknown = _unknown(old)
    cut = _wordpieces(old) or _library(source, _texts(new))
    found = {}
    for row, token in plan.new.items():
        if parts := tuple(one for one in cut(token) if one in known and one not in unknown):
            found[row] = parts
    return found


def _unknown(old: Tokenizer) -> set[Any]:
    """Ids of what stands for what is not in the vocabulary, wherever it is named."""
    tokens, model = old.tokens or {}, (old.rules or {}).get("model") or {}
    named = ((old.special or {}).get("unk_token"), model.get("unk_token"))
    return {model.get("unk_id"), *(tokens.get(token) for token in named if isinstance(token, str))}


def _wordpieces(old: Tokenizer) -> Callable[[str], tuple[int, ...]] | None:
    """Done here for vocabularies of pieces of words, which are most."""
    rules: Mapping[str, Any] = old.rules or {}
    model, normaliser = rules.get("model") or {}, rules.get("normaliser")
    if model.get("type") != "WordPiece":
        return None
    said = normaliser if isinstance(normaliser, dict) else {}
    return WordPieces(
        old.tokens or {}, str(model["continuing_subword_prefix"]), bool(said.get("lowercase")),
        bool(said.get("strip_accents")), bool(said.get("handle_chinese_chars")),
    ).of_token  # fmt: skip


def _texts(new: Tokenizer) -> frozenset[str]:
    """Tokens that are found in a text as they are, without the vocabulary's marks."""
    return frozenset((*(new.flags or {}), *(new.special or {}).values(), *new.additional))


def _library(source: Source, texts: frozenset[str]) -> Callable[[str], Iterator[int]]:
    """Other algorithms as the library does them."""
    try:
        from tokenizers import Tokenizer as Fast
    except ImportError as error:
        raise RequestError(
            f"the old tokenizer is none of pieces of words, and {_LIBRARY} is not installed, which can cut tokens.",
            hint=f"Install it (pip install {_LIBRARY}), or choose another way for new tokens.",
        ) from error
    with closing(source.open(FAST)) as file:
        content = file.read_up_to(MAX_BYTES)
    try:
        fast = Fast.from_str(content.decode())
    except Exception as error:
        if type(error) is Exception or isinstance(error, ValueError):  # the library raises bare ones
            raise RequestError(
                f"{_LIBRARY} cannot read {FAST}: {printable(str(error))}.", hint="Choose another way for new tokens."
            ) from error
        raise

    def cut(token: str) -> Iterator[int]:
        if token in texts:
            yield from fast.encode(token, add_special_tokens=False).ids
        else:
            yield from (piece.id for piece in fast.model.tokenize(token))

    return cut
