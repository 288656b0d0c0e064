"""generate: greedy and sampled decoding with the cache, in eager mode and in a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from bertconv.errors import RequestError
from bertconv.models.generation_config import GenerationConfig
from bertconv.models.inputs import CACHE, named_inputs
from bertconv.models.replacing import is_stale

PROMPT = ("input_ids", "attention_mask", "token_type_ids", "encoder_hidden_states", "encoder_attention_mask", CACHE)
"""What `generate` passes on to the model."""


class Sampling(NamedTuple):
    """How the next word is chosen; equal ones share one graph.

    Attributes:
        do_sample: draw it instead of taking the likeliest.
        temperature: divides the scores.
        top_k: draw among so many of the likeliest; 0 for all.
        top_p: draw among the likeliest that together reach this probability (Holtzman et al. 2020, arXiv:1904.09751).
    """

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0

    def choose(self, logits: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """logits: `[batch vocab]`, seed: `[2]` or None -> ids: `[batch]`."""
        if not self.do_sample:
            return tf.argmax(logits, -1, tf.int32)
        scores = self.kept(tf.cast(logits, tf.float32) / self.temperature)
        if seed is None:
            return tf.random.categorical(scores, 1, dtype=tf.int32)[:, 0]
        return tf.random.stateless_categorical(scores, 1, seed, dtype=tf.int32)[:, 0]

    def kept(self, scores: tf.Tensor) -> tf.Tensor:
        """`[batch vocab]`, the lowest number for the words that are not drawn."""
        lowest = scores.dtype.min
        if 0 < self.top_k < scores.shape[-1]:
            least = tf.math.top_k(scores, self.top_k).values[:, -1:]
            scores = tf.where(scores < least, lowest, scores)
        if self.top_p < 1:
            ordered = tf.sort(scores, direction="DESCENDING")
            before = tf.cumsum(tf.nn.softmax(ordered), axis=-1, exclusive=True)
            least = tf.reduce_min(tf.where(before < self.top_p, ordered, ordered.dtype.max), -1, keepdims=True)
            scores = tf.where(scores < least, lowest, scores)
        return scores


class GenerationMixin:
    """`generate` for a model that predicts the next word."""

    config: Any
    body: Any
    _decode_in_graph: Any = None
    _generation_config: GenerationConfig | None = None

    @property
    def generation_config(self) -> GenerationConfig:
        """What `generate` does by default: of generation_config.json, and of the config where that says nothing."""
        if self._generation_config is None:
            self._generation_config = GenerationConfig(self.config)
        self._generation_config.follow(self.config)  # which may be another one by now
        return self._generation_config

    @generation_config.setter
    def generation_config(self, value: Any) -> None:
        said = value.to_dict() if hasattr(value, "to_dict") else dict(value)
        self._generation_config = GenerationConfig(self.config, said)

    def prepare_inputs_for_generation(
        self,
        input_ids: tf.Tensor,
        past_key_values: Any = None,
        attention_mask: tf.Tensor | None = None,
        cache: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Inputs of one step: behind a cache only the last word, its position counted by the mask.

        Args:
            input_ids: all words so far: `[batch sequence]`.
            past_key_values: the cache of the step before; see TFBertMainLayer.call.
            attention_mask: 0 where a prompt is padded: `[batch sequence]`.
            cache: another name of `past_key_values`.
            kwargs: further arguments of the model, passed on.

        Raises:
            RequestError: the cache under both its names.
        """
        if past_key_values is not None and cache is not None:
            raise RequestError("past_key_values and cache were both given.", hint="They are one: give one of the two.")
        past_key_values = cache if past_key_values is None else past_key_values
        mask = tf.ones_like(input_ids) if attention_mask is None else tf.cast(attention_mask, tf.int32)
        positions = tf.maximum(tf.cumsum(mask, axis=-1) - 1, 0) + self.body.embeddings.first_position
        if past_key_values is not None:
            input_ids, positions = input_ids[:, -1:], positions[:, -1:]
            if kwargs.get("token_type_ids") is not None:  # new words are of the type of the prompt's last
                kwargs["token_type_ids"] = kwargs["token_type_ids"][:, -1:]
        return {
            "input_ids": input_ids, "attention_mask": mask, "position_ids": positions,
            "past_key_values": past_key_values, "use_cache": True, **kwargs,
        }  # fmt: skip

    def generate(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        *,
        max_new_tokens: int | None = None,
        max_length: int | None = None,
        do_sample: bool | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: Sequence[int] | None = None,
        eos_token_id: int | Sequence[int] | None = None,
        pad_token_id: int | None = None,
        **kwargs: Any,
    ) -> tf.Tensor:
        """Continue prompts, word by word; settings that are not given are those of `generation_config`.

        Args:
            input_ids: the prompts, padded on the left where their lengths differ: `[batch sequence]`; or a tokenizer's
                BatchEncoding with them and their mask.
            attention_mask: 0 where a prompt is padded; by default nowhere.
            max_new_tokens: words to add at most; by default up to `max_length`.
            max_length: length of prompt and continuation at most.
            do_sample: draw words instead of taking the likeliest.
            temperature: divides the scores before drawing.
            top_k: draw among so many of the likeliest words; 0 for all.
            top_p: draw among the likeliest words that together reach this probability.
            seed: two numbers for the same draws every time.
            eos_token_id: word or words that end a continuation.
            pad_token_id: what follows that word.
            kwargs: `token_type_ids` of the prompts, of which new words repeat the last; `past_key_values` (or `cache`),
                what the model returned for the prompts without their last word; for a model with cross-attention
                `encoder_hidden_states` `[batch encoder_sequence hidden]` and `encoder_attention_mask`
                `[batch encoder_sequence]`.

        Returns:
            Prompts and continuations: `[batch sequence]`, int32.

        Raises:
            RequestError: no decoder, no room for a word, settings that make no sense, or a generation config that asks
                for another way of decoding.
        """
        values, usual = self.config.values, self.generation_config
        usual.check()
        if max_new_tokens is None and max_length is None:
            max_new_tokens = usual.max_new_tokens
        do_sample, temperature = usual.chosen("do_sample", do_sample), usual.chosen("temperature", temperature)
        top_k, top_p = usual.chosen("top_k", top_k), usual.chosen("top_p", top_p)
        given = named_inputs(PROMPT, (input_ids, attention_mask), kwargs, model=f"{type(self).__name__}.generate")
        sampling = Sampling(True, float(temperature), top_k, float(top_p)) if do_sample else Sampling()
        _check(values, given, temperature, top_k, top_p)
        given = tf.nest.map_structure(tf.convert_to_tensor, given)
        ids = tf.cast(given.pop("input_ids"), tf.int32)
        mask = tf.cast(given.pop("attention_mask", tf.ones_like(ids)), tf.int32)
        ids = _padded_left(ids, mask)
        end = _end(
            ids, max_new_tokens, usual.chosen("max_length", max_length),
            values["max_position_embeddings"] - self.body.embeddings.first_position,
        )  # fmt: skip
        eos = usual.eos_token_id if eos_token_id is None else eos_token_id
        marks = tuple(map(int, tf.nest.flatten(eos))) if eos is not None else ()
        pad = int((usual.pad_token_id if pad_token_id is None else pad_token_id) or 0)
        start = None if seed is None else tf.cast(tf.convert_to_tensor(seed), tf.int32)
        if is_stale(self, "_decode_in_graph") or self._decode_in_graph is None:
            self._decode_in_graph = tf.function(self._decode, reduce_retracing=True, autograph=False)
        return self._decode_in_graph(ids, mask, tf.convert_to_tensor(end), start, sampling, marks, pad, given)

    def _decode(
        self,
        ids: tf.Tensor,
        mask: tf.Tensor,
        end: tf.Tensor,
        seed: tf.Tensor | None,
        sampling: Sampling,
        eos: tuple[int, ...],
        pad: int,
        others: dict[str, tf.Tensor],
    ) -> tf.Tensor:
        """The first step with the whole prompt, then one word at a time behind the cache."""
        others = dict(others)
        before = others.pop(CACHE, None)

        def step(ids: tf.Tensor, mask: tf.Tensor, done: tf.Tensor, past: Any) -> tuple[Any, ...]:
            inputs = self.prepare_inputs_for_generation(ids, past, mask, **others)
            output = self(**inputs, return_dict=True)  # type: ignore[operator]
            start = None if seed is None else seed + tf.stack([0, tf.shape(ids)[1]])
            drawn = sampling.choose(output.logits[:, -1], start)
            word = tf.where(done, pad, drawn)
            more = tf.concat([ids, word[:, tf.newaxis]], 1)
            seen = tf.concat([mask, tf.ones_like(word)[:, tf.newaxis]], 1)
            for mark in eos:
                done |= drawn == mark
            return more, seen, done, output.past_key_values

        def goes_on(ids: tf.Tensor, _mask: tf.Tensor, done: tf.Tensor, _past: Any) -> tf.Tensor:
            return (tf.shape(ids)[1] < end) & ~tf.reduce_all(done)

        state = step(ids, mask, tf.zeros(tf.shape(ids)[:1], tf.bool), before)
        grows = tf.TensorShape([ids.shape[0], None])
        caches = tf.nest.map_structure(
            lambda tensor: tf.TensorShape([tensor.shape[0], tensor.shape[1], None, tensor.shape[3]]), state[3]
        )
        return tf.while_loop(goes_on, step, state, shape_invariants=(grows, grows, state[2].shape, caches))[0]


