"""What a folder without weights is instead, so that the message can say what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from bertconv.errors import BertconvError, UnsupportedCheckpoint
from bertconv.source.place import Place
from bertconv.source.weights import some

_RESAVE = "Save it as a PyTorch or TensorFlow checkpoint (model.safetensors, pytorch_model.bin, tf_model.h5) first."
_MERGE = "Merge it into its base model first (peft: merge_and_unload)."
_KINDS = (
    ("adapter_config.json", "a LoRA adapter, not a whole model", _MERGE),
    ("adapter_model.*", "a LoRA adapter, not a whole model", _MERGE),
    ("flax_model.msgpack", "a Flax checkpoint", _RESAVE),
    ("*.msgpack", "a Flax checkpoint", _RESAVE),
    ("*.ckpt.index", "a TensorFlow 1 checkpoint", _RESAVE),
    ("*.ckpt.meta", "a TensorFlow 1 checkpoint", _RESAVE),
    ("*.data-?????-of-?????", "a TensorFlow checkpoint", _RESAVE),
    ("*.index", "a TensorFlow checkpoint", _RESAVE),
    ("*.weights.h5", "a Keras 3 weights file", _RESAVE),
    ("*.keras", "a Keras 3 model", _RESAVE),
    ("saved_model.pb", "a TensorFlow SavedModel", _RESAVE),
    ("*.onnx", "an ONNX model", _RESAVE),
    ("*.gguf", "a GGUF model", _RESAVE),
    ("openvino_model.*", "an OpenVINO model", _RESAVE),
    ("rust_model.ot", "a rust-bert model", _RESAVE),
)  # fmt: skip


def unsupported(names: Iterable[str], where: str) -> UnsupportedCheckpoint | None:
    """The error for weights of a kind that is not converted; None when no name is known."""
    here = sorted(names)
    for pattern, what, hint in _KINDS:
        for name in here:
            if fnmatchcase(name, pattern):
                return UnsupportedCheckpoint(f"{name} makes it {what}.", hint=hint, file=where)
    return None


def no_weights(place: Place, where: str) -> BertconvError:
    """The error for a folder in which no file looks like weights."""
    here = sorted(name for name in place.names if "/" not in name)
    if error := unsupported(here, where):
        return error
    problem = f"there are no weights; it has {some(here)}." if here else "there are no weights; it has no files."
    return place.missing(problem, _checkpoint_hint(place.names), where)


def _checkpoint_hint(names: Iterable[str]) -> str:
    """Where a Trainer folder has its newest checkpoint."""
    steps = {int(match[1]) for name in names if (match := re.match(r"checkpoint-(\d+)/", name))}
    return f"Give its newest checkpoint: the folder checkpoint-{max(steps)}." if steps else ""
