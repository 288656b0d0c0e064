"""Arguments of transformers' classes: which change nothing, which are other names, what to do instead of the rest."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from bertconv.config.classes import COMMON
from bertconv.containers.msgpack import FlaxMsgpack
from bertconv.containers.pytorch import PyTorch
from bertconv.containers.registry import BY_NAME, preferred
from bertconv.containers.safetensors import Safetensors
from bertconv.containers.stored import FLOATS
from bertconv.errors import RequestError
from bertconv.mapping.dialects import load_dialects
from bertconv.models.variables import FRAMEWORK
from bertconv.source import SourceOptions
from bertconv.text import closest


class Argument(NamedTuple):
    """An argument of transformers' classes that means nothing here, or not more than None does.

    Attributes:
        advice: what to do instead of any other value.
        harmless: values that change nothing, beside None, which never does.
        is_free: whether no value changes anything.
    """

    advice: str = ""
    harmless: tuple[Any, ...] = ()
    is_free: bool = False


_ANY = Argument(is_free=True)
_ONE_ATTENTION = "There is one implementation, which is eager."
_IN_FULL = "Load the model in full precision."
_PLACED = "Use tf.device or tf.distribute around the call."
_PEFT = "Merge the adapter into the model first (peft: merge_and_unload())."
_CARD = "Write README.md yourself: there are no model cards here."
_BY_NAME = "Give repo_id as organisation/name."

MAKING: Mapping[str, Argument] = {
    "trust_remote_code": Argument("Leave it out: no code of a checkpoint is ever run.", (False,)),
    "code_revision": _ANY,  # of code that is never run
    "attn_implementation": Argument(_ONE_ATTENTION, ("eager",)),
    "use_flash_attention_2": Argument(_ONE_ATTENTION, (False,)),
    "device_map": Argument(_PLACED),
    "use_kernels": Argument(_ONE_ATTENTION, (False,)),
    "quantization_config": Argument(_IN_FULL),
    "load_in_8bit": Argument(_IN_FULL, (False,)),
    "load_in_4bit": Argument(_IN_FULL, (False,)),
    "low_cpu_mem_usage": _ANY,  # loading always takes the memory of the weights once
    "_fast_init": _ANY,
    "_from_auto": _ANY,
    "_from_pipeline": _ANY,
    "_commit_hash": Argument("Pass it as revision."),
}
"""Arguments of whatever makes a model: its class, from_config, from_pretrained."""

LOADING: Mapping[str, Argument] = {
    **MAKING,
    "proxies": Argument("Set HTTPS_PROXY in the environment.", ({},)),
    "resume_download": _ANY,  # downloads always resume
    "mirror": Argument("Set HF_ENDPOINT in the environment."),
    "state_dict": Argument("Save it to a file and give its path."),
    "load_weight_prefix": Argument("Leave it out: names never depend on where a model is used.", ("",)),
    "tf_to_pt_weight_rename": Argument("Write a mapping table: `bertconv tables show FAMILY`."),
    "key_mapping": Argument("Write a mapping table: `bertconv tables show FAMILY`."),
    "adapter_kwargs": Argument(_PEFT, ({},)),
    "adapter_name": Argument(_PEFT, ("default",)),
    "from_tf": _ANY,  # TensorFlow's files are looked for first
    "weights_only": Argument("Leave it out: code in a pickle is never run.", (True,)),
    "return_unused_kwargs": Argument("Load the config by itself: BertConfig.from_pretrained.", (False,)),
    "gguf_file": Argument("Give the checkpoint that it was made from."),
    "generation_config": Argument("Pass its values to generate."),
    "tp_plan": Argument(_PLACED),
    "tp_size": Argument(_PLACED),
    "device_mesh": Argument(_PLACED),
    "max_memory": Argument(_PLACED),
    "offload_folder": Argument(_PLACED),
    "offload_buffers": Argument(_PLACED, (False,)),
    "offload_state_dict": Argument(_PLACED, (False,)),
    "user_agent": _ANY,  # the Hub is told of bertconv alone
}
"""Those of from_pretrained."""

PUSHING: Mapping[str, Argument] = {
    "use_temp_dir": Argument("Save into the folder and upload it: save_pretrained(folder, push_to_hub=True).", (True,)),
    "organization": Argument(_BY_NAME),
    "repo_url": Argument(_BY_NAME),
    "repo_path_or_name": Argument(_BY_NAME),
    "revision": Argument("Push the folder: `bertconv push FOLDER ORG/NAME --revision BRANCH`."),
    "ignore_metadata_errors": _ANY,  # of a card that is not written
    "save_jinja_files": _ANY,  # of a chat template, which no model here has
    **dict.fromkeys(
        ("model_name", "language", "license", "tags", "finetuned_from", "tasks", "dataset_tags", "dataset",
         "dataset_args", "output_dir"), Argument(_CARD)
    ),
}  # fmt: skip
"""Those of push_to_hub."""

SAVING: Mapping[str, Argument] = {
    **PUSHING,
    "is_main_process": Argument("Call save_pretrained in the main process alone.", (True,)),
    "state_dict": Argument("Assign the values to the model's weights first."),
    "save_function": Argument("Leave it out: files are written as a whole, and read back."),
    "variant": Argument("Rename the file."),
    "save_peft_format": _ANY,  # of adapters, which no model here has
}
"""Those of save_pretrained."""

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


def settle(given: dict[str, Any], known: Mapping[str, Argument], function: str) -> None:
    """Take out what changes nothing, None above all; RequestError, by name, for what asks for something.

    Args:
        given: arguments by name, of which those that are not known stay.
        known: `LOADING` or another of the tables.
        function: what they were given to.
    """
    for name in [name for name in known if name in given]:
        value, one = given.pop(name), known[name]
        if value is None or one.is_free or any(type(value) is type(same) and value == same for same in one.harmless):
            continue
        said = f"={value!r:.80}" if isinstance(value, str | int) else ""
        raise RequestError(f"{function} does not take {name}{said}.", hint=one.advice)


def settle_token(given: dict[str, Any], token: Any = None) -> Any:
    """The token, which was called use_auth_token before; that one is taken out."""
    old = given.pop("use_auth_token", None)
    if old is not None and token is not None:
        raise RequestError("both token and use_auth_token are given.", hint="Give token alone.")
    return token if old is None else old


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
    """All three for from_pretrained, and None for what is either on or off, which leaves the default.

    Args:
        path: the checkpoint.
        given: arguments by name, the token among them.
        own: names of arguments of the class itself.

    Raises:
        RequestError: an argument that asks for what cannot be done, or no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise RequestError(f"a checkpoint was expected, not {path!r:.80}.", hint="Give a folder, a file or a Hub id.")
    kept = {name: given.pop(name) for name in own if name in LOADING and name in given}
    settle(given, LOADING, "from_pretrained")
    settle_dtype(given)
    if (token := settle_token(given, given.pop("token", None))) is not None:
        given["token"] = token
    for name in SWITCHES:
        if name in given and given[name] is None:
            del given[name]
    given.update(kept)


def refuse_unknown(given: Iterable[str], function: str, known: Iterable[str]) -> None:
    """RequestError for arguments that nobody knows, with the one that was meant."""
    if names := list(given):
        near = closest(names[0], known)
        hint = "Take it out." if near is None else f"Did you mean {near}?"
        raise RequestError(f"{function} has no argument {', '.join(names)}.", hint=hint)


def source_options(given: Mapping[str, Any]) -> SourceOptions:
    """How from_pretrained finds a checkpoint by its arguments; others among them do not matter."""
    cache_dir = given.get("cache_dir")
    return SourceOptions(
        revision=given.get("revision"), token=given.get("token"),
        cache_dir=None if cache_dir is None else Path(cache_dir), local_files_only=bool(given.get("local_files_only")),
        force_download=bool(given.get("force_download")), subfolder=given.get("subfolder") or "",
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
