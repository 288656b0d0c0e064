"""What a folder without weights is instead, so that the message can say what to do."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from bertconv.errors import BertconvError, UnsupportedCheckpoint
from bertconv.source.checkpoint_folder import CheckpointFolder
from bertconv.source.folder import LocalFolder
from bertconv.source.prefixes import LIST, incomplete
from bertconv.text import some

_MERGE = "Merge it into its base model: bertconv merge-adapter BASE ADAPTER -o FOLDER."
_EXPORTED = "Give the checkpoint that it was made from: an export has other names and layouts, and often other values."
NO_MODEL = "is not a local folder and is not a valid model identifier"
"""What programs look for in the messages of transformers."""

SAVED_MODEL = "saved_model.pb"
"""The file with the graph of a SavedModel, never read: its weights lie in the folder `variables` beside it."""
_NO_VARIABLES = (
    "Its weights would lie in variables/variables.index and variables/variables.data-00000-of-00001: copy these too, "
    "or give the checkpoint that it was exported from."
)
_DCP = (
    "Give the folder that has it beside its .metadata, which says what lies where; copy that file too if it is missing."
)
_RANKS = "Save it again so that one process writes .metadata for all: without use_collectives=False."
_HF_SHARDS = (
    "Save it with enable_consolidation=True, or make whole files: consolidate_safetensors_files(FOLDER, OUTPUT, "
    "{NAME: 1, ...}) of torch.distributed.checkpoint._consolidate_hf_safetensors, with the name of every tensor."
)
_ZERO = "Make one file of it with the script that lies beside it: python zero_to_fp32.py FOLDER OUTPUT"
_NUMPY = (
    "If its arrays have a family's names (`bertconv tables show FAMILY`), make a checkpoint of it: "
    'safetensors.numpy.save_file({**numpy.load(FILE)}, "model.safetensors")'
)
_KINDS = (
    ("adapter_config.json", "a LoRA adapter, not a whole model", _MERGE),
    ("adapter_model.*", "a LoRA adapter, not a whole model", _MERGE),
    (SAVED_MODEL, "a TensorFlow SavedModel without its variables", _NO_VARIABLES),
    ("__*.metadata", "a distributed checkpoint of PyTorch with an index for each process", _RANKS),
    ("*.distcp", "a part of a distributed checkpoint of PyTorch (FSDP)", _DCP),
    ("shard-?????-model-*.safetensors", "shards of the processes that saved it, without an index of all", _HF_SHARDS),
    ("zero_to_fp32.py", "a DeepSpeed checkpoint, spread over its processes", _ZERO),
    ("*.npz", "an archive of numpy arrays", _NUMPY),
    ("*.gguf", "a GGUF model", _EXPORTED),
    ("*.tflite", "a TensorFlow Lite model", _EXPORTED),
    ("*.mlmodel", "a Core ML model", _EXPORTED),
    ("openvino_model.*", "an OpenVINO model", _EXPORTED),
    ("*.ot", "a rust-bert model", _EXPORTED),
    ("*.pdparams", "a PaddlePaddle model", "Give the PyTorch or TensorFlow version of the model."),
)  # fmt: skip
_CT2_VOCABULARY = re.compile(r"(shared_|source_|target_)?vocabulary(_\d+)?\.(json|txt)")


def unsupported(names: Iterable[str], where: str) -> UnsupportedCheckpoint | None:
    """The error for weights of a kind that is not converted; None when no name is known."""
    here = sorted(names)
    for pattern, what, hint in _KINDS:
        for name in here:
            if fnmatchcase(name, pattern):
                return UnsupportedCheckpoint(f"{name} makes it {what}.", hint=hint, file=where)
    return None


def no_weights(checkpoint: CheckpointFolder, where: str) -> BertconvError:
    """The error for a folder in which no file looks like weights."""
    here = sorted(name for name in checkpoint.names if "/" not in name)
    if error := incomplete(here, where) or unsupported(here, where):
        return error
    if LIST in here:  # a file of weights may be called so as well
        what = f"{LIST} is TensorFlow's list of the checkpoints that lay beside it, and none of them is here."
        return UnsupportedCheckpoint(what, hint="Copy their .index and .data files too.", file=where)
    hint = _checkpoint_hint(checkpoint.names)
    if not hint and (error := unsupported(checkpoint.names, where)):  # in folders below
        return error
    problem = f"there are no weights; it has {some(here)}." if here else "there are no weights; it has no files."
    if isinstance(checkpoint, LocalFolder):
        hint = (
            hint
            or "Give the folder that holds model.safetensors, pytorch_model.bin, tf_model.h5 or a checkpoint of "
            "TensorFlow, or the file itself."
        )
    return checkpoint.missing(problem, hint, where)


def ctranslate2(names: Collection[str], chosen: str, where: str) -> UnsupportedCheckpoint | None:
    """The error for a CTranslate2 model, whose file is named as PyTorch's weights may be; None when it is none."""
    if chosen != "model.bin" or not any(map(_CT2_VOCABULARY.fullmatch, names)):
        return None
    return UnsupportedCheckpoint(
        f"{chosen} beside a vocabulary makes it a CTranslate2 model.", hint=_EXPORTED, file=where
    )


def _checkpoint_hint(names: Iterable[str]) -> str:
    """Where a folder below has weights: a Trainer's newest checkpoint, or the export that some repositories have."""
    steps = {int(match[1]) for name in names if (match := re.match(r"checkpoint-(\d+)/", name))}
    if steps:
        return f"Give its newest checkpoint: the folder checkpoint-{max(steps)}."
    exports = sorted(name for name in names if re.fullmatch(r"\w+/model\.onnx", name))
    where = exports[0].partition("/")[0] if exports else ""
    return f"Give --subfolder {where}, and the config with --config: there is {exports[0]}." if exports else ""
