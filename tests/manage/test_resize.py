"""Rows follow the text of their tokens: tables, decoders, biases and ids, in every family and format."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
import pytest

from bertconv import resize_vocabulary
from bertconv.errors import BertconvError, MappingError, RequestError, UnsupportedCheckpoint
from bertconv.formats import streaming
from bertconv.manage.resizing import tables

ROWS = cp.SIZES["vocab_size"]
SPECIAL = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
"""[PAD] has the id 1, which is the padding's in every family that counts positions from it."""
WORDS = (*SPECIAL, *(f"w{number}" for number in range(60)), *(f"##p{number}" for number in range(30)))
PADDING = ROWS - len(WORDS)
TABLES = ("word_embeddings", "decoder", "predictions.bias", "lm_head.bias", "vocab_projector", "predictions/bias",
          "predictions/decoder/bias", "lm_head/bias", "lm_head/weight", "vocab_projector/bias")  # fmt: skip
LANGUAGE_MODELS = tuple(head for head in cp.APART if head.endswith(("ForMaskedLM", "ForPreTraining", "ForCausalLM")))


def shuffled(words: Sequence[str] = WORDS, seed: int = 0) -> list[str]:
    """Another order in which [PAD] stays where it is."""
    rest = [word for word in words if word != "[PAD]"]
    random.Random(seed).shuffle(rest)
    return [rest[0], "[PAD]", *rest[1:]]


