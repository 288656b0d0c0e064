"""Everything that can go wrong, as one tree; the number is the exit code of the command line.

    BertconvError
    |-- ParityError (ValueError) ................. 1  two things that must be equal differ
    |-- RequestError (ValueError) ................ 2  the arguments ask for something that cannot be
    |   `-- MissingPath (OSError)                     what they name is not there, and is no Hub id
    |-- MappingError (ValueError) ................ 3  the plan is not complete
    |   |-- MissingConfig (OSError)                   nothing says what the tensors are parts of
    |   |-- MissingTensors (KeyError)
    |   |-- UnknownTensors (KeyError)
    |   |   `-- UnknownPrefix                         something stands before every name
    |   |-- ShapeMismatch                             tensors, config and each other do not fit
    |   |-- TiedTensorsDiffer
    |   |-- AmbiguousHead                             the tensors fit several classes, and nothing says which it is
    |   |-- AmbiguousFamily                           the names are those of several families, and no config decides
    |   `-- BadTable                                  a mapping table that says nonsense
    |-- UnsafeCheckpoint (ValueError) ............ 4  refused for safety
    |-- DamagedCheckpoint (ValueError) ........... 5  truncated, overlapping, not what the name says
    |   `-- MissingFiles (OSError)                    files that should be there are not: weights, shards
    |-- UnsupportedCheckpoint (NotImplementedError) 6  sound, but not something bertconv converts
    |   |-- UnsupportedModel (ValueError)             there is no class of models for a config
    |   `-- UnsupportedRuntime (ImportError)          the TensorFlow classes cannot run in this process
    |-- OutputError (OSError) .................... 7  the destination (nothing was changed) or a standard stream cannot
    |                                                 be written
    `-- HubError (OSError) ....................... 8  the Hub did not give the files, or did not take them

Exit code 9 is any other exception (a bug), 128+n is signal n.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bertconv.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable


_shown: dict[str, str] = {}
"""Local folder of a place elsewhere -> the address that users know it by; empty in nearly every run."""


def show_as(folder: str, address: str) -> None:
    """Have errors name an address where a path of this folder would stand."""
    _shown[folder] = address


def forget(folder: str) -> None:
    """Undo `show_as`."""
    _shown.pop(folder, None)


def as_shown(text: str) -> str:
    """A text with the addresses that users know in place of the folders that stand for them."""
    for folder, address in _shown.copy().items() if _shown else ():
        text = text.replace(folder, address)
    return text


class BertconvError(Exception):
    """One sentence of what is wrong and one of what to do, with the file and the tensor when there is one.

    Args:
        message: what is wrong, without the file's name.
        hint: what the user can do about it.
        file: the file concerned, as the user would find it.
        tensor: the tensor concerned, by its name in that file.
    """

    exit_code = 9
    _keras_call_info_injected = True  # Keras would bury the sentence in a dump of the layer's arguments
    ag_pass_through = True  # TensorFlow's autograph would raise an error of its own class instead

    def __init__(self, message: str, *, hint: str = "", file: str | None = None, tensor: str | None = None) -> None:
        message = as_shown(message)
        super().__init__(message)
        self.message = message
        self.hint = as_shown(hint)
        self.file = None if file is None else as_shown(file)
        self.tensor = tensor

    def __str__(self) -> str:
        place = "".join(f"{printable(part)}: " for part in (self.file, self.tensor) if part)
        lines = [*self.message.split("\n"), *filter(None, self.hint.split("\n"))]
        return place + "\n".join(printable(line) for line in lines)

    def to_json(self) -> dict[str, str | int | None]:
        """The same facts for scripts."""
        return {
            "code": self.exit_code,
            "kind": type(self).__name__,
            "file": self.file,
            "tensor": self.tensor,
            "message": self.message,
            "hint": self.hint,
        }


class ParityError(BertconvError, ValueError):
    """Two things that must be equal differ."""

    exit_code = 1


class RequestError(BertconvError, ValueError):
    """The arguments ask for something that cannot be."""

    exit_code = 2


class MissingPath(RequestError, OSError):
    """What was given is no path that exists, and cannot be an id on the Hub."""


def check_one_of(value: object, known: Iterable[object], name: str) -> None:
    """RequestError where an option has none of the values that it can have; None, to leave it out, is not offered."""
    known = list(known)
    if value not in known:
        choices = ", ".join(str(one) for one in known if one is not None)
        raise RequestError(f"{name} is {value!r}.", hint=f"Choose one of {choices}.")


def check_path(value: object, name: str) -> None:
    """RequestError where something that is to be a path is neither a text nor a path object."""
    if not isinstance(value, str | os.PathLike):
        raise RequestError(f"{name} is {value!r:.80}.", hint="Give a path, as a text or a pathlib.Path.")


def check_text(value: object, name: str) -> None:
    """RequestError where something that is to be a text is none."""
    if not isinstance(value, str):
        raise RequestError(f"{name} is {value!r:.80}.", hint="Give a text.")


class MappingError(BertconvError, ValueError):
    """The plan from source tensors to target tensors is not complete."""

    exit_code = 3


class MissingConfig(MappingError, OSError):
    """A checkpoint has no config, and needs one."""


class MissingTensors(MappingError, KeyError):
    """Target tensors that nothing in the source fills."""


class UnknownTensors(MappingError, KeyError):
    """Source tensors that no table, head or ignore list knows."""


class UnknownPrefix(UnknownTensors):
    """Every name begins with something that bertconv does not know, which is its `prefix`."""

    prefix = ""


class ShapeMismatch(MappingError):
    """Shapes do not fit the config or each other."""


class TiedTensorsDiffer(MappingError):
    """Two copies of one tensor hold different values."""


class AmbiguousHead(MappingError):
    """The tensors fit several model classes alike, and nothing says which of them a checkpoint is."""


class AmbiguousFamily(MappingError):
    """The names are those of several families alike, and nothing says of which of them a checkpoint is."""


class BadTable(MappingError):
    """A mapping table breaks one of its static checks."""


class UnsafeCheckpoint(BertconvError, ValueError):
    """Reading on could run code, read other files or exhaust the machine."""

    exit_code = 4


class DamagedCheckpoint(BertconvError, ValueError):
    """The bytes are not a whole checkpoint of the kind that they claim to be."""

    exit_code = 5


class MissingFiles(DamagedCheckpoint, OSError):
    """Files of a checkpoint that should be there are not."""


class UnsupportedCheckpoint(BertconvError, NotImplementedError):
    """A sound checkpoint of a kind that bertconv does not convert."""

    exit_code = 6


class UnsupportedModel(UnsupportedCheckpoint, ValueError):
    """There is no class of models for a config: programs catch ValueError around the automatic classes."""


class UnsupportedRuntime(UnsupportedCheckpoint, ImportError):
    """TensorFlow or Keras is missing, or not what the classes need: programs catch ImportError around such imports."""


class OutputError(BertconvError, OSError):
    """The destination could not be written; what was there before is unchanged."""

    exit_code = 7


class HubError(BertconvError, OSError):
    """The Hub did not give the files, or did not take them: not found, no access, offline, changed meanwhile."""

    exit_code = 8
