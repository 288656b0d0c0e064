"""Tiny checkpoints made on the spot, in every container and with every quirk, and the command line to feed them to.

Sizes are all different and no matrix is symmetric, so that a missing transpose or a swapped axis cannot go unseen.
TensorFlow names and layouts are spelled out here by hand: they do not come from the tables under test.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from bertconv.cli import main
from bertconv.config.auto import config_class
from bertconv.containers.safetensors import SourceFile, StoredTensor
from bertconv.families import families, family_of_class
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand
from bertconv.mapping.table import Table, table_for
from bertconv.tasks import (
    DISCRIMINATOR,
    MASKED_LM,
    PRETRAINING,
    QUESTION_ANSWERING,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
)

HEADS = tuple(table_for("bert").heads)
EVERY_HEAD = tuple(head for family in families().values() for head in family.tasks)
FIRST = tuple(family for family in families().values() if family.model_type.replace("-", "_") == family.path.stem)
"""One family of each table: the one that it is named after."""
APART = tuple(head for family in FIRST for head in family.tasks)
"""Every class, of families that share a table those of one."""
OF_WORDS = tuple(
    head
    for family in families().values()
    for head, task in family.tasks.items()
    if head in APART and task in {MASKED_LM, PRETRAINING, DISCRIMINATOR}
)
"""The classes of each table that have most to themselves: tied copies, norms, two heads. Others differ in one layer."""
SIZES = {
    "vocab_size": 101, "hidden_size": 35, "num_attention_heads": 5, "intermediate_size": 53,
    "max_position_embeddings": 37, "type_vocab_size": 3, "num_hidden_layers": 2,
}  # fmt: skip
OTHER_SIZES = {
    "electra": {"embedding_size": 31}, "mpnet": {"relative_attention_num_buckets": 13},
    "albert": {"embedding_size": 31, "num_hidden_groups": 2, "inner_group_num": 3},
}  # fmt: skip
"""Sizes that one family alone has."""
LABELS = 11
FLOATS = ("float32", "float16", "bfloat16", "float64")
CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int8": "I8"}
WORD = "bert.embeddings.word_embeddings.weight"
DECODER = "cls.predictions.decoder.weight"
MLM_BIAS = "cls.predictions.bias"
DECODER_BIAS = "cls.predictions.decoder.bias"
POOLER = ("bert.pooler.dense.weight", "bert.pooler.dense.bias")

Tensors = dict[str, np.ndarray]


# What a checkpoint holds


def numpy_type(dtype: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def table_of(head: str) -> Table:
    family = family_of_class(head)
    assert family is not None, head
    return table_for(family.model_type)


def has_head(head: str) -> bool:
    """Whether a class has more than its family's backbone."""
    table = table_of(head)
    return head != table.base_head or any("pooler" in group for group in table.heads[head])


def config(head: str = "BertModel", **changes: Any) -> dict[str, Any]:
    """The config of a tiny model in its family's own spelling; a key that is changed to None is left out."""
    labels = changes.pop("labels", LABELS)
    table = table_of(head)
    model_type, task = table.model_type, table.tasks[head]
    values = {"architectures": [head], "model_type": model_type, "hidden_act": "gelu", **SIZES}
    respelled = table.family.schema.respelled
    values, changes = respelled(values | OTHER_SIZES.get(model_type, {})), respelled(changes)
    if task == QUESTION_ANSWERING and model_type == "distilbert":
        labels = 2  # its class takes no other number
    if task in {SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION, QUESTION_ANSWERING}:
        values["id2label"] = {str(number): f"label {number}" for number in range(labels)}
        values["label2id"] = {f"label {number}": number for number in range(labels)}
    return {key: value for key, value in {**values, **changes}.items() if value is not None}


