"""The two regex lists of a head, filled from the table: `_keys_to_ignore_on_load_unexpected` and `..._missing`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bertconv.errors import RequestError
from bertconv.mapping.dialects import Dialect, Dialects
from bertconv.mapping.expand import expand, module_paths
from bertconv.mapping.indices import path_pattern
from bertconv.mapping.table import Group, Table
from bertconv.records import dataclass


@dataclass(frozen=True)
class IgnoreLists:
    """Regexes that are searched (`re.search`) in whole names, as transformers does with its class attributes.

    Attributes:
        unexpected: source names that may be left out.
        missing: target names that may stay unfilled.
    """

    unexpected: tuple[str, ...]
    missing: tuple[str, ...]

    def extended(self, unexpected: Iterable[str] = (), missing: Iterable[str] = ()) -> IgnoreLists:
        """The same lists with more regexes; RequestError when one does not compile."""
        more_unexpected, more_missing = tuple(unexpected), tuple(missing)
        check_regexes(more_unexpected + more_missing)
        return IgnoreLists(self.unexpected + more_unexpected, self.missing + more_missing)


def ignore_lists(table: Table, dialects: Dialects, head: str) -> IgnoreLists:
    """The lists of a head: the modules of groups it does not own, its tied copies, and the table's `[ignore]`.

    A pattern that would hit a name the head owns is left out: two heads may call different modules alike.
    """
    unexpected = (*module_patterns(table, dialects, head), *table.ignore["unexpected"])
    return IgnoreLists(unexpected, table.ignore["missing"])


def module_patterns(table: Table, dialects: Dialects, head: str) -> tuple[str, ...]:
    """Those of a head's regexes that are made of names of modules: searched, they are found inside the model too.

    Of the dialects whose classes have such lists; a name of another one is known by its table or not at all.
    """
    patterns: list[str] = []
    for dialect in dialects.everywhere.values():
        owned, copies = _owned_names(table, dialect, head)
        found = {_bounded(dialect, re.escape(name), "$"): name for name in copies}
        for group in table.groups.values():
            if group.id not in table.heads[head]:
                found |= _module_patterns(table, dialect, group)
        patterns += [one for one, part in found.items() if not any(_hits(one, part, name) for name in owned)]
    return tuple(dict.fromkeys(patterns))


def first_match(patterns: Iterable[str], name: str) -> str | None:
    """The first regex that is found in `name`."""
    return next((pattern for pattern in patterns if re.search(pattern, name)), None)


def check_regexes(patterns: Iterable[str]) -> None:
    """RequestError when a regex of the caller's does not compile."""
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise RequestError(f"{pattern!r} is not a regular expression: {error}.", hint="Fix the pattern.") from error


def _owned_names(table: Table, dialect: Dialect, head: str) -> tuple[list[str], list[str]]:
    """Names that the head owns (layers once, base left in and left out), and those of its tied copies."""
    base = table.base + dialect.separator
    specs = expand(table, dialect, None, table.heads[head]).values()
    owned = [name for spec in specs if spec.id not in table.tied for name in spec.names]
    copies = [name for spec in specs if spec.id in table.tied for name in spec.names]
    return owned + [name.removeprefix(base) for name in owned], copies


def _module_patterns(table: Table, dialect: Dialect, group: Group) -> dict[str, str]:
    """A regex for each module of a group -> its path as far as it is in every name that the regex hits."""
    base = table.base + dialect.separator
    end = f"({re.escape(dialect.separator)}|{dialect.suffix}$)"
    paths = [path.removeprefix(base) for path in module_paths(table, dialect, group)]
    return {_bounded(dialect, path_pattern(path), end): path.partition("{")[0] for path in paths}


def _hits(pattern: str, part: str, name: str) -> bool:
    """Whether a regex is found in a name; most are never compiled, since no name has the `part` that they ask for."""
    return part in name and re.search(pattern, name) is not None


def _bounded(dialect: Dialect, pattern: str, end: str) -> str:
    """A pattern that begins where a part of a name begins, so that `classifier` does not hit `pre_classifier`."""
    return f"(^|{re.escape(dialect.separator)}){pattern}{end}"
