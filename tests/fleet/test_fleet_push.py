"""`bertconv fleet push`: to whom, how often, what a dry run says; what processes remember of the Hub's limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import checkpoints as cp
import pytest
from hub_models import ListingHub
from hub_writes import answers
from huggingface_hub import HfApi, HfFileSystem

from bertconv import convert_checkpoint, push_checkpoint
from bertconv.errors import RequestError
from bertconv.fleet.listing import list_checkpoints
from bertconv.fleet.pushing import push_fleet, read_opt_in, read_outputs, source_repository
from bertconv.source import hub_budget
from bertconv.source.hub_account import ENVIRONMENT, shared
from bertconv.source.hub_budget import Budget

Cli = Callable[..., cp.Outcome]
HEAD = "BertModel"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>'")  # huggingface_hub 2.4 to its HTTP library


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs `a` and `b`, with different weights."""
    folder = tmp_path_factory.mktemp("made")
    for seed, name in enumerate("ab"):
        cp.save(folder / f"{name}-src", HEAD, cp.state_dict(HEAD, seed=seed))
        convert_checkpoint(folder / f"{name}-src", folder / name, to="tf", verify="weights")
    return folder


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def states(hub: ListingHub, made: Path, *outputs: tuple[str, str], only: str, **options: object) -> list[str]:
    for _, repository in outputs:
        if repository not in hub.repositories:
            hub.make(repository)
    listed = [(str(made / name), repository) for name, repository in outputs]
    return [one.state for one in push_fleet(listed, frozenset(only.split()), **options)]  # type: ignore[arg-type]


def test_only_those_that_opted_in_and_each_once(hub: ListingHub, made: Path) -> None:
    outputs = (("a", "org/in"), ("a", "org/out"), ("b", "org/in"))
    assert states(hub, made, *outputs, only="org/in") == ["proposed", "not on the list", "second for its repository"]
    assert [one["num"] for one in hub.proposals["org/in"]] == [1]
    assert "org/out" not in hub.proposals
    assert not any("org/out" in request for request in hub.requests)  # not even asked
    assert set(hub.files("org/in", "refs/pr/1")) >= {"tf_model.h5", "config.json", "bertconv.json"}
    assert states(hub, made, *outputs[:1], only="org/in") == ["proposed before"]
    assert states(hub, made, ("b", "org/in"), only="org/in") == ["left alone"]
    assert len(hub.proposals["org/in"]) == 1


def test_pull_requests_of_others_and_other_ones_of_ours_are_no_reason(hub: ListingHub, made: Path) -> None:
    hub.make("org/in")
    hub.propose("org/in", "Fix a word in the README")
    hub.user = "somebody"
    hub.propose("org/in", "BertModel, verified with bertconv")
    for number in (1, 2):
        hub.commit("org/in", {"README.md": b"x"}, f"refs/pr/{number}", on=hub.head("org/in"))
    hub.user = "me"
    assert states(hub, made, ("a", "org/in"), only="org/in") == ["proposed"]
    assert states(hub, made, ("b", "org/in"), only="org/in") == ["left alone"]
    assert len(hub.proposals["org/in"]) == 3
    # Of one checkpoint and one person, a second one may be wanted: the command for that is another.
    assert push_checkpoint(made / "b", "org/in", create_pr=True).state == "proposed"


def test_a_dry_run_sends_nothing_and_says_what(hub: ListingHub, cli: Cli, made: Path, tmp_path: Path) -> None:
    hub.make("org/in")
    listed = lines(tmp_path / "list", {"src": str(made / "a"), "repository": "org/in"},
                   {"src": str(made / "b"), "repository": "org/out"})  # fmt: skip
    only = lines(tmp_path / "only", "# ours", "org/in  # since May", "")
    done = cli("fleet", "push", listed, "--only", only, "--dry-run")
    assert done.code == 0, done.err
    assert hub.posted("") == 0
    assert "tf_model.h5" in done.out
    assert "BertModel, verified with bertconv" in done.out
    assert "org/out is not on the opt-in list. Nothing was sent." in done.out
    assert done.out.endswith("2 outputs: 1 dry run, 1 not on the list.\n")
    assert ENVIRONMENT not in os.environ


