"""Arguments of from_pretrained and its kin: other names for them, and what they say of a checkpoint and of numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from bertconv.arguments import LOADING, settle, settle_token
from bertconv.config.classes import COMMON
from bertconv.containers.msgpack import FlaxMsgpack
from bertconv.containers.pytorch import PyTorch
from bertconv.containers.registry import BY_NAME, preferred
from bertconv.containers.safetensors import Safetensors
from bertconv.containers.stored import FLOATS
from bertconv.errors import RequestError, check_path
from bertconv.mapping.dialects import load_dialects
from bertconv.models.variables import FRAMEWORK
from bertconv.source import SourceOptions

NAMES = (
    *LOADING, "config", "cache_dir", "ignore_mismatched_sizes", "force_download", "local_files_only", "token",
    "use_auth_token", "revision", "use_safetensors", "output_loading_info", "subfolder", "variant", "from_pt",
    "from_flax", "dtype", "torch_dtype", "trainable", "name",
)  # fmt: skip
"""Every argument of from_pretrained that is no key of a config."""

SWITCHES = ("trainable", *(key for key, value in COMMON.items() if isinstance(value, bool)))
"""Arguments that are either on or off."""

FIRST = {"from_pt": PyTorch.name, "from_flax": FlaxMsgpack.name}
"""Arguments of transformers' classes -> the container whose files are looked for first."""


def settle_dtype(given: dict[str, Any]) -> None:
    """Put what torch_dtype says, dtype's older name, under dtype; "auto" and None leave the default, float32."""
    dtype, old = (
        None if isinstance(one, str) and one == "auto" else one
        for one in (given.pop("dtype", None), given.pop("torch_dtype", None))
    )
    if dtype is not None:
        given["dtype"] = dtype
    elif old is not None:
        given["dtype"] = dtype_policy(old)


def settle_loading(path: Any, given: dict[str, Any], own: Collection[str] = ()) -> None:
    """Take out of from_pretrained's arguments what changes nothing, and put the rest under the newer of two names.

    None for what is either on or off leaves the default.

    Args:
        path: the checkpoint.
        given: arguments by name, the token among them.
        own: names of arguments of the class itself.

    Raises:
        RequestError: an argument that asks for what cannot be done, or no path.
    """
    check_path(path, "the checkpoint")
    kept = {name: given.pop(name) for name in own if name in LOADING and name in given}
    settle(given, LOADING, "from_pretrained")
    settle_dtype(given)
    if (token := settle_token(given, given.pop("token", None))) is not None:
        given["token"] = token
    for name in SWITCHES:
        if name in given and given[name] is None:
            del given[name]
    given.update(kept)


def source_options(given: Mapping[str, Any]) -> SourceOptions:
    """How from_pretrained finds a checkpoint by its arguments; others among them do not matter."""
    return SourceOptions(
        revision=given.get("revision"), token=given.get("token"),
        cache_dir=given.get("cache_dir"), local_files_only=bool(given.get("local_files_only")), cache_if_down=True,
        force_download=bool(given.get("force_download")), subfolder=given.get("subfolder") or "",
        variant=given.get("variant"),
        prefer=_containers(given.get("use_safetensors"), [name for key, name in FIRST.items() if given.get(key)]),
    )  # fmt: skip


def _containers(use_safetensors: bool | None, first: Sequence[str]) -> tuple[str, ...]:
    """Containers in the order in which they are looked for, by default TensorFlow's own first.

    Safetensors where they are asked for, and then what TensorFlow itself writes: 4.57 did so, and no pickle is read.
    """
    own = load_dialects().of(FRAMEWORK).containers
    order = preferred(*first) if first else tuple(sorted(BY_NAME, key=lambda name: name not in own))
    if use_safetensors:
        return tuple(sorted(own, key=lambda name: name != Safetensors.name))
    return tuple(name for name in order if use_safetensors is None or name != Safetensors.name)


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
