"""A checkpoint under examination: what every check may ask, and the commands that repair it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from bertconv.config import Config
from bertconv.containers.stored import FLOATS, ITEM_SIZE, Header
from bertconv.errors import BertconvError
from bertconv.formats.destination import is_of_hub_cache
from bertconv.inspection import Inspection
from bertconv.manage.doctor.programs import PROGRAMS
from bertconv.mapping.dialects import Dialect, Dialects, load_dialects
from bertconv.mapping.expand import TensorSpec
from bertconv.mapping.identify import Identity
from bertconv.mapping.ignore import first_match
from bertconv.mapping.plan import Plan, UnloadedTensor
from bertconv.mapping.table import Table
from bertconv.records import dataclass
from bertconv.source import Source, mounts
from bertconv.text import is_url

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
"""What goes wrong in silence or everywhere; what fails loudly or may be meant so; what is good to know."""

MOST_ALLOWED = 10
"""Most tensors that a command names one by one."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a checkpoint, or that a program will make of it.

    Attributes:
        id: in kebab case; a kind of finding has one id.
        severity: "error", "warning" or "note".
        affects: keys of the programs that are concerned.
        message: what happens, in one sentence.
        command: the command line that repairs it; empty where none can.
        advice: what to do where no command can do it.
        tensors: names of the tensors that are concerned, as the file spells them.
    """

    id: str
    severity: str
    affects: tuple[str, ...]
    message: str
    command: str = ""
    advice: str = ""
    tensors: tuple[str, ...] = ()

    @property
    def programs(self) -> tuple[str, ...]:
        """Titles of the programs that are concerned; "every program" where all are."""
        if set(self.affects) == PROGRAMS.keys():
            return ("every program",)
        return tuple(PROGRAMS[key].title for key in self.affects)

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return asdict(self)


@dataclass(frozen=True)
class Patient:
    """What is known of a checkpoint once its headers were read.

    Attributes:
        source: its files.
        header: of its files of weights.
        inspection: what `inspect` says.
        table: its architecture; None where nothing tells it.
        identity: what its names say; None as well.
        config: None where there is none or it is refused.
        plan: how its tensors fill the class that it is; None where none can be made.
        refusals: why there is no table, no config or no plan.
        options: options of the command line that every other command on it needs too.
        deep: whether its weights are read.
    """

    source: Source
    header: Header
    inspection: Inspection
    table: Table | None
    identity: Identity | None
    config: Config | None
    plan: Plan | None
    refusals: tuple[BertconvError, ...]
    options: tuple[str, ...]
    deep: bool

    @property
    def dialects(self) -> Dialects:
        """Every dialect."""
        return load_dialects()

    @property
    def dialect(self) -> Dialect | None:
        """Whose names its tensors have."""
        return self.identity.dialect if self.identity else None

    @cached_property
    def names(self) -> frozenset[str]:
        """The files of its folder that are no tokenizer's; of a file that lies alone, its own name."""
        weights = self.source.weights
        used = (*weights.files, *filter(None, (weights.index,)))
        return frozenset(name for name in (*used, *self.source.not_carried) if "/" not in name)

    @property
    def weights(self) -> str:
        """The file of weights, or the index of several."""
        return self.source.weights.index or self.source.weights.files[0]

    @property
    def raw(self) -> Mapping[str, Any]:
        """The keys of the config as they are; none where it is no sound JSON."""
        try:
            return self.source.config_keys() or {}
        except BertconvError:  # among `refusals`, where it matters
            return {}

    @cached_property
    def types(self) -> tuple[str, ...]:
        """Element types of its floating-point tensors, the widest first."""
        found = {tensor.dtype for tensor in self.header.tensors if tensor.dtype in FLOATS}
        return tuple(sorted(found, key=lambda dtype: (-ITEM_SIZE[dtype], dtype)))

    @property
    def widest(self) -> str:
        """The element type that holds all of its numbers exactly."""
        return "float32" if set(self.types) == {"float16", "bfloat16"} else self.types[0]

    @cached_property
    def lacking(self) -> tuple[TensorSpec, ...]:
        """Tensors of its class that nothing fills and that must not be missing."""
        if self.plan is None or self.table is None:
            return ()
        allowed = self.table.ignore["missing"]
        return tuple(spec for spec in self.plan.unfilled if first_match(allowed, spec.name) is None)

    @cached_property
    def unknown(self) -> tuple[UnloadedTensor, ...]:
        """Tensors that no table knows."""
        return tuple(one for one in self.plan.unloaded if one.state == "unknown") if self.plan else ()

    @cached_property
    def cached(self) -> str:
        """The name of the repository whose files it is in the Hub's cache; empty for the user's own files."""
        if self.source.revision is not None:
            return self.source.given.partition("@")[0].rpartition("/")[2]
        folder = self.source.folder.resolve()
        for place in (folder, *folder.parents):
            if is_of_hub_cache(place):
                return place.parent.name.rpartition("--")[2]
        return ""

    @cached_property
    def is_file(self) -> bool:
        """Whether a file was given, and not a folder."""
        return self.source.revision is None and Path(self.source.given).is_file()

    # Commands

    @property
    def given(self) -> str:
        """The source, as an argument of a command."""
        return shlex.quote(self.source.given)

    @cached_property
    def repaired(self) -> str:
        """A folder for the repaired checkpoint, as an argument of a command."""
        given = Path(self.cached or self.source.given)
        if is_url(self.source.given):
            given = Path(given.name)
        if self.is_file and not self.cached:
            given = given.parent
        if given.name in ("", ".", ".."):
            given = given.resolve()
        return shlex.quote(f"{given}-repaired")

    def convert(self, *options: str, to: str | None = None) -> str:
        """The conversion that repairs it; empty where none would run."""
        leaves_out = len(self.unknown) > MOST_ALLOWED or any(one.inside for one in self.unknown)
        is_short = bool(self.lacking) and "--head" not in options
        if self.plan is None or leaves_out or is_short:
            return ""
        allowed = [word for one in self.unknown for word in ("--allow-unknown", _exactly(one.tensor.name))]
        name = to or self.dialects.reference.name
        return self.command("convert", "--to", name, *options, *allowed)

    def command(self, verb: str, *options: str) -> str:
        """A command that makes a repaired checkpoint of it; empty where it cannot be typed."""
        words = [shlex.quote(word) for word in (*self.options, *options)]
        return _typed(" ".join(["bertconv", verb, self.given, self.repaired, *words]))

    def remove(self, names: tuple[str, ...]) -> str:
        """The command that removes files from its folder; empty where they are not the user's or not plain."""
        paths = [self.source.folder / name for name in names]
        if self.cached or mounts.at(self.source.folder) or not all(path.is_file() for path in paths):
            return ""
        return _typed(" ".join(["rm", "--", *(shlex.quote(str(path)) for path in paths)]))


def _typed(command: str) -> str:
    """A command that a person can type; nothing where a name in it would do something to the terminal."""
    return command if command.isprintable() else ""


def _exactly(name: str) -> str:
    return f"^{re.escape(name)}$"
