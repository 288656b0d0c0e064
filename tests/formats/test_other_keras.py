"""Keras 2 files of bert4keras and keras-bert, common in Chinese work: recognised by their layers, refused by name."""

from __future__ import annotations

from pathlib import Path

import checkpoints as cp
import numpy as np
import pytest

from bertconv import convert_checkpoint, inspect_checkpoint
from bertconv.errors import UnsupportedCheckpoint

EMBEDDINGS = ("Embedding-Token/embeddings", "Embedding-Segment/embeddings", "Embedding-Position/embeddings",
              "Embedding-Norm/beta", "Embedding-Norm/gamma")  # fmt: skip
BERT4KERAS = (
    *EMBEDDINGS,
    *(f"Transformer-0-MultiHeadSelfAttention/dense{number}/{leaf}" for number in ("", "_1", "_2", "_3")
      for leaf in ("kernel", "bias")),
    "Transformer-0-MultiHeadSelfAttention-Norm/beta", "Transformer-0-FeedForward/dense_4/kernel",
    "Transformer-0-FeedForward-Norm/gamma", "MLM-Bias/beta",
)  # fmt: skip
KERAS_BERT = (
    *EMBEDDINGS,
    *(f"Encoder-1-MultiHeadSelfAttention/Encoder-1-MultiHeadSelfAttention_{leaf}"
      for leaf in ("Wq", "bq", "Wk", "bk", "Wv", "bv", "Wo", "bo")),
    "Encoder-1-MultiHeadSelfAttention-Norm/gamma", "Encoder-1-FeedForward/Encoder-1-FeedForward_W1", "NSP-Dense/kernel",
)  # fmt: skip


@pytest.mark.parametrize(
    ("names", "program", "way"),
    [(BERT4KERAS, "bert4keras", "save_weights_as_checkpoint"), (KERAS_BERT, "keras-bert", "trained from")],
)
@pytest.mark.parametrize("with_config", [True, False])
def test_refused_by_name(tmp_path: Path, names: tuple[str, ...], program: str, way: str, with_config: bool) -> None:
    shapes = {"kernel": (4, 4), "embeddings": (9, 4)}
    tensors = {f"{name}:0": np.ones(shapes.get(name.rpartition("/")[2], (4,)), np.float32) for name in names}
    folder = tmp_path / "in"
    folder.mkdir()
    cp.write_h5(folder / "tf_model.h5", tensors)
    if with_config:
        cp.write_config(folder, cp.config("BertModel"))
    with pytest.raises(UnsupportedCheckpoint) as caught:
        convert_checkpoint(folder, tmp_path / "out", to="pt")
    assert program in caught.value.message
    assert way in caught.value.hint
    assert not (tmp_path / "out").exists()
    assert any(program in note for note in inspect_checkpoint(folder).notes)