def test_one_that_fails_does_not_end_the_others(hub: ListingHub, cli: Cli, made: Path, tmp_path: Path) -> None:
    hub.make("org/one")
    hub.make("org/two")
    hub.fault = answers("org/one/commit", 403)
    rows = [{"src": str(folder), "repository": name} for folder, name in
            ((made / "a", "org/one"), (made / "b", "org/two"), (tmp_path, "org/three"))]  # fmt: skip
    only = lines(tmp_path / "only", "org/one", "org/two", "org/three")
    done = cli("fleet", "push", lines(tmp_path / "list", *rows), "--only", only, "--json")
    assert done.code == 8
    facts = json.loads(done.out)
    assert [one["state"] for one in facts["outputs"]] == ["failed", "proposed", "failed"]
    assert facts["outputs"][0]["error"]["code"] == 8
    assert facts["outputs"][2]["error"]["code"] == 2
    assert facts["states"] == {"failed": 2, "proposed": 1}
    assert not facts["ok"]
    quiet = cli("fleet", "push", tmp_path / "list", "--only", only, "--quiet")
    assert len(quiet.out.splitlines()) == 1


def test_where_an_output_goes_its_manifest_says(hub: ListingHub, made: Path, tmp_path: Path) -> None:
    hub.make("org/model")
    hub.commit("org/model", {path.name: path.read_bytes() for path in (made / "a-src").iterdir()})
    convert_checkpoint("org/model", tmp_path / "out", to="tf", verify="weights")
    assert source_repository(tmp_path / "out") == "org/model"
    assert [one.state for one in push_fleet([(str(tmp_path / "out"), "")], frozenset({"org/model"}))] == ["proposed"]
    (failed,) = push_fleet([(str(made / "a"), "")], frozenset({"org/model"}))
    assert (failed.state, failed.error["code"]) == ("failed", 2)
    assert "was not made from one repository" in failed.verdict


@pytest.fixture
def fresh() -> Generator[None, None, None]:
    """No file system of another test's Hub, nor one of this for the next."""
    HfFileSystem.clear_instance_cache()
    yield
    HfFileSystem.clear_instance_cache()


@pytest.mark.usefixtures("fresh")
def test_from_the_hub_and_back(hub: ListingHub, made: Path, tmp_path: Path) -> None:
    """A line of a list is a source, of which the Hub gives only what is needed; its output goes to where it is from."""
    pytest.importorskip("fsspec")
    hub.make("org/model")
    hub.commit("org/model", {path.name: path.read_bytes() for path in (made / "a-src").iterdir()} | {"x.bin": bytes(9)})
    with shared(tmp_path / "budget"):
        (one,) = list_checkpoints("hf://models?author=org")
        assert one.src == f"hf://org/model@{hub.head('org/model')}"
        hub.requests.clear()
        convert_checkpoint(one.src, tmp_path / "out", to="tf", verify="weights")
        assert set(hub.downloaded()) == {"config.json", "model.safetensors"}
        assert not (tmp_path / "cache").exists()
        (sent,) = push_fleet([(str(tmp_path / "out"), "")], frozenset({"org/model"}))
    assert (sent.repository, sent.state) == ("org/model", "proposed")
    made_here = (made / "a" / "tf_model.h5").read_bytes()
    assert hub.files("org/model", "refs/pr/1")["tf_model.h5"] == made_here


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no repository"), ("# nobody\n", "names no repository"), ("org/a\na b\n", "line 2"),
        ("org/a@main\n", "organisation/name"), ("bert\n", "organisation/name"), ("../x\n", "line 1"),
    ],
)  # fmt: skip
def test_an_opt_in_list_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "only").write_text(text)
    with pytest.raises(RequestError, match=words):
        read_opt_in(tmp_path / "only")


