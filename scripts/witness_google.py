"""Google's own code of 2018 to 2020 as witness for TensorFlow 1 checkpoints: those it wrote and those we wrote.

    python scripts/witness_google.py --python WITNESS [--cases CASES] [--keep FOLDER]

WITNESS is the interpreter of an environment with TensorFlow 2.19, tf-keras, and Google's code as the package index has
it: bert-tensorflow, albert-tensorflow with sentencepiece, and, with `pip install --no-deps`, arabert, which has that of
ELECTRA. They run under TensorFlow 1 compatibility. bertconv, PyTorch and transformers are those of the Python that
runs this file.
Neither the package nor its tests depend on any of this.

For every model, tiny and with all sizes apart, Google's code makes it with random weights, saves it and computes; then
    read     the checkpoint converts to PyTorch, and PyTorch in float64 computes what Google's code did in float32
    written  the PyTorch model converts back, with every name and every bit of the checkpoint
    loaded   Google's code takes the weights from what was written, and computes the same numbers as before
One line per model; exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

os.environ.update(TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_OFFLINE="1")

BERT = {
    "vocab_size": 101, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 5, "intermediate_size": 53,
    "max_position_embeddings": 37, "type_vocab_size": 3, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1, "initializer_range": 0.3,
}  # fmt: skip
ALBERT = BERT | {"embedding_size": 35, "num_hidden_groups": 2, "inner_group_num": 3, "num_hidden_layers": 6}
ELECTRA = BERT | {"hidden_size": 144, "num_attention_heads": 2, "intermediate_size": 576}
LABELS, SEQUENCE, EMBEDDING, GENERATOR = 7, 11, 35, 0.25

CASES = {
    "bert pretraining": ("BertForPreTraining", BERT),
    "bert classifier": ("BertForSequenceClassification", BERT),
    "bert squad": ("BertForQuestionAnswering", BERT),
    "albert pretraining": ("AlbertForPreTraining", ALBERT),
    "albert classifier": ("AlbertForSequenceClassification", ALBERT),
    "albert squad": ("AlbertForQuestionAnswering", ALBERT),
    "electra discriminator": ("ElectraForPreTraining", ELECTRA),
    "electra generator": ("ElectraForMaskedLM", ELECTRA),
}
"""What Google's programs train -> the class of PyTorch, and Google's config."""

SAME, NEAR = 1e-6, 2e-5
"""Largest relative difference of one program run twice, and of float32 from float64."""


def main() -> int:
    """Run every case; 1 when one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="interpreter of the witness environment")
    parser.add_argument("--cases", default=",".join(CASES), help="such as `bert squad,electra generator`")
    parser.add_argument("--keep", type=Path, help="folder to work in, which stays")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        judged_well = [judged(one, folder / one.replace(" ", "_"), options.python) for one in options.cases.split(",")]
        return 0 if all(judged_well) else 1


def judged(name: str, folder: Path, python: str) -> bool:
    """Whether all holds of one model; prints its line."""
    from bertconv import convert_checkpoint

    head, config = CASES[name]
    folder.mkdir(parents=True)
    theirs = asked(python, name, folder / "google", None)
    config_name = "albert_config.json" if name.startswith("albert") else "bert_config.json"
    if not name.startswith("electra"):
        (folder / "google" / config_name).write_text(json.dumps(config))
    convert_checkpoint(folder / "google", folder / "pt", to="pt", head=head)
    convert_checkpoint(folder / "pt", folder / "tf1", to="tf1")
    again = asked(python, name, folder / "again", folder / "tf1")
    ours = computed(folder / "pt", head, theirs)
    stored = {key: value for key, value in again.items() if key.startswith("file ")}
    bits = [key for key, value in stored.items() if key not in theirs or value.tobytes() != theirs[key].tobytes()]
    rest = sorted(key for key in theirs if key.startswith("file ") and key not in stored)
    unused = [key for key in rest if "pooler" in key or name.startswith("electra")]
    near = max(apart(ours[key], theirs[key]) for key in ours)
    same = max(apart(again[key], theirs[key]) for key in ours)
    good = not bits and rest == unused and near < NEAR and same < SAME
    print(
        f"{'ok ' if good else 'BAD'} {name:22} read: {near:.1e} from PyTorch in float64; written: "
        f"{len(stored) - len(bits)} of {len(stored)} tensors the same bits, {len(rest)} not of the class; "
        f"loaded: {same:.1e} from before",
        flush=True,
    )
    return good


