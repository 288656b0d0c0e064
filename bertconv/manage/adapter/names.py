"""Which tensor of an adapter belongs to which tensor of the model; every one of them must."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import field

from bertconv.containers.stored import StoredTensor
from bertconv.errors import (
    DamagedCheckpoint,
    MappingError,
    MissingTensors,
    ShapeMismatch,
    UnknownTensors,
    UnsupportedCheckpoint,
)
from bertconv.manage.adapter.files import Adapter
from bertconv.mapping.expand import TensorSpec
from bertconv.records import dataclass
from bertconv.text import listing, printable

_PREFIX = "base_model.model."
_ADAPTER = r"(?:\.[\w-]+)?"  # the adapter's own name, which peft leaves out when it saves
_MATRIX = re.compile(rf"(?P<module>.+)\.lora_(?P<side>[AB]){_ADAPTER}\.weight")
_EMBEDDING = re.compile(rf"(?P<module>.+)\.lora_embedding_(?P<side>[AB]){_ADAPTER}")
_OWN_BIAS = re.compile(rf"(?P<module>.+)\.lora_B{_ADAPTER}\.bias")
_ORIGINAL = re.compile(r".+\.original_module\.\w+")
_WHOLE = re.compile(rf"(?P<module>.+?)(?:\.base_layer|\.modules_to_save{_ADAPTER})?\.(?P<leaf>\w+)")


@dataclass(frozen=True)
class Pair:
    """The two matrices of one module.

    Attributes:
        module: its name in PyTorch.
        a: [rank, in]; of an embedding [rank, rows].
        b: [out, rank]; of an embedding [dim, rank].
        is_embedding: the product is transposed, as embeddings are.
        scale: what the product is multiplied by.
    """

    module: str
    a: StoredTensor
    b: StoredTensor
    is_embedding: bool
    scale: float


@dataclass(frozen=True)
class Changes:
    """What an adapter does to a model, by neutral id.

    Attributes:
        pairs: weights to which a product is added.
        biases: biases to which a tensor is added, with its scale.
        replaced: tensors that are taken from the adapter as they are.
    """

    pairs: Mapping[str, Pair] = field(default_factory=dict)
    biases: Mapping[str, tuple[StoredTensor, float]] = field(default_factory=dict)
    replaced: Mapping[str, StoredTensor] = field(default_factory=dict)


class Modules:
    """The modules of a model class by their names in PyTorch, with and without the base's prefix."""

    def __init__(self, specs: Iterable[TensorSpec], base: str) -> None:
        self._prefix = f"{base}."
        self._specs = {name: spec for spec in specs for name in spec.names}
        self.linear = {name.removesuffix(".weight"): spec for name, spec in self._specs.items() if _axis(spec) == "out"}
        self.embeddings = {
            name.removesuffix(".weight"): spec for name, spec in self._specs.items() if _axis(spec) == "rows"
        }

    def find(self, module: str, leaf: str) -> TensorSpec | None:
        """The tensor of a module, whether its name has the base's prefix or not."""
        name = f"{module}.{leaf}"
        return self._specs.get(name) or self._specs.get(self._prefix + name)

    def spellings(self, module: str) -> tuple[str, str]:
        """A module's name, and without the prefix."""
        return module, module.removeprefix(self._prefix)


def _axis(spec: TensorSpec) -> str:
    """Name of the first axis of a matrix in PyTorch's order: "out" of a linear layer, "rows" of an embedding."""
    return spec.canonical.axes[0][0].partition(".")[0] if len(spec.canonical.shape) == 2 else ""


def changes_of(adapter: Adapter, modules: Modules, tied: Mapping[str, str]) -> Changes:
    """Sort out every tensor of an adapter.

    Args:
        adapter: opened.
        modules: of the model class.
        tied: copies that the model computes with as one with their originals, copy -> original.

    Raises:
        UnknownTensors: a tensor is of no module of the class.
        MissingTensors: a matrix without its other half, or a module that the config names has none.
        ShapeMismatch: a rank or a size is not what config and model say.
        UnsupportedCheckpoint: an adapter on one of two tied tensors, or a tensor of another formula.
        MappingError: the adapter changes nothing.
    """
    sides: dict[str, dict[str, StoredTensor]] = {}
    embedding: set[str] = set()
    biases: dict[str, tuple[StoredTensor, float]] = {}
    whole: dict[str, list[StoredTensor]] = {}
    unknown = []
    for tensor in adapter.header.tensors:
        name = tensor.name.removeprefix(_PREFIX)
        if match := _MATRIX.fullmatch(name) or _EMBEDDING.fullmatch(name):
            sides.setdefault(match["module"], {})[match["side"]] = tensor
            embedding |= {match["module"]} if match.re is _EMBEDDING else set()
        elif (match := _OWN_BIAS.fullmatch(name)) and (spec := modules.find(match["module"], "bias")):
            _check_shape(adapter, tensor, spec.canonical.shape)
            biases[spec.id] = tensor, adapter.lora.scale_of(match["module"])
        elif _ORIGINAL.fullmatch(name):
            continue  # what a module that was trained as a whole began with
        elif (match := _WHOLE.fullmatch(name)) and (spec := modules.find(match["module"], match["leaf"])):
            whole.setdefault(spec.id, []).append(tensor)
        else:
            unknown.append(tensor)
    if unknown:
        raise _unknown(adapter, unknown)
    pairs = {}
    for module, found in sides.items():
        spec = modules.find(module, "weight")
        if spec is None:
            raise _unknown(adapter, list(found.values()))
        pairs[spec.id] = _pair(adapter, module, found, spec, is_embedding=module in embedding)
    replaced = {place: _one(adapter, place, tensors) for place, tensors in whole.items()}
    _check_targets(adapter, modules, {*pairs, *replaced})
    _check_ties(adapter, {*pairs, *replaced}, tied)
    if not pairs and not replaced:
        raise MappingError("holds no tensors, so it changes nothing.", hint="Save it again.", file=adapter.given)
    return Changes(pairs, biases, replaced)


