"""The inputs that both sides are run on: in range for every model, the same for the same seed; real sentences."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import HEADS
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv.config import BertConfig
from bertconv.config.auto import AutoConfig
from bertconv.families import families
from bertconv.mapping.table import table_for
from bertconv.verify import cases
from bertconv.verify.cases import IDS, LENGTH, SENTENCES, Batch, make_batches

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "same",
    "model",
    "gives",
    "where",
    "does",
    "it",
    "Same",
    "a",
]
NOWHERE = Path("/nowhere")
BERT = table_for("bert")
SPECIAL = {"unk_token": "[UNK]", "type": "WordPiece"}


def values(**changes: Any) -> dict[str, Any]:
    sizes = {"vocab_size": 101, "hidden_size": 6, "num_attention_heads": 3, "max_position_embeddings": 37}
    return dict(BertConfig.from_dict({"model_type": "bert", **sizes, **changes}).values)


def batches(folder: Path = NOWHERE, head: str = "BertModel", seed: int = 0, **changes: Any) -> dict[str, Batch]:
    return {batch.case.name: batch for batch in make_batches(BERT, values(**changes), BERT.tasks[head], folder, seed)}


def notes_of(folder: Path, **changes: Any) -> list[str]:
    notes: list[str] = []
    made = make_batches(BERT, values(**changes), "base", folder, 0, notes.append)
    assert ("sentences" in [batch.case.name for batch in made]) == (not notes)
    return notes


def check(batch: Batch, settings: dict[str, Any], head: str) -> None:
    """Ids and token types in range, masks that are none for no row, and shapes as the case says."""
    ids = batch.inputs["input_ids"]
    assert ids.shape == batch.case.shape
    assert ids.ndim == (3 if head == "BertForMultipleChoice" else 2)
    assert ids.shape[-1] <= settings["max_position_embeddings"]
    for name, count in (("input_ids", "vocab_size"), ("token_type_ids", "type_vocab_size")):
        array = batch.inputs[name]
        assert array.dtype == np.int64
        assert array.shape == ids.shape
        assert array.min() >= 0
        assert array.max() < settings[count]
    if (mask := batch.inputs.get("attention_mask")) is not None:
        assert mask.shape == ids.shape
        assert set(np.unique(mask)) <= {0, 1}
        assert (mask[..., 0] == 1).all()
        assert (np.diff(mask, axis=-1) <= 0).all()  # padded on the right
    crossed = settings["is_decoder"] and settings["add_cross_attention"]
    assert ("encoder_hidden_states" in batch.inputs) == ("encoder_attention_mask" in batch.inputs) == crossed
    if crossed:
        source = batch.inputs["encoder_hidden_states"]
        assert source.dtype == np.float64
        assert source.shape == (len(ids), batch.inputs["encoder_attention_mask"].shape[1], settings["hidden_size"])
        assert (batch.inputs["encoder_attention_mask"].max(axis=1) == 1).all()


@settings(deadline=None)
@given(
    head=st.sampled_from(HEADS), seed=st.integers(0, 2**32), vocab=st.integers(1, 200), types=st.integers(1, 4),
    longest=st.integers(1, 60), decoder=st.sampled_from([(False, False), (True, False), (True, True)]),
)  # fmt: skip
def test_every_model_has_inputs_in_its_range(
    head: str, seed: int, vocab: int, types: int, longest: int, decoder: tuple[bool, bool]
) -> None:
    changes = {
        "vocab_size": vocab, "type_vocab_size": types, "max_position_embeddings": longest,
        "is_decoder": decoder[0], "add_cross_attention": decoder[1],
    }  # fmt: skip
    made = batches(NOWHERE, head, seed, **changes)
    assert list(made) == ["padded", "one token", "full length"]
    for batch in made.values():
        check(batch, values(**changes), head)
    assert made["padded"].case.shape[-1] == min(LENGTH, longest)
    assert made["one token"].case.shape[-1] == 1
    assert made["full length"].case.shape[-1] == longest
    assert [batch.deep for batch in made.values()] == [True, True, False]


def family_batches(kind: str, task: str, folder: Path = NOWHERE, **changes: Any) -> tuple[dict[str, Batch], Any]:
    """The batches of a tiny model of any family, and its config's keys."""
    sizes = {"vocab_size": 101, "max_position_embeddings": 64}
    config = AutoConfig.for_model(kind, **{**sizes, **changes}).values
    made = make_batches(table_for(kind), config, task, folder)
    return {batch.case.name: batch for batch in made}, config


@pytest.mark.parametrize("task", ["base", "multiple_choice"])
@pytest.mark.parametrize("kind", [kind for kind in families() if kind != "bert"])
def test_inputs_of_every_family(kind: str, task: str) -> None:
    table = table_for(kind)
    made, config = family_batches(kind, task)
    pad, counted = config["pad_token_id"], table.positions == "from_ids"
    longest = 64 - pad - 1 if counted else 64
    assert made["full length"].case.shape[-1] == longest
    for batch in made.values():
        ids, types = batch.inputs["input_ids"], batch.inputs.get("token_type_ids")
        assert (types is not None) == ("token_type_ids" in table.inputs)
        assert types is None or types.max() < config["type_vocab_size"]
        if counted:
            mask = batch.inputs.get("attention_mask", np.ones_like(ids))
            assert ((ids == pad) == (mask == 0)).all()
        assert not {"encoder_hidden_states", "encoder_attention_mask"} & batch.inputs.keys()


