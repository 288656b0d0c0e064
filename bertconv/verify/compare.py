"""One verification: weights, then outputs, then gradients, then what is to be said about them."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace

import numpy as np

from bertconv import __version__
from bertconv.checkpoint import Checkpoint
from bertconv.digests import digest_of_tensors
from bertconv.errors import RequestError
from bertconv.progress import Progress, silent
from bertconv.records import dataclass
from bertconv.verify.agreement import ASPECTS
from bertconv.verify.cases import Batch, make_batches
from bertconv.verify.classes import CLASS, other_classes
from bertconv.verify.config_keys import NAMED, config_differences
from bertconv.verify.facts import side_facts
from bertconv.verify.labels import compare_labels
from bertconv.verify.modules import compare_modules, with_equal_modules
from bertconv.verify.outputs import DTYPES, FLOOR, KINDS, Limits, Runner, block_of, blocks, compare_gradients, measure
from bertconv.verify.parity import (
    LEVELS,
    Cause,
    ConfigDifference,
    Divergence,
    Measurement,
    Parity,
    SideFacts,
    TensorComparison,
)
from bertconv.verify.places import MODULE
from bertconv.verify.tokenizers import compare_tokenizers, notes_of_both
from bertconv.verify.weights import NOT_FINITE, compare_weights

ORACLES = ("reference", "transformers")
"""Who computes PyTorch's side."""

_TRAINING = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
"""Config keys that only training uses; a family may have more of them, with `dropout` in their names."""


@dataclass(frozen=True)
class Request:
    """What is to be compared.

    Attributes:
        level: "weights", "outputs" or "gradients".
        dtypes: element types of the outputs; float64 is always among them.
        limits: what is demanded of them.
        oracle: who computes PyTorch's side: "reference" or "transformers".
        saved_model: also run B's SavedModel.
        seed: of the random inputs.
        digest: also digest every tensor; without, level "weights" is faster and the report has no digests.
        ignore: any of "labels", "tokenizer" and "modules": differences in these do not count.
        forced: the class was given by the caller, so that what the configs call theirs does not count.
    """

    level: str = "outputs"
    dtypes: tuple[str, ...] = ("float64", "float32")
    limits: Limits = field(default_factory=Limits)
    oracle: str = "reference"
    saved_model: bool = False
    seed: int = 0
    digest: bool = True
    ignore: tuple[str, ...] = ()
    forced: bool = False

    def __post_init__(self) -> None:
        for value, known, name in ((self.level, LEVELS, "level"), (self.oracle, ORACLES, "oracle"),
                                   *((dtype, DTYPES, "dtype") for dtype in self.dtypes),
                                   *((aspect, ASPECTS, "ignore") for aspect in self.ignore)):  # fmt: skip
            if value not in known:
                raise RequestError(f"{name} is {value!r}.", hint=f"Choose from {', '.join(known)}.")


def compare(a: Checkpoint, b: Checkpoint, request: Request, progress: Progress = silent) -> Parity:
    """Compare two opened checkpoints.

    Args:
        a: the original, opened as the class of `b`.
        b: what is held to it.
        request: what is compared, and how closely.
        progress: called with the steps.

    Raises:
        DamagedCheckpoint: a file ends too early or cannot be read.
        RequestError: a framework that is needed is not installed.
    """
    started = time.perf_counter()
    a, b, apart = with_equal_modules(a, b)
    total, done = sum(tensor.stored.nbytes for tensor in b.everything.values()), 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        progress("weights", done, total)

    rows = compare_weights(a, b, tick, digest=request.digest)
    parity = Parity(
        level=request.level, a=_facts(a, rows, "A"), b=_facts(b, rows, "B"), head=b.head, tensors=rows,
        config=(*(() if request.forced else other_classes(a, b)), *config_differences(a, b)),
        labels=compare_labels(a, b, ignored="labels" in request.ignore),
        tokenizer=compare_tokenizers(a, b, ignored="tokenizer" in request.ignore),
        modules=compare_modules(a, b, ignored="modules" in request.ignore),
        left_out=(*(f"A: {name}" for name in a.left_out()), *(f"B: {name}" for name in b.left_out())),
        omitted=(*(f"A: {name}" for name in a.omitted()), *(f"B: {name}" for name in b.omitted())),
        notes=(*_notes(a, b), *apart), versions=_versions(()),
    )  # fmt: skip
    if request.level != "weights":
        parity = _with_outputs(parity, a, b, request, progress)
    else:
        parity = _explained(parity, a, b, None, ())
    return replace(parity, seconds=time.perf_counter() - started)


