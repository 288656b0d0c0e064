"""Sizes of checkpoints, drawn from two lists of real repositories of the Hub (sizes.tsv).

- `downloads`: the 35 repositories of BERT's families among 57 widely used models in a table of safetensors' own
  repository (github.com/huggingface/safetensors, temp.md, commit 01b9ce0): bytes are 4 for each F32, 8 for each I64.
- `embeddings`: the 207 repositories of BERT's families among the 969 models that mteb 2.26.24 describes
  (mteb/models/model_implementations). Bytes are its `memory_usage_mb`, MiB of the weights on the Hub; of 12 that have
  none its `n_parameters` times 4.

Which are of these families was decided by hand, by name and by the model that each says it was made from. Doubtful ones
were left out, and everything above 570 million parameters: of these families it has one there, with a wrong number.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

LISTS = ("downloads", "embeddings")
_FILE = Path(__file__).with_name("sizes.tsv")


def real_sizes(which: str) -> list[int]:
    """Bytes of the weights of each repository of one list, or of both.

    Args:
        which: `downloads`, `embeddings` or `both`.
    """
    with _FILE.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [int(row["bytes"]) for row in rows if which in {row["list"], "both"}]


def drawn_sizes(count: int, which: str, seed: int) -> list[int]:
    """As many sizes as asked for, each that of one repository; the same seed gives the same sizes.

    Args:
        count: how many.
        which: as for `real_sizes`.
        seed: of the draw.
    """
    return random.Random(seed).choices(real_sizes(which), k=count)