@pytest.mark.parametrize("kind", [kind for kind in families() if kind != "bert"])
def test_sentences_of_every_family(kind: str, tmp_path: Path) -> None:
    made, config = family_batches(kind, "base", tokenizer(tmp_path))
    ids, mask = (made["sentences"].inputs[name] for name in ("input_ids", "attention_mask"))
    assert (ids[mask == 0] == config["pad_token_id"]).all()
    assert mask.min() == 0


def test_an_encoder_is_looked_at_only_where_there_is_cross_attention() -> None:
    changes = {"is_decoder": True, "add_cross_attention": True}
    for kind in families():
        made, config = family_batches(kind, "base", **(changes if kind not in ("distilbert", "mpnet") else {}))
        crosses = any("cross_query" in group.modules for group in table_for(kind).groups.values())
        assert ("encoder_hidden_states" in made["padded"].inputs) == (crosses and config["add_cross_attention"])


def test_padded_rows_are_padded() -> None:
    mask = batches()["padded"].inputs["attention_mask"]
    assert mask.sum(axis=1).tolist()[0] == LENGTH
    assert mask.sum(axis=1).tolist()[-1] == LENGTH // 2
    assert batches(max_position_embeddings=1)["padded"].inputs["attention_mask"].tolist() == [[1]] * 3


def test_the_source_of_a_decoder_is_padded() -> None:
    inputs = batches(is_decoder=True, add_cross_attention=True)["padded"].inputs
    assert inputs["encoder_attention_mask"].sum(axis=1).tolist() == [6, 7, 7]


def test_token_types_vary() -> None:
    assert set(np.unique(batches(type_vocab_size=3)["full length"].inputs["token_type_ids"])) == {0, 1, 2}


def equal(one: Batch, other: Batch) -> bool:
    return all(np.array_equal(array, other.inputs[name]) for name, array in one.inputs.items())


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_a_seed_gives_the_same_inputs(seed: int) -> None:
    changes = {"is_decoder": True, "add_cross_attention": True}
    one, same, other = (batches(seed=number, **changes) for number in (seed, seed, seed + 7))
    for name, batch in one.items():
        assert equal(batch, same[name])
        assert not equal(batch, other[name])
        assert batch.case == same[name].case
    assert [batch.case.seed for batch in one.values()] == [seed, seed + 1, seed + 2]


# Sentences


def vocabulary(folder: Path, words: list[str] = WORDS) -> Path:
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    return folder


def tokenizer(folder: Path, **changes: Any) -> Path:
    """A tokenizer.json made by tokenizers itself, that pads and cuts if it is let."""
    import tokenizers

    vocabulary(folder)
    made = tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"))
    made.enable_padding(length=200)
    made.enable_truncation(5)
    content = json.loads(made.to_str())
    (folder / "tokenizer.json").write_text(json.dumps({**content, **changes}))
    (folder / "vocab.txt").unlink()
    return folder


@pytest.mark.parametrize("make", [vocabulary, tokenizer])
@pytest.mark.parametrize("decoder", [False, True])
def test_sentences(make: Any, decoder: bool, tmp_path: Path) -> None:
    changes = {"is_decoder": decoder, "add_cross_attention": decoder, "max_position_embeddings": 64}
    batch = batches(make(tmp_path), **changes)["sentences"]
    check(batch, values(**changes), "BertModel")
    ids, mask, types = (batch.inputs[name] for name in IDS[:1] + IDS[2:] + IDS[1:2])
    start = [WORDS.index(word) for word in ("[CLS]", "the", "same", "model", "gives", "the", "same")]
    assert ids[0, : len(start)].tolist() == start
    assert len(ids) == len(SENTENCES)
    assert (ids[mask == 0] == 0).all()
    lengths = mask.sum(axis=1)
    assert lengths.max() == ids.shape[1] > 5
    assert lengths.min() < ids.shape[1]
    assert types.max(axis=1).tolist() == [0, 1, 0]  # the second is a pair
    assert batch.deep
    assert batch.case.seed is None
    assert notes_of(tmp_path, **changes) == []


def test_tokenizer_json_comes_first(tmp_path: Path) -> None:
    tokenizer(tmp_path)
    vocabulary(tmp_path, [*WORDS[:5], "gives", "model", "same", "the"])
    assert batches(tmp_path)["sentences"].inputs["input_ids"][0, 1] == WORDS.index("the")


def test_long_sentences_are_cut(tmp_path: Path) -> None:
    batch = batches(vocabulary(tmp_path), max_position_embeddings=LENGTH)["sentences"]
    assert batch.case.shape == (len(SENTENCES), LENGTH)