@pytest.mark.parametrize("line", ["x", "[]", "{}", '{"src": ""}', '{"src": 5}', '{"src": "a", "repository": 5}'])
def test_a_list_of_outputs_that_is_none(tmp_path: Path, line: str) -> None:
    with pytest.raises(RequestError, match="line 2"):
        read_outputs(lines(tmp_path / "list", {"src": "a"}, line))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for read in (read_opt_in, read_outputs):
        with pytest.raises(RequestError, match="cannot be read"):
            read(tmp_path / "nowhere")
    (tmp_path / "list").write_bytes(b"\xff")
    with pytest.raises(RequestError, match="UTF-8"):
        read_opt_in(tmp_path / "list")


# The account of the Hub's limits


class Clock:
    """A time that passes when somebody waits."""

    def __init__(self) -> None:
        self.now, self.waits = 1000.0, list[float]()

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(hub_budget.time, "time", found.time)
    monkeypatch.setattr(hub_budget.time, "sleep", found.sleep)
    return found


def test_what_is_left_is_counted_down(tmp_path: Path, clock: Clock) -> None:
    one, other = Budget(tmp_path / "budget"), Budget(tmp_path / "budget")
    assert one.take("api") == 0  # nothing is known yet
    one.note("api", 2, 50)
    assert [other.take("api"), one.take("api"), other.take("api")] == [0, 0, 50]
    assert other.take("resolvers") == 0
    clock.now += 20
    assert one.take("api") == 30
    clock.now += 30
    assert one.take("api") == 0


def test_answers_that_were_on_their_way_give_nothing_back(tmp_path: Path, clock: Clock) -> None:
    budget = Budget(tmp_path / "budget")
    budget.note("api", 3, 60)
    for _ in range(3):
        budget.take("api")
    budget.note("api", 2, 60)  # of the first of the three
    assert budget.take("api") == 60
    clock.now += 60
    budget.note("api", 500, 300)  # the next window
    assert budget.take("api") == 0


def test_an_account_that_cannot_be_shared_is_ones_own(tmp_path: Path, clock: Clock) -> None:
    budget = Budget(tmp_path / "nowhere" / "budget")
    budget.note("api", 0, 10)
    assert budget.take("api") == 10
    (tmp_path / "budget").write_text('{"api": "x"}')
    assert Budget(tmp_path / "budget").take("api") == 0
    (tmp_path / "budget").write_bytes(b"\x00\xff")
    assert Budget(tmp_path / "budget").take("api") == 0
    assert clock.waits == []


def test_requests_wait_before_the_hub_refuses(hub: ListingHub, tmp_path: Path, clock: Clock) -> None:
    hub.make("org/a")
    hub.limit = '"api";r=1;t=55'
    with shared(tmp_path / "budget"):
        for _ in range(3):
            hub_budget.attach()  # once is enough
            HfApi().model_info("org/a")
    # The first one hears that one more is left, the second takes it, the third waits.
    assert clock.waits == [55]
    hub_budget.attach()
    assert ENVIRONMENT not in os.environ


def test_a_wait_that_is_too_long_is_left_to_the_hub(hub: ListingHub, tmp_path: Path, clock: Clock) -> None:
    hub.make("org/a")
    hub.limit = '"api";r=0;t=86400'
    with shared(tmp_path / "budget"):
        hub_budget.attach()
        HfApi().model_info("org/a")
        HfApi().model_info("org/a")
    assert clock.waits == []


def test_a_process_that_is_started_finds_the_account(tmp_path: Path) -> None:
    code = (
        "import os; from pathlib import Path; from bertconv.source.hub_budget import ENVIRONMENT, Budget; "
        "print(Budget(Path(os.environ[ENVIRONMENT])).take('api') > 0)"
    )
    with shared(tmp_path / "budget"):
        Budget(tmp_path / "budget").note("api", 0, 3600)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_a_whole_list_is_pushed_within_the_limits(hub: ListingHub, made: Path, tmp_path: Path, clock: Clock) -> None:
    hub.limit = '"api";r=3;t=60'
    with shared(tmp_path / "budget"):
        assert states(hub, made, ("a", "org/a"), ("b", "org/b"), only="org/a org/b") == ["proposed", "proposed"]
    assert clock.waits
    assert all(seconds == 60 for seconds in clock.waits)
