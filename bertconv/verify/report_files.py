"""Reports as files: whole or not at all, and over nothing but an earlier report."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bertconv.errors import OutputError
from bertconv.verify.parity import Parity

_MARKS = (b'"level": "', b"<html", b"<testsuite", b'"changes": [')
"""What the beginning of a report holds: JSON, HTML, JUnit."""


def write_page(page: Path, parity: Parity) -> None:
    """Write the HTML report; errors as for `write_text`."""
    from bertconv.verify.html import html_report

    write_text(page, html_report(parity))


def write_text(path: Path, text: str) -> None:
    """Write a report, whole or not at all, over nothing but an earlier one; OutputError where that cannot be."""
    _check_replaceable(path)
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(text)
                file.close()
                temporary.chmod(0o666 & ~_umask())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise _failed(path, error) from error


def _check_replaceable(path: Path) -> None:
    """Refuse to replace what is no report: a mistyped command must not cost a checkpoint."""
    try:
        with path.open("rb") as file:
            start = file.read(1 << 16)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _failed(path, error) from error
    if start and not any(mark in start for mark in _MARKS):
        raise OutputError("exists and is no report.", hint="Give another name, or move it away.", file=str(path))


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
