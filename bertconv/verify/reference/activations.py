"""What each name in `hidden_act` means, in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import torch
from torch.nn import functional

from bertconv.errors import UnsupportedCheckpoint

Activation = Callable[[torch.Tensor], torch.Tensor]


def activation(name: str) -> Activation:
    """The activation that `hidden_act` names; it works element by element and keeps the element type.

    Raises:
        UnsupportedCheckpoint: the name is unknown, or the activation has parameters of its own (prelu, xielu).
    """
    if name not in ACTIVATIONS:
        raise UnsupportedCheckpoint(
            f"activation {name!r} is unknown or has parameters of its own.",
            hint=f"Known are {', '.join(sorted(ACTIVATIONS))}.",
        )
    return ACTIVATIONS[name]


_gelu_tanh = partial(functional.gelu, approximate="tanh")


def _gelu_10(x: torch.Tensor) -> torch.Tensor:
    return functional.gelu(x).clamp(-10.0, 10.0)


def _gelu_fast(x: torch.Tensor) -> torch.Tensor:
    """Gelu's tanh form, √(2/π) cut to ten digits as the checkpoints of that name were trained."""
    return 0.5 * x * (1.0 + torch.tanh(0.7978845608 * x * (1.0 + 0.044715 * x * x)))


def _quick_gelu(x: torch.Tensor) -> torch.Tensor:
    """Gelu as a sigmoid: x sigmoid(1.702 x) (Hendrycks and Gimpel, arXiv:1606.08415)."""
    return x * torch.sigmoid(1.702 * x)


def _laplace(x: torch.Tensor) -> torch.Tensor:
    """Φ((x - 0.707107) / 0.282095), which stands in for relu² (Ma and others, arXiv:2209.10655)."""
    return 0.5 * (1.0 + torch.erf((x - 0.707107) / (0.282095 * math.sqrt(2.0))))


def _linear(x: torch.Tensor) -> torch.Tensor:
    return x


def _relu2(x: torch.Tensor) -> torch.Tensor:
    return torch.square(torch.relu(x))


def _sqrt_softplus(x: torch.Tensor) -> torch.Tensor:
    return torch.sqrt(functional.softplus(x))


ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "gelu": functional.gelu,
        "gelu_10": _gelu_10,
        "gelu_accurate": _gelu_tanh,
        "gelu_fast": _gelu_fast,
        "gelu_new": _gelu_tanh,
        "gelu_python": functional.gelu,
        "gelu_python_tanh": _gelu_tanh,
        "gelu_pytorch_tanh": _gelu_tanh,
        "hardswish": functional.hardswish,
        "laplace": _laplace,
        "leaky_relu": functional.leaky_relu,
        "linear": _linear,
        "mish": functional.mish,
        "quick_gelu": _quick_gelu,
        "relu": torch.relu,
        "relu2": _relu2,
        "relu6": functional.relu6,
        "sigmoid": torch.sigmoid,
        "silu": functional.silu,
        "sqrtsoftplus": _sqrt_softplus,
        "swish": functional.silu,
        "tanh": torch.tanh,
    }
)
"""By their names in configs; `bertconv.config.ACTIVATIONS` is the same set."""
