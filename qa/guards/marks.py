"""Protections that are no refusals. Each has a marker in the code, and here what takes it away.

The marker is a comment, behind the line or above it: `# guard: NAME`, or `# why it is so; guard: NAME, OTHER`. It goes
with its line wherever that is moved, and a change (`changes.py`) asks for the form of the statement and for names of
Python's own, so renamed variables, functions and files break nothing. A guard that nothing needs is marked too, with
`# guard-kept: REASON`, and is not deleted.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from qa.guards.changes import Change, always, before, drop, first, last, never, operand, replace, sub

MARKER = re.compile(r"\bguard: (?P<names>[a-z0-9-]+(?:, [a-z0-9-]+)*)$")
KEPT = re.compile(r"\bguard-kept: \S")


@dataclass(frozen=True)
class Mark:
    """What takes a protection away, and what is no longer done then."""

    change: Change
    why: str


_NO_LINK = sub(r" \| os\.O_NOFOLLOW", "")

MARKS: Mapping[str, Mark] = {
    # JSON
    "json-keys": Mark(sub(r"object_pairs_hook=\w+,", ""), "duplicate keys are not looked for"),
    "json-constants": Mark(sub(r"parse_constant=\w+,", ""), "NaN and Infinity are read"),
    "json-encoding": Mark(first, "JSON in other encodings, or behind a mark of its encoding, is read"),
    "json-infinity": Mark(sub(r"(parse_float=\w+ or) \w+", r"\1 float"), "1e999 becomes infinite"),
    "json-size": Mark(first, "JSON of any size is read"),
    "small-size": Mark(first, "an index or a config of any size is read"),
    # Opening
    "open-waits": Mark(sub(r" \| os\.O_NONBLOCK", ""), "opening a FIFO waits for its writer"),
    "open-links": Mark(first, "links are followed"),
    "changed-time": Mark(
        sub(r"\((\w+\.st_size), \w+\.st_mtime_ns\)", r"\1"), "a file that changed at the same length goes unseen"
    ),
    "short-read": Mark(sub(r"done < len\(row\)", "False"), "rows after a short read stay as they were"),
    "end-of-file": Mark(
        sub(r"(os\.preadv\(.*?, (\w+), .*\))", r"\1 or sum(map(len, \2))"), "the end of a file reads as zeros"
    ),
    "cache-link": Mark(
        sub(r"(\w+)\.resolve\(strict=True\)$", r"\1.parent / \1.readlink()"),
        "where a link of the cache leads is not resolved to the end",
    ),
    # PyTorch
    "pickle-name": Mark(drop, "a name that no weights need is forgotten"),
    # HDF5
    "hdf5-confined": Mark(drop, "libhdf5 is not confined"),
    "hdf5-landlock": Mark(drop, "Landlock is not used"),
    "hdf5-memory": Mark(sub(r'"RLIMIT_AS":[^,]*,', ""), "memory is not limited"),
    "hdf5-time": Mark(sub(r'"RLIMIT_CPU":[^,]*,', ""), "time is not limited"),
    "hdf5-writes": Mark(sub(r'"RLIMIT_FSIZE":[^,]*,', ""), "files may be written"),
    "hdf5-opens": Mark(sub(r'"RLIMIT_NOFILE":[^,]*,', ""), "files may be opened"),
    "hdf5-plugins": Mark(sub(r'"HDF5_PLUGIN_PRELOAD": "::", ', ""), "filters are loaded as a file asks for them"),
    "hdf5-session": Mark(sub(r"start_new_session=True,", ""), "Ctrl-C ends the child before its parent"),
    "hdf5-answer": Mark(always, "an answer of any length is listened to"),
    "hdf5-ended": Mark(drop, "the child is left behind"),
    # Writing
    "weights-fsync": Mark(drop, "weights do not reach the disk before the rename"),
    "weights-link": Mark(_NO_LINK, "weights are written through a link"),
    "flusher-error": Mark(drop, "what the disk refused on the way is forgotten"),
    "short-write": Mark(sub("^while ", "if "), "a short write leaves zeros"),
    "workers-stop": Mark(never, "threads go on after an error"),
    "sync-error": Mark(drop, "what the disk refused at the end is forgotten"),
    "sync": Mark(sub(r"\.submit\(.*\)", ".submit(int)"), "the weights are not synced at all"),
    "confirm": Mark(drop, "the container's own library is not asked"),
    "read-back": Mark(last, "nothing is read back"),
    "compared-with-source": Mark(never, "what was written is not compared with its source"),
    "manifest": Mark(drop, "the output has no manifest"),
    "commit-last": Mark(before(2), "the output appears before the source was looked at again"),
    # Modules
    "modules-list-size": Mark(first, "a list of modules of any size is read"),
    "modules-sync": Mark(drop, "weights of modules do not reach the disk"),
    "modules-read-back": Mark(last, "weights of modules are not read back"),
    "modules-changed": Mark(sub(r", \*\(.*\)(?=\):$)", ","), "a module that changed meanwhile goes unseen"),
    # The folder
    "files-fsync": Mark(drop, "small files and those of the source do not reach the disk"),
    "folders-fsync": Mark(drop, "staged folders do not reach the disk"),
    "rename-fsync": Mark(drop, "the rename does not reach the disk"),
    "copy-fsync": Mark(drop, "a copied file does not reach the disk"),
    "lock-link": Mark(_NO_LINK, "the lock is opened through a link"),
    "lock": Mark(drop, "nothing is locked"),
    "lock-removed": Mark(always, "a lock that was removed counts"),
    "leftover-link": Mark(never, "a link among what killed runs left is taken for it"),
    "folder-links": Mark(sub(r"\w+\.is_symlink\(\) or ", ""), "links of others to folders are not seen"),
    "old-manifest-size": Mark(first, "an old manifest of any size is read"),
    "leftovers": Mark(drop, "what killed runs left stays"),
    "leftover-output": Mark(drop, "an old output that was set aside is not put back"),
    "put-back": Mark(drop, "when the second rename fails, the old output stays aside"),
    "exchange": Mark(replace("raise OSError(errno.ENOSYS, '')"), "old and new are not exchanged in one step"),
    "clean-up": Mark(drop, "a failed run leaves its folder"),
    "write-once": Mark(sub('"xb"', '"wb"'), "a file that was written is written over"),
    "list-errors": Mark(sub(r", onerror=\w+", ""), "a folder that cannot be listed is taken for empty"),
    "keep-links": Mark(
        sub(r"os\.link\((\w+), (\w+), follow_symlinks=False\)", r"os.link(\1.resolve(), \2)"),
        "links are followed when files are kept",
    ),
    "copy-links": Mark(sub(", follow_symlinks=False", ""), "links are followed when files are copied"),
    # Tensor bundles
    "block-checksum": Mark(never, "blocks of an index are not held to their checksums"),
    "bundle-checksum": Mark(never, "tensors of a bundle are not held to their checksums"),
    # The certificate
    "check-manifest-size": Mark(first, "a manifest of any size is read"),
    "check-size": Mark(never, "sizes of files are not compared"),
    "check-file": Mark(never, "digests of small files are not compared"),
    "check-frame": Mark(never, "bytes outside of the tensors are not compared"),
    "check-tensor": Mark(operand(1), "digests of tensors are not compared"),
    "check-dtype": Mark(operand(0), "element types are not compared"),
    "check-shape": Mark(operand(1), "shapes are not compared"),
    "check-missing": Mark(never, "a tensor that is gone is not missed"),
    "check-verdict": Mark(replace("return True"), "changes do not count"),
    # The history
    "search-folders": Mark(never, "any number of folders is searched"),
    "search-depth": Mark(always, "folders are searched to any depth"),
    "search-links": Mark(sub("follow_symlinks=False", ""), "links are followed in a search"),
    "search-cache": Mark(sub(r" and not _CACHED\.fullmatch\(name\)", ""), "the Hub's cache is searched"),
}
"""Every one by its name, in the order in which a conversion comes past it."""


def comments(text: str) -> Iterator[tuple[int, str]]:
    """Comments, each with the line that it is about: its own, or the next one with code where nothing stands before."""
    waiting: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            if waiting and token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
                yield from ((token.start[0], comment) for comment in waiting)
                waiting = []
        elif token.line[: token.start[1]].strip():
            yield token.start[0], token.string
        else:
            waiting.append(token.string)


def markers(text: str) -> list[tuple[int, str]]:
    """Line and name of every marker in a file."""
    if "guard: " not in text:  # most files have none, and to tell comments from code takes a while
        return []
    matches = ((line, MARKER.search(comment)) for line, comment in comments(text))
    return [(line, name) for line, match in matches if match for name in match["names"].split(", ")]


def kept(text: str) -> set[int]:
    """Lines whose guards nothing needs."""
    if "guard-kept: " not in text:
        return set()
    return {line for line, comment in comments(text) if KEPT.search(comment)}


def unmatched(root: Path) -> list[str]:
    """Markers without a change, and changes whose marker is not there exactly once."""
    places: dict[str, list[str]] = {name: [] for name in MARKS}
    for path in sorted((root / "bertconv").rglob("*.py")):
        for line, name in markers(path.read_text()):
            places.setdefault(name, []).append(f"{path.relative_to(root).as_posix()}:{line}")
    wrong = {name: found for name, found in places.items() if name not in MARKS or len(found) != 1}
    return [
        f"`guard: {name}` "
        + (
            "is not in qa/guards/marks.py"
            if name not in MARKS
            else "is marked nowhere"
            if not found
            else "is ambiguous"
        )
        + "".join(f"; {place}" for place in found)
        for name, found in sorted(wrong.items())
    ]
