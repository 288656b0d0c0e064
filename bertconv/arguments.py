"""Arguments as programs give them to transformers' classes: what means nothing here, older names, what nobody knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from bertconv.errors import RequestError
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

_EVERYWHERE: Mapping[str, Argument] = {
    "trust_remote_code": Argument("Leave it out: no code of a checkpoint is ever run.", (False,)),
    "code_revision": _ANY,  # of code that is never run
    "_from_auto": _ANY,
    "_from_pipeline": _ANY,
}

FINDING: Mapping[str, Argument] = {
    **_EVERYWHERE,
    "proxies": Argument("Set HTTPS_PROXY in the environment.", ({},)),
    "resume_download": _ANY,  # downloads always resume
    "mirror": Argument("Set HF_ENDPOINT in the environment."),
    "gguf_file": Argument("Give the checkpoint that it was made from."),
}
"""Arguments of whatever looks for a checkpoint or a config."""

READING: Mapping[str, Argument] = {
    **FINDING,
    "attn_implementation": _ANY,  # of models
    "_commit_hash": _ANY,  # of what was found before; a revision says what to find
    "_configuration_file": Argument("Give the path of that file."),
}
"""Those of from_pretrained of a config."""

MAKING: Mapping[str, Argument] = {
    **_EVERYWHERE,
    "attn_implementation": Argument(_ONE_ATTENTION, ("eager",)),
    "use_flash_attention_2": Argument(_ONE_ATTENTION, (False,)),
    "device_map": Argument(_PLACED),
    "use_kernels": Argument(_ONE_ATTENTION, (False,)),
    "quantization_config": Argument(_IN_FULL),
    "load_in_8bit": Argument(_IN_FULL, (False,)),
    "load_in_4bit": Argument(_IN_FULL, (False,)),
    "low_cpu_mem_usage": _ANY,  # loading always takes the memory of the weights once
    "_fast_init": _ANY,
    "_commit_hash": Argument("Pass it as revision."),
}
"""Arguments of whatever makes a model: its class, from_config, from_pretrained."""

LOADING: Mapping[str, Argument] = {
    **FINDING,
    **MAKING,
    "state_dict": Argument("Save it to a file and give its path."),
    "load_weight_prefix": Argument("Leave it out: names never depend on where a model is used.", ("",)),
    "tf_to_pt_weight_rename": Argument("Write a mapping table: `bertconv tables show FAMILY`."),
    "key_mapping": Argument("Write a mapping table: `bertconv tables show FAMILY`."),
    "adapter_kwargs": Argument(_PEFT, ({},)),
    "adapter_name": Argument(_PEFT, ("default",)),
    "from_tf": _ANY,  # TensorFlow's files are looked for first
    "weights_only": Argument("Leave it out: code in a pickle is never run.", (True,)),
    "return_unused_kwargs": Argument("Load the config by itself: BertConfig.from_pretrained.", (False,)),
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
"""Those of from_pretrained of a model."""

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

PUSHING_CONFIG: Mapping[str, Argument] = {
    **PUSHING,
    **dict.fromkeys(("use_temp_dir", "max_shard_size", "safe_serialization"), _ANY),  # of files of weights
}
"""Those of push_to_hub of a config."""

SAVING: Mapping[str, Argument] = {
    **PUSHING,
    "is_main_process": Argument("Call save_pretrained in the main process alone.", (True,)),
    "state_dict": Argument("Assign the values to the model's weights first."),
    "save_function": Argument("Leave it out: files are written as a whole, and read back."),
    "variant": Argument("Rename the file."),
    "save_peft_format": _ANY,  # of adapters, which no model here has
}
"""Those of save_pretrained."""


def settle(given: dict[str, Any], known: Mapping[str, Argument], function: str) -> None:
    """Take out what changes nothing, None above all; RequestError, by name, for what asks for something.

    Args:
        given: arguments by name, of which those that are not known stay.
        known: one of the tables.
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


def refuse_unknown(given: Iterable[str], function: str, known: Iterable[str]) -> None:
    """RequestError for arguments that nobody knows, with the one that was meant."""
    if names := list(given):
        near = closest(names[0], known)
        hint = "Take it out." if near is None else f"Did you mean {near}?"
        raise RequestError(f"{function} has no argument {', '.join(names)}.", hint=hint)
