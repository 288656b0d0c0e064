"""run_item(): one item in a worker, from its options to an outcome. It never raises but for what ends the process."""

from __future__ import annotations

import inspect
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from bertconv.errors import BertconvError, ParityError, RequestError
from bertconv.fleet.items import Item
from bertconv.fleet.kept import VERIFY, Seen, has_output, kept_manifest, look_at, stamp_of, stored_output
from bertconv.fleet.outcome import BUG, DONE, FAILED, KEPT, Outcome
from bertconv.text import is_url, public, shown

_NOT_ITEMS = ("src", "dst", "a", "b", "overwrite", "dry_run", "progress", "token", "report_file")
"""Arguments of the verbs' functions that are no options of an item: the fleet decides them, or they are secret."""

_TEXTS = ("config", "table", "subfolder", "revision", "cache_dir", "variant")
"""Options that are paths or parts of them."""


def run_item(item: Item) -> Outcome:
    """Do what an item asks for.

    Args:
        item: placed.

    Returns:
        What became of it; an error of any kind is an outcome too.
    """
    started, seen = time.perf_counter(), None
    try:
        _check_texts(item)
        seen = look_at(item)
        check_options([item])
        outcome = _VERBS[item.verb](item, seen)
    except BertconvError as error:
        outcome = _failed(error)
    except Exception as error:  # noqa: BLE001  (the outermost frame of a worker: a bug in one item is not the fleet's end)
        outcome = _bug(error)
    return replace(
        outcome, seconds=time.perf_counter() - started, worker=f"{socket.gethostname()}:{os.getpid()}",
        key="" if seen is None else seen.key(item),
    )  # fmt: skip


def check_options(items: Iterable[Item]) -> None:
    """Refuse items with options that their verb does not have, and with a format that nobody can write.

    Raises:
        RequestError: the first of them.
    """
    from bertconv.formats.output import formats

    known: set[tuple[str, frozenset[str], str]] = set()
    for item in items:
        _check_texts(item)
        asked = item.verb, frozenset(item.options), str(item.options.get("to", ""))
        if asked in known:
            continue
        known.add(asked)
        if unknown := sorted(asked[1] - options_of(item.verb)):
            raise RequestError(
                f"has an option {unknown[0]!r}, which {item.verb} in a fleet has not.",
                hint=f"Choose of {', '.join(sorted(options_of(item.verb)))}.", file=public(item.src),
            )  # fmt: skip
        if item.verb == "convert" and "to" in item.options and asked[2] not in formats():
            raise RequestError(
                f"asks for the format {asked[2]!r}, which nobody can write.",
                hint=f"Choose of {', '.join(formats())}.", file=public(item.src),
            )  # fmt: skip


def _check_texts(item: Item) -> None:
    """Refuse paths that are none: whoever looks at the source takes them for such."""
    for name in _TEXTS:
        value = item.options.get(name)
        if value is not None and (not isinstance(value, str) or "\0" in value):
            raise RequestError(
                f"has the option {name} with {shown(value)}, which is no path or name.", hint="Give a text.",
                file=public(item.src),
            )  # fmt: skip


@cache
def options_of(verb: str) -> frozenset[str]:
    """Names of the options that items of a verb can have: those of its Python function."""
    own = {"record"} if verb == "verify" else set()
    return frozenset({*inspect.signature(_function(verb)).parameters, *own} - set(_NOT_ITEMS))


def _function(verb: str) -> Callable[..., Any]:
    if verb == "convert":
        from bertconv.convert import convert_checkpoint

        return convert_checkpoint
    if verb == "verify":
        from bertconv.verification import verify_checkpoint

        return verify_checkpoint
    if verb == "doctor":
        from bertconv.manage.doctor import diagnose

        return diagnose
    from bertconv.manage.hash import model_digest

    return model_digest


def _convert(item: Item, seen: Seen) -> Outcome:
    """Made, or kept where it is there already; an output of another source or of other options is replaced."""
    if (manifest := kept_manifest(item, seen)) is not None:
        return _of_manifest(item, manifest)
    options = {"verify": VERIFY, **item.options}
    report = _function(item.verb)(item.src, item.dst, overwrite=has_output(item.dst), **options)
    return Outcome(
        DONE, digest=report.digest, nbytes=report.nbytes, family=report.table.get("name", ""), head=report.head,
        source_format=_format(report.source), target_format=report.target["format"], stamp=_stamp(item.dst),
        result={"verified": report.verified, "notes": list(report.notes), "summary": report.summary()},
    )  # fmt: skip


