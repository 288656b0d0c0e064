"""What holds of every model, whatever its family, class, container and element types, and whatever its bits are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import checkpoints as cp
import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bertconv import (
    attach_head,
    average_checkpoints,
    cast_checkpoint,
    convert_checkpoint,
    diff_checkpoints,
    extract_checkpoint,
    model_digest,
    resize_vocabulary,
    shard_checkpoint,
    unshard_checkpoint,
)

CONTAINERS = ("safetensors", "bin", "sharded", "h5", "tf-safetensors")
WIDER = {"float16": ("float32", "float64"), "bfloat16": ("float32", "float64"), "float32": ("float64",)}
WORDS = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]", *(f"w{number}" for number in range(40)))
FEW = settings(max_examples=8)


@dataclass(frozen=True)
class Model:
    """A checkpoint to be made: class, container, element types ("mixed": alternating), seed, and whether any bits do.

    Any bits are NaNs with payloads, infinities, denormals and both zeros too.
    """

    head: str
    container: str
    dtype: str
    seed: int
    bits: bool

    @property
    def state(self) -> cp.Tensors:
        """By the names of PyTorch."""
        found = cp.state_dict(self.head, self.dtype, self.seed, num_hidden_layers=1)
        rng = np.random.default_rng(self.seed)
        for name, value in found.items() if self.bits else ():
            found[name] = np.frombuffer(rng.bytes(value.nbytes), value.dtype).reshape(value.shape)
        return found

    @property
    def written(self) -> cp.Tensors:
        """What an output in its own format holds."""
        is_tf = self.container in {"h5", "tf-safetensors"}
        return cp.tf_state(self.state) if is_tf else cp.native(self.head, self.state)

    def save(self, folder: Path) -> Path:
        """With a vocabulary that is smaller than its table."""
        cp.save(folder, self.head, self.state, self.container, num_hidden_layers=1, pad_token_id=1)
        (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
        return folder


@st.composite
def models(draw: st.DrawFn, *, any_bits: bool = True) -> Model:
    container = draw(st.sampled_from(CONTAINERS))
    dtypes = ("float32", "float16", "float64") if container == "h5" else (*cp.FLOATS, "mixed")  # h5py has no bfloat16
    return Model(
        draw(st.sampled_from(cp.EVERY_HEAD)), container, draw(st.sampled_from(dtypes)), draw(st.integers(0, 999)),
        any_bits and draw(st.booleans()),
    )  # fmt: skip


@contextmanager
def saved(model: Model) -> Iterator[tuple[Path, Path]]:
    """Its folder, and one for outputs."""
    with tempfile.TemporaryDirectory() as folder:
        yield model.save(Path(folder) / "x"), Path(folder)


@FEW
@given(models(), st.integers(1, 60_000))
def test_unshard_of_shard(model: Model, limit: int) -> None:
    with saved(model) as (x, top):
        shard_checkpoint(x, top / "shards", max_size=limit)
        unshard_checkpoint(top / "shards", top / "out")
        cp.assert_same(cp.written(top / "out"), model.written)


@FEW
@given(models(), st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=4))
def test_average_of_one_with_itself(model: Model, weights: list[float]) -> None:
    with saved(model) as (x, top):
        average_checkpoints([x] * len(weights), top / "out", weights=weights)
        cp.assert_same(cp.written(top / "out"), model.written)


@FEW
@given(models())
def test_attach_of_what_was_extracted(model: Model) -> None:
    assume(cp.has_head(model.head))
    with saved(model) as (x, top):
        extract_checkpoint(x, top / "body", head=cp.table_of(model.head).base_head)
        extract_checkpoint(x, top / "head", part="head")
        attach_head(top / "body", top / "head", top / "out")
        cp.assert_same(cp.written(top / "out"), model.written)


@FEW
@given(models())
def test_resize_to_the_same_tokenizer(model: Model) -> None:
    with saved(model) as (x, top):
        done = resize_vocabulary(x, top / "out", tokenizer=x)
        assert done.rows.is_identity
        assert done.rows.alignment.is_identity
        assert all(tensor.state in ("loaded", "tied") for tensor in done.report.tensors)
        cp.assert_same(cp.written(top / "out"), model.written)
        assert cp.config_of(top / "out") == cp.config_of(x)


@FEW
@given(models(any_bits=False), st.data())
def test_cast_up_and_down(model: Model, data: st.DataObject) -> None:
    assume(model.dtype in WIDER)
    wide = data.draw(st.sampled_from(WIDER[model.dtype]))
    with saved(model) as (x, top):
        cast_checkpoint(x, top / "wide", dtype=wide)
        cast_checkpoint(top / "wide", top / "out", dtype=model.dtype)
        cp.assert_same(cp.written(top / "out"), model.written)


@FEW
@given(models())
def test_diff_with_itself(model: Model) -> None:
    with saved(model) as (x, _):
        diff = diff_checkpoints(x, x)
        assert diff.equal
        assert {one.state for one in diff.tensors} == {"equal"}
        assert (diff.config, diff.left_out) == ((), ())


@FEW
@given(models(), st.sampled_from(["pt", "tf", "tf-safetensors"]))
def test_digest_of_a_conversion(model: Model, to: str) -> None:
    with saved(model) as (x, top):
        report = convert_checkpoint(x, top / "out", to=to, verify="weights")
        one, other = model_digest(x), model_digest(top / "out")
        assert one.digest == other.digest == report.digest != ""
        assert one.backbone_digest == other.backbone_digest == report.backbone_digest != ""
