"""Standard output and error: what cannot be written there stops no work; it is reported when the work is done."""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys
from typing import Any, TextIO

import click

from bertconv.errors import OutputError

BUG = 9
"""Exit code of an exception that is none of bertconv's own."""

OUT, ERR = "standard output", "standard error"


class _Descriptor(io.FileIO):
    """A descriptor that takes what it cannot pass on, and remembers why it could not."""

    failure: OSError | None = None

    _cut: bytes = b""
    """What was being written when a signal ended that: the buffer above still has it, and passes it on again."""

    def write(self, data: Any, /) -> int:
        """All of it is taken, so that no buffer above is left with something to complain of when Python ends."""
        cut, self._cut = self._cut, b""
        if cut and bytes(data[: len(cut)]) == cut:
            return len(cut)  # it may be out, which would make it twice; or nobody reads, and it would wait for ever
        while self.failure is None:
            try:
                count: int | None = super().write(data)
            except OSError as error:
                self.failure = error
            except BaseException:
                self._cut = bytes(data)
                raise
            else:
                if count is not None:
                    return count
                select.select([], [self], [])  # a descriptor that is set not to block, and is full
        return len(data)


class Streams:
    """Both streams of this process, guarded; those that a test has put in their places stay as they are."""

    def __init__(self) -> None:
        _fill_descriptors()
        self._guarded: dict[str, _Descriptor] = {}
        if sys.stdout is sys.__stdout__:
            sys.stdout = self._guard(OUT, sys.stdout)
        if sys.stderr is sys.__stderr__:
            sys.stderr = self._guard(ERR, sys.stderr)

    def _guard(self, name: str, stream: TextIO | None) -> TextIO:
        """A stream to the same descriptor; Python has none where that was closed."""
        if stream is None:
            descriptor = _Descriptor(os.open(os.devnull, os.O_RDONLY), "w")
        else:
            descriptor = _Descriptor(stream.fileno(), "w", closefd=False)
        self._guarded[name] = descriptor
        return io.TextIOWrapper(
            io.BufferedWriter(descriptor),
            encoding=getattr(stream, "encoding", None),
            errors=getattr(stream, "errors", None),
            line_buffering=getattr(stream, "line_buffering", True),
            write_through=getattr(stream, "write_through", False),
        )

    def exit_code(self, code: int, *, as_json: bool) -> int:
        """The exit code of the process, which another may not read; the sentence goes to the stream that is left.

        Args:
            code: what became of the work. A signal or a bug of bertconv keeps its own.
            as_json: JSON goes to the output, which takes nothing beside it.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        failures = {name: one.failure for name, one in self._guarded.items() if one.failure is not None}
        if not failures or code >= BUG:
            return code
        broken = {name: failure for name, failure in failures.items() if failure.errno != errno.EPIPE}
        for name, failure in broken.items():
            if name == OUT or not as_json:
                click.echo(f"Error: {_unwritable(name, failure, code)}", err=name == OUT)
        return OutputError.exit_code if broken else 128 + signal.SIGPIPE


def _fill_descriptors() -> None:
    """Open those of 0, 1 and 2 that are closed, so that no file of the work gets their number; nothing can be written.

    A library that prints to descriptor 1 would else print into the checkpoint that has it.
    """
    while (fd := os.open(os.devnull, os.O_RDONLY)) <= 2:
        pass
    os.close(fd)


def _unwritable(name: str, failure: OSError, code: int) -> OutputError:
    reason = "it is closed" if failure.errno == errno.EBADF else failure.strerror
    rest = "all else that was asked for is done" if code == 0 else "then run the command again"
    return OutputError(f"{name} cannot be written: {reason}.", hint=f"Make room or send it elsewhere; {rest}.")
