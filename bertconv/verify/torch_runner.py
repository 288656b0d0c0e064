"""PyTorch's side: `reference` on the tensors of a file, or transformers' own classes where they are asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bertconv.checkpoint import Checkpoint, Tensor
from bertconv.containers.stored import FLOATS, StoredTensor
from bertconv.errors import RequestError
from bertconv.formats.streaming import Workspace, pieces
from bertconv.tasks import BASE
from bertconv.verify.cases import IDS, Batch
from bertconv.verify.places import Array, Passes, Tell, placed

OutputsOf = Callable[[Mapping[str, Any], Any], Mapping[str, Any]]


class TorchRunner:
    """Runs a checkpoint with PyTorch's names.

    Args:
        side: the checkpoint.
        rounding: neutral id -> element type that its tensor is rounded to before anything is computed.
        oracle: "reference" (bertconv's own forward pass) or "transformers".

    Raises:
        RequestError: what is asked for is not installed.
    """

    def __init__(self, side: Checkpoint, rounding: Mapping[str, str], oracle: str = "reference") -> None:
        for module, needed in (("torch", True), ("transformers", oracle == "transformers")):
            if needed and importlib.util.find_spec(module) is None:
                raise RequestError(
                    f"{module} is not installed, and the outputs of PyTorch weights are computed with it.",
                    hint=f"Install it (`pip install {module}`), or compare weights alone.\n"
                    "That is --level weights, and --verify weights in a conversion.",
                )
        import torch

        self.side = side
        self.oracle = oracle
        self._rounding = {
            id(tensor.stored): rounding[place] for place, tensor in side.tensors.items() if place in rounding
        }
        self._modules = _neutral_names(side)
        self.framework = (
            f"{'reference' if oracle == 'reference' else _transformers_name()} on torch {torch.__version__}"
        )

    def run(self, dtype: str, batches: Sequence[Batch], tell: Tell) -> None:
        """Every batch in this element type, and all that is to be seen of it."""
        import torch

        call, body = self._models(dtype)
        with torch.inference_mode():
            for number, batch in enumerate(batches):
                inputs = _tensors(batch.inputs, dtype)
                if batch.deep:
                    _tell_outputs(call(inputs, _Watch(self._modules, number, tell)), number, tell)
                else:
                    flat = {name: one.flatten(0, -2) if name in IDS else one for name, one in inputs.items()}
                    _tell_outputs({"hidden_states": body(flat, None)["hidden_states"]}, number, tell)

    def gradients(self, batch: Batch, weigh: Callable[[str, tuple[int, ...]], Array]) -> dict[str, Array]:
        """Gradient of the weighted sum of the outputs in every tensor, by neutral id, in PyTorch's order, in float64.

        Args:
            batch: the inputs.
            weigh: gives the weights of an output by its name and shape.
        """
        import torch

        from bertconv.verify.reference import Reference

        state = {name: value.requires_grad_() for name, value in self._state("float64").items()}
        run = Reference(state, self.side.values, self.side.task, self.side.family)
        outputs = run(_tensors(batch.inputs, "float64"))
        parts = [
            (value * torch.from_numpy(weigh(name, tuple(value.shape)))).sum()
            for name, value in outputs.items()
            if isinstance(value, torch.Tensor)
        ]
        torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]
        return {
            place: state[name].grad.numpy()
            for place, name in self.side.torch_names.items()
            if name in state and state[name].grad is not None
        }

    def _models(self, dtype: str) -> tuple[OutputsOf, OutputsOf]:
        """The model and its body, as functions from inputs and a watch to outputs."""
        state = self._state(dtype)
        if self.oracle == "transformers":
            from bertconv.verify.transformers_oracle import oracle_models

            found: tuple[OutputsOf, OutputsOf] = oracle_models(state, self.side, dtype)
            return found
        from bertconv.verify.reference import Reference

        values, family = self.side.values, self.side.family
        return Reference(state, values, self.side.task, family), Reference(state, values, BASE, family)

    def _state(self, dtype: str) -> dict[str, Any]:
        """The tensors under PyTorch's own names: of PyTorch's file without any mapping table, of others through it."""
        from bertconv.verify.reference import canonical_names

        if self.side.spoken.declared:  # no program of PyTorch knows its names
            names = self.side.torch_names
            return {names[place]: self._turned(tensor, dtype) for place, tensor in self.side.tensors.items()}
        outside = {tensor.name for tensor in self.side.identity.outside}
        inside = (tensor for tensor in self.side.header.tensors if tensor.name not in outside)
        stored = {tensor.name: tensor for tensor in inside if tensor.dtype in FLOATS}
        names = canonical_names(stored, self.side.family)
        return {name: self._read(stored[own], dtype) for own, name in names.items()}

    def _read(self, stored: StoredTensor, dtype: str) -> Any:
        return self._of(pieces(stored, None, Workspace()), stored, stored.shape, dtype)

    def _turned(self, tensor: Tensor, dtype: str) -> Any:
        return self._of(tensor.elements(Workspace()), tensor.stored, tensor.spec.canonical.shape, dtype)

    def _of(self, elements: Iterable[Any], stored: StoredTensor, shape: tuple[int, ...], dtype: str) -> Any:
        """A tensor from its elements, rounded as is asked."""
        import torch

        parts = [torch.from_numpy(piece.copy()) for piece in elements]
        flat = parts[0] if len(parts) == 1 else torch.cat(parts or [torch.empty(0, dtype=torch.uint8)])
        found = flat.view(getattr(torch, stored.dtype)).reshape(shape)
        if (through := self._rounding.get(id(stored))) is not None:
            found = found.to(getattr(torch, through))
        return found.to(getattr(torch, dtype))


def _neutral_names(side: Checkpoint) -> dict[str, str]:
    """PyTorch's name of a module -> its neutral name."""
    return {name.rpartition(".")[0]: place.rpartition(".")[0] for place, name in side.torch_names.items()}


class _Watch:
    """Passes on what a module was given and what it returned."""

    def __init__(self, modules: Mapping[str, str], batch: int, tell: Tell) -> None:
        self._modules = modules
        self._batch = batch
        self._tell = tell
        self._passes = Passes()

    def __call__(self, module: str, given: Any, returned: Any) -> None:
        if (name := self._modules.get(module)) is None:
            return
        before, after = self._passes.places(name)
        if before is not None:
            self._tell(self._batch, before, as_array(given))
        self._tell(self._batch, after, as_array(returned))


def as_array(tensor: Any) -> Array:
    """A tensor as numpy has it; half precision, which numpy lacks in part, as float32."""
    import torch

    detached = tensor.detach()
    if detached.dtype in (torch.bfloat16, torch.float16):
        detached = detached.float()
    found: Array = detached.numpy()
    return found


def _tell_outputs(outputs: Mapping[str, Any], batch: int, tell: Tell) -> None:
    for place, value in placed(outputs):
        tell(batch, place, as_array(value))


def _tensors(inputs: Mapping[str, Array], dtype: str) -> dict[str, Any]:
    import torch

    made = {name: torch.from_numpy(value) for name, value in inputs.items()}
    return {name: one.to(getattr(torch, dtype)) if one.is_floating_point() else one for name, one in made.items()}


def _transformers_name() -> str:
    from importlib.metadata import version

    return f"transformers {version('transformers')}"
