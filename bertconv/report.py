"""What happened to every tensor: as a table with layers folded, as one line, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, field
from typing import Any

from bertconv.digests import digest_of_tensors
from bertconv.records import dataclass
from bertconv.text import fold, human_bytes

FROM_SOURCE = ("loaded", "tied", "computed")
"""States of a target tensor that has its values from what was read."""
FILLED = (*FROM_SOURCE, "initialised", "saved")
"""States of one that has its values."""


@dataclass(frozen=True)
class Operation:
    """What made an output.

    Attributes:
        verb: the command, such as "convert".
        options: those that shape the output and are no defaults, as JSON has them; no path and no token.
    """

    verb: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ParentReport:
    """A checkpoint that an output was made from.

    Attributes:
        role: what it was for, such as "source", "input" or "base".
        given: its Hub id, or the last part of its path.
        commit: on the Hub.
        digest: of the whole model; empty where nothing was verified.
        backbone_digest: of its body alone (`digests.backbone_ids`), likewise.
    """

    role: str
    given: str
    commit: str | None = None
    digest: str = ""
    backbone_digest: str = ""


@dataclass(frozen=True)
class TensorReport:
    """One target tensor.

    Attributes:
        id: neutral id, the same in every format.
        source: name in the source; empty when it was initialised or computed, or is missing.
        target: name in the target.
        state: "loaded", "tied", "computed" (from tensors of the inputs), "initialised", "missing" (allowed by an ignore
            list) or "saved" (from memory).
        dtype: element type in the target.
        shape: sizes in PyTorch's order.
        details: what was done to it.
        digest: sha256 of type, shape and elements in PyTorch's order; empty when nothing was verified.
        transposed: the target's file holds the transpose of PyTorch's matrix.
        cast: of a tensor whose numbers were given another type: how many were `rounded`, how many of these `flushed` to
            zero, and how many are now `subnormal`.
        stored: sizes in the target's file, where it keeps an axis as several, such as heads and the size of a head.
    """

    id: str
    source: str
    target: str
    state: str
    dtype: str
    shape: tuple[int, ...]
    details: str = ""
    digest: str = ""
    transposed: bool = False
    cast: dict[str, int] | None = None
    stored: tuple[int, ...] | None = None


@dataclass(frozen=True)
class LeftOut:
    """A source tensor that was not loaded.

    Attributes:
        source: its name.
        state: "tied", "unused", "ignored", "unknown", "outside", or "lost": the target has no place for it.
        details: why.
        inside: it is a part of the model that is lost or that no table knows: without it the model is another one.
    """

    source: str
    state: str
    details: str
    inside: bool = False


@dataclass(frozen=True)
class Report:
    """The outcome of one conversion, or of another command that makes an output.

    Attributes:
        source: what was read: `given`, `container`, `dialect`, `prefix`, `files`, `revision`.
        target: what was written: `folder`, `format`, `files`.
        head: the model class; `equals` are the classes that fit the same tensors.
        tensors: every target tensor.
        left_out: every source tensor that was not loaded.
        notes: what is unusual, one sentence each.
        sidecars: tokenizer and label files that were carried along; `not_carried` are the other files of the source.
        copies: ids of the tensors that the target's files hold beside those of the model: tied copies, and what their
            programs make although the class does not compute with it.
        parameters: number of elements written, copies aside.
        nbytes: bytes of weights written.
        seconds: wall-clock time without the comparison of outputs.
        outputs_seconds: wall-clock time of that comparison; 0 where outputs were not compared.
        verified: "none", "weights" when every tensor was read back and compared, "outputs" when the rebuilt model
            gave the source's outputs as well.
        parity: the certificate of the outputs, as in bertconv.json; empty when they were not compared.
        dry_run: nothing was written.
        operation: what made the output.
        parents: the checkpoints that it was made from, as in bertconv.json; `source` is the first of them.
        backbone_digest: digest of the model's body alone; empty when nothing was verified.
        computes: which function each side computes, and under which word; empty where it is the same under the same.
        vocabulary: number of tokens and digest of its tokenizer's vocabulary; None where no file lists them.
        part: "head" where the output is the head of a model alone; `backbone_digest` is then that of its source.
        stated: neutral id -> digest of every tensor of the class as the output is read, where its files hold more than
            these, or some in another form; empty elsewhere.
    """

    source: dict[str, Any]
    target: dict[str, Any]
    head: str
    equals: tuple[str, ...]
    tensors: tuple[TensorReport, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    sidecars: tuple[str, ...] = ()
    not_carried: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    parameters: int = 0
    nbytes: int = 0
    seconds: float = 0.0
    outputs_seconds: float = 0.0
    verified: str = "none"
    dry_run: bool = False
    table: dict[str, str] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    operation: Operation = Operation("")
    parents: tuple[ParentReport, ...] = ()
    backbone_digest: str = ""
    computes: dict[str, Any] = field(default_factory=dict)
    vocabulary: dict[str, Any] | None = None
    part: str = ""
    stated: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Every target tensor got its values from the source."""
        return all(tensor.state in FROM_SOURCE for tensor in self.tensors)

    @property
    def omitted(self) -> tuple[str, ...]:
        """Parts of the source's model that were left out: the output is the same as the rest of it."""
        return tuple(one.source for one in self.left_out if one.inside)

    @property
    def lost(self) -> tuple[str, ...]:
        """Those of them that the target has no place for."""
        return tuple(one.source for one in self.left_out if one.state == "lost")

    @property
    def coverage(self) -> float:
        """Part of the target tensors that got their values from the source, from 0 to 1."""
        filled = sum(tensor.state in FROM_SOURCE for tensor in self.tensors)
        return filled / len(self.tensors) if self.tensors else 0.0

    @property
    def cast(self) -> dict[str, int] | None:
        """The sum of what casts changed, and how many `tensors` and `numbers` were cast; None where none was."""
        counted = [(one, one.cast) for one in self.tensors if one.cast is not None]
        if not counted:
            return None
        totals = {key: sum(cast[key] for _, cast in counted) for key in ("rounded", "flushed", "subnormal")}
        return {"tensors": len(counted), "numbers": sum(math.prod(one.shape) for one, _ in counted), **totals}

    @property
    def digest(self) -> str:
        """One digest for the whole model, from the tensors' ids and digests; empty when nothing was verified.

        It leaves out `copies`, which only some formats store: the same weights have the same digest in every format.
        """
        own = {tensor.id: tensor.digest for tensor in self.tensors if tensor.id not in self.copies}
        return digest_of_tensors(self.stated or own)

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        derived = {"ok": self.ok, "coverage": self.coverage, "digest": self.digest, "omitted": list(self.omitted)}
        derived["lost"] = list(self.lost)
        facts = asdict(self)
        del facts["stated"]
        return facts | derived | {"cast": self.cast}

    def rows(self, *, but: str = "", every: bool = False) -> Iterator[tuple[str, str, str]]:
        """Key, status and details; what was left out comes last.

        Args:
            but: leave out the tensors of this state.
            every: one row a tensor; without, layers are folded.
        """
        lines = [(one.source or one.target, one.state, _details(one, counts=every)) for one in self.tensors]
        lines += [(one.source, one.state, one.details) for one in self.left_out]
        lines = [line for line in lines if line[1] != but]
        if every:
            yield from lines
            return
        by_name = {name: (state, details) for name, state, details in lines}
        for folded, names in fold(by_name).items():
            states = {by_name[name][0] for name in names}
            if len(states) > 1:
                yield from ((name, *by_name[name]) for name in names)
            else:
                yield folded, states.pop(), " / ".join(fold(by_name[name][1] for name in names))

    def functions(self) -> str:
        """Which function each side computes, in one line; empty where it is the same under the same word."""
        if not self.computes:
            return ""
        sides = (self.computes["source"], self.computes["target"])
        source, target = (_function(side, sides) for side in sides)
        return f"{source} -> {target}"

    def summary(self) -> str:
        """One line: how much, how fast, and whether anything was lost."""
        done = sum(tensor.state in FILLED for tensor in self.tensors)
        line = f"{done}/{len(self.tensors)} tensors, {self.parameters:,} parameters, {human_bytes(self.nbytes)}"
        if self.dry_run:
            return f"{line} would be written, {self._losses()}"
        speed = human_bytes(self.nbytes / self.seconds) if self.seconds else "0 B"
        checked = "not verified, " if self.verified == "none" else "every tensor read back and equal, "
        compared = f"; outputs compared in {self.outputs_seconds:.1f} s" if self.outputs_seconds else ""
        return f"{line} in {self.seconds:.1f} s ({speed}/s), {checked}{self._losses()}{compared}"

    def _losses(self) -> str:
        counts = {
            "newly initialised": sum(tensor.state == "initialised" for tensor in self.tensors),
            "missing": sum(tensor.state == "missing" for tensor in self.tensors),
            "lost": len(self.lost),
            "left out": sum(
                one.state != "lost" and (one.state not in ("tied", "ignored") or one.inside) for one in self.left_out
            ),
        }
        said = [f"{count} {what}" for what, count in counts.items() if count]
        if unknown := len(self.omitted) - len(self.lost):
            said[-1] += f", {unknown} of them a part of the model"
        said += _changes(self.cast, whole=True)
        return " and ".join(said) if said else "nothing lost"