def _check(values: Any, given: dict[str, Any], temperature: float, top_k: int, top_p: float) -> None:
    if not values["is_decoder"]:
        raise RequestError("the config says that this is no decoder.", hint="Set is_decoder in the config.")
    if "input_ids" not in given:
        raise RequestError("there are no prompts to continue.", hint="Give input_ids.")
    for name in ("input_ids", "attention_mask"):
        if name in given and len(given[name].shape) != 2:
            raise RequestError(f"{name} has {len(given[name].shape)} axes.", hint="Give [batch, sequence].")
    if not tf.as_dtype(given["input_ids"].dtype).is_integer:
        raise RequestError(f"input_ids is {given['input_ids'].dtype}, not integers.", hint="Cast it to int32 or int64.")
    if CACHE in given and (count := given[CACHE][0][0].shape[2]) != (length := given["input_ids"].shape[1]) - 1:
        raise RequestError(
            f"past_key_values is of {count} positions, and the prompts have {length} tokens.",
            hint="Give what the model returns for the prompts without their last token.",
        )
    if temperature <= 0 or top_k < 0 or not 0 < top_p <= 1:
        raise RequestError(
            f"temperature is {temperature}, top_k {top_k} and top_p {top_p}.",
            hint="temperature is above 0, top_k at least 0, top_p above 0 and at most 1.",
        )


def _padded_left(ids: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The prompts, of which none is padded on the right."""
    problem, hint = "some prompts are padded on the right.", 'Pad them on the left (padding_side="left").'
    good = tf.reduce_all(mask[:, -1] != 0)
    if not tf.executing_eagerly():
        with tf.control_dependencies([tf.debugging.Assert(good, [f"{problem} {hint}"])]):
            return tf.identity(ids)
    if not bool(good):
        raise RequestError(problem, hint=hint)
    return ids


def _end(ids: tf.Tensor, new: int | None, whole: int, limit: int) -> Any:
    """Length at which to stop."""
    length = ids.shape[1] if ids.shape[1] is not None else tf.shape(ids)[1]
    end = length + new if new is not None else whole
    if isinstance(end, int) and isinstance(length, int) and not length < end <= limit:
        raise RequestError(
            f"the prompts have {length} tokens and the whole may have {end}, of at most {limit}.",
            hint="Set max_new_tokens, or shorten the prompts.",
        )
    return end