def _with_outputs(parity: Parity, a: Checkpoint, b: Checkpoint, request: Request, progress: Progress) -> Parity:
    if (reason := _obstacle(parity.tensors) or _other_depth(a, b)) is not None:
        note = f"outputs were not compared: {reason}"
        return _explained(replace(parity, level="weights", notes=(*parity.notes, note)), a, b, None, ())
    one, other = _runner(a, _rounding(parity.tensors), request.oracle), _runner(b, {}, request.oracle)
    dtypes = tuple(dtype for dtype in DTYPES if dtype == "float64" or dtype in request.dtypes)
    notes: list[str] = []
    batches = make_batches(a.table, a.values, b.task, a.source.folder, request.seed, notes.append, a.tokenizer.settings)
    runs, done = 2 * len(dtypes), 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress("outputs", done, runs)

    progress("outputs", done, runs)
    found = measure(one, other, batches, dtypes, request.limits, tick)
    if request.saved_model:
        found += _of_saved_model(one, b, batches, request.limits)
    parity = replace(
        parity, dtypes=dtypes, cases=tuple(batch.case for batch in batches), measurements=found,
        a=replace(parity.a, framework=one.framework), b=replace(parity.b, framework=other.framework),
        limits=_limits(request.limits, dtypes), versions=_versions((one.framework, other.framework)),
        notes=(*parity.notes, *notes),
    )  # fmt: skip
    if request.level == "gradients":
        parity = replace(parity, gradients=compare_gradients(one, other, batches[0]))
    return _explained(parity, a, b, other, batches)


def _obstacle(rows: Sequence[TensorComparison]) -> str | None:
    """Why the two sides cannot be run side by side, if they cannot."""
    if any(row.state.startswith("only") or (row.state == "different" and row.first is None) for row in rows):
        return "a tensor is missing on one side, or has another shape there"
    broken = [row.id for row in rows if row.ok and any(NOT_FINITE in remark for remark in row.remarks)]
    return f"{broken[0]} is not finite on either side, so there is nothing to compute" if broken else None


def _other_depth(a: Checkpoint, b: Checkpoint) -> str | None:
    """Why two models of the same tensors have not the same places: layers that share weights may be more or fewer."""
    one, other = (side.values["num_hidden_layers"] for side in (a, b))
    return None if one == other else f"A has {one} layers, and B has {other}"


def _of_saved_model(truth: Runner, b: Checkpoint, batches: Sequence[Batch], limits: Limits) -> tuple[Measurement, ...]:
    from bertconv.verify.tensorflow_runner import SavedModelRunner

    runner = SavedModelRunner(b.source.folder)
    rows = measure(truth, runner, batches, ("float32",), limits, lambda: None, partial=True)
    return tuple(replace(row, place=f"SavedModel {row.place}", dtype="float32") for row in rows)


def _torch(side: Checkpoint, rounding: Mapping[str, str], oracle: str) -> Runner:
    from bertconv.verify.torch_runner import TorchRunner

    return TorchRunner(side, rounding, oracle)


def _tensorflow(side: Checkpoint, rounding: Mapping[str, str], oracle: str) -> Runner:  # noqa: ARG001  (it has one only)
    from bertconv.verify.tensorflow_runner import TensorFlowRunner

    return TensorFlowRunner(side, rounding)


_RUNNERS: Mapping[str, Callable[[Checkpoint, Mapping[str, str], str], Runner]] = {
    "torch": _torch,
    "tensorflow": _tensorflow,
}
"""Framework of a dialect -> what runs its weights."""


def _runner(side: Checkpoint, rounding: Mapping[str, str], oracle: str) -> Runner:
    make = _RUNNERS.get(side.spoken.framework)
    if make is None:
        raise RequestError(
            f"holds {side.spoken.title} weights, which bertconv cannot run.",
            hint="Compare weights only: --level weights.",
            file=str(side.source.folder),
        )
    return make(side, rounding, oracle)


def _rounding(rows: Sequence[TensorComparison]) -> dict[str, str]:
    """Tensors that B stores in another element type: A's are rounded the same way before it is run."""
    return {row.id: row.dtype_b for row in rows if row.dtype_a and row.dtype_b and row.dtype_a != row.dtype_b}


def _explained(parity: Parity, a: Checkpoint, b: Checkpoint, runner: Runner | None, batches: Sequence[Batch]) -> Parity:
    """The same with the first place that differs, and the mistakes that explain it."""
    if parity.ok:
        return parity
    from bertconv.verify.weight_causes import weight_causes

    causes = weight_causes(parity.tensors, a.everything, b.everything, int(a.values["num_attention_heads"]))
    causes += [_config_cause(one) for one in parity.config if one.key in NAMED]
    if not causes and runner is not None and not parity.outputs_ok:
        from bertconv.verify.output_causes import output_causes

        names = {one.case for one in parity.measurements if not one.ok}
        batch = next((batch for batch in batches if batch.deep and batch.case.name in names), batches[0])
        causes = output_causes(a, runner, batch)
    return replace(parity, divergence=_divergence(parity), causes=tuple(causes))


def _config_cause(one: ConfigDifference) -> Cause:
    return Cause(NAMED[one.key], (), f"{one.key} is {one.a!r} in A's config and {one.b!r} in B's.")


