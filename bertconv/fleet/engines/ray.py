"""Ray: items run as Core tasks, on a cluster that is there or on one of this machine that is started for them.

Ray runs each try once (`max_retries=0`): the scheduler alone decides about another one. A task that ended without a
result is a lost worker, whatever Ray's reason; what the task itself raises is the cluster's fault, as `run_item` never
raises. Nothing is started before the first item: a fleet with nothing to do needs no cluster.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bertconv import __version__
from bertconv.errors import BertconvError, RequestError
from bertconv.fleet.engines.engine import Finished, processors
from bertconv.fleet.items import Item, item_of
from bertconv.fleet.outcome import Outcome

MEMORY = 300_000_000
"""Bytes that a task reserves: a worker takes 250 MB, and a machine is to hold no more of them than it has room for."""
OBJECT_STORE = 80_000_000
"""Bytes of shared memory of a cluster of our own; results are some kilobytes, and this is near the least it takes."""
PATIENCE = 30.0
"""Seconds that running items get to clean up after they were told to stop."""
_LOOK = 5.0
"""Seconds for which the number of processors of a cluster is taken as known."""
_STARTS = 3
"""Tries to start a cluster: its parts wait for each other, some for 15 s only."""
_MOST_BASE = 20
"""Longest name of a folder for sockets: their paths may have 107 bytes, of which Ray's own part takes 65, ours 22."""
_PREFIX = "bertconv-ray-"
_LOCK = "lock"


class RayEngine:
    """Runs items on Ray.

    Args:
        workers: items at a time; None takes the processors of the cluster, or of this machine.
        address: of a cluster; None takes the environment's RAY_ADDRESS, and without that starts one here.

    Raises:
        RequestError: Ray is not installed.
    """

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        if find_spec("ray") is None:
            raise RequestError("the engine ray needs Ray.", hint="Install it: pip install 'bertconv[ray]'")
        self.workers = workers
        self.address = address or os.environ.get("RAY_ADDRESS") or None
        self._folder: _Folder | None = None
        self._ray: Any = None
        self._task: Any = None
        self._running: dict[Any, str] = {}
        self._processors, self._looked = 0, 0.0

    @property
    def slots(self) -> int:
        """How many items it takes at a time; of a cluster, as many as it has processors now."""
        if self.workers is not None:
            return self.workers
        if self.address is None:
            return processors()
        ray = self._started()
        if not self._processors or time.monotonic() - self._looked > _LOOK:
            self._processors, self._looked = max(int(ray.cluster_resources().get("CPU", 1)), 1), time.monotonic()
        return self._processors

    def submit(self, item: Item, *, alone: bool) -> None:
        """Begin an item; the first one starts Ray.

        Args:
            item: what is to be done.
            alone: in a process of its own with limits, which the worker starts.

        Raises:
            RequestError: there is no cluster at the address, or Ray cannot start one here.
        """
        self._started()
        self._running[self._task.remote(item.to_json(), alone, __version__)] = item.id

    def wait(self, timeout: float) -> list[Finished]:
        """The tries that ended.

        Args:
            timeout: most seconds until one does.

        Raises:
            RequestError: the cluster's nodes cannot run items.
        """
        if not self._running:
            time.sleep(max(timeout, 0))
            return []
        ray = self._started()
        refs = list(self._running)
        done, _ = ray.wait(refs, timeout=timeout)
        if done:
            done, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        return [_finished(ray, self._running.pop(ref), ref) for ref in done]

    def close(self, *, stop: bool = False) -> None:
        """End what was started; a cluster that was there before goes on.

        Args:
            stop: running items are told to give up, and get `PATIENCE` seconds to clean up.
        """
        if self._ray is None:
            return
        ray, refs = self._ray, list(self._running)
        try:
            for ref in refs if stop else ():
                ray.cancel(ref)
            if refs:
                ray.wait(refs, num_returns=len(refs), timeout=PATIENCE if stop else None)
        finally:
            self._running.clear()
            self._ray = self._task = None
            ray.shutdown()
            self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def _started(self) -> Any:
        """The module, connected."""
        if self._ray is None:
            if self.address is None and "ray" not in sys.modules:
                _set_environment()
            with _quiet():
                import ray
            self._connect(ray)
            self._ray, self._task = ray, ray.remote(num_cpus=1, memory=MEMORY, max_retries=0)(run)
        return self._ray

    def _connect(self, ray: Any) -> None:
        """Join a cluster, or start one; on a busy machine that takes more than one try."""
        tries = _STARTS if self.address is None else 1
        while True:
            tries -= 1
            before = _children()
            try:
                with _own_signals():
                    self._init(ray)
            except Exception as error:
                ray.shutdown()
                _end(_children() - before)  # parts of a cluster that never was: Ray keeps them until this process ends
                self._remove_folder()
                if not tries:
                    raise self._no_cluster(error) from error
            else:
                return

    def _init(self, ray: Any) -> None:
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address is not None:
            ray.init(address=self.address, **common)
            return
        self._folder = _Folder()
        ray.init(
            address="local", num_cpus=self.slots, include_dashboard=False, object_store_memory=OBJECT_STORE,
            _temp_dir=str(self._folder.path), **common,
        )  # fmt: skip

    def _no_cluster(self, error: Exception) -> RequestError:
        said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        if self.address is None:
            hint = "Look for memory and processors that others use up, or use --engine local, which needs no cluster."
            return RequestError(f"a cluster of Ray cannot be started here: {said}.", hint=hint)
        return RequestError(
            f"the cluster of Ray at {self.address} cannot be joined: {said}.",
            hint="Check the address, and that Ray and Python have the versions of the cluster's.",
        )


