"""The table of formats at the top of docs/formats.md, from what the tables and the registry say.

    python scripts/format_matrix.py            print it
    python scripts/format_matrix.py --write    put it into docs/formats.md, between its marks

tests/test_formats_page.py compares the page with it, so that no new format, class or place is forgotten there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from bertconv.containers.registry import BY_NAME
from bertconv.families import families
from bertconv.formats.output import Format, formats
from bertconv.mapping.describe import Spoken, spoken_dialects
from bertconv.mapping.table import table_for

PAGE = Path(__file__).parents[1] / "docs" / "formats.md"
BEGIN, END = "<!-- formats: scripts/format_matrix.py -->", "<!-- end of formats -->"

LOADED_BY = {
    "pt": "PyTorch, transformers 4 and 5, sentence-transformers",
    "tf": "bertconv's and transformers 4's TensorFlow classes, `load_weights` of Keras 2",
    "google": "`tf.train.load_checkpoint`, Google's code of 2018 to 2020",
    "garden": "tf-models-official: its encoders and the models around them, `tf.train.Checkpoint.restore`",
    "flax": "transformers 4's Flax classes",
    "keras_hub": "`keras_hub.models.*.from_preset`",
}
"""Dialect -> the programs that were seen to load it (scripts/witness.py)."""
READ_ONLY = {
    "torch": "`pytorch_model.bin`, `.pt`, `.ckpt`, with an index for shards",
    "dcp": "`.metadata` and `*.distcp` of `torch.distributed.checkpoint` (FSDP)",
    "onnx": "`model.onnx` of PyTorch's TorchScript exporter, not quantised",
}
"""Container -> the files that are read of it, where no format is written in it."""


def matrix() -> str:
    """The whole table, in Markdown."""
    heading = ("`--to`", "files", "read", "written", "families and classes", "no place for", "loaded by")
    rows = [heading, ("---",) * len(heading), *map(_written, formats().values()), *_only_read()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _written(form: Format) -> tuple[str, ...]:
    spoken = {
        name: one for name in families() for one in spoken_dialects(table_for(name)) if one.dialect == form.dialect.name
    }
    loaded = LOADED_BY.get(form.dialect.name, form.dialect.title)
    file = form.contents.partition(" with ")[0]
    names = f"`{file}`, {form.dialect.title}'s names"
    return f"`{form.name}`", names, "yes", "yes", _classes(spoken), _lost(spoken), loaded


def _classes(spoken: dict[str, Spoken]) -> str:
    if len(spoken) == len(families()) and not any(one.missing for one in spoken.values()):
        return "all"
    whole = [name for name, one in spoken.items() if not one.missing]
    parts = [f"{name} ({len(one.heads)} of {len(one.heads) + len(one.missing)})" for name, one in spoken.items()
             if one.missing]  # fmt: skip
    return ", ".join([*whole, *parts]) or "none"


def _lost(spoken: dict[str, Spoken]) -> str:
    """What there is no place for, families with the same together."""
    by_lack: dict[tuple[str, ...], list[str]] = {}
    for name, one in spoken.items():
        if one.lacks:
            by_lack.setdefault(one.lacks, []).append(name)
    texts = [f"{', '.join(names)}: {', '.join(f'`{one}`' for one in lacks)}" for lacks, names in by_lack.items()]
    return "; ".join(texts) or "-"


def _only_read() -> Iterator[tuple[str, ...]]:
    written = {form.container.name for form in formats().values()}
    for name, container in BY_NAME.items():
        if name not in written:
            yield "-", READ_ONLY.get(name, f"`*{container.suffix}`"), "yes", "no", "as their names say", "-", "-"


def with_matrix(page: str) -> str:
    """A page with the table of today between its marks."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{matrix()}\n\n{END}{after}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(with_matrix(PAGE.read_text()))
    else:
        print(matrix())
