"""Token -> id, from whichever files it is in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from bertconv.tokenizer.files import ADDED, FAST, MAX_ID, SETTINGS, SPECIAL, WORDS, Files

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""Special tokens that have a name, in the order in which transformers adds those that the vocabulary lacks."""
DEFAULTS = {
    "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
}  # fmt: skip
"""Those of a BERT whose files name none."""
_NUMBER = re.compile(r"\d{1,10}", re.ASCII)
_MORE = ("additional_special_tokens", "extra_special_tokens")


def model_of(files: Files) -> Mapping[str, Any]:
    """The part of tokenizer.json that holds the vocabulary; empty without one."""
    model = files.settings(FAST).get("model")
    return model if isinstance(model, dict) else {}


def is_wordpiece(files: Files) -> bool:
    """Whether the vocabulary is one of pieces of words, as BERT's; old files do not say so."""
    model = model_of(files)
    return model.get("type", "WordPiece") == "WordPiece" if model else files.words is not None


def base_vocabulary(files: Files) -> tuple[str, Mapping[str, int]] | None:
    """The file that counts and the tokens in it; tokenizer.json comes first, as in transformers. None without one."""
    listed = model_of(files).get("vocab")
    if isinstance(listed, dict) and all(is_id(number) for number in listed.values()):
        return FAST, listed
    if isinstance(listed, list):
        words = [row[0] if isinstance(row, list) and row else row for row in listed]
        return FAST, {word: number for number, word in enumerate(words) if isinstance(word, str)}
    return None if files.words is None else (WORDS, files.words)


def reachable(tokens: Mapping[str, int]) -> Mapping[str, int]:
    """The pieces of words that can come out of a text.

    BERT cuts a text at white space, and readers of vocab.txt differ in what white space they take off the end of a
    line: without it they agree, and the highest id counts. An empty line is no token.
    """
    if all(token and token.rstrip() == token for token in tokens):
        return tokens  # as real ones are: a copy of half a million takes its time
    found: dict[str, int] = {}
    for token, number in tokens.items():
        if (bare := token.rstrip()) and found.get(bare, -1) < number:
            found[bare] = number
    return found


def special_tokens(files: Files) -> tuple[dict[str, str], tuple[str, ...]]:
    """Role -> token, and the special tokens without a role.

    special_tokens_map.json counts where tokenizer_config.json does not list the added tokens itself.
    """
    settings = files.settings(SETTINGS)
    said = dict(settings) if "added_tokens_decoder" in settings else {**settings, **files.settings(SPECIAL)}
    found = {role: _content(said.get(role)) or DEFAULTS.get(role) for role in ROLES}
    more = {content for key in _MORE for one in _listed(said.get(key)) if (content := _content(one)) is not None}
    return {role: token for role, token in found.items() if token is not None}, tuple(sorted(more))


def added_tokens(files: Files) -> dict[str, tuple[int, Mapping[str, Any]]]:
    """Token -> its id and what is said about it, of the tokens that were added to the vocabulary."""
    found: dict[str, tuple[int, Mapping[str, Any]]] = {}
    for token in _listed(files.settings(FAST).get("added_tokens")):
        if isinstance(token, dict) and (content := _content(token)) is not None and is_id(token.get("id")):
            found.setdefault(content, (token["id"], token))
    decoder = files.settings(SETTINGS).get("added_tokens_decoder")
    for number, token in decoder.items() if isinstance(decoder, dict) else ():
        content = _content(token)
        if content is not None and _NUMBER.fullmatch(number) and is_id(int(number)):
            found.setdefault(content, (int(number), token if isinstance(token, dict) else {}))
    for content, number in files.settings(ADDED).items():
        if is_id(number):
            found.setdefault(content, (number, {}))
    return found


def whole_vocabulary(
    base: Mapping[str, int], added: Mapping[str, int], special: Iterable[str], *, wordpiece: bool
) -> Mapping[str, int]:
    """Every token with its id: the vocabulary, the added tokens, and the special tokens that neither has.

    transformers gives those the next free ids.
    """
    tokens = reachable(base) if wordpiece else base
    more = {token: number for token, number in added.items() if token not in tokens}
    free = max(len(base), max(added.values(), default=-1) + 1)
    for token in special:
        if token not in tokens and token not in more:
            more[token] = free
            free += 1
    if more:
        whole = dict(tokens) if tokens is base else cast(dict[str, int], tokens)  # a third one would take its room
        whole.update(more)
        return whole
    return tokens


def is_id(number: object) -> bool:
    """Whether it can be the id of a token."""
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < MAX_ID


def _content(token: object) -> str | None:
    """A token's text: files have it as text or as an object."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) and text else None


def _listed(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
