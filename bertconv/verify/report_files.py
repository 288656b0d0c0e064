"""Reports as files: whole or not at all, and over nothing but an earlier report."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bertconv.errors import BertconvError, OutputError
from bertconv.verify.parity import Parity

_BEGINNING = re.compile(
    rb'\s*(<!doctype html|<html|<\?xml[^>]*>\s*<testsuite|\{\s*"(level": "|folder": "|src": "))', re.IGNORECASE
)
"""How a report begins: HTML, JUnit, JSON of a comparison or a check, a fleet's list. No file of a checkpoint does."""


def check_page(page: Path, output: Path | None) -> None:
    """Refuse a place for the report of a conversion to a folder, if it is one of the disk; nothing is changed.

    Raises:
        OutputError: it lies in the output, which appears as a whole or not at all, or something else is there.
    """
    if output is not None and page.resolve().is_relative_to(output.resolve()):
        raise OutputError(
            "the report cannot lie in the output, which holds what its manifest lists and nothing else.",
            hint="Give a place outside of it.",
            file=str(page),
        )
    check_replaceable(page)


def write_page(page: Path, parity: Parity) -> None:
    """Write the HTML report; errors as for `write_text`."""
    from bertconv.verify.html import html_report

    write_text(page, html_report(parity))


def write_text(path: Path, text: str | Iterable[str]) -> None:
    """Write a report, whole or not at all, over nothing but an earlier one; OutputError where that cannot be."""
    check_replaceable(path)
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            temporary = Path(file.name)
            try:
                file.writelines([text] if isinstance(text, str) else text)
                file.close()
                temporary.chmod(0o666 & ~_umask())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except BertconvError:  # of what makes the text, and an error of the system too
        raise
    except OSError as error:
        raise _failed(path, error) from error


def check_replaceable(path: Path, what: str = "report") -> None:
    """Refuse to replace what is no report, since a mistyped command must not cost a checkpoint; nothing is changed.

    Args:
        path: what would be replaced.
        what: what it should be, for the message.

    Raises:
        OutputError: something else is there: a file that does not begin as a report, a folder, a pipe or a device.
    """
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
        start = b""
        if is_regular:  # reading a pipe would wait for ever
            with path.open("rb") as file:
                start = file.read(1 << 16)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _failed(path, error) from error
    if not is_regular:
        raise OutputError("is no regular file.", hint="Give the name of a file to write.", file=str(path))
    if start and not _BEGINNING.match(start):
        raise OutputError(f"exists and is no {what}.", hint="Give another name, or move it away.", file=str(path))


def _failed(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"the report could not be written: {error.strerror}.",
        hint="Check the path and its permissions.",
        file=str(path),
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
