"""Findings about files: which of them a program takes, which it cannot, and what lies beside them."""

from __future__ import annotations

from collections.abc import Iterator

from bertconv.containers.registry import BY_NAME, CONTAINERS
from bertconv.manage.doctor.patient import NOTE, WARNING, Finding, Patient
from bertconv.manage.doctor.programs import (
    ADAPTER,
    BERTCONV,
    EVERY,
    KERASHUB,
    ON_TORCH,
    PROGRAMS,
    TENSORFLOW_4,
    TRANSFORMERS_5,
)
from bertconv.source.weights import SHARD
from bertconv.text import listed, printable, some


def check(patient: Patient) -> Iterator[Finding]:
    """Findings about files."""
    yield from _pickles(patient)
    yield from _not_found(patient)
    yield from _tensorflow(patient)
    yield from _beside(patient)


def _pickles(patient: Patient) -> Iterator[Finding]:
    """Weights, those of modules of sentence-transformers too, in a container that can hold code."""
    modules = patient.source.modules.weights if patient.source.modules else ()
    dangerous = tuple(suffix for one in CONTAINERS if one.runs_code for suffix in one.suffixes)
    pickles = [name for name in modules if name.endswith(dangerous)]
    if BY_NAME[patient.header.container].runs_code:
        pickles = [*patient.source.weights.files, *pickles]
    if pickles:
        are = "is a pickle" if len(pickles) == 1 else "are pickles"
        yield Finding(
            "pickle", WARNING, EVERY,
            f"{some(map(printable, pickles), 4)} {are}, which can run code in programs that load it carelessly: "
            "transformers takes it with torch 2.6 or newer only, its TensorFlow classes with from_pt=True only, and "
            "KerasHub not at all.",
            patient.convert(),
        )  # fmt: skip


def _not_found(patient: Patient) -> Iterator[Finding]:
    """Weights that PyTorch's programs do not find, or not under their name."""
    if TRANSFORMERS_5.reads(patient.names) is not None:
        return
    dialect = patient.dialect
    is_other = dialect is not None and dialect != patient.dialects.reference
    why = f"{dialect.title}'s file" if is_other and dialect is not None else "a name that no other program looks for"
    affects = (*ON_TORCH, KERASHUB.key) if is_other else tuple(key for key in EVERY if key != BERTCONV.key)
    looks_for = listed(TRANSFORMERS_5.files[::2])
    yield Finding(
        "tensorflow-file" if is_other else "file-name", WARNING, affects,
        f"{patient.weights} is {why}: transformers 5 raises OSError, since it finds no {looks_for}, and so does "
        "KerasHub.",
        patient.convert(),
    )  # fmt: skip


def _tensorflow(patient: Patient) -> Iterator[Finding]:
    """What 4.57's TensorFlow classes make of the file that they take."""
    dialect = patient.dialect
    if dialect is None or patient.weights not in (*TENSORFLOW_4.files, *TRANSFORMERS_5.files):
        return
    container = BY_NAME[patient.header.container]
    other = patient.dialects.of("tensorflow")
    if dialect == patient.dialects.reference:
        if not container.runs_code:
            yield Finding(
                "tensorflow-cannot-load", NOTE, (TENSORFLOW_4.key,),
                "transformers 4.57's TensorFlow classes raise TypeError for every safetensors file of PyTorch's, "
                "unless from_pt=True is given and PyTorch is installed.",
                patient.convert(to=other.name),
            )  # fmt: skip
    elif dialect == other and container.name in patient.dialects.reference.containers:
        said = patient.header.metadata.get("format")
        if said in (None, patient.dialects.reference.name):
            does = "refuse a file without it" if said is None else "take it for PyTorch's and raise TypeError"
            yield Finding(
                "metadata", WARNING, (TENSORFLOW_4.key,),
                f"the format in the file's metadata is {said!r}, and its names are {other.title}'s: transformers "
                f"4.57's TensorFlow classes {does}.",
                patient.convert(to=other.format_in(container.name)),
            )  # fmt: skip


def _beside(patient: Patient) -> Iterator[Finding]:
    """Other weights in the same folder."""
    used = {*patient.source.weights.files, patient.weights}
    rest = sorted(patient.names - used)
    shards = tuple(name for name in rest if SHARD.fullmatch(name))
    own = {name for container in CONTAINERS for name in container.names_of(None)}
    seconds = tuple(name for name in rest if name in own)
    adapters = tuple(name for name in ADAPTER if name in rest)
    if seconds:
        yield _second(patient, seconds, shards)
    elif shards:
        yield Finding(
            "stale-shards", WARNING, EVERY,
            f"{some(map(printable, shards), 4)} belong to no index: they are left from another save, and programs that "
            "take every file of weights mix them with the model.",
            patient.remove(shards), advice="Remove them where they are not wanted.",
        )  # fmt: skip
    if ADAPTER[0] in adapters:
        yield Finding(
            "adapter-beside", WARNING, ON_TORCH,
            f"{ADAPTER[0]} lies beside {patient.weights}: where peft is installed, transformers loads the adapter on "
            "top of these weights, and a second time where it is merged into them already.",
            patient.remove(adapters), advice="Remove them where they are not wanted.",
        )  # fmt: skip


def _second(patient: Patient, seconds: tuple[str, ...], shards: tuple[str, ...]) -> Finding:
    """A second file of weights, and who takes it."""
    takers: dict[str, list[str]] = {}
    for program in PROGRAMS.values():
        if program.files and (name := program.reads(patient.names)) is not None:
            takers.setdefault(name, []).append(program.title)
    said = "; ".join(f"{name} is read by {listed(titles, 'and')}" for name, titles in takers.items())
    differ = set(takers) - {patient.weights}
    how = "" if patient.deep else " (--deep compares files on their own)"
    return Finding(
        "second-weights", WARNING if differ else NOTE, EVERY,
        f"{some(seconds)} beside {patient.weights}: {said}; where they are not the same model, programs disagree{how}.",
        patient.remove((*seconds, *shards)), advice="Keep the one that you want.",
    )  # fmt: skip