def random_array(shape: Sequence[int], dtype: str, seed: int) -> np.ndarray:
    """Normal numbers over ten orders of magnitude, all of them finite in every type."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * 10.0 ** rng.uniform(-6, 4, shape)
    return np.asarray(values).astype(numpy_type(dtype))


def shapes(head: str, settings: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """PyTorch names and shapes without the tied copies."""
    table, pt = table_of(head), load_dialects().by_name["pt"]
    values = config_class(table.family).from_dict(settings, family=table.family).values
    specs = expand(table, pt, values, table.heads[head])
    return {spec.name: spec.shape for place, spec in specs.items() if place not in table.tied}


def state_dict(head: str = "BertModel", dtype: str = "float32", seed: int = 0, **changes: Any) -> Tensors:
    """Every tensor with its PyTorch name, `bert.` in front also for the base model; dtype "mixed" alternates."""
    found = {}
    for number, (name, shape) in enumerate(shapes(head, config(head, **changes)).items()):
        one = FLOATS[number % len(FLOATS)] if dtype == "mixed" else dtype
        found[name] = random_array(shape, one, 1000 * seed + number)
    return found


def bare(tensors: Tensors) -> Tensors:
    """Without `bert.`: how a base model's own file names them."""
    return {name.removeprefix("bert."): value for name, value in tensors.items()}


def native(head: str, tensors: Tensors) -> Tensors:
    """The names that the class itself saves."""
    table = table_of(head)
    if head != table.base_head:
        return tensors
    return {name.removeprefix(f"{table.base}."): value for name, value in tensors.items()}


def renamed(tensors: Tensors, pattern: str, replacement: str) -> Tensors:
    return {re.sub(pattern, replacement, name): value for name, value in tensors.items()}


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


# TensorFlow's side of the same


def tf_name(name: str) -> str:
    """The Keras 2 name of a tensor, without the model's own name in front."""
    if name.endswith("_embeddings.weight"):
        leaf = "weight" if "word_embeddings" in name else "embeddings"
        name = name.removesuffix("weight") + leaf
    elif "LayerNorm" in name or "layer_norm" in name:
        name = re.sub(r"(LayerNorm|layer_norm)\.weight$", r"\1.gamma", name)
        name = re.sub(r"(LayerNorm|layer_norm)\.bias$", r"\1.beta", name)
    elif name.endswith(("distance_embedding.weight", "relative_attention_bias.weight")):
        name = name.removesuffix("weight") + "embeddings"
    elif name.endswith(".weight"):
        name = name.removesuffix("weight") + "kernel"
    name = re.sub(r"\.(layer|albert_layer_groups|albert_layers)\.(\d+)(?=\.)", r".\1_:_\2", name)
    name = name.replace("cls.predictions", "mlm___cls.predictions").replace("cls.seq_rel", "nsp___cls.seq_rel")
    return name.replace(".", "/").replace("_:_", "_._") + ":0"


STORED_TWICE = "predictions/decoder/bias:0"
"""ALBERT's bias of the words, which TensorFlow's files hold beside `predictions/bias:0`."""


def tf_state(tensors: Tensors) -> Tensors:
    """The same tensors as TensorFlow names and lays them out."""
    found = {}
    for name, value in tensors.items():
        other = tf_name(name)
        found[other] = np.ascontiguousarray(value.T) if other.endswith("/kernel:0") else value
    if "predictions/bias:0" in found:
        found[STORED_TWICE] = found["predictions/bias:0"]
    return found


def keras_name(head: str) -> str:
    """What Keras calls the first model of TensorFlow's class."""
    prefix = table_of(head).prefix
    own = {"XLMRoberta": "tfxlm_roberta", "MPNet": "tfmp_net", "DistilBert": "tf_distil_bert"}
    words = re.sub(r"([a-z])([A-Z])", r"\1_\2", head.removeprefix(prefix).replace("LM", "Lm")).lower()
    return f"{own.get(prefix, f'tf_{prefix.lower()}')}_{words}"


# Containers


