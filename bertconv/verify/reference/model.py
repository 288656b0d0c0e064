"""BERT's forward pass in plain PyTorch functions, straight from the tensors of a file: what others are held to.

Written against PyTorch's names and the published formulas (Devlin and others, arXiv:1810.04805; Vaswani and others,
arXiv:1706.03762), apart from the tables and the Keras classes, so that a mistake there is not repeated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from bertconv.errors import RequestError
from bertconv.verify.reference.activations import activation
from bertconv.verify.reference.encoder import encode
from bertconv.verify.reference.heads import HEADS, complete, has_cross_attention
from bertconv.verify.reference.modules import Modules, State, Watch

_FLATTENED = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
_CROSS = ("encoder_hidden_states", "encoder_attention_mask")


class Reference:
    """A BERT that computes in the element type of its weights, without dropout, and can be differentiated.

    Args:
        state: weights by the names that `canonical_names` gives, all of one floating-point type; others are ignored.
        config: keys and values with BERT's defaults filled in, as `BertConfig.values`.
        head: one of the nine model classes.

    Raises:
        RequestError: no such class, or the weights are of several element types.
        UnsupportedCheckpoint: an unknown activation.
        MissingTensors: a weight is absent.
    """

    def __init__(self, state: State, config: Mapping[str, Any], head: str) -> None:
        if head not in HEADS:
            raise RequestError(f"no model class is called {head!r}.", hint=f"There are {', '.join(HEADS)}.")
        activation(config["hidden_act"])
        self._config, self._head, self._has_choices = config, HEADS[head], head == "BertForMultipleChoice"
        self._state = complete(state, config, self._head)

    def __call__(
        self, inputs: Mapping[str, torch.Tensor], watch: Watch | None = None
    ) -> dict[str, torch.Tensor | tuple[torch.Tensor, ...]]:
        """Run it.

        Args:
            inputs: `input_ids` `[batch sequence]` (for multiple choice `[batch choices sequence]`) and, each of them
                optional, `attention_mask` of that shape or `[batch queries keys]`, `token_type_ids`, `position_ids`;
                for a decoder with cross-attention `encoder_hidden_states` `[batch keys hidden]` and
                `encoder_attention_mask`. In masks, anything but 0 means "may look"; a mask that tells queries apart
                takes the place of a decoder's rule that nobody looks ahead.
            watch: is told of every embedding, linear layer and layer norm in order of execution.

        Returns:
            Outputs under transformers' names; always `hidden_states` (embeddings, then every layer) and `attentions`
            `[batch heads queries keys]`, and `cross_attentions` where an encoder's states were given. Choices are part
            of the batch in these three.

        Raises:
            RequestError: an input that this model has no use for, or no `input_ids`.
            ShapeMismatch: a mask with another number of axes; question answering with other than two outputs.
        """
        _check_inputs(inputs, self._config)
        given = dict(inputs)
        if self._has_choices:
            many = {name: given[name] for name in _FLATTENED if name in given and given[name].ndim > 2}
            given |= {name: value.flatten(0, 1) for name, value in many.items()}
        run = Modules(self._state, self._config, watch)
        encoded = encode(run, given)
        outputs = self._head.outputs(run, encoded["hidden_states"][-1])
        if self._has_choices:
            outputs = {"logits": outputs["logits"].reshape(inputs["input_ids"].shape[:2])}
        return {**outputs, **encoded}


def _check_inputs(inputs: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> None:
    known = (*_FLATTENED, *(_CROSS if has_cross_attention(config) else ()))
    if unknown := [name for name in inputs if name not in known]:
        raise RequestError(f"this model has no input {unknown[0]!r}.", hint=f"Its inputs are {', '.join(known)}.")
    if "input_ids" not in inputs:
        raise RequestError("there are no input_ids.", hint="Give them, [batch, sequence].")
