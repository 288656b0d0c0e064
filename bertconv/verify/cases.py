"""The inputs that both sides are run on: drawn from a seed, short, long, padded, and real sentences."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np

from bertconv.mapping.table import Table
from bertconv.records import dataclass
from bertconv.source.checkpoint_folder import open_in
from bertconv.tasks import MULTIPLE_CHOICE
from bertconv.tokenizer.files import FAST, MAX_BYTES, WORDS, words_in
from bertconv.tokenizer.vocabulary import reachable
from bertconv.verify.parity import Case
from bertconv.verify.places import Array

IDS = ("input_ids", "token_type_ids", "attention_mask")
"""Inputs that have the shape of the ids."""

FROM_IDS = "from_ids"
"""How a table calls positions that are counted from the ids."""

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
"""Called with what is unusual, one sentence each."""


@dataclass(frozen=True)
class _Model:
    """What decides what inputs a model takes: its family's table, and its config keys with their values."""

    table: Table
    config: Mapping[str, Any]

    def size(self, key: str) -> int:
        """A number of the config."""
        return int(self.config[key])

    @property
    def padding(self) -> int | None:
        """The id of padding, where it is one of the vocabulary."""
        stated = self.config["pad_token_id"]
        return stated if stated in range(self.size("vocab_size")) else None

    @property
    def counted(self) -> int | None:
        """The id behind whose row positions begin, where they are counted from the ids."""
        if self.table.positions != FROM_IDS:
            return None
        return int(self.config.get("counted_padding", self.config["pad_token_id"]) or 0)

    @property
    def avoided(self) -> int | None:
        """The id that no word has, where the ids say what is padding: positions are counted from the others."""
        return self.counted if self.counted in range(self.size("vocab_size")) else None

    @property
    def longest(self) -> int:
        """Most tokens of a sequence; where positions begin behind the padding's, rows before that are none."""
        unused = 0 if self.counted is None else self.counted + 1
        return max(1, self.size("max_position_embeddings") - unused)

    @property
    def has_types(self) -> bool:
        """Whether it takes token types."""
        return "token_type_ids" in self.table.inputs and self.size("type_vocab_size") > 0

    @property
    def has_source(self) -> bool:
        """Whether it looks at an encoder's states."""
        crosses = any("cross_query" in group.modules for group in self.table.groups.values())
        return crosses and bool(self.config["is_decoder"] and self.config["add_cross_attention"])


def make_batches(
    table: Table, config: Mapping[str, Any], task: str, folder: Path, seed: int = 0, note: Note = lambda _: None,
    settings: Mapping[str, Any] | None = None,
) -> list[Batch]:  # fmt: skip
    """The batches for a model.

    Args:
        table: of its family.
        config: its config keys with their values.
        task: what its class computes.
        folder: where its tokenizer may lie.
        seed: of the random ids.
        note: called with the reason why there are no sentences though there is a tokenizer.
        settings: of that tokenizer, as `Tokenizer` has them; None for BERT's own.
    """
    model, has_choices = _Model(table, config), task == MULTIPLE_CHOICE
    rows, one = ((2, 3), (1, 2)) if has_choices else ((3,), (1,))
    longest = model.longest
    short = min(LENGTH, longest)
    made = [
        _random("padded", f"{np.prod(rows)} sequences of up to {short} tokens, padded", (*rows, short), model, seed),
        _random("one token", "a sequence of one token", (*one, 1), model, seed + 1),
        _random(
            "full length", f"all {longest} positions, hidden states only", (*one, longest), model, seed + 2, deep=False
        ),
    ]
    if longest >= LENGTH and not has_choices:
        made += _sentences(model, folder, settings or {}, note)
    return made


def _random(name: str, about: str, shape: tuple[int, ...], model: _Model, seed: int, *, deep: bool = True) -> Batch:
    rng = np.random.default_rng(seed)
    inputs: dict[str, Array] = {"input_ids": _words(model, shape, rng)}
    if model.has_types:
        inputs["token_type_ids"] = np.sort(rng.integers(0, model.size("type_vocab_size"), shape), axis=-1)
    if name == "padded":
        lengths = rng.integers(1, shape[-1] + 1, shape[:-1])
        lengths.flat[0] = shape[-1]
        lengths.flat[-1] = max(1, shape[-1] // 2)
        inputs["attention_mask"] = (np.arange(shape[-1]) < lengths[..., None]).astype(np.int64)
        if model.avoided is not None:
            inputs["input_ids"][inputs["attention_mask"] == 0] = model.avoided
    return Batch(Case(name, about, shape, seed), inputs | _encoder_inputs(model, shape, rng), deep)


def _words(model: _Model, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Random ids; none is the padding's by chance where positions are counted from them."""
    count = model.size("vocab_size")
    if model.avoided is None or count == 1:
        return rng.integers(0, count, shape)
    ids = rng.integers(0, count - 1, shape)
    return ids + (ids >= model.avoided)


def _encoder_inputs(model: _Model, shape: tuple[int, ...], rng: np.random.Generator) -> dict[str, Array]:
    """What a decoder with cross-attention looks at: `[batch source hidden]`, float64, and its mask."""
    if not model.has_source:
        return {}
    source = min(7, model.size("max_position_embeddings"))
    mask = np.ones((shape[0], source), np.int64)
    mask[0, source - 1 :] = source == 1
    return {
        "encoder_hidden_states": rng.standard_normal((shape[0], source, model.size("hidden_size"))),
        "encoder_attention_mask": mask,
    }


def _sentences(model: _Model, folder: Path, settings: Mapping[str, Any], note: Note) -> Iterator[Batch]:
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
    length = min(max(len(one.ids) for one in encoded), model.longest)
    rows = {"input_ids": "ids", "token_type_ids": "type_ids", "attention_mask": "attention_mask"}
    inputs = {name: _padded([getattr(one, part)[:length] for one in encoded], length) for name, part in rows.items()}
    if model.padding is not None:
        inputs["input_ids"][inputs["attention_mask"] == 0] = model.padding
    if inputs["input_ids"].max() >= model.size("vocab_size"):
        note(f"{path.name} is not this model's: it knows more words; so the inputs hold no sentences")
        return
    types = inputs.pop("token_type_ids")
    if model.has_types:
        inputs["token_type_ids"] = np.minimum(types, model.size("type_vocab_size") - 1)
    rng = np.random.default_rng(0)
    shape = inputs["input_ids"].shape
    case = Case(
        "sentences", f"{len(encoded)} sentences, one of them a pair, by the checkpoint's tokenizer", shape, None
    )
    yield Batch(case, inputs | _encoder_inputs(model, shape, rng))


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