def run(facts: Mapping[str, Any], alone: bool, version: str) -> Outcome:
    """One item in a worker of Ray; its name is what the worker is called in lists of processes.

    Raises:
        RequestError: the worker has another version of bertconv than the driver.
    """
    if version != __version__:
        raise RequestError(
            f"a node of the cluster has bertconv {__version__}, and the driver has {version}.",
            hint="Install the same version on every node.",
        )
    item = item_of(facts)
    if alone:
        from bertconv.fleet.engines.alone import run_alone

        return run_alone(item)
    from bertconv.fleet.work import run_item

    return run_item(item)


def _finished(ray: Any, name: str, ref: Any) -> Finished:
    """What became of a task."""
    try:
        return Finished(name, ray.get(ref))
    except ray.exceptions.TaskCancelledError:
        return Finished(name, None, "it was stopped")
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, BertconvError):
            raise error.cause from error
        raise _unfit(str(error)) from error
    except ray.exceptions.RuntimeEnvSetupError as error:
        raise _unfit(str(error)) from error
    except ray.exceptions.OutOfMemoryError:
        return Finished(name, None, "Ray killed its worker because the machine ran out of memory")
    except ray.exceptions.RayError as error:
        return Finished(name, None, f"Ray lost its worker ({type(error).__name__})")


def _unfit(said: str) -> RequestError:
    """The error of a cluster that runs tasks, but not ours."""
    lines = said.strip().splitlines() or ["no reason was given"]
    return RequestError(
        f"the cluster's nodes cannot run items: {lines[-1].rstrip('.')}.",
        hint="Install one version of bertconv, the same everywhere.",
    )


def _children() -> set[int]:
    """The processes that this one started; none where the system does not tell."""
    found: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that ended
            found |= {int(number) for number in task.read_text().split()}
    return found


def _end(children: Iterable[int]) -> None:
    for number in children:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it ended, or was waited for
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)


def _set_environment() -> None:
    """What a cluster of our own finds in its environment, unless the user says otherwise.

    Only who has the token may send it tasks; Ray would write one to the user's home, and say so at every start. Nobody
    is told of its use. Ray reads this once, when it is imported, and what it starts inherits it: it stays set.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray prints the news of a lost worker on standard output, which is for results; what it skips it reads once."""
    before = os.environ.get("RAY_DEDUP_LOGS_SKIP_REGEX")
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "^"
    try:
        yield
    finally:
        if before is None:
            del os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"]
        else:
            os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = before


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """The driver's handlers stay: Ray replaces that of SIGTERM by its own when it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Folder:
    """Where a cluster of our own keeps sockets and logs; a lock says that its driver lives."""

    def __init__(self) -> None:
        base = tempfile.gettempdir()
        if len(os.fsencode(base)) > _MOST_BASE:
            base = "/tmp"  # noqa: S108  (mkdtemp makes the folder, for this user alone)
        _remove_abandoned(Path(base))
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
            self._lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if (self.path / _LOCK).exists():
                break
            os.close(self._lock)  # another driver took it for abandoned before it was locked

    def remove(self) -> None:
        """With all that is in it; processes that end may still write to it."""
        _remove(self.path)
        os.close(self._lock)


def _remove_abandoned(base: Path) -> None:
    """Remove the folders of drivers that were killed."""
    for path in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or just removed by another driver
            if path.is_symlink() or path.stat().st_uid != os.geteuid():
                continue
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(lock)


def _remove(path: Path) -> None:
    for _ in range(10):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.2)
