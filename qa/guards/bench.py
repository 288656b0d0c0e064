"""Runs tests against a changed copy of the package: each run in a fork of one process that has imported the rest."""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import hashlib
import importlib
import importlib.util
import json
import os
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from qa.guards.find import PROBE, Guard, probed

TESTS = (
    "tests/test_*.py", "tests/formats/**/test_*.py", "tests/source/test_*.py", "tests/hostile/test_*.py",
    "tests/cli/test_*.py", "tests/tokenizer/test_*.py", "tests/verify/test_tokenizers.py",
    "tests/verify/test_certificate.py", "tests/manage/test_history.py", "tests/manage/test_adapter.py",
    "tests/manage/test_parts_of_models.py",
)  # fmt: skip
"""Tests that may reach a guard, and are fast."""
_NOT = (
    "test_architecture.py",
    "test_examples.py",
    "test_fuzz.py",
    "test_guards.py",
    "test_migration.py",
    "test_trust.py",
)
_COPIED = ("bertconv", "mappings", "tests", "scripts", "qa", "pyproject.toml", "constraints.txt", "README.md", "docs")
_HEAVY = (
    "numpy", "h5py", "ml_dtypes", "click", "rich.console", "rich.table", "rich.progress", "huggingface_hub",
    "safetensors.numpy", "safetensors.torch", "torch", "hypothesis",
)  # fmt: skip
SECONDS = 120.0
"""A test that takes this much longer than usual hangs, on a busy machine too."""
HITS = "BERTCONV_GUARD_HITS"

_PROBE_MODULE = f'''"""Notes which guards refused."""
import os
try:
    _fd = os.open(os.environ.get("{HITS}", ""), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
except OSError:
    _fd = -1
seen = set()

def {PROBE}(number, value=True):
    if value and number not in seen and _fd >= 0:
        seen.add(number)
        try:
            os.write(_fd, b"%d\\n" % number)
        except OSError:
            pass
    return value
'''


def prepare() -> None:
    """Import what tests need besides bertconv, so that forks need not."""
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    for name in _HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def copy_tree(root: Path, to: Path) -> None:
    """What the tests need of a repository."""
    for name in _COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (root / name).exists():
            shutil.copyfile(root / name, to / name)