def _function(side: Mapping[str, Any], both: tuple[Mapping[str, Any], ...]) -> str:
    """`TensorFlow 1 computes gelu_new ("gelu" in its config), layer_norm_eps 1e-12`: the latter where both differ."""
    act, *others = (key for key in side if key not in ("program", "said"))
    word = f' ("{side["said"]}" in its config)' if side["said"] != side[act] else ""
    more = [f"{key} {side[key]:g}" for key in others if both[0][key] != both[1][key]]
    return ", ".join([f"{side['program']} computes {side[act]}{word}", *more])


def _details(tensor: TensorReport, *, counts: bool) -> str:
    """What was done to it; the counts of a cast differ from layer to layer, so that no layers could be folded."""
    said = [f"-> {tensor.target}", *([tensor.details] if tensor.details else [])]
    return ", ".join(said + (_changes(tensor.cast) if counts else []))


def _changes(cast: dict[str, int] | None, *, whole: bool = False) -> list[str]:
    """`1,234 of 5,000 numbers rounded (3 of them to zero, 40 subnormal)`; nothing where every value is what it was."""
    if cast is None or not (cast["rounded"] or cast["subnormal"]):
        return []
    names = {"flushed": "of them to zero", "subnormal": "subnormal"}
    small = ", ".join(f"{cast[key]:,} {name}" for key, name in names.items() if cast[key])
    of = f" of {cast['numbers']:,} numbers" if whole else ""
    return [f"{cast['rounded']:,}{of} rounded" + (f" ({small})" if small else "")]
