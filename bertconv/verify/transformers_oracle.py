"""transformers' own PyTorch classes in place of the reference, for who wants a second witness."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bertconv.checkpoint import Checkpoint
from bertconv.errors import ParityError, UnsupportedCheckpoint
from bertconv.tasks import BASE
from bertconv.text import listing
from bertconv.verify.reference import Watch

_CACHES = ("past_key_values", "cache")
"""What a decoder's cache is called: the second name since transformers 5.24, which still reads the first until 5.40."""

OutputsOf = Callable[[Mapping[str, Any], Watch | None], Mapping[str, Any]]


def oracle_models(state: Mapping[str, Any], side: Checkpoint, dtype: str) -> tuple[OutputsOf, OutputsOf]:
    """The model and its body as functions from inputs to outputs that are called as `reference.Reference`.

    Args:
        state: the weights under canonical names.
        side: the checkpoint.
        dtype: element type to compute in.

    Raises:
        ParityError: transformers finds weights missing.
        UnsupportedCheckpoint: relative positions, which transformers 5 no longer computes.
    """
    import torch
    import transformers

    from bertconv.verify.reference import family_of

    if side.values.get("position_embedding_type", "absolute") != "absolute":
        raise UnsupportedCheckpoint(
            "has relative positions, which transformers 5 does not compute.", hint="Leave --oracle out."
        )
    made = transformers.CONFIG_MAPPING[side.table.model_type]
    config = made(**{**side.plan.config.raw, "attn_implementation": "eager"})
    pooler = any(place.startswith("pooler.") for place in side.tensors)
    keywords = {"add_pooling_layer": pooler} if "pooler" in side.table.optional.get(side.head, ()) else {}
    model = getattr(transformers, side.head)(config, **keywords).eval().to(getattr(torch, dtype))
    base = f"{side.table.base}." if side.task == BASE else ""
    missing, _ = model.load_state_dict({name.removeprefix(base): one for name, one in state.items()}, strict=False)
    model.tie_weights()
    ties = family_of(side.family).ties
    if lacking := [name for name in missing if name not in ties]:
        raise ParityError(f"transformers finds no\n{listing(lacking)}", hint="Leave --oracle out.")
    inner = int(side.values.get("inner_group_num", 1))
    return _caller(model, base, inner), _caller(model if base else getattr(model, side.table.base), base, inner)


def _caller(model: Any, base: str, inner: int = 1) -> OutputsOf:
    """A model as a function.

    Args:
        model: of transformers.
        base: what is to be put before the names of its modules.
        inner: layers within a layer, of whose states only the last one's are taken.
    """

    def call(inputs: Mapping[str, Any], watch: Watch | None) -> Mapping[str, Any]:
        hooks = _watch(model, base, watch) if watch is not None else []
        outputs = model(**inputs, output_hidden_states=True, output_attentions=True, return_dict=True)
        for hook in hooks:
            hook.remove()
        found = {name: value for name, value in outputs.items() if name not in _CACHES}
        if inner > 1:
            first, *others = found["hidden_states"]
            found["hidden_states"] = (first, *others[inner - 1 :: inner])
        return found

    return call


def _watch(model: Any, base: str, watch: Watch) -> list[Any]:
    def hook(name: str) -> Callable[..., None]:
        return lambda _module, given, returned: watch(name, given[0], returned)

    leaves = ("Linear", "LayerNorm", "Embedding")
    modules = [(name, module) for name, module in model.named_modules() if type(module).__name__ in leaves]
    return [module.register_forward_hook(hook(base + name)) for name, module in modules]
