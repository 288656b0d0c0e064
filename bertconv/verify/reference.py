"""BERT's forward pass in plain PyTorch functions, straight from the tensors of a file: what others are held to.

Written against PyTorch's names and the published formulas (Devlin and others, arXiv:1810.04805; Vaswani and others,
arXiv:1706.03762), apart from the tables and the Keras classes, so that a mistake there is not repeated here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.nn import functional

from bertconv.errors import DamagedCheckpoint, MappingError, RequestError, ShapeMismatch, UnsupportedCheckpoint
from bertconv.verify.activations import activation
from bertconv.verify.reference_heads import HEADS, WORDS, complete, has_cross_attention

State = Mapping[str, torch.Tensor]
"""Weights by their PyTorch names."""

Watch = Callable[[str, torch.Tensor, torch.Tensor], None]
"""Is told of a module by its name, with its input and its output."""

_AFFINE, _NORM = r"\.(?:weight|bias)", r"\.LayerNorm\.(?:weight|bias|gamma|beta)"
_NAME = re.compile(
    r"(?P<prefix>(?:.+\.)?)(?:(?P<body>"
    rf"embeddings(?:\.(?:word|position|token_type)_embeddings\.weight|{_NORM})"
    r"|encoder\.layer\.\d+\.(?:"
    rf"(?:cross)?attention\.(?:self\.(?:query|key|value){_AFFINE}|output\.dense{_AFFINE}|output{_NORM})"
    rf"|attention\.self\.distance_embedding\.weight|(?:intermediate|output)\.dense{_AFFINE}|output{_NORM})"
    rf"|pooler\.dense{_AFFINE})"
    rf"|(?P<head>cls\.predictions(?:\.bias|\.transform\.dense{_AFFINE}|\.transform{_NORM}|\.decoder{_AFFINE})"
    rf"|(?:cls\.seq_relationship|classifier|qa_outputs){_AFFINE}))"
)
_ANCHORS = tuple(f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))
_OLD_LEAVES = {"gamma": "weight", "beta": "bias"}

_FLATTENED = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
_CROSS = ("encoder_hidden_states", "encoder_attention_mask")


def canonical_names(names: Iterable[str]) -> dict[str, str]:
    """Which BERT weight each name of a file stands for.

    What stands before the word embeddings is taken off, whatever it is; a head may have all of it in front or only its
    beginning (`module.bert.embeddings...` and `module.classifier...`).

    Args:
        names: of all tensors in the file.

    Returns:
        Name in the file -> PyTorch's name of today, body names with `bert.` in front also for a base model's file.
        Names that are no BERT weight are left out.

    Raises:
        UnsupportedCheckpoint: no BERT is in there.
        MappingError: several are.
        DamagedCheckpoint: two names stand for one weight.
    """
    every = list(names)
    root = _root(every)
    found: dict[str, str] = {}
    for name in every:
        canonical = _canonical(name, root)
        if canonical in found:
            what = f"{found[canonical]} and {name} both stand for {canonical}."
            raise DamagedCheckpoint(what, hint="Remove one of the two from the checkpoint.", tensor=name)
        if canonical is not None:
            found[canonical] = name
    return {name: canonical for canonical, name in found.items()}


def _root(names: list[str]) -> str:
    """What stands before the embeddings; the word embeddings of a tied model may be stored as its decoder only."""
    for anchor in _ANCHORS:
        roots = {name.removesuffix(anchor) for name in names if name == anchor or name.endswith(f".{anchor}")}
        if len(roots) > 1:
            what = f"holds {len(roots)} encoders, under {', '.join(map(repr, sorted(roots)))}."
            raise MappingError(what, hint="Give the names of one of them only.")
        if roots:
            return roots.pop()
    raise UnsupportedCheckpoint(
        f"holds no BERT: none of its {len(names)} tensors is named as BERT's embeddings are.",
        hint=f"Give a checkpoint with PyTorch's names, such as {WORDS}.",
    )


def _canonical(name: str, root: str) -> str | None:
    match = _NAME.fullmatch(name)
    if match is None or not (match["prefix"] == root if match["body"] else root.startswith(match["prefix"])):
        return None
    path, _, leaf = (f"bert.{match['body']}" if match["body"] else match["head"]).rpartition(".")
    return f"{path}.{_OLD_LEAVES.get(leaf, leaf)}"


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
        encoded = _encode(run, given)
        outputs = self._head.outputs(run, encoded["hidden_states"][-1])
        if self._has_choices:
            outputs = {"logits": outputs["logits"].reshape(inputs["input_ids"].shape[:2])}
        return {**outputs, **encoded}


class Modules:
    """The modules of one forward pass, by their names; each tells the watch what went in and what came out.

    Attributes:
        config: as `Reference` has it.
        activation: the one between the linear layers.
    """

    def __init__(self, state: State, config: Mapping[str, Any], watch: Watch | None) -> None:
        self.config = config
        self.activation = activation(config["hidden_act"])
        self._state = state
        self._watch = watch

    def has(self, name: str) -> bool:
        """Whether there is a module of this name."""
        return f"{name}.weight" in self._state

    def embedding(self, name: str, ids: torch.Tensor, padding: int | None = None) -> torch.Tensor:
        """The rows of a table, `[... dim]` for ids `[...]`; that of the padding, if there is one, gets no gradient."""
        table = self._state[f"{name}.weight"]
        row = padding if padding in range(-len(table), len(table)) else None
        return self._told(name, ids, functional.embedding(ids, table, padding_idx=row))

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """A linear map of the last axis: `[... out]` for `[... in]`."""
        return self._told(name, x, functional.linear(x, *self._affine(name)))

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Layer normalisation of the last axis (Ba and others, arXiv:1607.06450)."""
        epsilon = float(self.config["layer_norm_eps"])
        return self._told(name, x, functional.layer_norm(x, x.shape[-1:], *self._affine(name), epsilon))

    def _affine(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return self._state[f"{name}.weight"], self._state[f"{name}.bias"]

    def _told(self, name: str, given: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        if self._watch is not None:
            self._watch(name, given, found)
        return found


def _check_inputs(inputs: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> None:
    known = (*_FLATTENED, *(_CROSS if has_cross_attention(config) else ()))
    if unknown := [name for name in inputs if name not in known]:
        raise RequestError(f"this model has no input {unknown[0]!r}.", hint=f"Its inputs are {', '.join(known)}.")
    if "input_ids" not in inputs:
        raise RequestError("there are no input_ids.", hint="Give them, [batch, sequence].")


def _encode(run: Modules, inputs: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, ...]]:
    """Hidden states of the embeddings and of every layer, and the attention of every layer."""
    x = _embedded(run, inputs)
    encoder = inputs["encoder_hidden_states"].to(x.dtype) if "encoder_hidden_states" in inputs else None
    bias = _mask_bias(inputs.get("attention_mask"), x, causal=bool(run.config["is_decoder"]))
    encoder_bias = _mask_bias(inputs.get("encoder_attention_mask"), x)
    is_relative = run.config["position_embedding_type"] != "absolute"
    states, attentions, crossed = [x], [], []
    for number in range(run.config["num_hidden_layers"]):
        place = f"bert.encoder.layer.{number}"
        x, probabilities = _attend(run, f"{place}.attention", x, x, bias, relative=is_relative)
        attentions.append(probabilities)
        if encoder is not None:
            x, probabilities = _attend(run, f"{place}.crossattention", x, encoder, encoder_bias)
            crossed.append(probabilities)
        wide = run.activation(run.linear(f"{place}.intermediate.dense", x))
        x = run.norm(f"{place}.output.LayerNorm", run.linear(f"{place}.output.dense", wide) + x)
        states.append(x)
    found = {"hidden_states": tuple(states), "attentions": tuple(attentions)}
    return found if encoder is None else {**found, "cross_attentions": tuple(crossed)}


def _embedded(run: Modules, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Words, segments and, unless they are relative, positions: `[batch sequence hidden]`."""
    ids = inputs["input_ids"]
    x = run.embedding("bert.embeddings.word_embeddings", ids, run.config["pad_token_id"])
    types = inputs.get("token_type_ids", torch.zeros_like(ids))
    x = x + run.embedding("bert.embeddings.token_type_embeddings", types)
    if run.config["position_embedding_type"] == "absolute":
        positions = inputs.get("position_ids", torch.arange(ids.shape[1], device=ids.device)[None])
        x = x + run.embedding("bert.embeddings.position_embeddings", positions)
    return run.norm("bert.embeddings.LayerNorm", x)


def _mask_bias(mask: torch.Tensor | None, x: torch.Tensor, *, causal: bool = False) -> torch.Tensor | None:
    """What is added to the scores, `[batch|1 1 queries|1 keys]`: 0, or the most negative number where nobody may look.

    Negative infinity would make NaN of a query that may look nowhere.
    """
    if mask is not None and mask.ndim not in (2, 3):
        raise ShapeMismatch(f"a mask has {mask.ndim} axes.", hint="Give it [batch, keys] or [batch, queries, keys].")
    seen = None if mask is None else mask.bool()[:, None, None] if mask.ndim == 2 else mask.bool()[:, None]
    if causal and (seen is None or seen.shape[2] == 1):
        rule = torch.ones(1, 1, x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        seen = rule if seen is None else seen & rule
    if seen is None:
        return None
    return torch.zeros(seen.shape, dtype=x.dtype, device=x.device).masked_fill(~seen, torch.finfo(x.dtype).min)


def _attend(
    run: Modules,
    place: str,
    x: torch.Tensor,
    source: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    relative: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of x `[batch queries hidden]` to the source `[batch keys hidden]`, added to x and normalised.

    Returns:
        New states, and the probabilities `[batch heads queries keys]`.
    """
    query = _split(run, run.linear(f"{place}.self.query", x))
    key = _split(run, run.linear(f"{place}.self.key", source))
    value = _split(run, run.linear(f"{place}.self.value", source))
    scores = query @ key.transpose(2, 3)
    if relative:
        scores = scores + _distance_scores(run, f"{place}.self.distance_embedding", query, key)
    scores = scores * query.shape[-1] ** -0.5
    if bias is not None:
        # In float16 a negative score and the bias add up to negative infinity, and a row of that is NaN.
        scores = (scores + bias).clamp(min=torch.finfo(scores.dtype).min)
    probabilities = scores.softmax(-1)
    context = (probabilities @ value).transpose(1, 2).flatten(2)
    return run.norm(f"{place}.output.LayerNorm", run.linear(f"{place}.output.dense", context) + x), probabilities


def _split(run: Modules, x: torch.Tensor) -> torch.Tensor:
    """`[batch sequence hidden]` as `[batch heads sequence head]`."""
    return x.reshape(*x.shape[:2], int(run.config["num_attention_heads"]), -1).transpose(1, 2)


def _distance_scores(run: Modules, name: str, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """What the distance of two positions adds, by a vector for each: `[batch heads queries keys]`.

    Sources: Shaw and others, arXiv:1803.02155, for `relative_key`; method 4 of Huang and others, arXiv:2009.13658, for
    `relative_key_query`, where keys take part as well.
    """
    places = torch.arange(query.shape[2], device=query.device)
    distances = places[:, None] - places[None] + int(run.config["max_position_embeddings"]) - 1
    table = run.embedding(name, distances)
    scores = torch.einsum("bhqd,qkd->bhqk", query, table)
    is_one_sided = run.config["position_embedding_type"] == "relative_key"
    return scores if is_one_sided else scores + torch.einsum("bhkd,qkd->bhqk", key, table)
