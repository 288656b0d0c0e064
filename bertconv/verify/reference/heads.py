"""What each task makes of the last hidden states, and which weights that takes."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bertconv import tasks
from bertconv.errors import MissingTensors, RequestError, ShapeMismatch
from bertconv.verify.reference.encoder import is_relative
from bertconv.verify.reference.family import LOOKUPS, Act, Family, Head, Linear, Step, Values
from bertconv.verify.reference.modules import Modules, State

Outputs = dict[str, torch.Tensor]


def head_outputs(run: Modules, head: Head, task: str, hidden: torch.Tensor) -> Outputs:
    """The outputs of a head, by transformers' names, from the last hidden states `[batch sequence hidden]`."""
    starts = {"every": hidden, "first": hidden[:, 0]}
    if _has_pooled(run, head):
        starts["pooled"] = _through(run, head.pooled, starts["first"])
    made = {
        name: _through(run, output.steps, starts[output.start])
        for name, output in head.outputs.items()
        if output.start in starts
    }
    if task == tasks.QUESTION_ANSWERING:
        return _answer(made["logits"])
    return {"logits": made["logits"].squeeze(-1)} if task == tasks.DISCRIMINATOR else made


def _has_pooled(run: Modules, head: Head) -> bool:
    return not head.optional or all(run.has(step.name) for step in head.pooled if isinstance(step, Linear))


def _through(run: Modules, steps: tuple[Step, ...], x: torch.Tensor) -> torch.Tensor:
    for step in steps:
        if isinstance(step, Act):
            x = run.activated(step.name, x)
        elif not isinstance(step, Linear):
            x = run.norm(step.name, x)
        elif step.used:
            x = run.linear(step.name, x)
    return x


def _answer(scores: torch.Tensor) -> Outputs:
    if scores.shape[-1] != 2:
        raise ShapeMismatch(
            f"question answering has two outputs, start and end, and this one has {scores.shape[-1]}.",
            hint="Name the model class that the weights were trained as.",
        )
    start, end = scores.unbind(-1)
    return {"start_logits": start, "end_logits": end}


def has_cross_attention(family: Family, config: Values) -> bool:
    """Whether a decoder attends to an encoder's states."""
    return "layer.cross_query" in family.names and bool(config["is_decoder"] and config["add_cross_attention"])


def complete(state: State, family: Family, config: Values, head: Head) -> State:
    """The weights with the tied ones in their places, once it is clear that all are there.

    The decoder's own weights count where the config unties them. Otherwise, and where they are absent, what they are
    tied to stands in.

    Raises:
        MissingTensors: a weight that every forward pass uses is absent.
        RequestError: the weights are of several element types.
    """
    found = dict(state)
    is_tied = bool(config["tie_word_embeddings"])
    own = {step.name for step in head.modules()}
    for copy, original in family.ties.items():
        if copy.rpartition(".")[0] not in own:
            continue
        if original in found and (is_tied or copy not in found):
            found[copy] = found[original]
        elif copy in found and is_tied:
            found[original] = found[copy]
    needed = list(_needed(family, config, head, found))
    absent = list(dict.fromkeys(family.ties.get(name, name) for name in needed if name not in found))
    if absent:
        raise MissingTensors(
            f"is not among the weights{f', nor are {len(absent) - 1} others' if absent[1:] else ''}.",
            hint="Check that the checkpoint is whole, and that its config and its model class are its own.",
            tensor=absent[0],
        )
    kinds = {found[name].dtype for name in needed}
    if len(kinds) > 1 or not all(kind.is_floating_point for kind in kinds):
        raise RequestError(
            f"the weights are of {', '.join(sorted(map(str, kinds)))}.",
            hint="Cast all of them to one floating-point type.",
        )
    return found


def _needed(family: Family, config: Values, head: Head, state: State) -> Iterator[str]:
    """Names of the weights that every forward pass uses."""
    for role in family.names:
        if role == "layer" or not _has(family, config, role):
            continue
        layers = [numbers for layer in family.order(config) for numbers in layer] if role.startswith("layer.") else [()]
        for numbers in dict.fromkeys(layers):
            yield from _weights(family.place(role, numbers), has_bias=role not in LOOKUPS)
    pooled = {step.name for step in head.pooled if isinstance(step, Linear)} if head.optional else set()
    absent = {module for module in pooled if not {f"{module}.weight", f"{module}.bias"} & state.keys()}
    for step in head.modules():
        if step.name not in absent and (not isinstance(step, Linear) or step.used):
            yield from _weights(step.name, has_bias=True)


def _has(family: Family, config: Values, role: str) -> bool:
    """Whether modules of a role are used under this config."""
    if role == "project":
        return family.projects(config)
    if role in ("position", "layer.distance"):
        return is_relative(family, config) == (role == "layer.distance")
    return not role.startswith("layer.cross_") or has_cross_attention(family, config)


def _weights(module: str, *, has_bias: bool) -> Iterator[str]:
    yield f"{module}.weight"
    if has_bias:
        yield f"{module}.bias"
