"""What MPNet alone has: buckets of distances, and an id of padding that no config changes."""

from __future__ import annotations

from pathlib import Path

import family_models as fm
import numpy as np
import pytest
import torch
from test_families_against_transformers import check
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

import bertconv
from bertconv.errors import RequestError
from bertconv.models.families import mpnet

HEAD = "MPNetModel"


def test_buckets_are_pytorchs() -> None:
    """At every distance that the table has, and beyond it, where all are one bucket."""
    far = torch.arange(-600, 601)
    wanted = MPNetEncoder.relative_position_bucket(far).numpy()
    found = mpnet.buckets()[np.clip(far.numpy(), -mpnet.FARTHEST, mpnet.FARTHEST) + mpnet.FARTHEST]
    np.testing.assert_array_equal(found, wanted)


def test_distances_beyond_the_table(tmp_path: Path) -> None:
    theirs = fm.torch_model("mpnet", HEAD, max_position_embeddings=200, num_hidden_layers=1)
    ours = fm.tf_model("mpnet", theirs, tmp_path)
    ids = np.random.default_rng(0).integers(3, 101, (1, 190))
    check((theirs, ours), {"input_ids": ids, "output_attentions": True})


def test_padding_is_1_whatever_the_config_says(tmp_path: Path) -> None:
    theirs = fm.torch_model("mpnet", HEAD, pad_token_id=7)
    ours = fm.tf_model("mpnet", theirs, tmp_path)
    check((theirs, ours), {"input_ids": np.array([[4, 7, 1, 5, 7], [1, 1, 7, 3, 9]])})


def test_other_buckets_are_refused() -> None:
    with pytest.raises(RequestError, match="relative_attention_num_buckets is 16"):
        bertconv.TFMPNetModel(fm.keys("mpnet", HEAD, relative_attention_num_buckets=16))