def vocabulary(folder: Path, words: Sequence[str], **files: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def model(
    folder: Path, head: str = "BertForMaskedLM", container: str = "safetensors", words: Sequence[str] = WORDS,
    tensors: cp.Tensors | None = None, **changes: Any,
) -> Path:  # fmt: skip
    changes = {"pad_token_id": 1, **changes}
    tensors = cp.state_dict(head) if tensors is None else tensors
    cp.save(folder, head, tensors, container, **changes)
    return vocabulary(folder, words)


def digest(folder: Path) -> str:
    found: str = json.loads((folder / "bertconv.json").read_text())["digest"]
    return found


def expected(old: np.ndarray, words: Sequence[str], fresh: np.ndarray) -> np.ndarray:
    """Rows by their tokens, padding where it was, anything else `fresh`."""
    rows = []
    for row in range(max(len(words), len(old))):
        token = words[row] if row < len(words) else None
        if token in WORDS:
            rows.append(old[WORDS.index(token)])
        elif token is None and len(WORDS) <= row < len(old):
            rows.append(old[row])
        else:
            rows.append(fresh)
    return np.array(rows)


def mean(old: np.ndarray) -> np.ndarray:
    """Of the tokens' rows, without the padding."""
    return np.asarray(old[: len(WORDS)].astype(np.float64).mean(axis=0)).astype(old.dtype)


# In every family and format


@pytest.mark.parametrize("head", LANGUAGE_MODELS)
@pytest.mark.parametrize("container", ["safetensors", "h5"])
def test_there_and_back_is_the_same_model(tmp_path: Path, head: str, container: str) -> None:
    src, other = model(tmp_path / "in", head, container), vocabulary(tmp_path / "other", shuffled())
    there = resize_vocabulary(src, tmp_path / "there", tokenizer=other)
    assert there.report.ok
    assert there.rows.padding == {"before": PADDING, "kept": PADDING, "added": 0}
    back = resize_vocabulary(tmp_path / "there", tmp_path / "back", tokenizer=src)
    assert digest(tmp_path / "there") != digest(tmp_path / "back")
    assert back.report.digest == there.report.parents[0].digest
    assert back.report.parents[0].digest == there.report.digest == digest(tmp_path / "there")
    cp.assert_same(cp.written(tmp_path / "back"), cp.written(converted(src, tmp_path)))


def converted(src: Path, folder: Path) -> Path:
    """What a conversion to its own format makes of it."""
    form = "tf" if (src / "tf_model.h5").exists() else "pt"
    assert cp.call("convert", src, folder / "converted", "--to", form, "--verify", "none", "--quiet") == 0
    return folder / "converted"


@pytest.mark.parametrize(
    "head", ["BertForPreTraining", "AlbertForMaskedLM", "RobertaForMaskedLM", "ElectraForMaskedLM"]
)
@pytest.mark.parametrize("container", ["safetensors", "h5"])
def test_every_table_of_tokens_follows_and_no_other(tmp_path: Path, head: str, container: str) -> None:
    src, words = model(tmp_path / "in", head, container), shuffled()
    resize_vocabulary(src, tmp_path / "out", tokenizer=vocabulary(tmp_path / "other", words))
    old, new = cp.written(converted(src, tmp_path)), cp.written(tmp_path / "out")
    changed = {name for name in old if ROWS in old[name].shape}
    assert len(changed) >= 2
    for name, value in old.items():
        rows = expected(value, words, value[0] * 0) if name in changed else value
        assert new[name].tobytes() == rows.tobytes(), name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_rows_keep_their_bits_in_every_type(tmp_path: Path, dtype: str) -> None:
    src = model(tmp_path / "in", tensors=cp.state_dict("BertForMaskedLM", dtype))
    words = [*shuffled(), *(f"x{number}" for number in range(20))]
    resize_vocabulary(src, tmp_path / "out", tokenizer=vocabulary(tmp_path / "other", words))
    old, new = cp.written(src)[cp.WORD], cp.written(tmp_path / "out")[cp.WORD]
    assert new[: len(WORDS)].tobytes() == expected(old, words, old[0])[: len(WORDS)].tobytes()


# A decoder of its own lies the other way round in TensorFlow


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("to", ["pt", "tf"])
@pytest.mark.parametrize("container", ["safetensors", "h5", "strided"])
@pytest.mark.parametrize("new", ["mean", "pieces", "normal"])
def test_decoders_follow_in_either_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str, to: str, new: str, small: bool
) -> None:
    if small:  # many pieces instead of one
        for module, name, size in ((tables, "PIECE", 700), (tables, "PANEL", 5000), (tables, "PART", 900),
                                   (streaming, "PANEL", 5000),
                                   (streaming, "PIECE", 700), (tables, "CHUNK", 1024)):  # fmt: skip
            monkeypatch.setattr(module, name, size)
    decoder = cp.random_array((ROWS, cp.SIZES["hidden_size"]), "float32", 77)
    bias = cp.random_array((ROWS,), "float32", 78)
    tensors = {**cp.state_dict("BertForMaskedLM"), cp.DECODER: decoder, cp.MLM_BIAS: bias}
    src = model(tmp_path / "in", "BertForMaskedLM", "safetensors" if container == "strided" else container,
                tensors=tensors, tie_word_embeddings=False)  # fmt: skip
    if container == "strided":
        (src / "model.safetensors").unlink()
        found = cp.torch_tensors(tensors)
        turned = {name: one.T.contiguous().T if name in (cp.WORD, cp.DECODER) else one for name, one in found.items()}
        (src / "pytorch_model.bin").write_bytes(cp.torch_bytes(turned))
    words = [*shuffled(), "w1##p2", "w3p4", *(f"x{number}" for number in range(20))]
    other = vocabulary(tmp_path / "other", words)
    resize_vocabulary(src, tmp_path / "out", tokenizer=other, to=to, new=new)
    written = cp.written(tmp_path / "out")
    name = cp.DECODER if to == "pt" else "predictions/decoder/kernel:0"
    made = next(value for key, value in written.items() if key.endswith(name))
    made = made if to == "pt" else made.T
    rows = len(WORDS)
    assert made.shape == (ROWS + 16, cp.SIZES["hidden_size"])
    assert made[:rows].tobytes() == expected(decoder, words, decoder[0])[:rows].tobytes()
    if new == "mean":
        assert all(row.tobytes() == mean(decoder).tobytes() for row in made[rows:])
    if new == "pieces":
        pair = [decoder[WORDS.index("w3")], decoder[WORDS.index("##p4")]]
        wide = (pair[0].astype(np.float64) + pair[1]) / 2
        assert made[words.index("w3p4")].tobytes() == wide.astype(np.float32).tobytes()
        assert made[words.index("x7")].tobytes() == mean(decoder).tobytes()
    if new == "normal":
        assert len({row.tobytes() for row in made[rows:]}) == 22
        assert 0.01 < made[rows:].std() < 0.03


