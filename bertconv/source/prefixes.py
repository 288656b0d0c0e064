"""TensorFlow's checkpoints by their prefix: which files belong to one, and which of several in a folder is meant.

A checkpoint PREFIX is `PREFIX.index`, `PREFIX.data-00000-of-00001` and so on, and `PREFIX.meta` if the graph was saved;
beside them lies a text file `checkpoint` that names the one of the last save.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from contextlib import closing
from pathlib import Path

from bertconv.errors import MissingFiles, RequestError
from bertconv.records import dataclass
from bertconv.source.checkpoint_folder import CheckpointFolder, open_in
from bertconv.text import is_plain, printable, some

INDEX = ".index"
"""Last part of the name of the file that says what the others hold."""

LIST = "checkpoint"
"""TensorFlow's text file with the prefixes of a folder's checkpoints."""

LIST_BYTES = 1_000_000
"""Most bytes of such a file that are read: a line for each checkpoint that was kept."""

_PART = re.compile(r"(?P<prefix>.+)\.(index|meta|data-\d{5}-of-\d{5})", re.DOTALL)
_PATH = re.compile(rb'^\s*model_checkpoint_path:\s*"((?:[^"\\\n]|\\.)*)"', re.MULTILINE)
_STEP = re.compile(r"(?P<stem>.+)-(?P<step>\d{1,18})", re.DOTALL)


@dataclass(frozen=True)
class Chosen:
    """The index of the checkpoint that is meant, and what is to be said of the choice."""

    index: str
    notes: tuple[str, ...] = ()


def prefix_of(name: str) -> str | None:
    """The prefix of the checkpoint that a file of this name belongs to; None for other files."""
    found = _PART.fullmatch(name)
    return found["prefix"] if found else None


def is_index(name: str) -> bool:
    """Whether a file of this name says what lies in the others of a checkpoint."""
    return name.endswith(INDEX)


def is_prefix(path: Path) -> bool:
    """Whether a path is the first part of those of a checkpoint's files."""
    try:
        return any(prefix_of(one.name) == path.name for one in path.parent.iterdir())
    except OSError:
        return False


def listed_in(checkpoint: CheckpointFolder) -> str | None:
    """The prefix that the list of a folder names, where there is one beside several checkpoints."""
    several = sum(is_index(name) for name in checkpoint.names) > 1
    if not several or LIST not in checkpoint.names:
        return None
    checkpoint.need([LIST])
    with closing(open_in(checkpoint.folder, LIST)) as file:
        return listed_prefix(file.read_up_to(LIST_BYTES))


def listed_prefix(text: bytes) -> str | None:
    """The prefix, without its folders, that a file `checkpoint` names; None where it names none.

    The folders are those of the machine on which it was written, so only the last part can be of use here.
    """
    found = _PATH.search(text)
    if found is None:
        return None
    last = re.split(r"[/\\]", found[1].decode("utf-8", "replace").replace("\\\\", "\\"))[-1]
    return last if is_plain(last) else None


def choose_prefix(indexes: Collection[str], listed: str | None) -> Chosen:
    """The one of several checkpoints in a folder that is meant.

    Args:
        indexes: names of their index files, at least one.
        listed: the prefix that the folder's `checkpoint` names.

    Raises:
        RequestError: nothing decides.
    """
    prefixes = sorted(name.removesuffix(INDEX) for name in indexes)
    if len(prefixes) == 1:
        return Chosen(prefixes[0] + INDEX)
    if listed in prefixes:
        return Chosen(f"{listed}{INDEX}", (_note(str(listed), prefixes, f"as the file {LIST} says"),))
    steps = [found for prefix in prefixes if (found := _STEP.fullmatch(prefix))]
    if len(steps) == len(prefixes) and len({found["stem"] for found in steps}) == 1:
        last = max(steps, key=lambda found: int(found["step"]))
        return Chosen(f"{last[0]}{INDEX}", (_note(last[0], prefixes, "the one of the highest step"),))
    raise RequestError(
        f"holds several checkpoints, {_names(prefixes)}, and nothing says which is meant.",
        hint="Give the prefix of one of them: FOLDER/PREFIX.",
    )


def incomplete(names: Iterable[str], where: str, prefix: str | None = None) -> MissingFiles | None:
    """The error for parts of a TensorFlow checkpoint without the others; None where no name is that of such a part.

    Args:
        names: files of the folder.
        where: what the user gave.
        prefix: of the checkpoint that is meant; None for any.
    """
    parts = sorted(name for name in names if (own := prefix_of(name)) is not None and prefix in (None, own))
    if not parts:
        return None
    kinds = {name.removeprefix(f"{prefix_of(name)}.").partition("-")[0] for name in parts}
    if kinds >= {"index", "data"}:
        return None
    own = printable(str(prefix_of(parts[0])))
    index, data = f"{own}{INDEX}", f"{own}.data-00000-of-00001"
    if kinds == {"meta"}:
        what, lacking = "is the graph of a TensorFlow checkpoint, which holds no weights", f"{index} and {data}"
    elif "index" in kinds:
        what, lacking = "says what the files of a TensorFlow checkpoint hold, and these are not there", data
        parts = [index]
    else:
        what, lacking = (
            f"is a part of a TensorFlow checkpoint, and {index}, which says what it holds, is not there",
            index,
        )
    return MissingFiles(f"{some(parts)} {what}.", hint=f"Copy or download {lacking} too.", file=where)


def _note(chosen: str, prefixes: list[str], why: str) -> str:
    others = [prefix for prefix in prefixes if prefix != chosen]
    return f"{printable(chosen)} is used, {why}; left are {_names(others)}"


def _names(prefixes: list[str]) -> str:
    return some([printable(prefix) for prefix in prefixes])
