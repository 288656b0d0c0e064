"""Parity objects made by hand, as `bertconv verify` would fill them: a good one, broken ones, a hostile one."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator
from dataclasses import replace

from bertconv.verify.agreement import Agreement, Mismatch
from bertconv.verify.parity import (
    Case,
    Cause,
    ConfigDifference,
    Divergence,
    GradientComparison,
    Measurement,
    Parity,
    SideFacts,
    TensorComparison,
)

HOSTILE = "</script><script>alert('1')</script><img src=x onerror=\"alert(2)\">\x1b[31m\u202e&amp;"
MODULES = {
    "query": (768, 768),
    "key": (768, 768),
    "value": (768, 768),
    "attention_out": (768, 768),
    "attention_norm": (768,),
    "ffn_in": (3072, 768),
    "ffn_out": (768, 3072),
    "ffn_norm": (768,),
}
STEPS = (
    "query",
    "key",
    "value",
    "attention",
    "attention_out",
    "attention_norm",
    "ffn_in",
    "activation",
    "ffn_out",
    "ffn_norm",
)
ROUNDING = {"float64": 2e-16, "float32": 1.5e-7, "bfloat16": 4e-3}
LIMITS = {"float64": 1e-10, "float32": 4e-6, "bfloat16": 8e-2}
EMBEDDINGS = {"word": (30522, 768), "segment": (2, 768), "position": (512, 768), "norm": (768,)}
HEAD = {"pooler.dense": (768, 768), "mlm.dense": (768, 768), "mlm.norm": (768,)}
OUTPUTS = ("prediction_logits", "seq_relationship_logits")


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def side(letter: str, **changes) -> SideFacts:
    pt = letter == "a"
    facts = SideFacts(
        given="models/bert-base-uncased" if pt else "out/bert-base-uncased-tf",
        revision="86b5e0934494bd15c9632b12f734a8a67f723594" if pt else None,
        container="safetensors" if pt else "hdf5",
        dialect="pt" if pt else "tf",
        framework="torch 2.13.0" if pt else "tensorflow 2.21.0, Keras 3.15.0",
        head="BertForPreTraining",
        files={"model.safetensors" if pt else "tf_model.h5": 440_473_133},
        dtypes={"float32": 201},
        digest=digest("model"),
    )
    return replace(facts, **changes)


def tensors(layers: int) -> Iterator[TensorComparison]:
    yield from (tensor(f"embeddings.{name}", shape) for name, shape in EMBEDDINGS.items())
    for layer in range(layers):
        for name, shape in MODULES.items():
            yield tensor(f"layer.{layer}.{name}", shape)
            yield tensor(f"layer.{layer}.{name}", shape[:1], "bias")
    for name, shape in HEAD.items():
        yield tensor(name, shape)
        yield tensor(name, shape[:1], "bias")


def tensor(module: str, shape: tuple[int, ...], part: str = "weight") -> TensorComparison:
    place = module.replace("layer.", "encoder.layer.").replace("attention_", "attention.output.")
    a, b = f"bert.{place}.{part}", f"bert/{place.replace('.', '/').replace('layer/', 'layer_._')}/{part}:0"
    identity = f"{module}.{part}"
    return TensorComparison(identity, a, b, shape, "float32", "float32", "equal", digest(identity))


def measurements(layers: int, dtypes: tuple[str, ...], start: float = 1.0, seed: int = 4) -> Iterator[Measurement]:
    """Rounding that grows with the depth; from `start` (as a part of the depth) on, B is far off."""
    generator = random.Random(seed)
    for dtype in dtypes:
        for depth, (place, kind, layer, module) in places(layers):
            noise = ROUNDING[dtype] * (1 + depth * 3)
            a = 0.0 if dtype == "float64" else noise * generator.uniform(0.8, 1.2)
            b = noise * generator.uniform(0.8, 1.2) if depth < start else 0.2 + depth / 2
            limit = LIMITS[dtype] if kind != "module" else None
            yield Measurement(place, kind, layer, module, dtype, "padded", a, b, b * 2, limit)


def places(layers: int) -> Iterator[tuple[float, tuple[str, str, int | None, str]]]:
    yield from ((0.0, (f"embeddings.{name}", "module", None, f"embeddings.{name}")) for name in EMBEDDINGS)
    yield 0.0, ("embeddings", "hidden state", None, "embeddings")
    for layer in range(layers):
        for n, name in enumerate(STEPS):
            yield (layer + n / 10) / layers, (f"layer.{layer}.{name}", "module", layer, name)
        yield (layer + 0.35) / layers, (f"layer.{layer}.attentions", "attentions", layer, "attentions")
        yield (layer + 0.95) / layers, (f"layer.{layer}", "hidden state", layer, f"layer.{layer}")
    yield from ((0.99, (name, "module", None, name)) for name in HEAD)
    yield from ((0.99, (name, "output", None, name)) for name in OUTPUTS)


def good(layers: int = 12, dtypes: tuple[str, ...] = ("float64", "float32")) -> Parity:
    return Parity(
        level="gradients",
        a=side("a"),
        b=side("b"),
        head="BertForPreTraining",
        tensors=tuple(tensors(layers)),
        left_out=("A: embeddings.position_ids", "B: optimizer/iter:0"),
        dtypes=dtypes,
        cases=(
            Case("random", "random ids, every row full", (4, 96), 11),
            Case("padded", "random ids, rows padded on the right, two token types", (5, 64), 12),
            Case("one token", "a single token", (1, 1), 13),
            Case("full length", "as long as the model takes", (1, 512), 14),
            Case("sentences", "the checkpoint's own tokenizer on five sentences", (5, 23), None),
        ),
        measurements=tuple(measurements(layers, dtypes)),
        gradients=tuple(GradientComparison(one.id, 3e-13, 1e-9) for one in tensors(layers)),
        notes=("mlm.bias.value is all zeros in both.",),
        limits={"float64": 1e-10, "factor": 4.0, "floor float32": 2.0**-21},
        versions={"bertconv": "0.3.0", "Python": "3.11.7", "numpy": "2.3.1", "torch": "2.13.0", "tensorflow": "2.21.0"},
        command="bertconv verify models/bert-base-uncased out/bert-base-uncased-tf --level gradients --report out.html",
        seconds=21.4,
    )


def transposed(layers: int = 12) -> Parity:
    """One square kernel stands transposed in B."""
    parity = good(layers)
    where = f"layer.{layers // 2 + 1}.attention_out"
    rows = tuple(different(one) if one.id == f"{where}.weight" else one for one in parity.tensors)
    start = (layers // 2 + 1 + 4 / 10) / layers
    return replace(
        parity,
        tensors=rows,
        measurements=tuple(measurements(layers, parity.dtypes, start)),
        gradients=tuple(replace(one, error=0.7 if one.id.startswith(where) else one.error) for one in parity.gradients),
        b=side("b", digest=digest("another")),
        divergence=Divergence(where, "weights", f"{where}.weight holds other values in B, and outputs part there."),
        causes=(Cause("transposed kernel", (where,), "B holds the matrix of A with rows and columns exchanged."),),
        notes=(),
    )


def different(one: TensorComparison) -> TensorComparison:
    generator = random.Random(1)
    edges = [-0.2 + 0.4 * n / 40 for n in range(41)]
    a = [float(round(60_000 * math.exp(-((edge / 0.05) ** 2)))) for edge in edges[1:]]
    return replace(
        one,
        state="different",
        differing=589_056,
        max_difference=0.31,
        relative=1.9,
        first=(0, 1),
        value_a=0.0123456789,
        value_b=-0.0456,
        remarks=("3 numbers in B are NaN or infinite",),
        histogram={"edges": edges, "a": a, "b": [round(count * generator.uniform(0.8, 1.3)) for count in a]},
    )


def weights_only() -> Parity:
    parity = good()
    b = side("b", dtypes={"bfloat16": 199, "float32": 2}, framework="")
    rows = tuple(replace(one, dtype_b="bfloat16", state="cast") if "layer" in one.id else one for one in parity.tensors)
    empty = {"dtypes": (), "cases": (), "measurements": (), "gradients": (), "limits": {}, "notes": ()}
    return replace(parity, level="weights", tensors=rows, a=side("a", framework=""), b=b, **empty)


def relabelled() -> Parity:
    """The same weights whose labels are reversed and whose tokenizers are not to count."""
    sentence = "label 0 is 'negative' in A and 'positive' in B"
    labels = Agreement("different", "2 labels", differences=(Mismatch("id2label", 2, sentence),))
    vocabulary = (Mismatch("vocabulary", 1, "token 12 is 'xx' in A and missing in B"),)
    tokenizer = Agreement("different", "30,522 tokens", ignored=True, differences=vocabulary)
    divergence = Divergence("labels", "labels", f"{sentence}.")
    return replace(weights_only(), labels=labels, tokenizer=tokenizer, divergence=divergence)


def not_finite() -> Parity:
    """Layer 2 of 5 gives NaN in B, the last hidden state is exact, and one gradient is infinite."""
    parity = good(5, ("float64", "float32", "bfloat16"))
    rows = []
    for one in parity.measurements:
        value = {"layer.2.ffn_in": math.nan, "layer.2": math.nan, "layer.3": math.inf, "layer.4": 0.0}.get(
            one.place, one.b
        )
        rows.append(replace(one, b=value, max_difference=value))
    gradients = (replace(parity.gradients[0], error=math.inf), *parity.gradients[1:])
    divergence = Divergence("layer.2.ffn_in", "outputs", "layer.2.ffn_in is NaN in B.")
    return replace(parity, measurements=tuple(rows), gradients=gradients, divergence=divergence)


def hostile() -> Parity:
    """Every text that can come from a file is an attack on the page."""
    name = HOSTILE
    parity = transposed(3)
    rows = tuple(
        replace(
            one,
            id=f"layer.0.{name}.weight",
            a=name,
            b=name,
            dtype_a=name,
            dtype_b="x",
            digest=name,
            remarks=(name,),
            state=name,
        )
        for one in parity.tensors[-2:]
    )
    measured = [replace(one, case=name) for one in parity.measurements]
    measured += [replace(one, place=name, module=name, layer=layer) for one in measured[-3:] for layer in (None, 1)]
    measured += [
        replace(one, kind=kind, place=name) for one in measured[:1] for kind in ("module", "output", "hidden state")
    ]
    attacked = side(
        "a", given=name, revision=name, container=name, dialect=name, framework=name, head=name, digest=name
    )
    attacked = replace(attacked, files={name: 7}, dtypes={name: 5})
    return replace(
        parity,
        a=attacked,
        b=attacked,
        head=name,
        tensors=(*parity.tensors, *(replace(one, histogram=parity.tensors[0].histogram) for one in rows)),
        config=(ConfigDifference(name, name, {name: [name]}), ConfigDifference("layer_norm_eps", 1e-12, None)),
        labels=Agreement("different", name, differences=(Mismatch(name, 2, name),)),
        tokenizer=Agreement("not compared", name),
        modules=Agreement("different", name, differences=(Mismatch(name, 2, name),)),
        left_out=(name,),
        cases=(Case(name, name, (2, 3), 1),),
        measurements=tuple(measured),
        gradients=(GradientComparison(name, math.nan, 1.0),),
        divergence=Divergence(name, name, name),
        causes=(Cause(name, (name,), name),),
        notes=(name,),
        limits={name: 1.0},
        versions={name: name},
        command=name,
    )


ALL = {
    "good": good,
    "transposed": transposed,
    "weights": weights_only,
    "labels": relabelled,
    "NaN": not_finite,
    "hostile": hostile,
}
