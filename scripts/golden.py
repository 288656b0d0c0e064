"""Write tests/golden/: per model class, what the table calls every tensor, so that a review shows what an edit changed.

python scripts/golden.py            rewrite the listings
python scripts/golden.py --check    say which listings are not current; exit code 1 if any is
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bertconv.mapping.checks import probe_config
from bertconv.mapping.describe import axes_of
from bertconv.mapping.dialects import Dialect, Dialects, load_dialects
from bertconv.mapping.expand import TensorSpec, expand
from bertconv.mapping.table import Table, load_table
from bertconv.table_files import table_names, tables_folder

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
_LAYERS = 2


def listing(table: Table, dialects: Dialects, head: str) -> str:
    """One line a tensor: id | PyTorch's names [axes] | TensorFlow's names [axes] | condition, tie."""
    columns = [_names(table, dialects.by_name[dialect], head) for dialect in ("pt", "tf")]
    lines = []
    for place, one in columns[0].items():
        cells = [place, *(f"{' or '.join(specs[place].names)} [{axes_of(specs[place])}]" for specs in columns)]
        cells += [f"when {' and '.join(condition.text for condition in one.when)}"] if one.when else []
        cells += [f"tied to {table.tied[place]}"] if place in table.tied else []
        cells += [f"stored in {name}: {rows[place]}" for name, rows in table.stored_copies.items() if place in rows]
        lines.append(" | ".join(cells))
    unused = ((name, group) for name, groups in table.unused.items() for group in groups)
    lines += [f"{group} | unused in {name}" for name, group in unused if group not in table.heads[head]]
    return "\n".join(lines) + "\n"


def listings(table: Table, dialects: Dialects) -> dict[str, str]:
    """File name -> content, for every model class; every condition holds."""
    return {f"{head}.txt": listing(table, dialects, head) for head in table.heads}


def every(dialects: Dialects) -> dict[str, str]:
    """The listings of every table, for the first of its model types: others differ in names of classes alone."""
    paths = [tables_folder() / f"{name}.toml" for name in table_names()]
    return {name: text for path in paths for name, text in listings(load_table(path), dialects).items()}


def stale(folder: Path, wanted: dict[str, str]) -> list[str]:
    """Names of files that lack, differ, or should not be there."""
    there = {path.name: path.read_text() for path in folder.glob("*.txt")}
    return sorted(name for name in there.keys() | wanted.keys() if there.get(name) != wanted.get(name))


def _names(table: Table, dialect: Dialect, head: str) -> dict[str, TensorSpec]:
    specs = expand(table, dialect, probe_config(table, _LAYERS), table.heads[head])
    if dialect.drops_base and head == table.base_head:
        return {place: spec.without(table.base + dialect.separator) for place, spec in specs.items()}
    return specs


def main() -> int:
    """Rewrite or compare the listings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    wanted = every(load_dialects())
    names = stale(GOLDEN, wanted)
    for name in names:
        print(f"{name} is not current: python scripts/golden.py" if check else f"wrote {name}")
        if not check and name in wanted:
            (GOLDEN / name).write_text(wanted[name])
        elif not check:
            (GOLDEN / name).unlink()
    return 1 if check and names else 0


if __name__ == "__main__":
    sys.exit(main())
