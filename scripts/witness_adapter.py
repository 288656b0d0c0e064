"""The outside witness of `bertconv merge-adapter`: peft merges the same adapters into the same bases.

    python scripts/witness_adapter.py
    python scripts/witness_adapter.py --env DIR

DIR is a virtual environment with peft; it is made when it is not there yet, by default in the user's cache. peft makes
a tiny base and an adapter of every kind that is merged, for seven families, in float32 and bfloat16, and merges them;
bertconv merges them in both formats. One line per case: tensors, those of them that are equal bit for bit, and the
largest difference in units of the rounding of the terms that were added (|W| + scale |B| |A|, bounded by the largest of
the tensor) in the base's type. Exit code 1 when that is more than one, or nothing was changed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np

from bertconv import merge_adapter
from bertconv.checkpoint import open_checkpoint
from bertconv.source import SourceOptions

RANK = 4
NEEDS = ("peft==0.21.*", "transformers==5.*", "torch==2.13.0")
PEER = """
import sys, torch, transformers as tr
from peft import LoraConfig, get_peft_model
small = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20, vocab_size=30,
             max_position_embeddings=20, num_labels=5)
distil = dict(dim=12, n_layers=2, n_heads=3, hidden_dim=20, vocab_size=30, max_position_embeddings=20, num_labels=5)
seq, tokens, qa = "SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"
cases = {
    "BERT plain": ("Bert", small, "ForSequenceClassification", dict(task_type=seq, target_modules=["query", "value"])),
    "BERT patterns, rslora, every bias, embeddings": ("Bert", small, "ForSequenceClassification", dict(
        task_type=seq, target_modules=["query", "value", "dense", "word_embeddings"], use_rslora=True, bias="all",
        rank_pattern={"layer.1.attention.self.query": 3, "^bert.encoder.layer.0.attention.self.value": 2},
        alpha_pattern={"value": 5})),
    "BERT biases of targets": ("Bert", small, "ForTokenClassification", dict(
        task_type=tokens, bias="lora_only", target_modules=["query", "output.dense"])),
    "BERT bias of the product, regex": ("Bert", small, "ForQuestionAnswering", dict(
        task_type=qa, lora_bias=True, target_modules=r".*\\.(query|key)")),
    "BERT one layer, fan_in_fan_out": ("Bert", small, "Model", dict(
        target_modules=["query"], fan_in_fan_out=True, layers_to_transform=[1])),
    "BERT tied embeddings": ("Bert", small, "ForMaskedLM", dict(target_modules=["query", "word_embeddings"])),
    "RoBERTa": ("Roberta", {**small, "pad_token_id": 1}, "ForSequenceClassification", dict(
        task_type=seq, target_modules=["query", "intermediate.dense"])),
    "DistilBERT": ("DistilBert", distil, "ForSequenceClassification", dict(
        task_type=seq, target_modules=["q_lin", "lin1"], modules_to_save=["pre_classifier"])),
    "ELECTRA": ("Electra", {**small, "embedding_size": 8}, "ForTokenClassification", dict(
        task_type=tokens, target_modules=["query", "embeddings_project"])),
    "ALBERT": ("Albert", {**small, "embedding_size": 8}, "ForSequenceClassification", dict(
        task_type=seq, target_modules=["query", "ffn"])),
    "MPNet": ("MPNet", small, "ForQuestionAnswering", dict(task_type=qa, target_modules=["q", "k", "v"])),
    "RoBERTa-PreLayerNorm": ("RobertaPreLayerNorm", {**small, "pad_token_id": 1}, "ForTokenClassification", dict(
        task_type=tokens, target_modules=["key"])),
}
for number, (name, (family, sizes, head, options)) in enumerate(cases.items()):
    for dtype in ("float32", "bfloat16"):
        torch.manual_seed(number)
        folder = f"{sys.argv[1]}/{name}: {dtype}"
        model = getattr(tr, family + head)(getattr(tr, family + "Config")(**sizes)).to(getattr(torch, dtype))
        for one in model.parameters():
            one.data.normal_(std=0.3)
        model.save_pretrained(f"{folder}/base")
        adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, **options))
        for one in adapted.parameters():
            if one.requires_grad:
                one.data.normal_(std=0.3)
        adapted.save_pretrained(f"{folder}/adapter")
        adapted.merge_and_unload().save_pretrained(f"{folder}/merged")
"""


def main() -> int:
    """Have peft make and merge, merge too, compare; 0 when everything agrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--env", type=Path, default=cache / "bertconv" / "peft")
    python = _environment(parser.parse_args().env)
    with tempfile.TemporaryDirectory() as temp:
        quiet = {**os.environ, "TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
        subprocess.run([python, "-c", PEER, temp], check=True, env=quiet, stderr=subprocess.DEVNULL)
        return max(_compared(case, to) for case in sorted(Path(temp).iterdir()) for to in ("pt", "tf"))


def _environment(folder: Path) -> Path:
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *NEEDS], check=True)
    return python


def _compared(case: Path, to: str) -> int:
    out = case / to
    merge_adapter(case / "base", case / "adapter", out, to=to)
    options = SourceOptions()
    with (
        open_checkpoint(case / "merged", options) as theirs,
        open_checkpoint(out, options, head=theirs.head) as ours,
        open_checkpoint(case / "base", options, head=theirs.head) as base,
    ):
        equal, worst, touched = 0, 0.0, 0
        for place, tensor in theirs.tensors.items():
            expected, found = tensor.whole("float64"), ours.tensors[place].whole("float64")
            before = base.tensors[place].whole("float64")
            touched += not np.array_equal(before, found)
            equal += np.array_equal(expected, found)
            eps = 2.0**-24 if case.name.endswith("float32") else 2.0**-8
            terms = np.abs(before).max() + np.abs(found - before).max() * RANK
            worst = max(worst, float(np.abs(expected - found).max() / (eps * terms)))
        wrong = worst > 1 or theirs.tensors.keys() != ours.tensors.keys() or not touched
        print(f"{case.name}, {to}: {equal} of {len(theirs.tensors)} equal, {touched} changed, {worst:.2f}"
              f"{' WRONG' if wrong else ''}", flush=True)  # fmt: skip
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
