"""TFPreTrainedModel: what every model has, from loading and saving to the layers that hold its words."""

from __future__ import annotations

import inspect
import os
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from bertconv.arguments import MAKING, settle
from bertconv.config import foreign
from bertconv.errors import RequestError
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.ignore import IgnoreLists, ignore_lists
from bertconv.mapping.table import Table, table_for
from bertconv.models import loading, saving, weight_files
from bertconv.models.arguments import FIRST, dtype_policy, settle_dtype, settle_loading, source_options
from bertconv.models.body import MainLayer, check_decoder, finished
from bertconv.models.calls import CallInputs, argument_names, made_call, with_flags, without_empty_mask
from bertconv.models.dummies import call_with_dummies
from bertconv.models.embeddings import resize_token_embeddings
from bertconv.models.inputs import FEATURES, as_tensors
from bertconv.models.keras_internals import every_layer
from bertconv.models.layers import BaseLayer
from bertconv.models.outputs import ModelOutput
from bertconv.models.replacing import Replaceable
from bertconv.models.serving import ServingMixin
from bertconv.models.settings import Settings
from bertconv.models.strategies import scope_of
from bertconv.models.training import TrainingMixin, outputs_of_labels
from bertconv.models.variables import freeze_layers, frozen_layers


class TFPreTrainedModel(Replaceable, ServingMixin, TrainingMixin, keras.Model):
    """A Keras 3 model that loads, saves and trains as users of transformers' TensorFlow classes know it.

    A family derives its own base class from it, and from that one class for every head of its mapping table: with
    `is_head=True` the class is registered with Keras, gets a `call` with the arguments that the family takes, and the
    two ignore lists of the table, which a subclass may replace or extend.

    Args:
        config: of the family, a transformers config object, or a dict.
        kwargs: `name`, `dtype` and `trainable` of a Keras model.

    Attributes:
        config_class: class of the config.
        main_layer: class of the body.
        base_model_prefix: attribute that holds the body.
        task: what the class is for, see `bertconv.tasks`; None for a class of the user's own.
        is_cached: whether `call` takes what a decoder takes, where the family has decoders.
        call_doc: what `call` returns, and its labels.
        main_input_name: first argument of `call`.
        table_head: the mapping table's class; None for a class of the user's own.
        _keys_to_ignore_on_load_unexpected: regexes of stored names that are left out without a word.
        _keys_to_ignore_on_load_missing: regexes of weights that may be newly initialised without a warning.
    """

    config_class: ClassVar[Any]
    main_layer: ClassVar[type[MainLayer]]
    base_model_prefix: ClassVar[str] = ""
    task: ClassVar[str | None] = None
    is_cached: ClassVar[bool] = False
    call_doc: ClassVar[str] = ""
    call: ClassVar[Any]
    main_input_name: ClassVar[str] = "input_ids"
    table_head: ClassVar[str | None] = None
    framework: ClassVar[str] = "tf"
    call_inputs: ClassVar[CallInputs] = CallInputs()
    input_names: ClassVar[tuple[str, ...]] = ()
    _auto_class: ClassVar[str | None] = None
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str] | None] = None
    _keys_to_ignore_on_load_missing: ClassVar[list[str] | None] = None

    def __init_subclass__(cls, *, is_head: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if is_head:
            cls._become_head()
        features = argument_names(cls.main_layer.model_inputs, is_cached=False) if hasattr(cls, "main_layer") else ()
        arrays = [name for name in features or sorted(FEATURES) if name in FEATURES]
        cls.call_inputs = CallInputs.of(cls.call, cls.input_names, arrays)
        cls.input_names = cls.call_inputs.names
        if "call" in vars(cls) and "mask" in cls.call_inputs.parameters:
            cls.call = without_empty_mask(cls.call)
        if "call" in vars(cls) and (cls.call_inputs.passes_on or cls.call_inputs.spreads):
            cls.call = with_flags(cls.call)
        own = () if cls.call_inputs.is_ours else cls.call_inputs.label_names
        if own and "label_names" not in vars(cls):
            cls.label_names = own
            cls.label_outputs = {**outputs_of_labels(own), **cls.label_outputs}

    @classmethod
    def _become_head(cls) -> None:
        """Make this the class of the table that is called the same without TF."""
        cls.table_head = cls.__name__.removeprefix("TF")
        lists = ignore_lists(cls.table(), load_dialects(), cls.table_head)
        cls._keys_to_ignore_on_load_unexpected = list(lists.unexpected)
        cls._keys_to_ignore_on_load_missing = list(lists.missing)
        main = cls.main_layer
        names = argument_names(main.model_inputs, is_cached=cls.is_cached and main.is_cached, labels=cls.label_names)
        cls.call = made_call(names, cls.call_doc, cls)
        keras.saving.register_keras_serializable(package="bertconv")(cls)

    @classmethod
    def table(cls) -> Table:
        """The mapping table of the family, with the names of its classes."""
        return table_for(foreign.own_class(cls).own_family().model_type)

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        if inputs:
            raise RequestError(f"{type(self).__name__} takes a config and no other inputs.", hint="Name the arguments.")
        if kwargs:
            settle(kwargs, MAKING, type(self).__name__)
            settle_dtype(kwargs)
        super().__init__(**kwargs)
        self.config = foreign.config_for(type(self), config)
        check_decoder(self.config)
        self.name_or_path = self.config.name_or_path
        self._convert_input_args = False  # __call__ does it
        self._allow_non_tensor_positional_args = True
        self.jit_compile = False  # every new sequence length would be compiled anew

    def make_body(self, *, add_pooling_layer: bool) -> None:
        """Make the family's main layer, under the name that checkpoints give it."""
        body = self.main_layer(self.config, add_pooling_layer, dtype=self.dtype_policy)
        setattr(self, self.base_model_prefix, body)

    def make_words(self, settings: Settings) -> None:
        """Make the layers that predict words; a family's base class does."""
        raise NotImplementedError

    def score_words(self, hidden: tf.Tensor) -> tf.Tensor:
        """Scores of every word: `[batch sequence hidden]` -> `[batch sequence vocab]`; a family's base class does."""
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model; see `call` for the arguments.

        They may be given by position, by name, or packed into one list or dict (also a tokenizer's BatchEncoding), as
        tensors, numpy arrays or lists.
        """
        inputs, given = self.call_inputs.arranged(args, kwargs, model=type(self).__name__)
        placed = as_tensors(self, {str(place): value for place, value in enumerate(inputs)})
        with scope_of(self._distribute_strategy):  # a layer that has no weights yet gets them now
            return super().__call__(*placed.values(), **as_tensors(self, given))

    def post_init(self) -> None:
        """Create the weights of every layer of ours; called at the end of a class's own `__init__`."""
        with keras.name_scope(self.name):
            for layer in self.layers:
                if not self.trainable:  # Keras freezes the layers that a model has at that moment: none as yet
                    layer.trainable = False
                if isinstance(layer, BaseLayer) and not layer.built:
                    layer.build()
        self.built = True

    def build(self, input_shape: Any = None) -> None:
        """Create the weights, as `build_in_name_scope`, where Keras does not ask for it by a shape."""
        if input_shape is not None:
            super().build(input_shape)
            return
        self.built = True  # a call of a model that is not comes here
        self.build_in_name_scope()

    build._is_default = True  # type: ignore[attr-defined]  # noqa: SLF001  (for Keras, models build themselves when called)

    def build_in_name_scope(self) -> None:
        """Create the weights that only a call creates, by one with `dummy_inputs`."""
        if not all(layer.built for layer in every_layer(self)):
            call_with_dummies(self)

    def build_from_config(self, config: dict[str, Any]) -> None:
        """For Keras, which is about to load weights: as `build_in_name_scope`."""
        self.build_in_name_scope()

    def finished(self, output: ModelOutput, return_dict: bool | None) -> Any:
        """The output object, or its tuple where that is asked for."""
        return finished(output, return_dict, self.config)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *model_args: Any,
        config: Any = None,
        cache_dir: str | os.PathLike[str] | None = None,
        ignore_mismatched_sizes: bool = False,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = None,
        use_safetensors: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """A model with the weights of a checkpoint in any format that bertconv reads.

        Args:
            pretrained_model_name_or_path: folder, file or Hub id (`org/name`, `org/name@revision`).
            model_args: passed on to the class.
            config: to use instead of the checkpoint's: an object, a dict, a path or a Hub id.
            cache_dir: cache of the Hub.
            ignore_mismatched_sizes: newly initialise weights of another shape than stored instead of refusing.
            force_download: download again what the cache has.
            local_files_only: use only what the cache holds.
            token: access token for the Hub.
            revision: branch, tag or commit on the Hub.
            use_safetensors: True for safetensors, or else files of TensorFlow's own; False for all but safetensors.
            kwargs: `from_pt` and `from_flax` (look for `pytorch_model.bin` or `flax_model.msgpack` first), `subfolder`,
                `variant`, `output_loading_info`, `dtype`, `trainable`, `name`, `add_pooling_layer`; keys of the config,
                which override it; transformers' other arguments, where they ask for nothing
                (`bertconv.arguments`).

        Returns:
            The model; with `output_loading_info` also missing_keys, unexpected_keys, mismatched_keys and error_msgs.

        Raises:
            BertconvError: see `bertconv.errors`. A body that the checkpoint lacks is MissingTensors.
        """
        names = cls._constructor_names()
        kwargs |= {"token": token}
        settle_loading(pretrained_model_name_or_path, kwargs, names)
        wants_info = kwargs.pop("output_loading_info", False)
        options = source_options({
            "cache_dir": cache_dir, "force_download": force_download, "local_files_only": local_files_only,
            "token": kwargs.pop("token", None), "revision": revision, "use_safetensors": use_safetensors, **kwargs,
        })  # fmt: skip
        for key in ("subfolder", "variant", *FIRST):
            kwargs.pop(key, None)
        config_class = foreign.reader(cls, config)
        given = None if config is None else loading.config_of(config, options, config_class)
        settings = {key: kwargs.pop(key) for key in names if key in kwargs}
        if settings.get("dtype") is not None:
            settings["dtype"] = dtype_policy(settings["dtype"])
        ignore = IgnoreLists(
            tuple(cls._keys_to_ignore_on_load_unexpected or ()), tuple(cls._keys_to_ignore_on_load_missing or ())
        )
        request = loading.LoadRequest(
            pretrained_model_name_or_path, options, given, config_class, kwargs, ignore_mismatched_sizes, ignore,
            lambda config: cls(foreign.config_for(cls, config), *model_args, **settings), cls.table_head, cls.__name__,
            may_be_shorter=True,
        )  # fmt: skip
        model, info = loading.load(request)
        model.name_or_path = model.config.name_or_path = str(pretrained_model_name_or_path)
        return (model, info) if wants_info else model

    @classmethod
    def _constructor_names(cls) -> tuple[str, ...]:
        """What the classes' own `__init__` take beside the config, and Keras."""
        own = [
            vars(kind)["__init__"]
            for kind in cls.__mro__[: cls.__mro__.index(TFPreTrainedModel)]
            if "__init__" in vars(kind)
        ]
        parameters = [each for init in own for each in inspect.signature(init).parameters.values()]
        names = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
        return ("name", "dtype", "trainable", *(name for name in names if name not in {"self", "config"}))

    load_weights = weight_files.load_weights
    save_weights = weight_files.save_weights
    save_pretrained = saving.save_pretrained
    push_to_hub = saving.push_to_hub
    resize_token_embeddings = resize_token_embeddings

    def get_config(self) -> dict[str, Any]:
        """The config as a dict, and under `keras` how the Keras model was made."""
        made: dict[str, Any] = {
            "name": self.name,
            "trainable": self.trainable,
            "frozen": frozen_layers(self),
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
        }
        return {**self.config.own_keys(), "keras": made}

    @classmethod
    def from_config(cls, config: Any, **kwargs: Any) -> Self:
        """A model with fresh weights from a config object or a dict."""
        if isinstance(config, dict) and "keras" in config:
            config = dict(config)
            made = dict(config.pop("keras"))
            made["dtype"] = keras.saving.deserialize_keras_object(made["dtype"])
            frozen = made.pop("frozen", [])
            kwargs = {**made, **kwargs}
            model = cls(foreign.config_for(cls, config), **kwargs)
            model.build_in_name_scope()  # Keras, about to load weights, asks for it only of a model without any
            freeze_layers(model, frozen)
            return model
        return cls(foreign.config_for(cls, config), **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = "TFAutoModel") -> None:
        """Note a name, as a config's does: nothing here copies code beside a model, so nothing acts on it."""
        cls._auto_class = auto_class if isinstance(auto_class, str) else auto_class.__name__

    def __deepcopy__(self, _memo: dict[int, Any]) -> Any:
        """As Keras copies a model, by way of a file, but for classes that it does not find by their names, too."""
        with keras.saving.custom_object_scope({type(self).__name__: type(self)}):
            reduced: Any = self.__reduce__()
            copied = reduced[0](*reduced[1])
        if len(copied.weights) != len(self.weights):
            raise RequestError(
                f"{type(self).__name__} cannot be copied: its call does not take dummy_inputs, which make its weights.",
                hint="Give the class dummy_inputs that its call takes.",
            )
        return copied

    @property
    def body(self) -> Any:
        """The main layer."""
        return getattr(self, self.base_model_prefix)

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        """Small inputs to call the model with: `[batch sequence]`."""
        inputs: dict[str, Any] = {
            "input_ids": tf.ones(self.dummy_shape, tf.int32),
            "attention_mask": tf.ones(self.dummy_shape, tf.int32),
            "token_type_ids": tf.zeros(self.dummy_shape, tf.int32),
        }
        if self.config.values.get("add_cross_attention"):
            inputs["encoder_hidden_states"] = tf.ones((1, 2, self.config.values["hidden_size"]))
        return {name: value for name, value in inputs.items() if name in self.input_names}

    dummy_shape: ClassVar[tuple[int, ...]] = (1, 2)

    def num_parameters(self, only_trainable: bool = False) -> int:
        """Number of weights' elements."""
        self.build_in_name_scope()
        weights = self.trainable_weights if only_trainable else self.weights
        return sum(int(np.prod(weight.shape)) for weight in weights)

    def get_input_embeddings(self) -> Any:
        """The layer of embeddings; its `weight` are the words' vectors: `[vocab hidden]`."""
        self.build_in_name_scope()
        return self.body.embeddings

    def set_input_embeddings(self, value: Any) -> None:
        """Replace the words' vectors: a variable, tensor or array `[vocab hidden]`, with as many rows as it likes."""
        values = tf.convert_to_tensor(getattr(value, "weight", value))
        size = self.get_input_embeddings().weight.shape[1]
        if values.shape.rank != 2 or values.shape[1] != size:
            key = "embedding_size" if "embedding_size" in self.config.values else "hidden_size"
            raise RequestError(
                f"embeddings of shape {values.shape.as_list()} do not fit {key} {size}.", hint="Give [vocab, hidden]."
            )
        self.resize_token_embeddings(int(values.shape[0]))
        self.body.embeddings.weight.assign(values)

    def get_lm_head(self) -> Any:
        """The layer that predicts words, with its bias and maybe a decoder of its own; None for none."""
        return None

    def get_output_embeddings(self) -> Any:
        """The layer whose `weight` are the words' output vectors: the embeddings themselves unless untied; or None."""
        head = self.get_lm_head()
        return None if head is None else head.vectors or self.get_input_embeddings()

    def get_bias(self) -> dict[str, Any] | None:
        """The bias of the predicted words: `{"bias": [vocab]}`, or None."""
        head = self.get_lm_head()
        return None if head is None else {"bias": head.bias}

    def can_generate(self) -> bool:
        """Whether there is a `generate`."""
        return hasattr(self, "generate")