def apart(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.abs(one - other).max() / np.abs(one).max())


def asked(python: str, name: str, folder: Path, weights: Path | None) -> dict[str, np.ndarray[Any, Any]]:
    """What Google's code computes and stores: in a process of its own, with random weights or a folder's."""
    folder.mkdir()
    job = json.dumps({"case": name, "folder": str(folder), "weights": weights and str(weights)})
    done = subprocess.run([python, __file__, "--child", job], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: Google's code failed:\n{done.stderr[-3000:]}")
    with np.load(folder / "computed.npz") as found:
        return dict(found)


def computed(folder: Path, head: str, given: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """What PyTorch computes in float64, in the form in which Google's code gives it."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    if not head.startswith("Electra"):
        config.hidden_act = "gelu_new"  # what Google's programs call gelu
    model = getattr(transformers, head).from_pretrained(folder, config=config, dtype=torch.float64).eval()
    names = {"ids": "input_ids", "mask": "attention_mask", "segments": "token_type_ids"}
    with torch.no_grad():
        found = model(**{own: torch.tensor(given[key], dtype=torch.long) for key, own in names.items()})
    if head.endswith("ForPreTraining") and not head.startswith("Electra"):
        second = found.seq_relationship_logits if head.startswith("Bert") else found.sop_logits
        return {"words": found.prediction_logits.log_softmax(-1).numpy(), "pair": second.log_softmax(-1).numpy()}
    if head.endswith("QuestionAnswering"):
        return {"start": found.start_logits.numpy(), "end": found.end_logits.numpy()}
    if head.endswith("MaskedLM"):
        return {"words": found.logits.numpy()}
    key = "fake" if head.startswith("Electra") else "labels"
    return {key: (found.logits.sigmoid() if key == "fake" else found.logits.softmax(-1)).numpy()}


# What runs in the witness environment


def child(job: Mapping[str, Any]) -> None:
    """Build a model with Google's code, fill it, save it, and write down what it computes."""
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", TF_USE_LEGACY_KERAS="1")
    tf = compatible()
    rng = np.random.default_rng(5)
    given = {
        "ids": rng.integers(1, BERT["vocab_size"], (2, SEQUENCE)).astype("i4"),
        "mask": np.array([[1] * SEQUENCE, [1] * (SEQUENCE - 4) + [0] * 4], "i4"),
        "segments": rng.integers(0, BERT["type_vocab_size"], (2, SEQUENCE)).astype("i4"),
    }
    outputs = BUILDERS[job["case"].split()[0]](
        job["case"].split()[1], {key: tf.constant(one) for key, one in given.items()}
    )
    variables = tf.global_variables()
    folder = Path(job["folder"])
    with tf.Session() as session:
        if job["weights"]:
            prefix = tf.train.latest_checkpoint(job["weights"])
            stored = dict(tf.train.list_variables(prefix))
            tf.train.init_from_checkpoint(prefix, {one.op.name: one for one in variables if one.op.name in stored})
            session.run(tf.global_variables_initializer())
            reader = tf.train.load_checkpoint(prefix)
            found = {f"file {name}": reader.get_tensor(name) for name in stored}
        else:
            session.run(tf.global_variables_initializer())
            for one in variables:
                one.load(rng.normal(0, 0.3, one.shape.as_list()).astype("f4"), session)
            tf.train.Saver(variables).save(session, str(folder / "bert_model.ckpt"))
            found = {f"file {one.op.name}": one.eval(session) for one in variables}
        np.savez(folder / "computed.npz", **given, **found, **session.run(outputs))


def compatible() -> Any:
    """TensorFlow as Google's code expects it: version 1, and of its `contrib` what is used."""
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()

    def layer_norm(inputs: Any, begin_norm_axis: int, begin_params_axis: int, scope: str | None) -> Any:  # noqa: ARG001
        """`contrib.layers.layer_norm` over the last axis: epsilon 1e-12."""
        with tf.variable_scope(scope, default_name="LayerNorm"):
            beta = tf.get_variable("beta", [inputs.shape[-1]], initializer=tf.zeros_initializer())
            gamma = tf.get_variable("gamma", [inputs.shape[-1]], initializer=tf.ones_initializer())
        mean, variance = tf.nn.moments(inputs, [-1], keep_dims=True)
        return tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, 1e-12)

    contrib = types.ModuleType("tensorflow.contrib")
    for name in ("layers", "tpu", "cluster_resolver", "data"):
        setattr(contrib, name, types.ModuleType(f"tensorflow.contrib.{name}"))
        sys.modules[f"tensorflow.contrib.{name}"] = getattr(contrib, name)
    contrib.layers.layer_norm = layer_norm
    tf.contrib = contrib
    tf.estimator = types.SimpleNamespace(SessionRunHook=object)  # which later versions have not
    sys.modules.update({"tensorflow.contrib": contrib, "tensorflow": tf})
    return tf


def of_bert(task: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Google's BERT."""
    import tensorflow as tf
    from bert import modeling

    config = modeling.BertConfig.from_dict(BERT)
    inputs = (given["ids"], given["mask"], given["segments"])
    if task == "squad":
        from bert import run_squad

        start, end = run_squad.create_model(config, False, *inputs, False)
        return {"start": start, "end": end}
    if task == "classifier":
        from bert import run_classifier

        labels = tf.zeros([2], tf.int32)
        return {"labels": run_classifier.create_model(config, False, *inputs, labels, LABELS, False)[3]}
    from bert import run_pretraining

    model = modeling.BertModel(config, False, *inputs)
    return pretrained(run_pretraining, run_pretraining.get_next_sentence_output, config, model)


def of_albert(task: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Google's ALBERT."""
    import tensorflow as tf
    from albert import modeling

    config = modeling.AlbertConfig.from_dict(ALBERT)
    inputs = (given["ids"], given["mask"], given["segments"])
    if task == "squad":
        from albert import run_squad

        start, end = run_squad.create_model(config, False, *inputs, False)
        return {"start": start, "end": end}
    if task == "classifier":
        from albert import run_classifier

        run_classifier.FLAGS = types.SimpleNamespace(use_pooled_output=True)  # its default
        labels = tf.zeros([2], tf.int32)
        return {"labels": run_classifier.create_model(config, False, *inputs, labels, LABELS, False)[2]}
    from albert import run_pretraining

    model = modeling.AlbertModel(config, False, *inputs)
    return pretrained(run_pretraining, run_pretraining.get_sentence_order_output, config, model)


def pretrained(program: Any, pair: Any, config: Any, model: Any) -> dict[str, Any]:
    """Words at every place, and how two sentences go together."""
    import tensorflow as tf

    places = tf.constant(np.tile(np.arange(SEQUENCE, dtype="i4"), (2, 1)))
    table = model.get_embedding_table()
    _, _, words = program.get_masked_lm_output(
        config, model.get_sequence_output(), table, places, tf.zeros_like(places), tf.ones_like(places, tf.float32)
    )
    _, _, both = pair(config, model.get_pooled_output(), tf.zeros([2], tf.int32))
    return {"words": tf.reshape(words, [2, SEQUENCE, -1]), "pair": both}


def of_electra(task: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Google's ELECTRA, with both models in its file: the generator is a quarter as wide as the discriminator."""
    found = importlib.util.find_spec("arabert")  # itself it is not imported: it needs packages that this does not
    sys.path.insert(0, str(Path(str(found and found.origin)).parent / "araelectra"))
    import run_pretraining
    import tensorflow as tf
    from model import modeling

    program = object.__new__(run_pretraining.PretrainingModel)
    settings = types.SimpleNamespace(uniform_generator=False, generator_hidden_size=GENERATOR, generator_layers=1.0,
                                     electric_objective=False, two_tower_generator=False)  # fmt: skip
    program._config, program._bert_config = settings, modeling.BertConfig.from_dict(ELECTRA)
    own = run_pretraining.get_generator_config(settings, program._bert_config)
    models = {
        scope: modeling.BertModel(config, False, given["ids"], given["mask"], given["segments"], False, scope,
                                  embedding_size=EMBEDDING)
        for scope, config in (("generator", own), ("electra", program._bert_config))
    }  # fmt: skip
    places = tf.constant(np.tile(np.arange(SEQUENCE, dtype="i4"), (2, 1)))
    inputs = types.SimpleNamespace(
        input_mask=given["mask"], masked_lm_positions=places, masked_lm_ids=tf.zeros_like(places),
        masked_lm_weights=tf.ones_like(places, tf.float32),
    )  # fmt: skip
    words = program._get_masked_lm_output(inputs, models["generator"]).logits
    fake = program._get_discriminator_output(inputs, models["electra"], tf.zeros_like(places)).probs
    return {"fake": fake} if task == "discriminator" else {"words": words}


BUILDERS = {"bert": of_bert, "albert": of_albert, "electra": of_electra}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(json.loads(sys.argv[2]))
    else:
        sys.exit(main())
