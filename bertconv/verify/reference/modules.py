"""Embeddings, linear maps and normalisation by the names of their weights, each telling what goes in and comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional

from bertconv.verify.reference.activations import activation

State = Mapping[str, torch.Tensor]
"""Weights by their PyTorch names."""

Watch = Callable[[str, torch.Tensor, torch.Tensor], None]
"""Is called for each module with its name, with its input and its output."""


class Modules:
    """The modules of one forward pass, by their names; each tells the watch what went in and what came out.

    Attributes:
        config: as `Reference` has it, with what the family fixes.
        activation: the one between the linear layers.
    """

    def __init__(self, state: State, config: Mapping[str, Any], watch: Watch | None) -> None:
        self.config = config
        self.activation = activation(config["hidden_act"])
        self._state = state
        self._watch = watch

    def activated(self, name: str | None, x: torch.Tensor) -> torch.Tensor:
        """Through the activation of this name, or through that of the config."""
        return self.activation(x) if name is None else activation(name)(x)

    def has(self, name: str) -> bool:
        """Whether there is a module of this name."""
        return f"{name}.weight" in self._state

    def embedding(self, name: str, ids: torch.Tensor, padding: int | None = None) -> torch.Tensor:
        """The rows of a table, `[... dim]` for ids `[...]`; that of the padding, if there is one, gets no gradient."""
        table = self._state[f"{name}.weight"]
        row = padding if padding in range(-len(table), len(table)) else None
        return self._reported(name, ids, functional.embedding(ids, table, padding_idx=row))

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """A linear map of the last axis: `[... out]` for `[... in]`."""
        return self._reported(name, x, functional.linear(x, *self._affine(name)))

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Layer normalisation of the last axis (Ba and others, arXiv:1607.06450)."""
        epsilon = float(self.config["layer_norm_eps"])
        return self._reported(name, x, functional.layer_norm(x, x.shape[-1:], *self._affine(name), epsilon))

    def _affine(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return self._state[f"{name}.weight"], self._state[f"{name}.bias"]

    def _reported(self, name: str, given: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        if self._watch is not None:
            self._watch(name, given, found)
        return found
