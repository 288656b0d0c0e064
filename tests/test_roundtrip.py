"""There and back for every class, type and size: nothing is lost, and other tools agree with what is written."""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
import pytest
from checkpoints import Tensors, assert_same
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv.convert import convert_checkpoint
from bertconv.errors import RequestError
from bertconv.inspection import inspect_checkpoint
from bertconv.report import Report

CONTAINERS = ("safetensors", "bin", "legacy", "sharded", "sharded-bin", "h5", "tf-safetensors")
FORMATS = ("pt", "tf", "tf-safetensors")
LM_HEADS = ("BertForPreTraining", "BertForMaskedLM", "BertLMHeadModel")
BOUNDED = settings(max_examples=40, deadline=None)


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def digests(report: Report) -> dict[str, str]:
    """By tensor, but for tied copies: a format may store them or not."""
    tied = cp.table_of(report.head).tied
    return {tensor.id: tensor.digest for tensor in report.tensors if tensor.id not in tied}


def files(folder: Path) -> dict[str, bytes | None]:
    """Everything but the manifest, which names the source."""
    return {name: content for name, content in cp.snapshot(folder).items() if name != "bertconv.json"}


# There and back, whatever the sizes


@st.composite
def sizes(draw: st.DrawFn) -> dict[str, int]:
    heads = draw(st.integers(1, 4))
    some = st.integers(1, 40)
    return {
        "vocab_size": draw(some), "num_attention_heads": heads, "hidden_size": heads * draw(st.integers(1, 9)),
        "intermediate_size": draw(some), "max_position_embeddings": draw(some),
        "type_vocab_size": draw(st.integers(0, 3)), "num_hidden_layers": draw(st.integers(1, 3)),
    }  # fmt: skip


def any_bits(state: Tensors, seed: int) -> Tensors:
    """Every pattern of bits: NaNs with payloads, infinities, denormals, both zeros."""
    rng = np.random.default_rng(seed)
    return {
        name: np.frombuffer(rng.bytes(value.nbytes), value.dtype).reshape(value.shape) for name, value in state.items()
    }


@pytest.mark.slow
@BOUNDED
@given(
    head=st.sampled_from(cp.EVERY_HEAD), dtype=st.sampled_from([*cp.FLOATS, "mixed"]), changes=sizes(),
    between=st.sampled_from(["tf", "tf-safetensors"]), shard=st.sampled_from(["5GB", "20kB", "1500"]),
    seed=st.integers(0, 2**32), bits=st.booleans(),
)  # fmt: skip
def test_there_and_back(
    head: str, dtype: str, changes: dict[str, int], between: str, shard: str, seed: int, bits: bool
) -> None:
    state = cp.state_dict(head, dtype, seed, **changes)
    state = any_bits(state, seed) if bits else state
    with scratch() as folder:
        cp.save(folder / "in", head, state, **changes)
        direct = convert_checkpoint(folder / "in", folder / "direct", to="pt")
        there = convert_checkpoint(folder / "in", folder / "there", to=between, max_shard_size=shard)
        back = convert_checkpoint(folder / "there", folder / "back", to="pt", source_dialect="tf")
        assert_same(cp.written(folder / "direct"), cp.native(head, state))
        assert_same(cp.written(folder / "there"), cp.tf_state(state))
        assert files(folder / "back") == files(folder / "direct")
    assert digests(direct) == digests(there) == digests(back)
    assert direct.digest == back.digest
    if cp.STORED_TWICE not in cp.tf_state(state):  # a copy that TensorFlow's file alone stores counts in its digest
        assert direct.digest == there.digest
    assert back.head == head


@settings(BOUNDED, max_examples=15)
@given(
    head=st.sampled_from(cp.EVERY_HEAD), form=st.sampled_from(FORMATS), limit=st.integers(1, 60_000),
    dtype=st.sampled_from([*cp.FLOATS, "mixed"]),
)  # fmt: skip
def test_shards(head: str, form: str, limit: int, dtype: str) -> None:
    state = cp.state_dict(head, dtype)
    with scratch() as folder:
        cp.save(folder / "in", head, state)
        report = convert_checkpoint(folder / "in", folder / "out", to=form, max_shard_size=limit)
        assert_same(cp.written(folder / "out"), cp.native(head, state) if form == "pt" else cp.tf_state(state))
        written = [folder / "out" / name for name in report.target["files"]]
        many = cp.read_h5 if form == "tf" else lambda path: cp.read_safetensors(path)[0]
        if len(written) > 1:
            for path in written:
                held = many(path)
                assert len(held) == 1 or sum(value.nbytes for value in held.values()) <= limit
        one = convert_checkpoint(folder / "out", folder / "one", to="pt")
        assert_same(cp.written(folder / "one"), cp.native(head, state))
        assert digests(one) == digests(report)


