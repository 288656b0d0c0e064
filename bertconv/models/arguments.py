"""The arguments of from_pretrained: what others' have and ours refuses, how a checkpoint is found, types by name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bertconv.containers.msgpack import FlaxMsgpack
from bertconv.containers.pytorch import PyTorch
from bertconv.containers.registry import BY_NAME, preferred
from bertconv.containers.safetensors import Safetensors
from bertconv.containers.stored import FLOATS
from bertconv.errors import RequestError
from bertconv.mapping.dialects import load_dialects
from bertconv.models.variables import FRAMEWORK
from bertconv.source import SourceOptions

REFUSED = {
    "proxies": "Set HTTPS_PROXY in the environment.",
    "resume_download": "Downloads always resume.",
    "mirror": "Set HF_ENDPOINT in the environment.",
    "device_map": "Use tf.device or tf.distribute around the call.",
    "state_dict": "Save it to a file and give its path.",
    "load_weight_prefix": "Names never depend on where a model is used.",
    "tf_to_pt_weight_rename": "Write a mapping table: `bertconv tables show FAMILY`.",
    "adapter_kwargs": "Merge the adapter into the model first (peft: merge_and_unload()).",
    "quantization_config": "Load the model in full precision.",
    "attn_implementation": "There is one implementation.",
    "low_cpu_mem_usage": "Loading always takes the memory of the weights once.",
    "torch_dtype": 'Pass dtype, such as dtype="float32".',
    "use_auth_token": "Pass token.",
}  # fmt: skip
"""Arguments that others' from_pretrained has or had, and what to do instead."""

FIRST = {"from_pt": PyTorch.name, "from_flax": FlaxMsgpack.name}
"""Arguments of transformers' classes -> the container whose files are looked for first."""


def check_arguments(path: Any, kwargs: dict[str, Any]) -> None:
    """Refuse by name what from_pretrained does not take."""
    if not isinstance(path, str | os.PathLike):
        raise RequestError(f"a checkpoint was expected, not {path!r:.80}.", hint="Give a folder, a file or a Hub id.")
    for key, advice in REFUSED.items():
        if key in kwargs:
            raise RequestError(f"from_pretrained does not take {key}.", hint=advice)
    if kwargs.pop("trust_remote_code", False):
        raise RequestError(
            "trust_remote_code was given, and no code of a checkpoint is ever run.", hint="Leave it out."
        )


def source_options(given: Mapping[str, Any]) -> SourceOptions:
    """How from_pretrained finds a checkpoint by its arguments; others among them do not matter."""
    cache_dir = given.get("cache_dir")
    return SourceOptions(
        revision=given.get("revision"), token=given.get("token"),
        cache_dir=None if cache_dir is None else Path(cache_dir), local_files_only=given.get("local_files_only", False),
        force_download=given.get("force_download", False), subfolder=given.get("subfolder") or "",
        variant=given.get("variant"),
        prefer=_containers(given.get("use_safetensors"), [name for key, name in FIRST.items() if given.get(key)]),
    )  # fmt: skip


def _containers(use_safetensors: bool | None, first: Sequence[str]) -> tuple[str, ...]:
    """Containers in the order in which they are looked for, by default TensorFlow's own first."""
    own = load_dialects().of(FRAMEWORK).containers
    order = preferred(*first) if first else tuple(sorted(BY_NAME, key=lambda name: name not in own))
    if use_safetensors is None:
        return order
    return tuple(name for name in order if (name == Safetensors.name) == use_safetensors)


def dtype_policy(dtype: Any) -> Any:
    """A Keras dtype policy from a name, a TensorFlow or numpy type, or a policy."""
    if isinstance(dtype, keras.DTypePolicy):
        return dtype
    if isinstance(dtype, type):  # numpy.float16 and its like
        dtype = np.dtype(dtype)
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", str(dtype))
    name = name.removeprefix("torch.")
    if name not in (*FLOATS, "mixed_float16", "mixed_bfloat16"):
        raise RequestError(
            f"dtype is {name}.", hint=f"Choose one of {', '.join(FLOATS)}, mixed_float16, mixed_bfloat16."
        )
    return name
