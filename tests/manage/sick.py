"""Sick checkpoints, made on the spot: each has one thing wrong with it, which the doctor must name and cure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
from tokenizer_folders import fast

LM, BASE, CLASSIFIER = "BertForMaskedLM", "BertModel", "BertForSequenceClassification"
QUERY = "bert.encoder.layer.1.attention.self.query.weight"
NORM = "bert.encoder.layer.0.output.LayerNorm.weight"

Made = Callable[[Path], Path]


def state(head: str = LM, **changes: Any) -> cp.Tensors:
    """Tensors of ordinary size, all different; and so none that is smaller than float16 can hold."""
    found = {}
    for name, value in cp.state_dict(head, **changes).items():
        whole = value.astype(np.float64)
        small = np.sign(whole) * (0.01 + np.abs(whole) / np.abs(whole).max())
        found[name] = small.astype(value.dtype)
    return found


def plain(path: Path, tensors: cp.Tensors, metadata: object = None, head: str = LM, **changes: Any) -> Path:
    """A folder with a config of `head` and these tensors under these very names."""
    cp.write_config(path, cp.config(head, **changes))
    metadata = {"format": "pt"} if metadata is None else metadata
    (path / "model.safetensors").write_bytes(cp.safetensors_bytes(tensors, metadata))
    return path


def bare(path: Path) -> Path:
    return cp.save(path, LM, state())


def healthy(path: Path) -> Path:
    return with_words(path, cp.SIZES["vocab_size"])


def tf_names(path: Path) -> Path:
    return cp.save(path, LM, state(), "tf-safetensors")


def tf_file(path: Path) -> Path:
    return cp.save(path, LM, state(), "h5")


def pickle(path: Path) -> Path:
    return cp.save(path, LM, state(), "bin")


def prefixed(prefix: str) -> Made:
    return lambda path: plain(path, cp.prefixed(state(), prefix))


def old_norms(path: Path) -> Path:
    names = cp.renamed(state(), r"LayerNorm\.weight$", "LayerNorm.gamma")
    return plain(path, cp.renamed(names, r"LayerNorm\.bias$", "LayerNorm.beta"))


def old_norms_of_others(path: Path) -> Path:
    head = "DistilBertForMaskedLM"
    names = cp.renamed(cp.state_dict(head), r"layer_norm\.weight$", "layer_norm.gamma")
    return plain(path, cp.renamed(names, r"layer_norm\.bias$", "layer_norm.beta"), head=head)


def no_head(path: Path) -> Path:
    return plain(path, cp.bare(state(BASE)), head=CLASSIFIER)


def other_head(path: Path) -> Path:
    return plain(path, state(), head=CLASSIFIER)


def half_a_head(path: Path) -> Path:
    tensors = state(CLASSIFIER)
    del tensors["classifier.bias"]
    return plain(path, tensors, head=CLASSIFIER)


def half_a_body(path: Path) -> Path:
    tensors = state()
    del tensors[QUERY]
    return plain(path, tensors)


def head_left_out(path: Path) -> Path:
    return cp.save(path, LM, state(), architectures=[BASE])


def no_class(path: Path) -> Path:
    return cp.save(path, LM, state(), architectures=None)


def strange_class(path: Path) -> Path:
    return cp.save(path, LM, state(), architectures=["Wonder"], is_decoder=False)


def no_pooler(path: Path) -> Path:
    tensors = {name: value for name, value in state(BASE).items() if name not in cp.POOLER}
    return cp.save(path, BASE, tensors)


def strange_tensor(path: Path) -> Path:
    return plain(path, {**state(), "extra.thing": np.ones(3, np.float32)})


def strange_part(path: Path) -> Path:
    return plain(path, {**state(), "bert.encoder.layer.0.adapter.down.weight": np.ones((3, 35), np.float32)})


def stored_twice(path: Path) -> Path:
    tensors = state()
    return cp.save(path, LM, {**tensors, cp.DECODER: tensors[cp.WORD]})


def copies_differ(path: Path) -> Path:
    tensors = state()
    return cp.save(path, LM, {**tensors, cp.DECODER: tensors[cp.WORD] * 2})


def other_config_name(path: Path) -> Path:
    healthy(path)
    (path / "config.json").rename(path / "bert_config.json")
    return path


def no_config(path: Path) -> Path:
    healthy(path)
    (path / "config.json").unlink()
    return path


def no_model_type(path: Path) -> Path:
    return cp.save(path, LM, state(), model_type=None)


def vocabulary(path: Path) -> Path:
    return cp.save(path, LM, state(), vocab_size=104)


def other_sizes(path: Path) -> Path:
    return cp.save(path, LM, state(), intermediate_size=54)


def labels_not_said(path: Path) -> Path:
    return cp.save(path, CLASSIFIER, state(CLASSIFIER), id2label=None, label2id=None)


def other_labels(path: Path) -> Path:
    return cp.save(path, CLASSIFIER, state(CLASSIFIER), labels=3)


def labels_disagree(path: Path) -> Path:
    return cp.save(path, CLASSIFIER, state(CLASSIFIER), num_labels=4)


def narrower(path: Path) -> Path:
    return cp.save(path, LM, state(), torch_dtype="float16")


def wider(path: Path) -> Path:
    return cp.save(path, LM, state(dtype="float16"), dtype="float32")


def mixed(path: Path) -> Path:
    tensors = state()
    return cp.save(path, LM, {**tensors, QUERY: tensors[QUERY].astype(np.float16)})


def other_file_name(path: Path) -> Path:
    healthy(path)
    (path / "model.safetensors").rename(path / "weights.safetensors")
    return path


def metadata(value: object) -> Made:
    return lambda path: plain(path, cp.tf_state(state()), value)


def beside(container: str, factor: float = 1.0) -> Made:
    def make(path: Path) -> Path:
        healthy(path)
        return cp.save_weights(path, LM, {name: value * factor for name, value in state().items()}, container)

    return make


def beside_damaged(path: Path) -> Path:
    healthy(path)
    (path / "pytorch_model.bin").write_bytes(b"nothing of the kind")
    return path


def stale_shards(path: Path) -> Path:
    cp.save_shards(healthy(path), state())
    (path / "model.safetensors.index.json").unlink()
    return path


def adapter(path: Path) -> Path:
    healthy(path)
    facts = {"peft_type": "LORA", "base_model_name_or_path": "base", "task_type": None}
    (path / "adapter_config.json").write_text(json.dumps(facts))
    (path / "adapter_model.safetensors").write_bytes(cp.safetensors_bytes({"x": np.zeros(2, np.float32)}))
    return path


def with_words(path: Path, words: int, tensors: cp.Tensors | None = None, **changes: Any) -> Path:
    """A checkpoint with a vocabulary of so many words."""
    cp.save(path, LM, tensors or state(), **changes)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    lines = [*special, *(f"word{number}" for number in range(words - len(special)))]
    (path / "vocab.txt").write_text("".join(f"{line}\n" for line in lines))
    return path


def too_many_words(path: Path) -> Path:
    return with_words(path, cp.SIZES["vocab_size"] + 4)


def too_few_words(path: Path) -> Path:
    return with_words(path, cp.SIZES["vocab_size"] - 4)


def damaged_tokenizer(path: Path) -> Path:
    healthy(path)
    (path / "tokenizer.json").write_text("{")
    return path


def changed(name: str, change: Callable[[np.ndarray], None], head: str = LM, **changes: Any) -> Made:
    """A checkpoint in which one tensor was changed in place."""

    def make(path: Path) -> Path:
        tensors = {one: value.copy() for one, value in state(head, **changes).items()}
        change(tensors[name])
        return with_words(path, cp.SIZES["vocab_size"], tensors)

    return make


def too_large_for_its_config(path: Path) -> Path:
    changed(QUERY, put((1, 1), 1e6))(path)
    return cp.write_config(path, cp.config(LM, dtype="float16"))


def stale_copy(path: Path) -> Path:
    """TensorFlow's ALBERT computes with one of two biases that it stores."""
    head = "AlbertForMaskedLM"
    names = cp.tf_state(state(head))
    names["predictions/bias:0"] = names[cp.STORED_TWICE] * 2
    cp.write_config(path, cp.config(head))
    (path / "model.safetensors").write_bytes(cp.safetensors_bytes(names, {"format": "tf"}))
    return path


def two_tokenizers(path: Path) -> Path:
    with_words(path, 50)
    words = (path / "vocab.txt").read_text().splitlines()
    words[7], words[8] = words[8], words[7]
    (path / "tokenizer.json").write_text(json.dumps(fast(words)))
    return path


def put(index: Any, value: float) -> Callable[[np.ndarray], None]:
    def change(array: np.ndarray) -> None:
        array[index] = value

    return change


def copy_row(source: int, *targets: int) -> Callable[[np.ndarray], None]:
    def change(array: np.ndarray) -> None:
        array[list(targets)] = array[source]

    return change
