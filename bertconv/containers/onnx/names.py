"""Which weight of which module each constant of an ONNX file is.

PyTorch's TorchScript exporter keeps the names of parameters, but for the matrices of linear layers: these it turns
ahead of time and calls `onnx::MatMul_470`. The node that multiplies with one is called after its modules,
`/encoder/layer.0/attention/self/query/MatMul`, and that is where the name is found again. Of parameters that are equal
it keeps one, and an Identity makes each other of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace

from bertconv.containers.onnx.model import Model, Node, damaged, read_model
from bertconv.containers.stored import FLOATS, Header, SourceFile, StoredTensor
from bertconv.errors import UnsupportedCheckpoint
from bertconv.text import brief, printable

_PARAMETER = re.compile(r"[A-Za-z_]\w*(\.\w+)+")
"""What a parameter of a model is called; what exporters make up has a slash, a colon, or no dot."""
_MODULE = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
_QUANTISED = re.compile(r".*(Quantize|Integer|NBits).*|Q(Linear|Gemm|Attention|Embed).*")
"""What steps are called that compute with quantised weights, in ONNX and in ONNX Runtime's additions."""
_WAY_OUT = "Give the checkpoint that it was made from, or export it in float32 with torch.onnx.export(dynamo=False)."


def read_onnx(file: SourceFile) -> Header:
    """The weights of an ONNX file under the names of their parameters, as PyTorch has them.

    Raises:
        DamagedCheckpoint, UnsafeCheckpoint: as for `read_model`.
        UnsupportedCheckpoint: the weights are quantised or fused, or their names are lost.
    """
    model = read_model(file)
    with ExitStack() as on_failure:
        for tensor in model.constants.values():
            if isinstance(tensor, StoredTensor) and tensor.file is not file:
                on_failure.callback(tensor.file.close)
        found = _named(file, model)
        on_failure.pop_all()
    return found


def _named(file: SourceFile, model: Model) -> Header:
    _refuse_quantised(file, model)
    origins = _origins(file, model)
    tensors: dict[str, StoredTensor] = {}
    for name, origin in origins.items():
        if _PARAMETER.fullmatch(name) and (found := _whole(model, origin)) is not None:
            tensors[name] = replace(found, name=name)
    kept = set(tensors)
    turned: set[str] = set()
    for name, origin, tensor in _matrices(model, origins):
        if origin in turned or origins.get(name) == origin:
            continue
        if name in tensors:
            raise _lost(file, f"{printable(name)} is there twice, as two constants")
        tensors[name] = replace(tensor, name=name)
        turned.add(origin)
    named = turned | {origins[name] for name in kept}
    _refuse_lost(file, model, named)
    others = sorted(name for name in model.constants if name not in named)
    notes = [f"{len(turned)} weights of linear layers have the names of the nodes that use them"] if turned else []
    return Header("onnx", tuple(tensors.values()), model.metadata, tuple(notes), tuple(map(printable, others)))


def _whole(model: Model, origin: str) -> StoredTensor | None:
    """A constant that may be a weight: of floats, and its bytes as they are."""
    tensor = model.constants[origin]
    return tensor if isinstance(tensor, StoredTensor) and tensor.dtype in FLOATS else None


def _origins(file: SourceFile, model: Model) -> dict[str, str]:
    """Name -> the constant that it is: itself, or what one Identity after the other makes of it."""
    made = {
        node.outputs[0]: node.inputs[0]
        for node in model.nodes
        if node.op == "Identity" and len(node.inputs) == len(node.outputs) == 1
    }
    found = {name: name for name in model.constants}
    for name in made:
        path = [name]
        while path[-1] in made and path[-1] not in found:
            path.append(made[path[-1]])
            if len(path) > len(made) + 1:
                raise damaged(file, f"makes {printable(name)} out of itself")
        if path[-1] in found:
            found |= dict.fromkeys(path, found[path[-1]])
    return found


def _matrices(model: Model, origins: Mapping[str, str]) -> Iterator[tuple[str, str, StoredTensor]]:
    """Matrices of linear layers without a name of their own: the name that their node gives, the constant, the tensor.

    A layer that is used again is the first one's: its node is called `query_1`.
    """
    for node in model.nodes:
        if node.op not in ("MatMul", "Gemm") or len(node.inputs) < 2:
            continue
        origin = origins.get(node.inputs[1])
        module = _module_of(node)
        if origin is None or module is None or _PARAMETER.fullmatch(origin):
            continue
        tensor = _whole(model, origin)
        if tensor is not None and len(tensor.shape) == 2:
            lies = node.op == "Gemm" and node.numbers.get("transB") == 1
            yield f"{module}.weight", origin, tensor if lies else _transposed(tensor)


def _transposed(tensor: StoredTensor) -> StoredTensor:
    """A matrix with its axes exchanged, its elements where they are."""
    rows, columns = tensor.shape
    return replace(tensor, shape=(columns, rows), strides=(1, columns))


def _module_of(node: Node) -> str | None:
    """The module that a node stands in: `/encoder/layer.0/output/dense/MatMul` in `encoder.layer.0.output.dense`.

    A module that is called by its place in another one has that one's name before it: `/model/model.0/auto_model`.
    """
    root, *parts = node.name.split("/")
    if root or len(parts) < 2 or not re.fullmatch(rf"{re.escape(node.op)}(_\d+)?", parts[-1]):
        return None
    path: list[str] = []
    for part in parts[:-1]:
        if not _MODULE.fullmatch(part):
            return None
        if path and part.startswith(f"{path[-1]}."):
            path.pop()
        path.append(part)
    return ".".join(path)


def _refuse_quantised(file: SourceFile, model: Model) -> None:
    for node in model.nodes:
        if _QUANTISED.fullmatch(node.op):
            raise UnsupportedCheckpoint(
                f"holds quantised weights: it computes with {printable(node.op)}.", hint=_WAY_OUT, file=str(file.path)
            )


def _refuse_lost(file: SourceFile, model: Model, named: set[str]) -> None:
    """Refuse a file with matrices of which nothing says what they are: a part of the model would be missing."""
    lost = {}
    for name, tensor in model.constants.items():
        if isinstance(tensor, str):
            if _PARAMETER.fullmatch(name):
                raise UnsupportedCheckpoint(f"is not read: {tensor}.", hint=_WAY_OUT, file=str(file.path), tensor=name)
        elif name not in named and tensor.dtype in FLOATS and sum(size > 1 for size in tensor.shape) > 1:
            lost[name] = tensor
    if lost:
        using = next((node for node in model.nodes if set(node.inputs) & set(lost)), None)
        step = f"; {printable(using.name or using.op)} computes with one of them" if using else ""
        raise _lost(file, f"nothing says what {brief(list(lost))} {'is' if len(lost) == 1 else 'are'}{step}")


def _lost(file: SourceFile, problem: str) -> UnsupportedCheckpoint:
    return UnsupportedCheckpoint(f"has weights that lost their names: {problem}.", hint=_WAY_OUT, file=str(file.path))
