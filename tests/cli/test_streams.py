"""Standard output and error that cannot be written: one sentence and exit code 7; at a closed pipe: not a word."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import checkpoints as cp
import pytest
from checkpoints import Outcome

HEAD = "BertForMaskedLM"
FULL, CLOSED = "No space left on device", "it is closed"
BROKEN_PIPE = 128 + signal.SIGPIPE
Shell = Callable[..., Outcome]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint (in), what it was converted to (out), and another model (other)."""
    root = tmp_path_factory.mktemp("made")
    state = cp.state_dict(HEAD)
    cp.save(root / "in", HEAD, state)
    cp.save(root / "other", HEAD, {**state, "cls.predictions.bias": state["cls.predictions.bias"] + 1})
    assert cp.call("pt2tf", root / "in", root / "out", "--quiet") == 0
    return root


@pytest.fixture
def shell(made: Path) -> Shell:
    """Runs a command of bertconv with the shell's redirections, among those folders."""

    def run(arguments: str, redirections: str, before: str = "", **environment: str) -> Outcome:
        words = cp.command(shlex.split(arguments), before)
        done = subprocess.run(
            ["bash", "-c", f'"$@" {redirections}', "bash", *words], cwd=made, capture_output=True, text=True,
            check=False, env={**os.environ, "BERTCONV_VERIFY_LEVEL": "weights", **environment},
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


def sentence(stream: str, reason: str, rest: str = "all else that was asked for is done") -> str:
    return f"Error: standard {stream} cannot be written: {reason}.\nMake room or send it elsewhere; {rest}.\n"


OUTPUTS = ["--help", "--version", "inspect in", "inspect in --json", "tables show bert", "tables check",
           "verify in out", "verify in out --json", "verify out"]  # fmt: skip
AGAIN = "then run the command again"
ERRORS = {"inspect nowhere/at/all": 2, "verify in nowhere/at/all": 2, "nonsense": 2, "inspect in --nonsense": 2}


@pytest.mark.parametrize("arguments", OUTPUTS)
def test_output_to_a_full_disk(shell: Shell, arguments: str) -> None:
    assert shell(arguments, "> /dev/full") == Outcome(7, "", sentence("output", FULL))


@pytest.mark.parametrize("arguments", ["--help", "inspect in --json", "verify in out"])
def test_output_that_is_closed(shell: Shell, arguments: str) -> None:
    assert shell(arguments, ">&-") == Outcome(7, "", sentence("output", CLOSED))


@pytest.mark.parametrize("arguments", ERRORS)
@pytest.mark.parametrize(("redirection", "reason"), [("2> /dev/full", FULL), ("2>&-", CLOSED)])
def test_errors_that_cannot_be_told(shell: Shell, arguments: str, redirection: str, reason: str) -> None:
    assert shell(arguments, redirection) == Outcome(7, sentence("error", reason, AGAIN), "")


@pytest.mark.parametrize("arguments", ["--help", "inspect in --json", "nonsense"])
@pytest.mark.parametrize("redirections", ["> /dev/full 2>&1", ">&- 2>&-", "<&- >&- 2> /dev/full"])
def test_both_at_once(shell: Shell, arguments: str, redirections: str) -> None:
    assert shell(arguments, redirections) == Outcome(7, "", "")


@pytest.mark.parametrize("arguments", ["--help", "verify in other", "tables show bert --json", *ERRORS])
def test_a_closed_pipe_is_quiet(made: Path, arguments: str) -> None:
    """Also when it takes the errors."""
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": writer, "stderr": writer if arguments in ERRORS else subprocess.PIPE}
    done = subprocess.run(cp.command(shlex.split(arguments)), **streams, cwd=made, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr or b"") == (BROKEN_PIPE, b"")


@pytest.mark.parametrize("stream", ["2> /dev/full", "2>&-", "<&-"])
@pytest.mark.parametrize("arguments", ["--version", "verify out", "inspect in --json"])
def test_a_stream_that_is_not_needed_may_be_anything(shell: Shell, arguments: str, stream: str) -> None:
    done = shell(arguments, stream)
    assert (done.code, done.err) == (0, "")
    assert done.out == shell(arguments, "").out


def test_json_has_no_text_beside_it(shell: Shell) -> None:
    """A warning that is lost is an error, and is not reported in the JSON's stream."""
    warns = "import atexit, sys; import bertconv.inspection as i; old = i.inspect_checkpoint\n"
    warns += "def new(*a, **k): print('a warning', file=sys.stderr); return old(*a, **k)\ni.inspect_checkpoint = new"
    done = shell("inspect in --json", "2> /dev/full", before=warns)
    assert (done.code, done.err) == (7, "")
    assert json.loads(done.out)["head"] == HEAD
    assert shell("inspect in", "2> /dev/full", before=warns).out.endswith(sentence("error", FULL))


@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-"])
def test_a_conversion_is_done_all_the_same(shell: Shell, made: Path, tmp_path: Path, redirection: str) -> None:
    done = shell(f"pt2tf in {tmp_path / 'out'}", redirection)
    assert done == Outcome(7, "", sentence("output", FULL if "full" in redirection else CLOSED))
    assert shell(f"verify {tmp_path / 'out'}", "").code == 0
    assert sorted(cp.snapshot(tmp_path / "out")) == sorted(cp.snapshot(made / "out"))


def test_another_verdict_is_lost_with_its_code(shell: Shell) -> None:
    """1 would be an answer that nobody can read."""
    assert shell("verify in other", "> /dev/full") == Outcome(7, "", sentence("output", FULL, AGAIN))
    assert shell("inspect nowhere/at/all --json", "> /dev/full") == Outcome(7, "", sentence("output", FULL, AGAIN))


def test_completion(shell: Shell) -> None:
    done = shell("", "> /dev/full", _BERTCONV_COMPLETE="bash_source")
    assert done == Outcome(7, "", sentence("output", FULL))


def test_no_file_of_the_work_becomes_a_stream(shell: Shell, tmp_path: Path) -> None:
    """A library that prints to descriptor 2 must not print into a checkpoint that is being read or written."""
    seen = tmp_path / "seen"
    spies = "import os, pathlib; old = os.fsync\ndef new(fd):\n"
    spies += " places = [os.readlink(f'/proc/self/fd/{number}') for number in (0, 1, 2)]\n"
    spies += f" pathlib.Path({str(seen)!r}).write_text(' '.join(places)); old(fd)\nos.fsync = new"
    assert shell(f"pt2tf in {tmp_path / 'out'}", "<&- >&- 2>&-", before=spies).code == 7
    assert seen.read_text() == "/dev/null /dev/null /dev/null"


def test_a_bug_keeps_its_code(shell: Shell) -> None:
    breaks = "import bertconv.inspection as i\ndef new(*a, **k): raise ZeroDivisionError\ni.inspect_checkpoint = new"
    assert shell("inspect in", "2> /dev/full", before=breaks) == Outcome(9, "", "")


def test_a_signal_keeps_its_code(shell: Shell) -> None:
    stops = "import os, signal\nimport bertconv.inspection as i\n"
    stops += "def new(*a, **k): os.kill(os.getpid(), signal.SIGTERM)\ni.inspect_checkpoint = new"
    assert shell("inspect in", "2> /dev/full", before=stops) == Outcome(128 + signal.SIGTERM, "", "")


def test_a_pipe_that_does_not_block(made: Path) -> None:
    """As a parent that reads asynchronously may hand it down: all of the output arrives."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    arguments = ("tables", "show", "bert", "--json")
    with subprocess.Popen(cp.command(arguments), stdout=writer, stderr=subprocess.PIPE, cwd=made) as process:
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            out = file.read()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert (process.returncode, out.decode()) == (0, cp.run(*arguments).out)
    assert len(out) > 4096


SIGNAL_AFTER_WRITING = """
import io, signal
from bertconv.cli import streams
class Signalled(io.FileIO):
    def write(self, data):
        count = super().write(data)
        if b"->" in bytes(data):
            signal.raise_signal(signal.SIGINT)
        return count
streams._Descriptor = type("_Descriptor", (streams._Descriptor, Signalled), {})
"""


def test_a_signal_as_soon_as_a_line_is_written(shell: Shell, tmp_path: Path) -> None:
    """The buffer above cannot know that the line went out: it is there once, all the same."""
    done = shell(f"pt2tf in {tmp_path / 'out'}", "2>&1", before=SIGNAL_AFTER_WRITING)
    assert done.code == 128 + signal.SIGINT
    head, stopped = done.out.splitlines()
    assert head.endswith("-> tf")
    assert stopped == "Stopped; nothing half-written is left."


def test_a_progress_bar_that_cannot_be_drawn(shell: Shell, tmp_path: Path) -> None:
    terminal = "from bertconv.cli import streams; streams._Descriptor.isatty = lambda _: True"
    done = shell(f"pt2tf in {tmp_path / 'out'}", "2> /dev/full", before=terminal, TERM="xterm", NO_COLOR="1")
    assert (done.code, done.err) == (7, "")
    assert "nothing lost" in done.out
    assert done.out.endswith(sentence("error", FULL))
    assert (tmp_path / "out" / "tf_model.h5").exists()