def _divergence(parity: Parity) -> Divergence | None:
    """The first place in the order of execution whose tensors or whose outputs differ."""
    order = _order(parity)
    found = [
        (order(row.module, MODULE), Divergence(row.module, "weights", _tensor_sentence(row)))
        for row in parity.tensors
        if not row.ok
    ]
    same = parity.limits.get("float64", 0.0)
    for one in parity.measurements:
        bad = not one.ok if one.limit is not None else one.dtype == "float64" and not one.b <= same
        if bad and (one.dtype == "float64" or not found):
            found.append((order(one.place, one.kind), Divergence(one.place, "outputs", _output_sentence(one))))
    wrong_gradients = [gradient for gradient in parity.gradients if not gradient.ok]
    if not found and wrong_gradients:
        first = wrong_gradients[0]
        sentence = f"the gradient of {first.id} differs by {first.error:.1e} of its largest value."
        return Divergence(first.id, "gradients", sentence)
    if not found and parity.config:
        return Divergence("config", "config", _config_sentence(parity.config))
    wrong_aspects = [(name, aspect) for name, aspect in parity.aspects.items() if not aspect.ok]
    if not found and wrong_aspects:
        name, aspect = wrong_aspects[0]
        return Divergence(name, name, f"{aspect.differences[0].sentence}.")
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _config_sentence(differences: Sequence[ConfigDifference]) -> str:
    said = [f"A is a {one.a} and B a {one.b} by their configs" for one in differences if one.key == CLASS]
    if keys := [one.key for one in differences if one.key != CLASS]:
        said.append(f"the configs differ in {', '.join(keys)}")
    return f"{', and '.join(said)}."


def _order(parity: Parity) -> Callable[[str, str], tuple[float, ...]]:
    """Where a place of a kind stands in the order of execution; one that was not seen, where its block ends."""
    seen = {one.place: number for number, one in enumerate(parity.measurements)}
    block_at = blocks({one.place: one.layer for one in parity.measurements})
    before_norm = seen.get("embeddings.norm", 1) - 0.5  # the position embeddings are added unseen

    def order(place: str, kind: str) -> tuple[float, ...]:
        block = block_at(place)
        unseen = before_norm if block == block_of("embeddings") else len(seen)
        return (*block, KINDS.index(kind), seen.get(place, unseen) if seen else 0)

    return order


def _tensor_sentence(row: TensorComparison) -> str:
    if row.state != "different":
        return f"first at {row.module}: {row.id} is {row.state}."
    if row.first is None:
        return f"first at {row.module}: {row.id} differs, {', '.join(row.remarks)}."
    where = list(row.first)
    elements = "one element" if row.differing == 1 else f"{row.differing:,} elements"
    by = f", by up to {row.max_difference:.3g}" if row.max_difference > 0 else ""
    return (
        f"first at {row.module}: {row.id} differs in {elements}{by}; "
        f"element {where} is {row.value_a!r} in A and {row.value_b!r} in B."
    )


def _output_sentence(one: Measurement) -> str:
    kind = "" if one.kind == MODULE else f" ({one.kind})"
    beside = f", A's own error is {one.a:.1e}" if one.a else ""
    limit = f", {one.limit:.1e} would do" if one.limit is not None else ""
    return f"first at {one.place}{kind}: in {one.dtype} B is {one.b:.1e} from A's truth{beside}{limit} ({one.case})."


def _facts(side: Checkpoint, rows: Sequence[TensorComparison], label: str) -> SideFacts:
    same = label == "B" or all(row.state == "equal" for row in rows)
    return side_facts(side, digest_of_tensors({row.id: row.digest for row in rows}) if same else "")


def _notes(a: Checkpoint, b: Checkpoint) -> Iterator[str]:
    for label, side in (("A", a), ("B", b)):
        notes = (*side.source.notes, *side.header.notes, *side.config.notes, *side.plan.notes)
        yield from (f"{label}: {note}" for note in notes)
    own = a.config.family.schema.own
    others = [key for key in a.values if "dropout" in key and key not in _TRAINING and key not in own.values()]
    if keys := [key for key in (*_TRAINING, *others) if a.values.get(key) != b.values.get(key)]:
        yield f"the configs differ in {', '.join(keys)}, which only training uses"
    yield from notes_of_both(a, b)


def _limits(limits: Limits, dtypes: Sequence[str]) -> dict[str, float]:
    found = {"float64": limits.same_function, "factor": limits.factor}
    found |= {f"floor {dtype}": FLOOR[dtype] for dtype in dtypes if dtype in FLOOR}
    forced = {"max_error": limits.max_error, "max_hidden_error": limits.max_hidden_error}
    return found | {name: value for name, value in forced.items() if value is not None}


def _versions(frameworks: Sequence[str]) -> dict[str, str]:
    """Of bertconv, Python, numpy and what ran."""
    found = {"bertconv": __version__, "Python": platform.python_version(), "numpy": np.__version__}
    text = " ".join(frameworks)
    packages = {"torch": "torch", "transformers": "transformers", "TensorFlow": "tensorflow", "Keras": "keras"}
    return found | {word: sys.modules[name].__version__ for word, name in packages.items() if word in text}
