"""What every head has: a body, layers of its own behind it, and the way from inputs to outputs and loss."""

from __future__ import annotations

import types
from typing import Any, ClassVar

import tensorflow as tf

from bertconv import tasks
from bertconv.models.outputs import ModelOutput
from bertconv.models.pretrained import TFPreTrainedModel
from bertconv.models.settings import Settings


class Base(TFPreTrainedModel):
    """A family's model without a head; with a pooler, where the family has one, unless `add_pooling_layer` is False."""

    task = tasks.BASE
    is_cached = True
    call_doc = """last_hidden_state: `[batch sequence hidden]`, pooler_output: `[batch hidden]`; see the main layer."""

    def __init__(self, config: Any, add_pooling_layer: bool = True, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.make_body(add_pooling_layer=add_pooling_layer)
        self.post_init()

    def forward(self, **given: Any) -> Any:
        """What `call` does."""
        return self.body(**given)

    def get_config(self) -> dict[str, Any]:
        """The config as a dict, and under `keras` how the Keras model was made."""
        config = super().get_config()
        config["keras"]["add_pooling_layer"] = self.body.pooler is not None
        return config


class Head(TFPreTrainedModel):
    """A body with a task; a family's class sets `make_head`, and `logits` where the task's own do not do.

    Attributes:
        is_pooled: whether the body has a pooler.
    """

    is_pooled: ClassVar[bool] = False

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.make_body(add_pooling_layer=self.is_pooled)
        self.make_head(Settings.of(self.config, self.dtype_policy))
        self.post_init()

    def make_head(self, settings: Settings) -> None:
        """Make the layers behind the body, in the order in which checkpoints have them."""
        raise NotImplementedError

    def logits(self, outputs: Any, training: bool) -> Any:
        """The head's outputs of those of the body."""
        raise NotImplementedError

    def result(self, outputs: Any, labels: dict[str, Any], training: bool) -> ModelOutput:
        """The output object of the body's outputs, with the loss where there are labels."""
        raise NotImplementedError

    def body_inputs(self, given: dict[str, Any]) -> dict[str, Any]:
        """What the body is called with."""
        return given

    def forward(self, *, return_dict: bool | None = None, training: bool = False, **given: Any) -> Any:
        """What `call` does."""
        labels = {name: given.pop(name, None) for name in self.label_names}
        if self.main_layer.is_cached:
            given.setdefault("use_cache", False)
        outputs = self.body(**self.body_inputs(given), return_dict=True, training=training)
        return self.finished(self.result(outputs, labels, training), return_dict)


class OneLabel(Head):
    """A head with one output, `logits`, and one label for it.

    Attributes:
        output_class: of what is returned.
    """

    output_class: ClassVar[Any]

    def hf_compute_loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The loss of the task, see `losses`."""
        raise NotImplementedError

    def result(self, outputs: Any, labels: dict[str, Any], training: bool) -> ModelOutput:
        """See Head."""
        logits = self.logits(outputs, training)
        label = next(iter(labels.values()))
        loss = None if label is None else self.hf_compute_loss(label, logits)
        return self.output_class(loss, logits, outputs.hidden_states, outputs.attentions)


def derive(head: type[TFPreTrainedModel], base: type[TFPreTrainedModel]) -> Any:
    """The class of a family that shares the table of another: the same as another's but for its name, config and table.

    Args:
        head: the class of the other family.
        base: the base class of that family's classes.
    """
    name = f"TF{base.table().prefix}{head.__name__.removeprefix(f'TF{head.table().prefix}')}"
    space = {"__module__": base.__module__, "__doc__": head.__doc__}
    return types.new_class(name, (head, base), {"is_head": True}, lambda found: found.update(space))
