"""What a push says on the Hub: a short note for a commit, the whole certificate for a pull request, in Markdown.

Whatever comes from a manifest stands in code, where Markdown means nothing and nobody is notified.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bertconv import __version__
from bertconv.manifest import parents_of
from bertconv.text import human_bytes, printable
from bertconv.verify.certificate import FolderCheck

TITLE = "with bertconv"
"""How the titles of our pull requests end."""
_LONGEST = 500
"""Characters of a text from a manifest that are shown."""
_PROVEN = {
    "weights": "every tensor was read back and held to what it was made from",
    "outputs": "every tensor was read back too, and the rebuilt model gave the outputs of its source",
    "gradients": "every tensor was read back too, and the rebuilt model gave the outputs and gradients of its source",
}


class Text(NamedTuple):
    """What a commit or a pull request says: its first line or title, and what follows."""

    message: str
    description: str


def text_of(
    manifest: Mapping[str, Any], check: FolderCheck, files: Mapping[str, tuple[int, str]], repository: str | None
) -> Text:
    """The text for an output.

    Args:
        manifest: of the output.
        check: of the output, with nothing changed.
        files: what is sent, with size and sha256.
        repository: where a pull request is opened; None for the short form of a commit.
    """
    what = str(manifest.get("head", ""))
    what = f"{what}, verified" if what.isidentifier() else "Weights, verified"
    lines = [f"- {line}" for line in _facts(manifest, check)]
    if repository is not None:
        versions = code(f"bertconv {check.written_by}"), code(f"bertconv {__version__}")
        sums = [f"- {code(name)} {human_bytes(size)} {code(sha256)}" for name, (size, sha256) in files.items()]
        lines = [
            "Written by {} and pushed by {}, which held every file and tensor to its record first.".format(*versions),
            "", *lines, "", "Files, with their sha256:", "", *sums,
            "", "To check it yourself, with the number of this pull request for `N`:", "",
            *_commands(manifest, repository),
        ]  # fmt: skip
    return Text(f"{what} {TITLE}", "\n".join(lines))


def code(text: str) -> str:
    """A text as Markdown's code, whatever is in it: one line, cut where it is long."""
    shown = printable(text)
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    space = " " if shown.startswith("`") or shown.endswith("`") or not shown.strip() else ""
    return f"{fence}{space}{shown}{space}{fence}"


def _facts(manifest: Mapping[str, Any], check: FolderCheck) -> Iterator[str]:
    operation = manifest.get("operation")
    if isinstance(operation, dict) and isinstance(operation.get("verb"), str):
        options = operation.get("options")
        chosen = f" with {code(json.dumps(options, ensure_ascii=False))}" if options else ""
        yield f"Made by: {code('bertconv ' + operation['verb'])}{chosen}"
    for one in parents_of(manifest):
        at = f" at commit {code(one.commit)}" if one.commit else ""
        digest = f", model digest {code(one.digest)}" if one.digest else ""
        yield f"From {code(one.role)} {code(one.given)}{at}{digest}"
    yield f"Verified: {code(check.verified)}, that is, {_PROVEN.get(check.verified, 'nothing more')}"
    if verdict := check.parity.get("verdict"):
        yield f"Verdict: {code(verdict)}"
    for name in check.omitted:
        yield f"Left out, though a part of the source's model: {code(name)}"
    yield f"Model digest: {code(check.digest)}"
    if isinstance(backbone := manifest.get("backbone_digest"), str) and backbone:
        yield f"Backbone digest: {code(backbone)}"
    vocabulary = manifest.get("vocabulary")
    if isinstance(vocabulary, dict):
        yield f"Vocabulary: {code(str(vocabulary.get('tokens')))} tokens, sha256 {code(str(vocabulary.get('sha256')))}"


def _commands(manifest: Mapping[str, Any], repository: str) -> list[str]:
    """Commands in a block of code: an indented one, which no text can end."""
    lines = ["pip install bertconv", f"bertconv pull {repository}@refs/pr/N checked", "bertconv verify checked"]
    listed = parents_of(manifest)
    # Of several, or of one with other weights, nobody expects the same model.
    if len(listed) == 1 and listed[0].commit and listed[0].digest in ("", manifest["digest"]):
        source = f"{listed[0].given.partition('@')[0]}@{listed[0].commit}"
        lines += [f"bertconv verify {shlex.quote(printable(source))} checked"]
    return [f"    {line}" for line in lines]
