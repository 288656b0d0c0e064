"""An earlier output in a store replaced by one that lies whole beside it; and what killed runs left, put in order.

A store renames nothing. While files are copied there is no manifest at the destination, so that nobody takes the
mixture for an output; the new one stays beside it, whole and with its manifest, until the copy has its own.
"""

from __future__ import annotations

import json
from pathlib import Path

from bertconv.errors import OutputError
from bertconv.formats import leftovers
from bertconv.formats.destination import MANIFEST, MANIFEST_BYTES
from bertconv.formats.remote.lock import Lock, Record
from bertconv.formats.remote.site import Site

REMOVED, PUT_BACK = leftovers.REMOVED, leftovers.PUT_BACK


def staged_name(site: Site, token: str) -> str:
    """The name of the folder beside a destination in which a new output is made."""
    return f"{leftovers.prefix_of(Path(site.name))}{token[:12]}"


def own_files(site: Site) -> set[str]:
    """The names that the manifest of a folder lists, and its own; none without one."""
    raw = site.get(MANIFEST) or b""
    try:
        listed = json.loads(raw if len(raw) <= MANIFEST_BYTES else b"")["files"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return set()
    return {*listed, MANIFEST} if isinstance(listed, dict) else set()


def put_in_place(site: Site, staged: Site, old: set[str]) -> None:
    """Have the store copy a whole output over an earlier one; it can be begun again at any time.

    Args:
        site: the destination.
        staged: the output beside it, with its manifest.
        old: the files of the earlier one.
    """
    new = set(staged.found())
    site.remove([MANIFEST])
    for name in sorted(new - {MANIFEST}):
        staged.copy(name, site)
    site.remove(sorted(old - new))
    staged.copy(MANIFEST, site)
    clear(staged)


def clear(staged: Site) -> None:
    """Remove a folder beside a destination with all that is in it; its manifest goes first."""
    staged.remove([MANIFEST])
    staged.remove(staged.found())
    staged.forget_parts()


def put_away(site: Site, record: Record) -> str:
    """Remove what a killed run left of an output, or finish it where all of it was there.

    Args:
        site: the destination, whose lock the caller holds.
        record: what that run had written down.

    Returns:
        `REMOVED` or `PUT_BACK`.
    """
    if record.staged:
        if not record.staged.startswith(leftovers.prefix_of(Path(site.name))):  # nothing that a run writes down
            return REMOVED
        staged = site.sibling(record.staged)
        if record.replacing and staged.get(MANIFEST) is not None and site.get(MANIFEST) is None:
            put_in_place(site, staged, set(record.old))
            return PUT_BACK
        clear(staged)
    elif site.get(MANIFEST) is None:
        site.remove(record.names)
        site.forget_parts(record.names)
    return REMOVED


def replace(site: Site, staged: Site, lock: Lock) -> None:
    """Put a whole output in the place of an earlier one.

    Raises:
        OutputError: the store refuses; the new output lies beside the destination, for the next run to finish.
    """
    old = own_files(site)
    lock.change(old=tuple(sorted(old)), replacing=True)
    try:
        put_in_place(site, staged, old)
    except OutputError:
        raise
    except OSError as error:
        lock.abandon()
        raise OutputError(
            f"could not be replaced ({site.failed(error).message.partition(': ')[2].rstrip('.')}), and the new output "
            f"lies in {staged.name} beside it.",
            hint="The next conversion to this folder finishes it, and so does `bertconv gc` of the folder around it.",
            file=site.url,
        ) from error