@pytest.mark.parametrize("form", FORMATS)
def test_index(tmp_path: Path, form: str) -> None:
    """Every tensor, its shard and the bytes in all; Keras indexes have the model's own name in front."""
    head, stem = "BertForMaskedLM", "tf_model.h5" if form == "tf" else "model.safetensors"
    state = cp.state_dict(head)
    convert_checkpoint(cp.save(tmp_path / "in", head, state), tmp_path / "out", to=form, max_shard_size="30kB")
    index = json.loads((tmp_path / "out" / f"{stem}.index.json").read_bytes())
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in state.values())
    names = state if form == "pt" else cp.tf_state(state)
    scope = f"{cp.keras_name(head)}/" if form == "tf" else ""
    assert set(index["weight_map"]) == {scope + name for name in names}
    for name, shard in index["weight_map"].items():
        held = (
            cp.read_h5(tmp_path / "out" / shard) if form == "tf" else cp.read_safetensors(tmp_path / "out" / shard)[0]
        )
        assert name.removeprefix(scope) in held


@pytest.mark.parametrize("head", cp.OF_WORDS)
def test_digests_are_equal_in_every_format(tmp_path: Path, head: str) -> None:
    """From every container; test_any_to_any and manage/test_hash do it with every class, from some of them."""
    state = cp.state_dict(head)
    found = []
    for number, container in enumerate(CONTAINERS):
        src = cp.save(tmp_path / container, head, state, container)
        form = FORMATS[number % len(FORMATS)]
        found.append(digests(convert_checkpoint(src, tmp_path / f"from {container}", to=form)))
    assert all(found[0].values())
    assert all(each == found[0] for each in found)


@pytest.mark.parametrize("shard", ["5GB", "20kB"])
def test_the_same_bytes_a_second_later(tmp_path: Path, shard: str) -> None:
    src = cp.save(tmp_path / "in", "BertForMaskedLM", cp.state_dict("BertForMaskedLM"))
    outputs: list[list[Any]] = [[], []]
    for number, output in enumerate(outputs):
        for form in FORMATS:
            place = tmp_path / f"{form}-{number}"
            convert_checkpoint(src, place, to=form, max_shard_size=shard)
            output.append(cp.snapshot(place))
        time.sleep(1.01 - time.time() % 1)  # HDF5 notes times in whole seconds
    assert outputs[0] == outputs[1]


# Decoders and relative positions


@pytest.mark.parametrize("head", ["BertModel", "BertLMHeadModel"])
@pytest.mark.parametrize("between", ["tf", "tf-safetensors"])
@pytest.mark.parametrize(
    "changes",
    [
        {"is_decoder": True},
        {"is_decoder": True, "add_cross_attention": True},
        {"position_embedding_type": "relative_key"},
        {"position_embedding_type": "relative_key_query"},
        {"is_decoder": True, "add_cross_attention": True, "position_embedding_type": "relative_key"},
    ],
    ids=str,
)
def test_other_kinds_of_bert(tmp_path: Path, head: str, between: str, changes: dict[str, Any]) -> None:
    state = cp.state_dict(head, **changes)
    convert_checkpoint(cp.save(tmp_path / "in", head, state, **changes), tmp_path / "there", to=between)
    convert_checkpoint(tmp_path / "there", tmp_path / "back", to="pt")
    assert_same(cp.written(tmp_path / "there"), cp.tf_state(state))
    assert_same(cp.written(tmp_path / "back"), cp.native(head, state))
    assert changes.items() <= cp.config_of(tmp_path / "back").items()
    assert any("crossattention" in name for name in state) == changes.get("add_cross_attention", False)
    assert any("distance_embedding" in name for name in state) == ("position_embedding_type" in changes)


# Other tools


@pytest.mark.parametrize("head", cp.HEADS)
@pytest.mark.parametrize("dtype", [*cp.FLOATS, "mixed"])
def test_the_bytes_that_safetensors_writes(tmp_path: Path, head: str, dtype: str) -> None:
    from safetensors.numpy import save_file
    from safetensors.torch import save

    state = cp.native(head, cp.state_dict(head, dtype))
    cp.save(tmp_path / "in", head, cp.state_dict(head, dtype))
    convert_checkpoint(tmp_path / "in", tmp_path / "out", to="pt")
    ours = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert ours == save(cp.torch_tensors(state), {"format": "pt"})
    if dtype in {"float32", "float16", "float64"}:
        save_file(state, tmp_path / "theirs.safetensors", {"format": "pt"})
        assert ours == (tmp_path / "theirs.safetensors").read_bytes()


@pytest.fixture(scope="module")
def transformers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("transformers")
        for head in cp.HEADS:
            getattr(module, head)
    return module


def settings_for(transformers: Any, head: str, **changes: Any) -> Any:
    return transformers.BertConfig(**{**cp.config(head, **changes), "attn_implementation": "eager"})


