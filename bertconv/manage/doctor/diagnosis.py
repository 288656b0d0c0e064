"""diagnose(): what is wrong with a checkpoint, what each program will make of it, and the command that repairs it.

Nothing is written. Without `deep` headers, the config and the tokenizer are read, and no weight.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any

from bertconv.config import Config
from bertconv.containers.stored import Header
from bertconv.errors import BertconvError
from bertconv.inspection import Inspection, describe
from bertconv.manage.doctor.config import check as check_config
from bertconv.manage.doctor.files import check as check_files
from bertconv.manage.doctor.names import check as check_names
from bertconv.manage.doctor.patient import NOTE, SEVERITIES, Finding, Patient
from bertconv.manage.doctor.programs import chosen
from bertconv.manage.doctor.refusals import check as check_refusals
from bertconv.manage.doctor.tokens import check as check_tokens
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.identify import Identity
from bertconv.mapping.plan import Plan, PlanOptions
from bertconv.mapping.planner import make_plan
from bertconv.mapping.recognise import Wanted, recognise
from bertconv.mapping.table import Table
from bertconv.parts import refuse_part
from bertconv.progress import Progress, silent
from bertconv.records import dataclass
from bertconv.source import Source, SourceOptions, open_source
from bertconv.source.reading import open_header

_ANY = ("",)
"""A regex list that allows every name: what is missing or unknown is reported, not refused."""

CHECKS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (
    check_refusals, check_names, check_config, check_tokens, check_files,
)  # fmt: skip


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        given: the source as it was given; `revision` is the commit on the Hub.
        programs: keys of the programs that were asked about.
        deep: whether the weights were read.
        inspection: what the checkpoint is.
        findings: errors first, then warnings, then notes.
    """

    given: str
    revision: str | None
    programs: tuple[str, ...]
    deep: bool
    inspection: Inspection
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether there are notes at most."""
        return all(finding.severity == NOTE for finding in self.findings)

    def count(self, severity: str) -> int:
        """How many findings of a severity there are."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return {"healthy": self.healthy, **asdict(self), "inspection": self.inspection.to_json()}


def diagnose(  # noqa: PLR0913  (one argument per option of the command)
    src: str | os.PathLike[str],
    *,
    deep: bool = False,
    programs: Iterable[str] = (),
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    subfolder: str = "",
    variant: str | None = None,
    head: str | None = None,
    config: str | os.PathLike[str] | None = None,
    strip_prefix: str | None = None,
    family: str | None = None,
    table: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Say what is wrong with a checkpoint, and what repairs it. Nothing is written.

        from bertconv import diagnose

        for finding in diagnose("checkpoint/").findings:
            print(finding.severity, finding.id, finding.command)

    Args:
        src: folder, file or Hub id (`org/name`, `org/name@revision`).
        deep: read the weights too: NaN, zeros, rows that were never trained, copies that differ.
        programs: keys of `bertconv.manage.doctor.programs`; what concerns none of them is left out. None takes all.
        revision: branch, tag or commit on the Hub.
        token: access token for the Hub; by default HF_TOKEN or the stored one.
        cache_dir: cache of the Hub; by default HF_HOME's.
        local_files_only: use only what the cache holds.
        subfolder: folder inside the source.
        variant: such as "fp16" for `model.fp16.safetensors`.
        head: the model class; by default the one that the tensors are.
        config: config file to use instead of the source's.
        strip_prefix: use only the names that begin with this, and take it off.
        family: the `model_type` of the source's family, where its config does not say it.
        table: a mapping table of the caller's own.
        progress: called with the bytes of each step.

    Returns:
        The findings. A checkpoint whose names, config or shapes are refused is described and not refused.

    Raises:
        BertconvError: the files cannot be read at all.
    """
    asked = chosen(programs)
    wanted = Wanted.of(family, table, strip_prefix)
    options = SourceOptions(
        revision=revision, token=token, cache_dir=cache_dir,
        local_files_only=local_files_only, subfolder=subfolder, variant=variant,
        config=config,
    )  # fmt: skip
    repeated = (
        ("--revision", revision), ("--cache-dir", cache_dir), ("--subfolder", subfolder), ("--variant", variant),
        ("--head", head), ("--config", config), ("--strip-prefix", strip_prefix), ("--family", family),
        ("--map", table),
    )  # fmt: skip
    words = [word for option, value in repeated if value for word in (option, str(value))]
    source = open_source(src, options)
    with closing(open_header(source, check_data=deep)) as header:
        inspection = describe(source, header, head, wanted)
        patient = examined(source, header, inspection, wanted, head, words, deep=deep)
        found = [finding for check in CHECKS for finding in check(patient)]
        if deep:
            from bertconv.manage.doctor.deep import check as check_weights
            from bertconv.manage.doctor.deep import with_untied

            found = with_untied([*found, *check_weights(patient, progress or silent)])
            for file in header.files:
                file.check_unchanged()
    return Diagnosis(source.given, source.revision, tuple(sorted(asked)), deep, inspection, _sorted(found, asked))


def examined(
    source: Source,
    header: Header,
    inspection: Inspection,
    wanted: Wanted,
    head: str | None,
    options: Sequence[str],
    *,
    deep: bool,
) -> Patient:
    """What the checks ask, each step as far as it goes."""
    refusals: list[BertconvError] = []
    table: Table | None = None
    identity: Identity | None = None
    config: Config | None = None
    plan: Plan | None = None
    try:
        table, identity = recognise(header.tensors, source, wanted)
        if source.config is not None:
            config = source.load_config(table.family)
            plan = make_plan(
                identity, table, load_dialects(), config, load_dialects().reference,
                PlanOptions(head=head, allow_unknown=_ANY, ignore_missing=_ANY),
            )  # fmt: skip
    except BertconvError as error:
        refusals.append(_refusal(source, error))
    return Patient(source, header, inspection, table, identity, config, plan, tuple(refusals), tuple(options), deep)


def _refusal(source: Source, error: BertconvError) -> BertconvError:
    """The error, or what is said of a head alone, which no class fits."""
    try:
        refuse_part(source)
    except BertconvError as other:
        return other
    return error


def _sorted(findings: Iterable[Finding], asked: frozenset[str]) -> tuple[Finding, ...]:
    concerned = [finding for finding in findings if asked.intersection(finding.affects)]
    return tuple(sorted(concerned, key=lambda finding: SEVERITIES.index(finding.severity)))