def _of_manifest(item: Item, manifest: Mapping[str, Any]) -> Outcome:
    stamp = manifest["manifest_sha256"] if is_url(item.dst) else stamp_of(item.dst)
    return Outcome(KEPT, stamp=stamp, **facts_of(manifest))


def _stamp(dst: str) -> str:
    """What tells an output that has just been written from any other; of one in a store the digest of its manifest."""
    if not is_url(dst):
        return stamp_of(dst)
    manifest, _ = stored_output(dst)
    return "" if manifest is None else str(manifest["manifest_sha256"])


def facts_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What an outcome says of an output, as its manifest says it."""
    from bertconv.manifest import object_of, text_of

    table, source, target = (object_of(manifest, key) for key in ("table", "source", "target"))
    return {
        "digest": manifest["digest"], "nbytes": sum(facts["size"] for facts in manifest["files"].values()),
        "family": text_of(table, "name"), "head": text_of(manifest, "head"), "source_format": _format(source),
        "target_format": text_of(target, "format"), "result": {"verified": manifest["verified"]},
    }  # fmt: skip


def _format(source: Mapping[str, Any]) -> str:
    return "/".join(f"{source[key]}" for key in ("dialect", "container") if source.get(key))


def _verify(item: Item, _: Seen) -> Outcome:
    """The output against its source; with the option `record` the source, an output itself, against its manifest."""
    options = {"level": VERIFY, **item.options}
    if options.pop("record", False):
        from bertconv.verification import check_checkpoint

        found = check_checkpoint(item.src)
        return _judged(
            "the output", ok=found.ok, said=found.verdict(), digest=found.digest, result={"verdict": found.verdict()}
        )
    if not (is_url(item.dst) or Path(item.dst).exists()):
        raise RequestError("is not there to be verified.", hint="Convert the list first.", file=item.dst)
    parity = _function(item.verb)(item.src, item.dst, **options)
    said = parity.verdict() if parity.ok else parity.failure_text()
    facts = {"verdict": said, "level": parity.level, "command": parity.command, "notes": list(parity.notes)}
    return _judged(item.dst, ok=parity.ok, said=said, head=parity.head, result=facts)


def _judged(file: str, *, ok: bool, said: str, **facts: Any) -> Outcome:
    """The single command ends with code 1 where its answer is no."""
    if ok:
        return Outcome(DONE, **facts)
    return Outcome(FAILED, ParityError.exit_code, ParityError.__name__, said, file=file, **facts)


def _doctor(item: Item, _: Seen) -> Outcome:
    found = _function(item.verb)(item.src, **item.options)
    facts = found.to_json()
    result = {"healthy": found.healthy, "deep": found.deep, "findings": facts["findings"]}
    is_a = found.inspection
    common: dict[str, Any] = {"head": is_a.head or "", "result": result}
    if found.healthy:
        return Outcome(DONE, **common)
    worst = found.findings[0]
    return Outcome(FAILED, 1, "NotHealthy", f"{worst.id}: {worst.message}", worst.command or worst.advice or "",
                   **common)  # fmt: skip


def _hash(item: Item, _: Seen) -> Outcome:
    found = _function(item.verb)(item.src, **item.options)
    return Outcome(DONE, digest=found.digest, family=found.family, head=found.head, result=found.to_json())


_VERBS: Mapping[str, Callable[[Item, Seen], Outcome]] = {
    "convert": _convert, "verify": _verify, "doctor": _doctor, "hash": _hash,
}  # fmt: skip


def _failed(error: BertconvError) -> Outcome:
    trace = _trace(error) if error.exit_code == BUG else ""
    return Outcome(FAILED, error.exit_code, type(error).__name__, error.message, error.hint, error.file or "",
                   error.tensor or "", trace)  # fmt: skip


def _bug(error: Exception) -> Outcome:
    return Outcome(FAILED, BUG, type(error).__name__, str(error), "Report it with its trace.", trace=_trace(error))


def _trace(error: Exception) -> str:
    import traceback

    return "".join(traceback.format_exception(error))
