"""The command line: `bertconv COMMAND`. Each command is one short file: arguments in, report out, no logic."""

from bertconv.cli.main import main

__all__ = ["main"]