def safetensors_bytes(tensors: Tensors, metadata: object = ...) -> bytes:
    """A file with its tensors in the order given; `metadata` may be any JSON value, and is left out by default."""
    header: dict[str, Any] = {} if metadata is ... else {"__metadata__": metadata}
    data = b""
    for name, value in tensors.items():
        raw = np.ascontiguousarray(value).tobytes()
        header[name] = {
            "dtype": CODES[value.dtype.name], "shape": list(value.shape), "data_offsets": [len(data), len(data + raw)],
        }  # fmt: skip
        data += raw
    return with_header(json.dumps(header, separators=(",", ":")).encode(), data)


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def torch_tensors(tensors: Tensors) -> dict[str, Any]:
    import torch

    found = {}
    for name, value in tensors.items():
        if value.dtype == ml_dtypes.bfloat16:
            found[name] = torch.from_numpy(value.view(np.int16).copy()).view(torch.bfloat16)
        else:
            found[name] = torch.from_numpy(value.copy())
    return found


def torch_bytes(value: object, *, legacy: bool = False) -> bytes:
    """What torch.save writes; dicts of numpy arrays are made dicts of tensors by `torch_tensors` first."""
    import torch

    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


WITH_COPIES = ("mlm___cls", "lm_head", "vocab_projector", "generator_lm_head", "predictions")
"""Layers of language models in which Keras 2 stores the embeddings again."""


@dataclass(frozen=True)
class Keras:
    """How a tf_model.h5 is written.

    Attributes:
        scope: the model's own name, in front of every weight's.
        text: "bytes" as h5py 2 wrote attributes, "vlen" as h5py 3 does.
        chunked: lists of names are split as Keras does with long ones.
        dropout: empty groups of layers without weights, with a list of names that is a float64 array.
        copies: the layer mlm___cls holds the embeddings a second time.
        top_level: the empty group top_level_model_weights that newer Keras adds.
        whole_model: weights lie in model_weights beside optimizer_weights, as `model.save` writes them.
        optimizer: optimizer_weights lie at the root.
    """

    scope: str = "tf_bert_model"
    text: str = "bytes"
    chunked: bool = False
    dropout: bool = True
    copies: bool = True
    top_level: bool = False
    whole_model: bool = False
    optimizer: bool = False


def write_h5(path: Path, tensors: Tensors, style: Keras = Keras()) -> Path:
    """A tf_model.h5 of TensorFlow's names and layouts, by hand."""
    layers: dict[str, Tensors] = {}
    for name, value in tensors.items():
        layers.setdefault(name.split("/")[0], {})[f"{style.scope}/{name}".lstrip("/")] = value
    head = next((layer for layer in WITH_COPIES if layer in layers), None)
    if style.copies and head is not None:
        found = {name: one for weights in layers.values() for name, one in weights.items() if "/embeddings/" in name}
        layers[head] = {**layers[head], **found}
    if style.dropout:
        layers["dropout_37"] = {}
    with h5py.File(path, "w") as root:
        top = root.create_group("model_weights") if style.whole_model else root
        _names(top, "layer_names", list(layers), style)
        top.attrs["backend"], top.attrs["keras_version"] = (_text(each, style) for each in ("tensorflow", "2.9.0"))
        for layer, weights in layers.items():
            group = top.create_group(layer)
            _names(group, "weight_names", list(weights), style)
            for name, value in weights.items():
                group.create_dataset(name, data=value)
        if style.top_level:
            _names(top.create_group("top_level_model_weights"), "weight_names", [], style)
        if style.whole_model or style.optimizer:
            state = root.create_group("optimizer_weights")
            state.create_dataset("Adam/iter:0", data=np.int64(500))
            state.create_dataset("Adam/bert/pooler/dense/kernel/m:0", data=np.zeros((35, 35), np.float32))
    return path


def _text(value: str, style: Keras) -> object:
    return np.bytes_(value.encode()) if style.text == "bytes" else value


def _names(group: h5py.Group, key: str, names: list[str], style: Keras) -> None:
    if not names:
        group.attrs[key] = np.asarray([], np.float64)  # what np.asarray([]) is, and so what Keras wrote
        return
    chunks = [names[start : start + 7] for start in range(0, len(names), 7)] if style.chunked else [names]
    for number, chunk in enumerate(chunks):
        name = f"{key}{number}" if style.chunked else key
        if style.text == "bytes":
            group.attrs[name] = np.array([each.encode() for each in chunk])
        else:
            group.attrs.create(name, chunk, dtype=h5py.string_dtype())