DECODER = {"is_decoder": True, "add_cross_attention": True}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("changes", [{}, DECODER], ids=["encoder", "decoder"])
@pytest.mark.parametrize("head", cp.HEADS)
def test_names_are_those_of_the_models(transformers: Any, head: str, changes: dict[str, Any]) -> None:
    model = getattr(transformers, head)(settings_for(transformers, head, **changes))
    theirs = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    tied = {cp.DECODER: theirs[cp.DECODER], cp.DECODER_BIAS: theirs[cp.DECODER_BIAS]} if head in LM_HEADS else {}
    ours = {name: value.shape for name, value in cp.native(head, cp.state_dict(head, **changes)).items()}
    assert {**ours, **tied} == theirs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("container", ["safetensors", "h5"])
@pytest.mark.parametrize("head", cp.HEADS)
def test_models_load_it_whole(tmp_path: Path, transformers: Any, head: str, container: str) -> None:
    state = cp.state_dict(head)
    convert_checkpoint(cp.save(tmp_path / "in", head, state, container), tmp_path / "out", to="pt")
    assert_loads(transformers, head, tmp_path / "out", cp.native(head, state))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("head", LM_HEADS)
def test_models_load_an_untied_decoder(tmp_path: Path, transformers: Any, head: str) -> None:
    state = cp.state_dict(head)
    state |= {cp.DECODER: state[cp.WORD] + 1, cp.DECODER_BIAS: state[cp.MLM_BIAS] + 1}
    cp.save(tmp_path / "in", head, state, tie_word_embeddings=False)
    convert_checkpoint(tmp_path / "in", tmp_path / "out", to="pt")
    assert_loads(transformers, head, tmp_path / "out", state)


def assert_loads(transformers: Any, head: str, folder: Path, expected: Tensors) -> None:
    model, info = getattr(transformers, head).from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    found = {name: value.numpy() for name, value in model.state_dict().items()}
    extra = set(found) - set(expected)
    assert extra <= {cp.DECODER, cp.DECODER_BIAS}
    assert_same({name: value for name, value in found.items() if name not in extra}, expected)
    if extra:
        assert np.array_equal(found[cp.DECODER], expected[cp.WORD])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("head", ["BertModel", "BertLMHeadModel"])
def test_models_load_a_cross_attention_decoder(tmp_path: Path, transformers: Any, head: str) -> None:
    state = cp.state_dict(head, **DECODER)
    cp.save(tmp_path / "in", head, state, "tf-safetensors", **DECODER)
    convert_checkpoint(tmp_path / "in", tmp_path / "out", to="pt", max_shard_size="30kB")
    assert_loads(transformers, head, tmp_path / "out", cp.native(head, state))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("head", cp.HEADS)
def test_what_models_save_comes_back(tmp_path: Path, transformers: Any, head: str) -> None:
    """The names, the metadata and the config are the model's own here."""
    model = getattr(transformers, head)(settings_for(transformers, head))
    model.save_pretrained(tmp_path / "in")
    report = convert_checkpoint(tmp_path / "in", tmp_path / "there", to="tf", source_dialect="pt")
    convert_checkpoint(tmp_path / "there", tmp_path / "back", to="pt", source_dialect="tf")
    assert report.head == head
    assert report.notes == ()
    weights = "model.safetensors"
    assert (tmp_path / "back" / weights).read_bytes() == (tmp_path / "in" / weights).read_bytes()


# Casts


def numbers(dtype: str) -> np.ndarray:
    """All the numbers of a 16-bit type, random ones of a wider type; all finite, and small enough for float16."""
    if dtype in {"float16", "bfloat16"}:
        values = np.arange(2**16, dtype=np.uint16).view(cp.numpy_type(dtype))
    else:
        values = np.concatenate([cp.random_array((60_000,), dtype, 1), np.linspace(-7, 7, 5536, dtype=dtype) ** 5])
    with np.errstate(invalid="ignore"):
        wide = values.astype(np.float64)
    return np.where(np.isfinite(wide) & (np.abs(wide) < 65_000), values, np.zeros_like(values))


def with_numbers(values: np.ndarray) -> tuple[Tensors, dict[str, int]]:
    changes = {"vocab_size": 2048, "hidden_size": 32, "num_attention_heads": 4}
    state = cp.state_dict(dtype=values.dtype.name, **changes)
    return {**state, cp.WORD: values.reshape(2048, 32)}, changes


