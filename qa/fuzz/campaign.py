"""A campaign of fuzzing: runs in a process that is started again behind an input that kills it, and what it counts."""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from qa.fuzz.runs import Verdict, runs

if TYPE_CHECKING:
    from qa.fuzz.targets.common import Target

HANG_SECONDS = 600.0
"""After which a run that waits for something is ended from outside, however busy the machine is."""
ADDRESS_SPACE = 2 << 30
FINDINGS_SHOWN = 20


@dataclass
class Tally:
    """One campaign.

    Attributes:
        target: its name.
        seed: of all its inputs.
        runs: inputs that were read.
        accepted: of these, read without an error.
        refused: number of refusals by the error's class.
        known: how often h5py hangs or crashes on what is accepted.
        findings: number of the run -> what happened.
        seconds: wall time.
    """

    target: str
    seed: int
    runs: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    findings: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, number: int, verdict: Verdict) -> None:
        """Count one run."""
        self.runs += 1
        self.accepted += verdict.kind == "accepted"
        if verdict.kind == "finding":
            self.findings[number] = verdict.text
        elif verdict.kind in {"refused", "known"}:
            getattr(self, verdict.kind)[verdict.text] += 1

    def row(self) -> str:
        """A line of the summary."""
        refused = ", ".join(f"{name} {count:,}" for name, count in self.refused.most_common())
        known = ", ".join(f"{name} {count:,}" for name, count in self.known.most_common()) or "-"
        rate = self.runs / max(self.seconds, 1e-9)
        counts = f"{self.runs:,} | {self.accepted:,} | {refused} | {known} | {len(self.findings)}"
        return f"| {self.target} | {self.seed} | {counts} | {rate:,.0f} |"


HEAD = "| target | seed | runs | accepted | refused | known | findings | runs/s |\n|---|---|---|---|---|---|---|---|"


@dataclass
class Campaign:
    """A campaign in a process of its own, which is started again behind an input that kills it.

    Attributes:
        build: makes the target, in that process.
        tally: the result.
        path: the file that every input is written to, on a file system in memory.
        end: the number of the first run that is not made; None goes on until `deadline`.
        deadline: by time.monotonic().
        findings: folder for the inputs of findings.
    """

    build: Callable[[], Target]
    tally: Tally
    path: Path
    end: int | None
    deadline: float | None = None
    findings: Path | None = None

    def run(self, start: int) -> None:
        """All runs from `start` on."""
        began = time.monotonic()
        following: int | None = start
        while following is not None and not self._is_over(following):
            following = self._run_worker(following)
        self.tally.seconds = time.monotonic() - began

    def _is_over(self, number: int) -> bool:
        late = self.deadline is not None and time.monotonic() > self.deadline
        return late or (self.end is not None and number >= self.end)

    def _run_worker(self, start: int) -> int | None:
        """Runs until the worker ends; the number to go on with when it was killed by an input, else None."""
        reading, writing = os.pipe()
        worker = os.fork()
        if not worker:
            os.close(reading)
            work(self, start, writing)
        os.close(writing)
        following = start
        rest = b""
        is_late = False
        while chunk := self._read(reading):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                number, kind, text = json.loads(line)
                self._note(number, Verdict(kind, text))
                following = number + 1
            if is_late := self.deadline is not None and time.monotonic() > self.deadline:
                break
        if chunk is None or is_late:
            os.killpg(worker, signal.SIGKILL)  # with the run that it may have forked
        os.close(reading)
        _, status = os.waitpid(worker, 0)
        if is_late or status == 0:
            return None
        if not os.WIFSIGNALED(status):
            raise SystemExit(f"the fuzzer itself failed with status {os.waitstatus_to_exitcode(status)}")
        name = signal.Signals(os.WTERMSIG(status)).name
        self._note(following, Verdict("finding", "hangs" if chunk is None else f"kills the process by {name}"))
        return following + 1

    @staticmethod
    def _read(reading: int) -> bytes | None:
        """What the worker tells; nothing at its end, None when it has been silent for too long."""
        return os.read(reading, 1 << 16) if select.select([reading], [], [], HANG_SECONDS)[0] else None

    def _note(self, number: int, verdict: Verdict) -> None:
        self.tally.add(number, verdict)
        if verdict.kind == "finding" and len(self.tally.findings) <= FINDINGS_SHOWN:
            print(
                f"{self.tally.target}, seed {self.tally.seed}, run {number}: {verdict.text}",
                file=sys.stderr,
                flush=True,
            )
            if self.findings:
                self.findings.mkdir(parents=True, exist_ok=True)
                name = f"{self.tally.target}-{self.tally.seed}-{number}"
                kept = self.path.with_name(f"{number}.kept")
                shutil.copyfile(kept if kept.exists() else self.path, self.findings / name)


def work(campaign: Campaign, start: int, writing: int) -> None:
    """The worker: a line of JSON for every run. Does not return."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    warnings.simplefilter("ignore")  # forks beside the threads of numpy
    code = 3
    try:
        os.setpgid(0, 0)
        target = campaign.build()
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number, verdict in runs(target, campaign.path, campaign.tally.seed, start, campaign.end):
            if verdict.kind == "finding":
                shutil.copyfile(campaign.path, campaign.path.with_name(f"{number}.kept"))
            os.write(writing, json.dumps((number, verdict.kind, verdict.text)).encode() + b"\n")
        code = 0
    except BrokenPipeError:
        code = 0
    finally:
        if code:
            import traceback

            traceback.print_exc()
        os._exit(code)
