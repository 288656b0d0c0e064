"""Findings about the config: what it lacks, where the tensors contradict it, and what KerasHub does not read of it."""

from __future__ import annotations

from collections.abc import Iterator

from bertconv.config.content import CONFIG_FILES
from bertconv.containers.stored import FLOATS, ITEM_SIZE
from bertconv.manage.doctor.patient import ERROR, NOTE, WARNING, Finding, Patient
from bertconv.manage.doctor.programs import EVERY, KERASHUB, KERASHUB_FIXED, ON_TORCH, TRANSFORMERS_5, Fixed
from bertconv.mapping.heads import ROWS_WIN
from bertconv.mapping.meaning import kind_of
from bertconv.source import mounts, preset
from bertconv.source.sidecars import CONFIGS
from bertconv.text import shown

_LABELS = "num_labels"
_ELSEWHERE = "Load it with bertconv's or transformers' classes."
_COARSE = 1e-4
"""An epsilon that is farther off than this changes outputs by more than the rounding of 16 bits does."""

_CONFIG = CONFIG_FILES[0]
"""Name of the config that transformers reads."""


def check(patient: Patient) -> Iterator[Finding]:
    """Findings about the config."""
    source = patient.source
    if source.config is None or _is_only_given(patient):
        yield Finding(
            "no-config", ERROR, EVERY,
            "there is no config.json: transformers' classes take default sizes, its automatic ones refuse it, and "
            "the number of attention heads and the activation cannot be seen in the tensors.",
            patient.convert(),
            advice="Copy the config of the model that it was trained from beside it, or give one with --config FILE.",
        )  # fmt: skip
    if source.config is None:
        return
    is_own = source.config.parent == source.folder
    if is_own and source.config.name not in {_CONFIG, preset.CONFIG}:
        yield Finding(
            "config-name", ERROR, EVERY,
            f"the config is called {source.config.name}, and programs read {_CONFIG} alone: transformers' "
            "classes take their default sizes and activation instead.",
            patient.convert(),
        )  # fmt: skip
    if patient.config is not None and not patient.config.says("model_type"):
        yield Finding(
            "no-model-type", WARNING, (*ON_TORCH, KERASHUB.key),
            "the config has no model_type: transformers' automatic classes and KerasHub refuse it.",
            patient.convert(),
        )  # fmt: skip
    yield from _sizes(patient)
    yield from _types(patient)
    yield from _kerashub(patient)


def _is_only_given(patient: Patient) -> bool:
    """Whether the user gave a config and there is none beside the weights, as far as that can be seen."""
    source = patient.source
    if source.config is None or source.revision is not None or source.config.parent == source.folder:
        return False
    return not any(mounts.is_file(source.folder, name) for name in CONFIGS)


def _sizes(patient: Patient) -> Iterator[Finding]:
    """Sizes of the config that the shapes contradict."""
    found = patient.inspection
    for key, stated in found.config.items():
        seen = found.sizes[key]
        if key == _LABELS:
            says = patient.config is not None and patient.config.says(key)
            told = f"the config says {stated} labels" if says else "the config says nothing of labels, which means 2"
            name, message = "label-rows", f"{told}, and the head has {seen} rows"
        elif key in ROWS_WIN:
            says = False
            name, message = (
                "vocabulary-rows",
                f"{key} is {stated} in the config, and the embedding table has {seen} rows",
            )
        else:
            says = True
            name, message = "config-sizes", f"{key} is {stated} in the config and {seen} by the shapes"
        yield Finding(
            name, ERROR, EVERY, f"{message}: transformers and KerasHub refuse to load it.",
            "" if says else patient.convert(),
            advice=f"Set {key} to {seen} in {_CONFIG}, or give the config that belongs to it."
            if says and key != _LABELS
            else f"Name {seen} labels under id2label in {_CONFIG}, or give the config that belongs to it."
            if says
            else "",
        )  # fmt: skip


def _types(patient: Patient) -> Iterator[Finding]:
    """Element types: several of them, and another one in the config."""
    types = patient.types
    if not types:
        return
    retype = patient.convert("--dtype", patient.widest)
    if len(types) > 1:
        yield Finding(
            "mixed-types", WARNING, ON_TORCH,
            f"the tensors are of several types ({', '.join(types)}): transformers gives all of them one.",
            retype,
        )  # fmt: skip
    said = patient.raw.get("dtype", patient.raw.get("torch_dtype"))
    if said in FLOATS and said not in types:
        rounds = ITEM_SIZE[said] < max(ITEM_SIZE[one] for one in types)
        does = "rounds every number on loading" if rounds else "loads it so, in more memory"
        yield Finding(
            "config-type", WARNING if rounds else NOTE, (TRANSFORMERS_5.key,),
            f"the config says {said} and the tensors are {', '.join(types)}: transformers 5 {does}.", retype,
        )  # fmt: skip


def _kerashub(patient: Patient) -> Iterator[Finding]:
    """What KerasHub makes of a file that it reads: what it cannot load, or else what it computes with."""
    table, config, identity = patient.table, patient.config, patient.identity
    fixed = KERASHUB_FIXED.get(table.model_type) if table is not None else None
    if config is None or table is None or identity is None or fixed is None:
        return
    if KERASHUB.reads(patient.names) is None or patient.dialect != patient.dialects.reference:
        return
    pooler = table.optional.get(table.base_head, ())
    segments = config.values.get("type_vocab_size")
    if fixed.pooler and not any(identity.specs[one].group in pooler for one in identity.by_id):
        yield _not_loaded("kerashub-pooler", "it looks for a pooler, and the file has none")
    elif fixed.segments is not None and segments != fixed.segments:
        why = f"type_vocab_size is {shown(segments)}, and it takes {fixed.segments} for it whatever the config says"
        yield _not_loaded("kerashub-segments", why)
    else:
        yield from _activation(str(config.values["hidden_act"]), fixed)
        yield from _epsilon(float(config.values["layer_norm_eps"]), fixed)


def _not_loaded(name: str, why: str) -> Finding:
    return Finding(name, NOTE, (KERASHUB.key,), f"KerasHub cannot load it: {why}.", advice=_ELSEWHERE)


def _epsilon(stated: float, fixed: Fixed) -> Iterator[Finding]:
    if stated != fixed.epsilon:
        yield Finding(
            "kerashub-epsilon", WARNING if abs(stated - fixed.epsilon) > _COARSE else NOTE, (KERASHUB.key,),
            f"layer_norm_eps is {stated:g} and KerasHub computes with {fixed.epsilon:g}, whatever the config says: its "
            "outputs differ.",
            advice=_ELSEWHERE,
        )  # fmt: skip


def _activation(stated: str, fixed: Fixed) -> Iterator[Finding]:
    kinds = (kind_of(stated), kind_of(fixed.activation))
    if kinds[0] == kinds[1]:
        return
    is_close = all(kind.startswith("gelu") for kind in kinds)
    yield Finding(
        "kerashub-activation", NOTE if is_close else WARNING, (KERASHUB.key,),
        f"hidden_act is {stated!r} and KerasHub computes with {fixed.activation}, whatever the config says: its "
        + ("outputs are off by about 0.001." if is_close else "outputs are wrong."),
        advice=_ELSEWHERE,
    )  # fmt: skip