# New rows


def made_with(tmp_path: Path, way: str, **options: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings and biases, old and new, where two words are new."""
    src = model(tmp_path / "in")
    words = [*WORDS, "eel", "w1p2"]
    out = tmp_path / "out"
    resize_vocabulary(src, out, tokenizer=vocabulary(tmp_path / "other", words), new=way, **options)
    old, new = cp.written(src), cp.written(out)
    return old[cp.WORD], new[cp.WORD], old[cp.MLM_BIAS], new[cp.MLM_BIAS]


def test_new_tokens_get_the_mean_though_they_lie_in_the_padding(tmp_path: Path) -> None:
    old, new, bias, made = made_with(tmp_path, "mean")
    at = len(WORDS)
    assert new.shape == old.shape
    assert [row.tobytes() for row in new[at : at + 2]] == [mean(old).tobytes()] * 2
    assert made[at : at + 2].tolist() == [mean(bias)] * 2
    assert new[at + 2 :].tobytes() == old[at + 2 :].tobytes()


def test_new_tokens_are_zero(tmp_path: Path) -> None:
    _, new, _, made = made_with(tmp_path, "zero", pad_to=64)
    rows = [*range(len(WORDS), len(WORDS) + 2), *range(ROWS, 128)]
    assert not new[rows].any()
    assert not made[rows].any()
    assert new[ROWS - 1].any()


def test_new_tokens_are_copies(tmp_path: Path) -> None:
    old, new, bias, made = made_with(tmp_path, "copy:[MASK]")
    mask = WORDS.index("[MASK]")
    assert new[len(WORDS)].tobytes() == old[mask].tobytes()
    assert made[len(WORDS)] == bias[mask]


def test_new_tokens_are_made_of_their_pieces(tmp_path: Path) -> None:
    old, new, bias, made = made_with(tmp_path, "pieces")
    parts = [WORDS.index("w1"), WORDS.index("##p2")]
    at = len(WORDS) + 1
    assert new[at].tolist() == old[parts].astype(np.float64).mean(axis=0).astype(np.float32).tolist()
    assert made[at] == bias[parts].astype(np.float64).mean().astype(np.float32)
    assert new[at - 1].tobytes() == mean(old).tobytes()


def test_normal_rows_depend_on_seed_and_token_alone(tmp_path: Path) -> None:
    _, one, _, bias = made_with(tmp_path / "one", "normal")
    _, two, _, _ = made_with(tmp_path / "two", "normal", pad_to=7)
    _, other, _, _ = made_with(tmp_path / "other", "normal", seed=1)
    at = slice(len(WORDS), len(WORDS) + 2)
    assert one[at].tobytes() == two[at].tobytes() != other[at].tobytes()
    assert one[at][0].tobytes() != one[at][1].tobytes()
    assert not bias[at].any()
    swapped = vocabulary(tmp_path / "swapped", [*WORDS, "w1p2", "eel"])
    resize_vocabulary(tmp_path / "one" / "in", tmp_path / "out", tokenizer=swapped, new="normal")
    assert cp.written(tmp_path / "out")[cp.WORD][at][::-1].tobytes() == one[at].tobytes()


# How many rows


@pytest.mark.parametrize(
    ("options", "words", "rows"),
    [
        ({}, WORDS[:50], ROWS),
        ({"shrink": True}, WORDS[:50], 50),
        ({"shrink": True, "pad_to": 8}, WORDS[:50], 56),
        ({"pad_to": 8}, WORDS[:50], 104),
        ({"size": 111}, WORDS, 111),
        ({"size": 60, "shrink": True}, WORDS[:50], 60),
        ({}, [*WORDS, *map(str, range(30))], len(WORDS) + 30),
    ],
)
def test_rows(tmp_path: Path, options: dict[str, Any], words: Sequence[str], rows: int) -> None:
    src = model(tmp_path / "in")
    done = resize_vocabulary(src, tmp_path / "out", tokenizer=vocabulary(tmp_path / "other", words), **options)
    assert done.rows.rows == rows == cp.config_of(tmp_path / "out")["vocab_size"]
    new = cp.written(tmp_path / "out")
    assert new[cp.WORD].shape[0] == len(new[cp.MLM_BIAS]) == rows
    old = cp.written(src)[cp.WORD]
    kept = min(50, rows)
    assert new[cp.WORD][:kept].tobytes() == old[:kept].tobytes()
    if rows > len(words):  # rows of tokens that are gone are nobody's: they do not stay
        assert new[cp.WORD][len(words)].tobytes() in (mean(old).tobytes(), old[len(WORDS)].tobytes())
    assert sum(done.rows.padding[key] for key in ("kept", "added")) == rows - len(words)


def test_the_own_tokenizer_stays_where_only_rows_are_asked_for(tmp_path: Path) -> None:
    src = model(tmp_path / "in")
    done = resize_vocabulary(src, tmp_path / "out", shrink=True)
    assert (done.rows.rows, done.rows.alignment.is_identity) == (len(WORDS), True)
    assert (tmp_path / "out" / "vocab.txt").read_bytes() == (src / "vocab.txt").read_bytes()
    assert cp.written(tmp_path / "out")[cp.WORD].tobytes() == cp.written(src)[cp.WORD][: len(WORDS)].tobytes()


def test_rows_without_any_tokenizer(tmp_path: Path) -> None:
    src = model(tmp_path / "in")
    (src / "vocab.txt").rename(src / "sentencepiece.bpe.model")  # goes along, and nothing in it is read
    done = resize_vocabulary(src, tmp_path / "out", pad_to=64)
    assert done.report.sidecars == ("sentencepiece.bpe.model",)
    assert "nothing lists its tokens: every row is taken for a token's" in done.report.notes
    old, new = cp.written(src)[cp.WORD], cp.written(tmp_path / "out")[cp.WORD]
    assert new.shape[0] == 128
    assert new[:ROWS].tobytes() == old.tobytes()
    assert new[ROWS].tobytes() == old.astype(np.float64).mean(axis=0).astype(np.float32).tobytes()
    assert done.rows.padding == {"before": 0, "kept": 0, "added": 128 - ROWS}


def test_tokens_of_another_tokenizer_than_its_own(tmp_path: Path) -> None:
    src = model(tmp_path / "in", words=shuffled(seed=5))
    other, right = vocabulary(tmp_path / "other", shuffled()), vocabulary(tmp_path / "right", WORDS)
    done = resize_vocabulary(src, tmp_path / "out", tokenizer=other, from_tokenizer=right)
    old = cp.written(src)[cp.WORD]
    assert cp.written(tmp_path / "out")[cp.WORD].tobytes() == expected(old, shuffled(), old[0]).tobytes()
    assert done.report.operation.options == {"tokenizer": "other", "from_tokenizer": "right"}


# What goes with it


def test_ids_follow_their_tokens(tmp_path: Path) -> None:
    words = ["[UNK]", "[MASK]", *WORDS]
    words = list(dict.fromkeys(words))
    src = model(tmp_path / "in", cls_token_id=0, sep_token_id=2, eos_token_id=7, label_token_id="x", bos_token_id=100)
    (src / "generation_config.json").write_text('{"pad_token_id": 1, "eos_token_id": [2, 3], "max_length": 20}')
    done = resize_vocabulary(src, tmp_path / "out", tokenizer=vocabulary(tmp_path / "other", words))
    config = cp.config_of(tmp_path / "out")
    assert {key: config[key] for key in config if key.endswith("_token_id")} == {
        "pad_token_id": 3, "cls_token_id": 2, "sep_token_id": 4, "eos_token_id": words.index("w2"),
        "label_token_id": "x", "bos_token_id": 100,
    }  # fmt: skip
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation == {"pad_token_id": 3, "eos_token_id": [4, 0], "max_length": 20}
    assert "generation_config.json" in done.report.sidecars


def test_a_default_id_that_moves_is_written_into_the_config(tmp_path: Path) -> None:
    src = model(tmp_path / "in", words=["[PAD]", *(word for word in WORDS if word != "[PAD]")], pad_token_id=None)
    resize_vocabulary(src, tmp_path / "out", tokenizer=vocabulary(tmp_path / "other", WORDS))
    assert cp.config_of(tmp_path / "out")["pad_token_id"] == 1


def test_an_id_without_a_row_is_reported(tmp_path: Path) -> None:
    src = model(tmp_path / "in", bos_token_id=ROWS - 1)
    done = resize_vocabulary(src, tmp_path / "out", shrink=True)
    assert f"bos_token_id of the config is {ROWS - 1}, which has no row" in done.report.notes


def test_the_tokenizer_beside_it_may_be_the_new_one(tmp_path: Path) -> None:
    src, old = model(tmp_path / "in", words=shuffled()), vocabulary(tmp_path / "old", WORDS)
    (src / "generation_config.json").write_text('{"eos_token_id": 2}')
    done = resize_vocabulary(src, tmp_path / "out", from_tokenizer=old)
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation == {"eos_token_id": shuffled().index("[SEP]")}
    assert (tmp_path / "out" / "vocab.txt").read_text().split() == shuffled()
    assert len(done.rows.alignment.moved) > 80


def test_an_unused_id_whose_token_is_gone_is_null(tmp_path: Path) -> None:
    src = model(tmp_path / "in", eos_token_id=7)
    other = vocabulary(tmp_path / "other", [word for word in WORDS if word != "w2"])
    done = resize_vocabulary(src, tmp_path / "out", tokenizer=other)
    assert cp.config_of(tmp_path / "out")["eos_token_id"] is None
    assert any("eos_token_id of the config was 'w2'" in note for note in done.report.notes)


def test_the_tokenizers_files_are_the_new_ones(tmp_path: Path) -> None:
    src = model(tmp_path / "in")
    for name in ("tokenizer_config.json", "special_tokens_map.json", "labels.json"):
        (src / name).write_text("{}")
    other = vocabulary(tmp_path / "other", shuffled(), tokenizer_config={"do_lower_case": False}, config={"a": 1})
    (other / "notes.txt").write_text("of the other")
    done = resize_vocabulary(src, tmp_path / "out", tokenizer=other)
    files = {path.name for path in (tmp_path / "out").iterdir()}
    own = {"config.json", "bertconv.json", "model.safetensors"}
    assert files - own == {"vocab.txt", "tokenizer_config.json", "labels.json"}
    assert (tmp_path / "out" / "tokenizer_config.json").read_text() == '{"do_lower_case": false}'
    assert done.report.not_carried == ("special_tokens_map.json",)
    assert any("lower case" in note for note in done.report.notes)
    assert cp.call("verify", tmp_path / "out", "--quiet") == 0


def test_a_file_is_a_tokenizer_too(tmp_path: Path) -> None:
    other = vocabulary(tmp_path / "other", shuffled(), tokenizer_config={})
    done = resize_vocabulary(model(tmp_path / "in"), tmp_path / "out", tokenizer=other / "vocab.txt")
    assert done.report.sidecars == ("vocab.txt",)
    assert len(done.rows.alignment.moved) > 80


def test_the_whole_outcome_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, other = model(tmp_path / "in"), vocabulary(tmp_path / "other", [*WORDS[:5], "eel", *WORDS[6:]])
    arguments = ("resize", src, tmp_path / "out", "--tokenizer", other, "--json")
    assert cp.call(*arguments, "--dry-run") == 0
    planned = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "out").exists()
    assert cp.call(*arguments, "--pad-to", "8") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"]["new"] == {"eel": 5} == planned["rows"]["new"]
    assert told["rows"]["dropped"] == {"w0": 5}
    assert (told["rows"]["rows_before"], told["rows"]["rows"], told["rows"]["kept"]) == (ROWS, 104, len(WORDS) - 1)
    manifest = json.loads((tmp_path / "out" / "bertconv.json").read_text())
    assert manifest["operation"] == {"verb": "resize", "options": {"tokenizer": "other", "pad_to": 8}}
    assert manifest["vocabulary"]["tokens"] == len(WORDS)
    assert [parent["role"] for parent in manifest["parents"]] == ["source"]


def test_what_a_person_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, other = model(tmp_path / "in"), vocabulary(tmp_path / "other", [*WORDS[:-1], "eel"])
    assert cp.call("resize", src, tmp_path / "out", "--tokenizer", other) == 0
    out = capsys.readouterr().out
    assert f"tokens: {len(WORDS) - 1} kept, 0 moved, 1 new, 1 dropped" in out
    assert "new tokens: 'eel'" in out


# Refused


SPACE = "\u2581"


def sentence_pieces(folder: Path, tokens: dict[str, int], *, kind: str = "Unigram", **files: Any) -> Path:
    """A tokenizer.json as those of SentencePiece become one."""
    ordered = sorted(tokens, key=tokens.__getitem__)
    model: dict[str, Any] = {
        "type": "Unigram",
        "unk_id": tokens.get("<unk>"),
        "vocab": [[one, -1.0] for one in ordered],
    }
    if kind == "BPE":
        model = {"type": "BPE", "vocab": tokens, "merges": [["a", "b"], ["ab", "c"]]}
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    step = step if kind == "BPE" else {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always"}
    folder.mkdir(parents=True, exist_ok=True)
    files = {"tokenizer": {"version": "1.0", "added_tokens": [], "model": model, "pre_tokenizer": step}, **files}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def of_tokens(folder: Path, *tokens: str, **options: Any) -> Path:
    return sentence_pieces(folder, {token: number for number, token in enumerate(tokens)}, **options)


@pytest.mark.parametrize(
    ("head", "words", "options", "error", "text"),
    [
        ("BertModel", WORDS[:50], {"size": 40}, MappingError, "40 rows were asked for"),
        ("BertModel", WORDS[:50], {"size": 60}, MappingError, "the tables have 101 rows"),
        ("MPNetModel", ["[UNK]", "[CLS]", "[PAD]", *WORDS[4:]], {}, MappingError, "count positions"),
        ("RobertaModel", ["[CLS]", "[SEP]", "[PAD]", *WORDS[3:]], {}, MappingError, "count positions"),
        ("BertModel", WORDS, {"new": "copy:eel"}, RequestError, "no row of 'eel'"),
        ("BertModel", WORDS, {"new": "copy:"}, RequestError, "new is 'copy:'"),
        ("BertModel", WORDS, {"new": "ones"}, RequestError, "new is 'ones'"),
        ("BertModel", WORDS, {"pad_to": 0}, RequestError, "pad_to is 0"),
        ("BertModel", WORDS, {"to": "onnx"}, RequestError, "to is 'onnx'"),
        ("BertModel", WORDS, {"verify": "outputs"}, RequestError, "verify is 'outputs'"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, head: str, words: Sequence[str], options: dict[str, Any], error: type[BertconvError], text: str
) -> None:
    src, other = model(tmp_path / "in", head), vocabulary(tmp_path / "other", words)
    with pytest.raises(error, match=text):
        resize_vocabulary(src, tmp_path / "out", tokenizer=other, **options)
    assert not (tmp_path / "out").exists()


def test_nothing_to_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="nothing says what the vocabulary"):
        resize_vocabulary(model(tmp_path / "in"), tmp_path / "out")


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = of_tokens(tmp_path / "other", "[PAD]", "w1", "w2")
    assert cp.call("resize", model(tmp_path / "in"), tmp_path / "out", "--tokenizer", other) == 3
    assert "the old tokens are pieces of words, continued with ##, the new ones text, words" in capsys.readouterr().err


def test_a_source_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    src = model(tmp_path / "in")
    (src / "vocab.txt").unlink()
    other = vocabulary(tmp_path / "other", WORDS)
    with pytest.raises(MappingError, match="no tokenizer files that list its tokens") as caught:
        resize_vocabulary(src, tmp_path / "out", tokenizer=other)
    assert "--from-tokenizer" in caught.value.hint
    assert resize_vocabulary(src, tmp_path / "out", tokenizer=other, from_tokenizer=other).rows.is_identity


def test_an_unreadable_tokenizer_is_refused_with_its_problem(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tokenizer.json").write_text("{")
    with pytest.raises(MappingError, match=r"tokenizer\.json is not sound JSON"):
        resize_vocabulary(model(tmp_path / "in"), tmp_path / "out", tokenizer=tmp_path / "other")


def pieced(tmp_path: Path, head: str = "BertForMaskedLM", **changes: Any) -> Path:
    src = model(tmp_path / "in", head, vocab_size=6, tensors=cp.state_dict(head, vocab_size=6), **changes)
    (src / "vocab.txt").unlink()
    return src


def test_a_token_that_the_config_needs_and_the_tokenizer_lacks_is_refused(tmp_path: Path) -> None:
    src = of_tokens(pieced(tmp_path), "<s>", "<pad>", f"{SPACE}a", f"{SPACE}b")
    other = of_tokens(tmp_path / "other", f"{SPACE}a", f"{SPACE}c")
    with pytest.raises(MappingError, match="names: pad_token_id is '<pad>'"):
        resize_vocabulary(src, tmp_path / "out", tokenizer=other)


def test_an_id_that_a_decoder_needs_is_refused(tmp_path: Path) -> None:
    src = of_tokens(pieced(tmp_path, "BertLMHeadModel", is_decoder=True, eos_token_id=0), "</s>", "<pad>", "a")
    other = of_tokens(tmp_path / "other", "<s>", "<pad>", "a")
    with pytest.raises(MappingError, match="eos_token_id is '</s>'"):
        resize_vocabulary(src, tmp_path / "out", tokenizer=other)


def test_an_id_beyond_any_vocabulary_is_refused(tmp_path: Path) -> None:
    src = of_tokens(pieced(tmp_path), "<s>", "<pad>", "a", kind="BPE")
    other = sentence_pieces(tmp_path / "other", {"<pad>": 1, "a": 2_000_000_000}, kind="BPE")
    with pytest.raises(MappingError, match="2,000,000,001 rows"):
        resize_vocabulary(src, tmp_path / "out", tokenizer=other)


def test_two_tokens_with_one_id_are_refused(tmp_path: Path) -> None:
    src = of_tokens(pieced(tmp_path), "<s>", "<pad>", "a", "b", kind="BPE")
    other = sentence_pieces(tmp_path / "other", {"<pad>": 1, "a": 2, "b": 2}, kind="BPE")
    with pytest.raises(MappingError, match="'a' and 'b' of the tokenizer both have the id 2"):
        resize_vocabulary(src, tmp_path / "out", tokenizer=other)


def test_pieces_of_other_algorithms_are_the_librarys(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    src = of_tokens(pieced(tmp_path), "<unk>", "<pad>", "a", "b", "c", "ab", kind="BPE")
    (src / "tokenizer.json").write_text((src / "tokenizer.json").read_text().replace(', ["ab", "c"]', ""))
    added = [{"id": 7, "content": "c b", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": False}]  # fmt: skip
    tokens = {"<unk>": 0, "<pad>": 1, "a": 2, "b": 3, "c": 4, "ab": 5, "abc": 6}
    other = sentence_pieces(tmp_path / "other", tokens, kind="BPE")
    said = json.loads((other / "tokenizer.json").read_text())
    (other / "tokenizer.json").write_text(json.dumps({**said, "added_tokens": added}))
    resize_vocabulary(src, tmp_path / "out", tokenizer=other, new="pieces")
    old, new = cp.written(src)[cp.WORD], cp.written(tmp_path / "out")[cp.WORD]
    assert new[:6].tobytes() == old.tobytes()
    for row, parts in ((6, [5, 4]), (7, [4, 3])):  # the space is no token of theirs
        assert new[row].tobytes() == old[parts].astype(np.float64).mean(axis=0).astype(np.float32).tobytes()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_mean_is_rounded_once(tmp_path: Path, sign: int) -> None:
    """It lies a little beyond the middle between two numbers of bfloat16, which float32 does not see."""
    tensors = cp.state_dict("BertModel", "bfloat16", vocab_size=6)
    rows = np.zeros((6, cp.SIZES["hidden_size"]))
    rows[:3] = sign * np.array([[4], [2.0**-6], [2.0**-34]])
    tensors[cp.WORD] = rows.astype(cp.numpy_type("bfloat16"))
    words = ("<s>", "<pad>", "a", "b")
    src = of_tokens(model(tmp_path / "in", "BertModel", vocab_size=6, tensors=tensors), *words)
    resize_vocabulary(src, tmp_path / "out", tokenizer=of_tokens(tmp_path / "other", *words, "c"))
    made = cp.written(tmp_path / "out")["embeddings.word_embeddings.weight"]
    assert set(made[4].astype(np.float64)) == {sign * (1 + 2.0**-7)}


def test_pieces_of_texts_with_marks(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    words = ("<unk>", "<pad>", f"{SPACE}ne", "ph", "ro", "s")
    src, other = of_tokens(pieced(tmp_path), *words), of_tokens(tmp_path / "other", *words, f"{SPACE}nephros", "phx")
    resize_vocabulary(src, tmp_path / "out", tokenizer=other, new="pieces")
    old, new = cp.written(src)[cp.WORD], cp.written(tmp_path / "out")[cp.WORD]
    for row, parts in ((6, [2, 3, 4, 5]), (7, [3])):  # what is unknown counts for nothing
        assert new[row].tobytes() == old[parts].astype(np.float64).mean(axis=0).astype(np.float32).tobytes()


def test_pieces_of_other_algorithms_need_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    src = of_tokens(pieced(tmp_path), "<unk>", "<pad>", f"{SPACE}a")
    other = of_tokens(tmp_path / "other", "<unk>", "<pad>", f"{SPACE}b")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(RequestError, match="tokenizers is not installed"):
        resize_vocabulary(src, tmp_path / "out", tokenizer=other, new="pieces")


def test_pieces_of_a_tokenizer_that_the_library_cannot_read(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    src = of_tokens(pieced(tmp_path), "<unk>", "<pad>", f"{SPACE}a")
    said = json.loads((src / "tokenizer.json").read_text())
    (src / "tokenizer.json").write_text(json.dumps({**said, "version": "0.1"}))
    other = of_tokens(tmp_path / "other", "<unk>", "<pad>", f"{SPACE}b")
    with pytest.raises(RequestError, match=r"tokenizers cannot read tokenizer\.json"):
        resize_vocabulary(src, tmp_path / "out", tokenizer=other, new="pieces")


def test_outputs_are_the_same_for_a_text(tmp_path: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    src = tmp_path / "in"
    config = transformers.BertConfig(vocab_size=ROWS, hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
                                     intermediate_size=17, max_position_embeddings=20, pad_token_id=1)  # fmt: skip
    transformers.BertForMaskedLM(config).save_pretrained(src)
    words = [*shuffled(), "eel"]
    resize_vocabulary(vocabulary(src, WORDS), tmp_path / "out", tokenizer=vocabulary(tmp_path / "other", words))
    text = ["[CLS]", "w3", "##p7", "w41", "[SEP]", "[PAD]"]
    logits = []
    for folder, own in ((src, WORDS), (tmp_path / "out", words)):
        one = transformers.BertForMaskedLM.from_pretrained(folder).eval()
        ids = torch.tensor([[own.index(word) for word in text]])
        with torch.no_grad():
            found = one(input_ids=ids, attention_mask=(ids != 1).long()).logits[0].double()
        logits.append(found[:, [own.index(word) for word in WORDS]])
    assert torch.allclose(*logits, rtol=0, atol=1e-6)
    assert not torch.allclose(logits[0][0], logits[0][1], atol=1e-3)


def test_a_table_that_reckons_with_the_vocabulary_is_refused(tmp_path: Path) -> None:
    mapping = tmp_path / "own.toml"
    built_in = (cp.table_of("BertModel").path).read_text()
    mapping.write_text(built_in.replace('vocab     = "vocab_size"', 'vocab     = "vocab_size - 1"'))
    src = model(tmp_path / "in", "BertModel", vocab_size=ROWS, tensors=cp.state_dict("BertModel", vocab_size=ROWS - 1))
    with pytest.raises(UnsupportedCheckpoint, match="the size vocab of the table is reckoned from vocab_size"):
        resize_vocabulary(src, tmp_path / "out", size=120, table=mapping)