def _unknown(adapter: Adapter, tensors: list[StoredTensor]) -> Exception:
    odd = next((one for one in tensors if "magnitude" in one.name or "trainable_tokens" in one.name), None)
    if odd is not None:
        return UnsupportedCheckpoint(
            "belongs to another formula than plain LoRA.", hint="Merge it with peft (merge_and_unload).",
            file=str(adapter.file.path), tensor=odd.name,
        )  # fmt: skip
    return UnknownTensors(
        f"holds tensors that the base has no module for:\n{listing(printable(one.name) for one in tensors)}",
        hint="Give the base that it was trained on; --head CLASS says as which class.",
        file=str(adapter.file.path),
    )


def _pair(
    adapter: Adapter, module: str, found: Mapping[str, StoredTensor], spec: TensorSpec, *, is_embedding: bool
) -> Pair:
    file = str(adapter.file.path)
    if len(found) < 2:
        (there,) = found.values()
        raise MissingTensors(
            "has no other half: LoRA is a product of two matrices, A and B.", hint="Copy or save the adapter again.",
            file=file, tensor=there.name,
        )  # fmt: skip
    a, b, rank = found["A"], found["B"], adapter.lora.rank_of(module)
    rows, columns = spec.canonical.shape
    expected = ((rank, rows), (columns, rank)) if is_embedding else ((rank, columns), (rows, rank))
    for tensor, shape in zip((a, b), expected, strict=True):
        _check_shape(adapter, tensor, shape)
    return Pair(module, a, b, is_embedding, adapter.lora.scale_of(module))


def _check_shape(adapter: Adapter, tensor: StoredTensor, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise ShapeMismatch(
            f"is {list(tensor.shape)}, where config and base make it {list(shape)}.",
            hint="Give the base that it was trained on, and its own adapter_config.json.",
            file=str(adapter.file.path),
            tensor=tensor.name,
        )


def _one(adapter: Adapter, place: str, tensors: list[StoredTensor]) -> StoredTensor:
    """The tensor that replaces one of the base; peft writes a bias twice where all biases are trained."""
    if any(not _are_equal(tensors[0], one) for one in tensors[1:]):
        raise DamagedCheckpoint(
            f"holds two different tensors for {place}: {printable(tensors[0].name)}, {printable(tensors[1].name)}.",
            hint="Save the adapter again.",
            file=str(adapter.file.path),
        )
    return tensors[0]


def _are_equal(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two tensors are the same, bit by bit."""
    from bertconv.formats.readback import digest_of
    from bertconv.formats.streaming import Workspace

    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    found = {digest_of(each, None, each.shape, Workspace(), lambda _: None) for each in (one, other)}
    return len(found) == 1


def check_used(adapter: Adapter, changes: Changes, places: Container[str], tied: Mapping[str, str]) -> None:
    """UnsupportedCheckpoint where an adapter changes what the output has no tensor for.

    Args:
        adapter: opened.
        changes: all of it.
        places: ids of the tensors that are changed in the output.
        tied: copies, copy -> original; both may be replaced by the same tensor.
    """
    for place in {**changes.pairs, **changes.biases, **changes.replaced}:
        if place in places:
            continue
        copy, original = changes.replaced.get(place), changes.replaced.get(tied.get(place, ""))
        if (
            place in changes.pairs
            or place in changes.biases
            or not copy
            or not original
            or not _are_equal(copy, original)
        ):
            raise UnsupportedCheckpoint(
                f"changes {place}, which is no tensor of its own in the model.",
                hint="Merge it with peft (merge_and_unload), or untie the base first (bertconv convert --untie).",
                file=adapter.given,
            )


def _check_targets(adapter: Adapter, modules: Modules, changed: set[str]) -> None:
    """Every module that the config names has its tensors: else a part of the training would be lost in silence."""
    targets = adapter.lora.targets
    every = targets.names is None and targets.regex is None
    candidates = {**modules.linear, **({} if every else modules.embeddings)}
    lacking = []
    for module, spec in candidates.items():
        is_saved = any(module == name or module.endswith(f".{name}") for name in adapter.lora.saved)
        wanted = not is_saved and any(targets.has(name) for name in modules.spellings(module))
        if wanted and spec.id not in changed and not every:
            lacking.append(module)
    if lacking:
        raise MissingTensors(
            f"has no matrices for modules that its config names as targets:\n{listing(lacking)}",
            hint="Copy or save the adapter again; or give the base that it was trained on.",
            file=str(adapter.file.path),
        )


def _check_ties(adapter: Adapter, changed: set[str], tied: Mapping[str, str]) -> None:
    for copy, original in tied.items():
        if copy in changed and original not in changed:
            raise UnsupportedCheckpoint(
                f"changes {copy}, which the model computes with as one with {original}: merged, both would change.",
                hint="Untie them in the base first (bertconv convert --untie), and train on that.",
                file=adapter.given,
            )