def open_file(path: Path) -> SourceFile:
    """The one place from which the tests take bertconv's own view of a file, and below of a tensor in it."""
    return SourceFile(path)


def stored(
    file: SourceFile, dtype: str, shape: tuple[int, ...], offset: int = 0, strides: tuple[int, ...] | None = None
) -> StoredTensor:
    return StoredTensor("the.tensor", dtype, shape, file, offset, strides)


# Folders


def write_config(folder: Path, values: Mapping[str, Any], name: str = "config.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(values))
    return folder


def save(folder: Path, head: str, tensors: Tensors, container: str = "safetensors", **changes: Any) -> Path:
    """A folder with a config and these weights, named as the class names them.

    Args:
        folder: to make.
        head: the class.
        tensors: by PyTorch names, `bert.` in front.
        container: "safetensors", "bin", "legacy", "sharded", "sharded-bin", "h5" or "tf-safetensors".
        changes: to the config.
    """
    write_config(folder, config(head, **changes))
    return save_weights(folder, head, tensors, container)


def save_weights(folder: Path, head: str, tensors: Tensors, container: str) -> Path:
    own = native(head, tensors)
    if container == "safetensors":
        (folder / "model.safetensors").write_bytes(safetensors_bytes(own, {"format": "pt"}))
    elif container in {"bin", "legacy"}:
        (folder / "pytorch_model.bin").write_bytes(torch_bytes(torch_tensors(own), legacy=container == "legacy"))
    elif container == "h5":
        write_h5(folder / "tf_model.h5", tf_state(tensors), Keras(keras_name(head)))
    elif container == "tf-safetensors":
        (folder / "model.safetensors").write_bytes(safetensors_bytes(tf_state(tensors), {"format": "tf"}))
    else:
        save_shards(folder, own, "pytorch_model.bin" if container == "sharded-bin" else "model.safetensors")
    return folder


def save_shards(folder: Path, tensors: Tensors, name: str = "model.safetensors", shards: int = 3) -> Path:
    stem, _, suffix = name.rpartition(".")
    weight_map = {}
    names = list(tensors)
    for number in range(shards):
        shard = f"{stem}-{number + 1:05}-of-{shards:05}.{suffix}"
        part = {key: tensors[key] for key in names[number::shards]}
        weight_map |= dict.fromkeys(part, shard)
        content = torch_bytes(torch_tensors(part)) if suffix == "bin" else safetensors_bytes(part, {"format": "pt"})
        (folder / shard).write_bytes(content)
    write_index(folder, weight_map, f"{name}.index.json")
    return folder


def save_tf(folder: Path, tensors: Tensors, scope: str, container: str, shards: int = 3) -> Path:
    """Weights as transformers 4.57's TensorFlow classes name them, which `scripts/witness.py` holds to the real ones.

    A variable's name is `scope/layer/.../name:0`. One `tf_model.h5` has it whole, below a group of its layer; every
    other file has it without the first part of the scope, which then stands in the index alone.

    Args:
        folder: to write to; its config is the caller's.
        tensors: by TensorFlow's names without the scope.
        scope: the model's name, behind those of the models and scopes that it was built in: "outer/tf_bert_model".
        container: "h5", "h5-shards", "safetensors" or "safetensors-shards".
        shards: their number.
    """
    if container == "h5":
        write_h5(folder / "tf_model.h5", tensors, Keras(scope))
        return folder
    full = {f"{scope}/{name}": value for name, value in tensors.items()}
    own = {name: name.split("/", 1)[1] for name in full}
    if container == "safetensors":
        data = safetensors_bytes({own[name]: value for name, value in full.items()}, {"format": "tf"})
        (folder / "model.safetensors").write_bytes(data)
        return folder
    stem, suffix = ("tf_model", "h5") if container == "h5-shards" else ("model", "safetensors")
    weight_map = {}
    for number in range(shards):
        shard = f"{stem}-{number + 1:05}-of-{shards:05}.{suffix}"
        names = list(full)[number::shards]
        weight_map |= dict.fromkeys(names, shard)
        part = {own[name]: full[name] for name in names}
        if suffix == "h5":
            _write_h5_shard(folder / shard, part)
        else:
            (folder / shard).write_bytes(safetensors_bytes(part, {"format": "tf"}))
    write_index(folder, weight_map, f"{stem}.{suffix}.index.json")
    return folder


def _write_h5_shard(path: Path, tensors: Tensors) -> None:
    with h5py.File(path, "w") as root:
        root.attrs["layer_names"] = np.array([name.encode() for name in sorted(tensors)])
        for name, value in tensors.items():
            root.create_dataset(name, data=value)


def write_index(folder: Path, weight_map: Mapping[str, str], name: str = "model.safetensors.index.json") -> None:
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


# What came out, read without bertconv


def read_safetensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    types = {code: numpy_type(name) for name, code in CODES.items()}
    found = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        found[name] = np.frombuffer(raw[begin:end], types[entry["dtype"]]).reshape(entry["shape"])
    return found, metadata


def read_h5(path: Path) -> Tensors:
    """Every dataset by its path; bfloat16 by its bits, which h5py itself would turn into float32."""
    found: Tensors = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            kind = item.id.get_type()
            if kind.get_size() == 2 and kind.get_fields() == (15, 7, 8, 0, 7):
                flat = np.fromfile(path, ml_dtypes.bfloat16, item.size, offset=item.id.get_offset() or 0)
                found[name] = flat.reshape(item.shape)
            else:
                found[name] = item[()]

    with h5py.File(path, "r") as root:
        root.visititems(visit)
    return found


def written(folder: Path) -> Tensors:
    """The tensors of an output by the names below their layer, whatever the format, shards included."""
    found: Tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= read_safetensors(path)[0]
    for path in sorted(folder.glob("*.h5")):
        for name, value in read_h5(path).items():
            parts = name.split("/")
            found["/".join(parts[2:] if len(parts) > 1 and re.match(r"tf[a-z]*_", parts[1]) else parts)] = value
    return found


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    return found


def assert_same(found: Tensors, expected: Tensors) -> None:
    """The same names, types, shapes and bits."""
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert found[name].shape == value.shape, name
        assert found[name].tobytes() == np.ascontiguousarray(value).tobytes(), name


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder with its content, to show that nothing was changed."""
    found = sorted(folder.rglob("*"))
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in found
    }


# The command line


@dataclass(frozen=True)
class Outcome:
    """What a run of the command line gave back."""

    code: int
    out: str
    err: str


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
COMMAND = "from bertconv.cli import main; main()"


def call(*arguments: object) -> int:
    """The command line in this process; its exit code."""
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as error:
        return int(error.code or 0)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def command(arguments: Iterable[object], before: str = "") -> list[str]:
    """The argument vector of the command line as a process of its own; `before` is Python to run first."""
    return [sys.executable, "-c", f"{before}\n{COMMAND}", *map(str, arguments)]


def run(*arguments: object, before: str = "", **environment: str) -> Outcome:
    """The command line as a process of its own."""
    done = subprocess.run(
        command(arguments, before), capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL, env={**os.environ, **environment},
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


def run_into_a_closed_pipe(*arguments: object) -> Outcome:
    """The command line as a process of its own; whoever was to read its output is gone before it begins."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            command(arguments), stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writing)
    return Outcome(done.returncode, "", done.stderr)


UNPRIVILEGED = """
import ctypes, os, sys
if os.geteuid() == 0 and "UNPRIVILEGED" not in os.environ:  # root may write everywhere, unless it gives that up
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, by PR_CAPBSET_DROP
        if ctypes.CDLL(None, use_errno=True).prctl(24, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    os.environ["UNPRIVILEGED"] = "1"
    os.execv(sys.executable, sys.orig_argv)
"""
"""Run before the command line: file permissions count, for root too."""