def sentence(folder: Path, settings: dict[str, Any] | None = None) -> list[int]:
    """The ids of the last sentence."""
    made = make_batches(BERT, values(), "base", folder, settings=settings)
    ids: list[int] = next(batch for batch in made if batch.case.name == "sentences").inputs["input_ids"].tolist()[-1]
    return ids


@pytest.mark.parametrize(
    ("settings", "there"),
    [
        (None, {"zurich", "東"}),
        ({"do_lower_case": False}, {"Zürich", "東"}),
        ({"do_lower_case": True, "strip_accents": False}, {"zürich", "東"}),
        ({"tokenize_chinese_chars": False}, {"zurich", "東京"}),
    ],
)
def test_a_vocabulary_is_used_as_its_settings_say(
    settings: dict[str, Any] | None, there: set[str], tmp_path: Path
) -> None:
    words = [*WORDS[:5], "Zürich", "zürich", "zurich", "東", "東京"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    assert {words[number] for number in sentence(tmp_path, settings)} - set(WORDS) == there


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json"])
def test_only_files_of_the_folder_are_read(name: str, tmp_path: Path) -> None:
    """What a link leads to is somebody else's, and a FIFO has no end."""
    (tmp_path / "a").mkdir()
    made = {"vocab.txt": vocabulary, "tokenizer.json": tokenizer}[name](tmp_path / "a")
    for number, make in enumerate((lambda path: path.symlink_to(made / name), os.mkfifo)):
        folder = tmp_path / str(number)
        folder.mkdir()
        make(folder / name)
        assert notes_of(folder) == [f"{name} cannot be used, so the inputs hold no sentences"]


def test_a_vocabulary_that_is_too_large_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = vocabulary(tmp_path).joinpath("vocab.txt").stat().st_size
    monkeypatch.setattr(cases, "MAX_BYTES", size)
    assert notes_of(tmp_path) == []
    monkeypatch.setattr(cases, "MAX_BYTES", size - 1)
    assert notes_of(tmp_path) == ["vocab.txt cannot be used, so the inputs hold no sentences"]


def test_one_token_type_is_enough(tmp_path: Path) -> None:
    batch = batches(vocabulary(tmp_path), type_vocab_size=1)["sentences"]
    assert batch.inputs["token_type_ids"].max() == 0


@pytest.mark.parametrize("changes", [{"max_position_embeddings": LENGTH - 1}, {}], ids=["short", "multiple choice"])
def test_no_sentences_for_models_that_cannot_take_them(changes: dict[str, Any], tmp_path: Path) -> None:
    head = "BertModel" if changes else "BertForMultipleChoice"
    assert "sentences" not in batches(vocabulary(tmp_path), head, **changes)


def test_no_sentences_without_a_tokenizer(tmp_path: Path) -> None:
    assert "sentences" not in batches(tmp_path)


def test_no_sentences_without_tokenizers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tokenizers" else find(name))
    assert "sentences" not in batches(tokenizer(tmp_path))


def test_ids_beyond_the_vocabulary(tmp_path: Path) -> None:
    (note,) = notes_of(vocabulary(tmp_path), vocab_size=len(WORDS) - 6)
    assert note == "vocab.txt is not this model's: it knows more words; so the inputs hold no sentences"
    assert notes_of(tmp_path, vocab_size=len(WORDS)) == []


BROKEN = {"model": {**SPECIAL, "vocab": {"the": 0}}}, {"model": {"type": "WordLevel", "vocab": {}, "unk_token": "?"}}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "{}", '{"version": "1.0"}', "\0", '{"model": {"type": "X"}}']
)
def test_a_broken_tokenizer_json_is_noted(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    assert notes_of(tmp_path) == ["tokenizer.json cannot be used, so the inputs hold no sentences"]


@pytest.mark.parametrize("changes", BROKEN, ids=["no unknown word", "no words"])
def test_a_tokenizer_that_cannot_encode_is_noted(changes: dict[str, Any], tmp_path: Path) -> None:
    assert notes_of(tokenizer(tmp_path, post_processor=None, **changes)) == [
        "tokenizer.json cannot be used, so the inputs hold no sentences"
    ]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\n", b"[PAD]\n[UNK]\nthe\n", b"[PAD]\n[CLS]\n[SEP]\nthe\n"])
def test_a_broken_vocabulary_is_noted(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(content)
    assert notes_of(tmp_path) == ["vocab.txt cannot be used, so the inputs hold no sentences"]


@pytest.mark.parametrize(
    ("kind", "pad", "longest"),
    [("roberta", 200, 63), ("roberta", -1, 264), ("mpnet", 0, 262), ("mpnet", None, 262), ("mpnet", 9, 262)],
)
def test_no_position_is_beyond_the_table_whatever_the_padding(kind: str, pad: int | None, longest: int) -> None:
    made, _ = family_batches(kind, "base", pad_token_id=pad, max_position_embeddings=264)
    assert made["full length"].case.shape[-1] == longest
    if kind == "mpnet":  # of its padding only the 1 is none of the positions
        assert (made["full length"].inputs["input_ids"] != 1).all()
