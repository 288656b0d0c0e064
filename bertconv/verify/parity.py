"""What a verification found: plain data that the verdict, the reports and the certificate are made from.

Errors of outputs are relative: the root of the mean square of the difference, divided by that of the float64 truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from typing import Any

from bertconv.records import dataclass
from bertconv.text import brief, listing
from bertconv.verify.agreement import ASPECTS, NO_MODULES, NOT_COMPARED, Agreement

LEVELS = ("weights", "outputs", "gradients")
"""What is compared; each level includes those before it."""

SCHEMA = 1
"""Version of the JSON, described in docs/parity.schema.json."""


@dataclass(frozen=True)
class SideFacts:
    """One of the two checkpoints.

    Attributes:
        given: as the user gave it.
        revision: commit on the Hub, or None.
        container: "safetensors", "torch", "hdf5" or "saved_model".
        dialect: "pt" or "tf".
        framework: what ran it, with its version; empty when only weights were compared.
        head: the model class that its tensors are.
        files: weight file -> size in bytes.
        dtypes: element type -> number of tensors.
        digest: of the whole model, the same in every format; empty when no weights were read.
    """

    given: str
    revision: str | None
    container: str
    dialect: str
    framework: str
    head: str
    files: Mapping[str, int]
    dtypes: Mapping[str, int]
    digest: str = ""


@dataclass(frozen=True)
class TensorComparison:
    """One tensor of both sides.

    Attributes:
        id: neutral name, such as `layer.3.query.weight`.
        a, b: names in the two files; empty where there is none.
        shape: sizes in PyTorch's order.
        dtype_a, dtype_b: element types as stored.
        state: "equal" bit for bit, "cast" (equal once A is rounded to B's type), "different", "only in A", "only in B".
        digest: of B's elements in PyTorch's order (of A's where B has none); empty when it was not computed.
        differing: number of elements that differ from A's in B's type.
        max_difference: the largest absolute difference between finite elements, `relative` to A's largest value.
        first: index of the first differing element in PyTorch's order, with its `value_a` and `value_b`.
        remarks: what is unusual about the values, such as "3 numbers in B are NaN or infinite"; one phrase each.
        histogram: for the worst tensors `edges`, `a` and `b`: counts of values per bin on both sides.
    """

    id: str
    a: str
    b: str
    shape: tuple[int, ...]
    dtype_a: str
    dtype_b: str
    state: str
    digest: str = ""
    differing: int = 0
    max_difference: float = 0.0
    relative: float = 0.0
    first: tuple[int, ...] | None = None
    value_a: float | None = None
    value_b: float | None = None
    remarks: tuple[str, ...] = ()
    histogram: Mapping[str, list[float]] | None = None

    @property
    def ok(self) -> bool:
        """The same values on both sides, up to the rounding that another element type asks for."""
        return self.state in ("equal", "cast")

    @property
    def module(self) -> str:
        """The module that owns it, such as `layer.3.query`."""
        return self.id.rpartition(".")[0]


@dataclass(frozen=True)
class ConfigDifference:
    """A key of the config that decides what the model computes, with its value on both sides."""

    key: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Case:
    """One batch of inputs.

    Attributes:
        name: such as "padded", "one token", "full length", "sentences".
        about: what it holds, for people.
        shape: of the ids: `[batch sequence]`, for multiple choice `[batch choices sequence]`.
        seed: of its random numbers; None where none were drawn.
    """

    name: str
    about: str
    shape: tuple[int, ...]
    seed: int | None


@dataclass(frozen=True)
class Measurement:
    """How far the two sides are from the float64 truth at one place in one element type, in the worst case.

    The truth is side A in float64. Per element type the measurements stand in the order of execution.

    Attributes:
        place: "layer.7.attention_out" (a module), "layer.7" or "embeddings" (hidden states), "layer.7.attentions",
            "logits" and the like.
        kind: "module", "hidden state", "attentions" or "output".
        layer: number of the layer, or None.
        module: name inside the layer ("attention_out"), else the place.
        dtype: element type of the computation.
        case: name of the case that was worst.
        a: error of A; 0 in float64, being the truth.
        b: error of B.
        max_difference: largest absolute difference of B from the truth, in units of the truth's largest value.
        limit: what `b` may be at most; None where nothing is demanded (modules).
    """

    place: str
    kind: str
    layer: int | None
    module: str
    dtype: str
    case: str
    a: float
    b: float
    max_difference: float
    limit: float | None

    @property
    def ok(self) -> bool:
        """Within its limit; NaN is not."""
        return self.limit is None or self.b <= self.limit


@dataclass(frozen=True)
class GradientComparison:
    """Gradient of a loss in one variable: `error` of B relative to A in float64, and what it may be at most."""

    id: str
    error: float
    limit: float

    @property
    def ok(self) -> bool:
        """Within its limit; NaN is not."""
        return self.error <= self.limit


@dataclass(frozen=True)
class Divergence:
    """The first place, in the order of execution, where the two sides part.

    Attributes:
        place: such as `layer.7.attention_out`.
        evidence: "weights", "config", "outputs", "gradients", "labels", "tokenizer" or "modules".
        sentence: what was seen there.
    """

    place: str
    evidence: str
    sentence: str


@dataclass(frozen=True)
class Cause:
    """A known mistake that explains what was seen.

    Attributes:
        name: short and stable, for scripts: "transposed kernel", "query and key swapped", ...
        places: modules or tensors concerned.
        sentence: for people.
    """

    name: str
    places: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class Parity:
    """The outcome of one verification.

    Attributes:
        level: "weights", "outputs" or "gradients".
        a, b: the two sides; A is the original.
        head: the model class as which they were compared.
        tensors: every tensor of that class, in the order of the table.
        config: keys that differ and decide what the model computes.
        labels: whether the outputs have the same names.
        tokenizer: whether a text becomes the same ids.
        modules: whether sentence-transformers does the same with what the transformer computes.
        left_out: tensors that are no part of `head`: names prefixed with "A: " or "B: ".
        omitted: those of them that are a part of their side's model all the same, which no table knows or the other
            side's dialect has no place for: the rest of it was compared.
        dtypes: element types that were computed in, float64 first; empty at level "weights".
        cases: the inputs.
        measurements: every place, element type by element type.
        gradients: every variable; empty below level "gradients".
        divergence: where it breaks first, or None.
        causes: known mistakes that fit, likeliest first.
        notes: what is unusual, one sentence each.
        limits: "float64", "factor", "floor" and what the caller forced: how the limits came about.
        versions: bertconv, Python, numpy and the frameworks that ran.
        command: to reproduce it.
        seconds: wall-clock time.
    """

    level: str
    a: SideFacts
    b: SideFacts
    head: str
    tensors: tuple[TensorComparison, ...]
    config: tuple[ConfigDifference, ...] = ()
    labels: Agreement = NOT_COMPARED
    tokenizer: Agreement = NOT_COMPARED
    modules: Agreement = NOT_COMPARED
    left_out: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    cases: tuple[Case, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    gradients: tuple[GradientComparison, ...] = ()
    divergence: Divergence | None = None
    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Everything that was compared holds."""
        agreed = all(one.ok for one in self.aspects.values())
        return self.weights_ok and not self.config and self.outputs_ok and agreed

    @property
    def aspects(self) -> dict[str, Agreement]:
        """What stands beside the weights."""
        return {name: getattr(self, name) for name in ASPECTS}

    @property
    def modules_left(self) -> bool:
        """Whether there are modules of sentence-transformers that were not compared."""
        return self.modules.state == NOT_COMPARED.state and self.modules.about not in ("", NO_MODULES)

    @property
    def weights_ok(self) -> bool:
        """Every tensor is on both sides and holds the same values."""
        return all(tensor.ok for tensor in self.tensors)

    @property
    def outputs_ok(self) -> bool:
        """Every output, hidden state, attention and gradient is within its limit."""
        return all(one.ok for one in self.measurements) and all(one.ok for one in self.gradients)

    def worst(self, dtype: str) -> Measurement | None:
        """The measurement with a limit, of this element type, that used most of it."""
        found = [one for one in self.measurements if one.dtype == dtype and one.limit is not None]
        return max(found, key=lambda one: math.inf if math.isnan(one.b) else one.b / (one.limit or 1), default=None)

    def verdict(self) -> str:
        """One line: the same model or not, and why that is known."""
        if not self.ok:
            return f"Not the same model: {self._failure()}"
        return f"{self._claim()}: {'; '.join(self._proofs())}."

    def _claim(self) -> str:
        """What the proofs prove."""
        if not self.omitted:
            return "The same model" if self.dtypes else "The same weights"
        if all(name.startswith("A: ") for name in self.omitted):
            return "The same as the part of the source that was converted"
        return "The same in the part that was compared"

    def _proofs(self) -> list[str]:
        equal = sum(tensor.state == "equal" for tensor in self.tensors)
        proofs = [f"{equal}/{len(self.tensors)} tensors equal, bit for bit"]
        if cast := [tensor for tensor in self.tensors if tensor.state == "cast"]:
            proofs.append(f"{len(cast)} equal once A is rounded to {cast[0].dtype_b}")
        for dtype in self.dtypes:
            worst = self.worst(dtype)
            if worst is not None and dtype == "float64":
                proofs.append(f"outputs equal in float64 to {worst.b:.1e}")
            elif worst is not None:
                proofs.append(f"in {dtype} B is {worst.b:.1e} from the truth and A {worst.a:.1e}")
        if self.gradients:
            proofs.append(f"gradients equal to {max(one.error for one in self.gradients):.1e}")
        ignored = [name for name, one in self.aspects.items() if one.ignored and one.differences]
        proofs += [f"differences in the {name} were ignored" for name in ignored]
        if self.modules_left:
            proofs.append(f"modules were not compared: {self.modules.about}")
        if self.omitted:
            only_a = all(name.startswith("A: ") for name in self.omitted)
            names = [name.removeprefix("A: ") for name in self.omitted] if only_a else self.omitted
            proofs.append(f"left out: {brief(names)}")
        return proofs

    def _failure(self) -> str:
        if self.divergence is None:
            return "see the differences below."
        return self.divergence.sentence

    def failure_text(self) -> str:
        """The verdict with the likely causes and the tensors that differ, for an error and a terminal."""
        lines = [self.verdict()]
        lines += [f"Likely cause: {cause.sentence}" for cause in self.causes]
        lines += [
            f"Different {name}: {line}." for name, one in self.aspects.items() if not one.ok for line in one.lines()
        ]
        if wrong := [tensor.id for tensor in self.tensors if not tensor.ok]:
            lines.append(f"{len(wrong)} of {len(self.tensors)} tensors differ:\n{listing(wrong)}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts; a number that is not finite becomes "nan", "inf" or "-inf"."""
        facts = asdict(self) | {"schema": SCHEMA, "ok": self.ok, "verdict": self.verdict()}
        judged: dict[str, Sequence[TensorComparison | Measurement | GradientComparison]] = {
            "tensors": self.tensors, "measurements": self.measurements, "gradients": self.gradients,
        }  # fmt: skip
        for name, rows in judged.items():
            for row, one in zip(facts[name], rows, strict=True):
                row["ok"] = one.ok
        for name, aspect in self.aspects.items():
            facts[name]["ok"] = aspect.ok
        plain: dict[str, Any] = plain_json(facts)
        return plain


def plain_json(value: Any) -> Any:
    """What JSON can hold: a number that is not finite becomes "nan", "inf" or "-inf"."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(one) for one in value]
    return value