def in_fork(work: Callable[[], int], log: Path, seconds: float) -> int | None:
    """The status of `work` done by a child that prints into `log`; None when it had to be killed."""
    child = os.fork()
    if not child:
        code = 99
        try:
            os.setpgid(0, 0)
            fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(fd, 1)
            os.dup2(fd, 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            code = work()
        except BaseException:  # noqa: BLE001  (it must not go on as the parent)
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    with contextlib.suppress(OSError):
        os.setpgid(child, child)
    pidfd = os.pidfd_open(child)
    is_done = bool(select.select([pidfd], [], [], seconds)[0])
    os.close(pidfd)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # and what it may have started
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if is_done else None


class Bench:
    """A copy of the repository in which guards are deleted.

    Args:
        root: the repository.
        work: an empty folder for the copy.
    """

    def __init__(self, root: Path, work: Path) -> None:
        self.root, self.tree, self.log = root, work / "tree", work / "log"
        self._hits, self._work = work / "hits", work
        self._clock = time.time() - 10**6
        self.tree.mkdir()
        copy_tree(root, self.tree)

    def change(self, file: str, content: str) -> None:
        """Give a file of the copy another content, and a time that no cached bytecode has."""
        path = self.tree / file
        path.write_text(content)
        self._clock += 10
        os.utime(path, (self._clock, self._clock))

    def original(self, file: str) -> str:
        """A file's own content."""
        return (self.root / file).read_text()

    def pytest(self, arguments: Sequence[str], seconds: float, plugins: Sequence[object] = ()) -> int | None:
        """The status of a run of tests in the copy."""

        def work() -> int:
            os.chdir(self.tree)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it
            os.environ["PYTHONPATH"] = str(self.tree)
            os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # bertconv's own would be imported from elsewhere
            sys.path[:0] = [str(self.tree)]
            options = ["-q", "-x", "--no-header", "--tb=line", "-p", "no:cacheprovider", f"--rootdir={self.tree}"]
            importlib.invalidate_caches()
            spec = importlib.util.find_spec("bertconv")
            if spec is None or not str(spec.origin).startswith(str(self.tree)):
                raise RuntimeError("the copy is not what would be imported")
            return int(pytest.main([*options, *arguments], plugins=list(plugins)))

        return in_fork(work, self.log, seconds)

    def said(self) -> str:
        """What the last run printed."""
        return self.log.read_text(errors="replace")

    # Which test reaches which guard

    def reach(
        self, guards: Sequence[Guard], patterns: Sequence[str], cache: Path, tell: Callable[[str], None]
    ) -> Reach:
        """Run every test once with a probe at each guard."""
        files: dict[str, list[tuple[int, Guard]]] = {}
        for number, guard in enumerate(guards):
            files.setdefault(guard.file, []).append((number, guard))
        (self.tree / "guards_probe.py").write_text(_PROBE_MODULE)
        for file, numbered in files.items():
            self.change(file, probed(self.original(file), numbered))
        reach = Reach(len(guards))
        tests = sorted({path for pattern in patterns for path in self.tree.glob(pattern) if path.name not in _NOT})
        for path in tests:
            name = path.relative_to(self.tree).as_posix()
            kept = cache / f"{self._key(path, guards)}.json"
            if not kept.exists():
                began = time.monotonic()
                kept.write_text(json.dumps(self._observe(name)))
                tell(f"{name}: {time.monotonic() - began:.0f} s")
            reach.add(json.loads(kept.read_text()))
        for file in files:
            self.change(file, self.original(file))
        (self.tree / "guards_probe.py").unlink()
        return reach

    def _key(self, test: Path, guards: Sequence[Guard]) -> str:
        digest = hashlib.sha256("\n".join(guard.key for guard in guards).encode())
        shared = {path for name in ("bertconv", "mappings") for path in (self.root / name).rglob("*") if path.is_file()}
        shared |= {path for path in self.root.glob("tests/**/*.py") if not path.name.startswith("test_")}
        for path in sorted(path for path in shared if path.suffix in (".py", ".toml")):
            digest.update(f"{path.relative_to(self.root)}\0".encode() + path.read_bytes())
        digest.update(str(test.relative_to(self.tree)).encode() + test.read_bytes())
        return digest.hexdigest()[:32]

    def _observe(self, name: str) -> dict[str, Any]:
        self._hits.unlink(missing_ok=True)
        os.mkfifo(self._hits)  # a process that may write no file may still write into a pipe
        os.environ[HITS] = str(self._hits)
        found = self._work / "found.json"
        found.unlink(missing_ok=True)
        code = self.pytest(["--maxfail=1000000", name], 3600, [Observer(self._hits, found)])
        del os.environ[HITS]
        if code not in (0, 1):  # all green, or some red
            raise SystemExit(f"{name} cannot be run:\n{self.said()[-3000:]}")
        facts: dict[str, Any] = json.loads(found.read_text())
        return facts


class Watchdog:
    """A plugin of pytest: ends the process when one test takes too long.

    Args:
        seconds: by name of a test; other tests have `SECONDS`.
    """

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self._seconds = seconds

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins, or the next one."""
        faulthandler.dump_traceback_later(SECONDS + 5 * self._seconds.get(nodeid, 0.0), exit=True)


class Observer:
    """A plugin of pytest: what each test needed, whether it passed, and which guards refused meanwhile."""

    def __init__(self, hits: Path, found: Path) -> None:
        self._pipe = os.open(hits, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, 1 << 20)
        self._found = found
        self._facts: dict[str, Any] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        self._facts[nodeid] = {"seconds": 0.0, "passed": True, "hits": []}
        if (probe := sys.modules.get("guards_probe")) is not None:
            probe.seen.clear()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A part of it is done."""
        fact = self._facts[report.nodeid]
        fact["seconds"] += report.duration
        fact["passed"] &= report.passed

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """It is done."""
        with contextlib.suppress(BlockingIOError):
            lines = os.read(self._pipe, 1 << 20).split()
            self._facts[nodeid]["hits"] = sorted({int(line) for line in lines})

    def pytest_sessionfinish(self) -> None:
        """All are done."""
        self._found.write_text(json.dumps(self._facts))


class Reach:
    """Which tests make which guard refuse, and how long they take."""

    def __init__(self, guards: int) -> None:
        self.seconds: dict[str, float] = {}
        self.red: list[str] = []
        self.by_guard: list[list[str]] = [[] for _ in range(guards)]

    def add(self, facts: dict[str, Any]) -> None:
        """What was observed of one file of tests."""
        for test, fact in facts.items():
            if not fact["passed"]:
                self.red.append(test)
                continue
            self.seconds[test] = fact["seconds"]
            for number in fact["hits"]:
                self.by_guard[number].append(test)

    def tests(self, number: int, guard: Guard) -> list[str]:
        """Those that reach a guard, in the order in which to try them.

        The fastest come first, but three of a file before others have their turn. Nearly every test comes past a
        protection that is no refusal: there the module's own tests come first.
        """
        own = f"test_{Path(guard.file).stem}.py" if guard.kind == "mark" else ""
        turns: dict[str, int] = {}
        order = []
        for test in sorted(self.by_guard[number], key=self.seconds.__getitem__):
            file = test.partition("::")[0]
            turns[file] = turns.get(file, -1) + 1
            order.append((Path(file).name != own, turns[file] // 3, self.seconds[test], test))
        return [test for *_, test in sorted(order)]