def rounded(value: np.ndarray, target: str) -> np.ndarray:
    """Numbers in another type, rounded once; ml_dtypes takes float64 to bfloat16 by way of float32: twice."""
    found = value.astype(cp.numpy_type(target))
    if (value.dtype.name, target) != ("float64", "bfloat16"):
        return found
    bits = found.view(np.uint16).copy()
    best, gaps = bits.copy(), np.abs(found.astype(np.float64) - value)
    for step in (1, -1):
        other = (bits.astype(np.int64) + step).astype(np.uint16)
        gap = np.abs(other.view(found.dtype).astype(np.float64) - value)
        nearer = (gap < gaps) | ((gap == gaps) & (other % 2 < best % 2))
        best, gaps = np.where(nearer, other, best), np.where(nearer, gap, gaps)
    return best.view(found.dtype)


@pytest.mark.parametrize("target", cp.FLOATS)
@pytest.mark.parametrize("source", cp.FLOATS)
@pytest.mark.parametrize("form", ["pt", "tf"])
def test_casts(tmp_path: Path, source: str, target: str, form: str) -> None:
    import torch

    state, changes = with_numbers(numbers(source))
    src = cp.save(tmp_path / "in", "BertModel", state, torch_dtype=source, **changes)
    report = convert_checkpoint(src, tmp_path / "out", to=form, dtype=target)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = {name: rounded(value, target) for name, value in state.items()}
    assert_same(cp.written(tmp_path / "out"), cp.bare(expected) if form == "pt" else cp.tf_state(expected))
    assert {tensor.dtype for tensor in report.tensors} == {target}
    assert cp.config_of(tmp_path / "out")["torch_dtype"] == target
    if source != "float64":  # torch goes from float64 through float32, and so rounds twice
        theirs = cp.torch_tensors({"": state[cp.WORD]})[""].to(getattr(torch, target))
        assert theirs.view(torch.uint8).numpy().tobytes() == expected[cp.WORD].tobytes()


OVERFLOWS = [
    ("float32", "float16", 65_520.0), ("float32", "float16", -1e30), ("float32", "bfloat16", 3.4e38),
    ("float64", "float32", 1e39), ("float64", "bfloat16", -1e300), ("float64", "float16", 7e4),
    ("bfloat16", "float16", 1e38),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target", "value"), OVERFLOWS)
@pytest.mark.parametrize("form", ["pt", "tf"])
def test_overflow_is_refused(tmp_path: Path, source: str, target: str, value: float, form: str) -> None:
    state = cp.state_dict(dtype=source)
    name = "bert.encoder.layer.1.output.dense.weight"
    state[name][-1, -1] = value
    state[name][0, 0] = np.inf  # which is there before, and stays
    cp.save(tmp_path / "in", "BertModel", state)
    with pytest.raises(RequestError) as caught:
        convert_checkpoint(tmp_path / "in", tmp_path / "out", to=form, dtype=target)
    assert caught.value.tensor == name.removeprefix("bert.")
    assert caught.value.exit_code == 2
    assert target in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(
    ("source", "target"), [("float64", "float16"), ("float32", "bfloat16"), ("float16", "float64")]
)
def test_infinities_are_cast(tmp_path: Path, value: float, source: str, target: str) -> None:
    state = cp.state_dict(dtype=source)
    state[cp.WORD][5, 7] = value
    cp.save(tmp_path / "in", "BertModel", state)
    convert_checkpoint(tmp_path / "in", tmp_path / "out", to="pt", dtype=target)
    found = cp.written(tmp_path / "out")["embeddings.word_embeddings.weight"].astype(np.float64)
    assert np.array_equal(found[5, 7], value, equal_nan=True)
    assert np.isfinite(np.delete(found, 5, axis=0)).all()


@pytest.mark.parametrize("container", ["h5", "legacy", "sharded"])
def test_casts_from_other_containers(tmp_path: Path, container: str) -> None:
    state = cp.state_dict("BertForMaskedLM")
    cp.save(tmp_path / "in", "BertForMaskedLM", state, container)
    convert_checkpoint(tmp_path / "in", tmp_path / "out", to="pt", dtype="bfloat16")
    assert_same(
        cp.written(tmp_path / "out"), {name: value.astype(cp.numpy_type("bfloat16")) for name, value in state.items()}
    )


@pytest.mark.parametrize("form", ["tf", "tf-safetensors"])
@pytest.mark.parametrize("head", ["BertForPreTraining", "BertForMaskedLM", "BertModel"])
def test_a_model_has_one_size_in_every_format(tmp_path: Path, head: str, form: str) -> None:
    """Keras's files name some tensors in two groups: `inspect` counts their bytes once."""
    convert_checkpoint(cp.save(tmp_path / "in", head, cp.state_dict(head)), tmp_path / "pt", to="pt")
    convert_checkpoint(tmp_path / "pt", tmp_path / "out", to=form)
    expected, found = inspect_checkpoint(tmp_path / "pt"), inspect_checkpoint(tmp_path / "out")
    assert (found.tensors, found.parameters, found.nbytes) == (expected.tensors, expected.parameters, expected.nbytes)
    assert len(set(found.names)) == found.tensors
