"""The forward pass in plain PyTorch functions, straight from the tensors of a file: what others are held to.

Written against PyTorch's names and the published formulas (Vaswani and others, arXiv:1706.03762, and those that a
family's file names), apart from the tables and the Keras classes, so that a mistake there is not repeated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

from bertconv import tasks
from bertconv.config.checks import check_counted_positions
from bertconv.errors import RequestError
from bertconv.verify.reference.activations import activation
from bertconv.verify.reference.encoder import encode
from bertconv.verify.reference.family import FROM_IDS, POSITIONS, Family, Values, family_of
from bertconv.verify.reference.heads import complete, has_cross_attention, head_outputs
from bertconv.verify.reference.modules import Modules, State, Watch

_FLATTENED = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
_CROSS = ("encoder_hidden_states", "encoder_attention_mask")


class Reference:
    """A model that computes in the element type of its weights, without dropout, and can be differentiated.

    Args:
        state: weights by the names that `canonical_names` gives, all of one floating-point type; others are ignored.
        config: keys and values with the family's defaults filled in, as `Config.values`.
        task: what the model class computes, of `bertconv.tasks`.
        family: the family, by the name of its table.
        mistakes: config keys and settings of the family that are taken in place of the true ones.

    Raises:
        RequestError: no such family, no such task, or the weights are of several element types.
        UnsupportedCheckpoint: an unknown activation; positions are counted from a pad id that leaves none to a token.
        MissingTensors: a weight is absent.
    """

    def __init__(
        self, state: State, config: Values, task: str, family: str, mistakes: Values = MappingProxyType({})
    ) -> None:
        self._family, self._task = family_of(family), task
        self._config = {**config, **self._family.settings, **mistakes}
        heads = self._family.heads(self._config)
        if task not in heads:
            raise RequestError(f"no {family} model has the task {task!r}.", hint=f"There are {', '.join(heads)}.")
        activation(self._config["hidden_act"])
        if self._config.get(POSITIONS) == FROM_IDS:
            check_counted_positions(self._config["pad_token_id"], int(self._config["max_position_embeddings"]))
        self._family.check(self._config, task)
        self._head = heads[task]
        self._state = complete(state, self._family, self._config, self._head)

    def __call__(
        self, inputs: Mapping[str, torch.Tensor], watch: Watch | None = None
    ) -> dict[str, torch.Tensor | tuple[torch.Tensor, ...]]:
        """Run it.

        Args:
            inputs: `input_ids` `[batch sequence]` (for multiple choice `[batch choices sequence]`) and, each of them
                optional, `attention_mask` of that shape or `[batch queries keys]`, `token_type_ids` where the family
                has any, `position_ids`; for a decoder with cross-attention `encoder_hidden_states`
                `[batch keys hidden]` and `encoder_attention_mask`. In masks, anything but 0 means "may look"; a mask
                that tells queries apart takes the place of a decoder's rule that nobody looks ahead.
            watch: is called for every embedding, linear layer and layer norm in order of execution.

        Returns:
            Outputs under transformers' names; always `hidden_states` (embeddings, then every layer) and `attentions`
            `[batch heads queries keys]`, and `cross_attentions` where an encoder's states were given. A layer that
            shares its weights with others has an attention for each pass through them. Choices are part of the batch
            in these three.

        Raises:
            RequestError: an input that this model has no use for, or no `input_ids`.
            ShapeMismatch: a mask with another number of axes; question answering with other than two outputs.
        """
        _check_inputs(inputs, self._family, self._config)
        given = dict(inputs)
        has_choices = self._task == tasks.MULTIPLE_CHOICE
        if has_choices:
            many = {name: given[name] for name in _FLATTENED if name in given and given[name].ndim > 2}
            given |= {name: value.flatten(0, 1) for name, value in many.items()}
        run = Modules(self._state, self._config, watch)
        last, encoded = encode(run, self._family, given)
        outputs = head_outputs(run, self._head, self._task, last)
        if has_choices:
            outputs = {"logits": outputs["logits"].reshape(inputs["input_ids"].shape[:2])}
        return {**outputs, **encoded}


def _check_inputs(inputs: Mapping[str, Any], family: Family, config: Values) -> None:
    own = [name for name in _FLATTENED if name != "token_type_ids" or "segment" in family.names]
    known = (*own, *(_CROSS if has_cross_attention(family, config) else ()))
    if unknown := [name for name in inputs if name not in known]:
        raise RequestError(f"this model has no input {unknown[0]!r}.", hint=f"Its inputs are {', '.join(known)}.")
    if "input_ids" not in inputs:
        raise RequestError("there are no input_ids.", hint="Give them, [batch, sequence].")
