"""The inputs that both sides are run on: drawn from a seed, short, long, padded, and real sentences."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertconv.source.place import open_in
from bertconv.tokenizer.files import FAST, MAX_BYTES, WORDS, words_in
from bertconv.tokenizer.vocabulary import reachable
from bertconv.verify.parity import Case
from bertconv.verify.places import Array

IDS = ("input_ids", "token_type_ids", "attention_mask")
"""Inputs that have the shape of the ids."""

LENGTH = 24
"""Most tokens of the batches that are looked at module by module."""

SENTENCES = (
    ("The same model gives the same answer, whatever it is written in.", None),
    ("Where does it break?", "At the seventh layer, in the output of its attention: 0.25 instead of -1."),
    ("Zürich, naïve café, 東京 and a wordthatnobodyknows.", None),
)
"""Real text: punctuation, numbers, accents, another script, an unknown word, and a pair."""


@dataclass(frozen=True)
class Batch:
    """One batch of inputs.

    Attributes:
        case: what it is.
        inputs: `input_ids` and whatever else the model is given, by name.
        deep: whether everything is looked at; else the body alone is run and its hidden states are compared, since
            attentions and logits of all positions would take more memory than the model.
    """

    case: Case
    inputs: Mapping[str, Array]
    deep: bool = True


Note = Callable[[str], None]
"""Told of what is odd, one sentence each."""


def make_batches(
    config: Mapping[str, Any], head: str, folder: Path, seed: int = 0, note: Note = lambda _: None,
    settings: Mapping[str, Any] | None = None,
) -> list[Batch]:  # fmt: skip
    """The batches for a model.

    Args:
        config: its config keys with their values.
        head: the model class.
        folder: where its tokenizer may lie.
        seed: of the random ids.
        note: told why there are no sentences though there is a tokenizer.
        settings: of that tokenizer, as `Tokenizer` has them; None for BERT's own.
    """
    rows = (2, 3) if head == "BertForMultipleChoice" else (3,)
    one = (1, 2) if head == "BertForMultipleChoice" else (1,)
    longest = int(config["max_position_embeddings"])
    short = min(LENGTH, longest)
    made = [
        _random("padded", f"{np.prod(rows)} sequences of up to {short} tokens, padded", (*rows, short), config, seed),
        _random("one token", "a sequence of one token", (*one, 1), config, seed + 1),
        _random(
            "full length", f"all {longest} positions, hidden states only", (*one, longest), config, seed + 2, deep=False
        ),
    ]
    if longest >= LENGTH and head != "BertForMultipleChoice":
        made += _sentences(config, folder, settings or {}, note)
    return made


def _random(
    name: str, about: str, shape: tuple[int, ...], config: Mapping[str, Any], seed: int, *, deep: bool = True
) -> Batch:
    rng = np.random.default_rng(seed)
    inputs: dict[str, Array] = {
        "input_ids": rng.integers(0, int(config["vocab_size"]), shape),
        "token_type_ids": np.sort(rng.integers(0, int(config["type_vocab_size"]), shape), axis=-1),
    }
    if name == "padded":
        lengths = rng.integers(1, shape[-1] + 1, shape[:-1])
        lengths.flat[0] = shape[-1]
        lengths.flat[-1] = max(1, shape[-1] // 2)
        inputs["attention_mask"] = (np.arange(shape[-1]) < lengths[..., None]).astype(np.int64)
    return Batch(Case(name, about, shape, seed), inputs | _encoder_inputs(config, shape, rng), deep)


def _encoder_inputs(config: Mapping[str, Any], shape: tuple[int, ...], rng: np.random.Generator) -> dict[str, Array]:
    """What a decoder with cross-attention looks at: `[batch source hidden]`, float64, and its mask."""
    if not (config["is_decoder"] and config["add_cross_attention"]):
        return {}
    source = min(7, int(config["max_position_embeddings"]))
    mask = np.ones((shape[0], source), np.int64)
    mask[0, source - 1 :] = source == 1
    return {
        "encoder_hidden_states": rng.standard_normal((shape[0], source, int(config["hidden_size"]))),
        "encoder_attention_mask": mask,
    }


def _sentences(
    config: Mapping[str, Any], folder: Path, settings: Mapping[str, Any], note: Note
) -> Iterator[Batch]:  # fmt: skip
    """Sentences through the checkpoint's own tokenizer, where there is one that can be used."""
    there = ((folder / name) for name in (FAST, WORDS))
    path = next((path for path in there if path.is_symlink() or (path.exists() and not path.is_dir())), None)
    if path is None or importlib.util.find_spec("tokenizers") is None:
        return
    encoded: list[Any] = []
    with suppress(Exception):  # a file that is none, or what tokenizers raises, whatever is wrong with it
        tokenizer = _tokenizer(path, settings)
        encoded = [tokenizer.encode(*filter(None, pair)) for pair in SENTENCES]
    if not encoded or not all(one.ids for one in encoded):
        note(f"{path.name} cannot be used, so the inputs hold no sentences")
        return
    length = min(max(len(one.ids) for one in encoded), int(config["max_position_embeddings"]))
    rows = {"input_ids": "ids", "token_type_ids": "type_ids", "attention_mask": "attention_mask"}
    inputs = {name: _padded([getattr(one, part)[:length] for one in encoded], length) for name, part in rows.items()}
    if inputs["input_ids"].max() >= int(config["vocab_size"]):
        note(f"{path.name} is not this model's: it knows more words; so the inputs hold no sentences")
        return
    inputs["token_type_ids"] = np.minimum(inputs["token_type_ids"], int(config["type_vocab_size"]) - 1)
    rng = np.random.default_rng(0)
    shape = inputs["input_ids"].shape
    case = Case(
        "sentences", f"{len(encoded)} sentences, one of them a pair, by the checkpoint's tokenizer", shape, None
    )
    yield Batch(case, inputs | _encoder_inputs(config, shape, rng))


def _tokenizer(path: Path, settings: Mapping[str, Any]) -> Any:
    import tokenizers

    with closing(open_in(path.parent, path.name)) as file:
        if file.size > MAX_BYTES:
            raise ValueError("is too large")
        content = file.read(0, file.size)
    if path.name == WORDS:
        return tokenizers.BertWordPieceTokenizer(
            dict(reachable(words_in(content))), lowercase=settings.get("do_lower_case", True),
            strip_accents=settings.get("strip_accents"),
            handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        )  # fmt: skip
    tokenizer = tokenizers.Tokenizer.from_str(content.decode())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _padded(rows: list[list[int]], length: int) -> Array:
    return np.array([[*row, *[0] * (length - len(row))] for row in rows], np.int64)
