"""`bertconv push`: what is sent, what is refused, what is read back, and what the Hub may do to it meanwhile."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import checkpoints as cp
import pytest
from hub_server import digest
from hub_writes import Fault, WritableHub, answers, hangs_up, loses_the_answer, somebody_commits
from huggingface_hub import constants
from manifests import forged

from bertconv import convert_checkpoint, push_checkpoint
from bertconv.errors import BertconvError, DamagedCheckpoint, HubError, ParityError, RequestError
from bertconv.formats.destination import MANIFEST_BYTES
from bertconv.manage.push_text import code

REPO = "org/model"
HEAD = "BertForTokenClassification"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>'")  # huggingface_hub 2.4 to its HTTP library
Cli = Callable[..., cp.Outcome]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of bertconv: `a`, and `b` with other weights; `a` has a vocabulary."""
    folder = tmp_path_factory.mktemp("made")
    for name, seed in (("a", 1), ("b", 2)):
        cp.save(folder / f"{name}-src", HEAD, cp.state_dict(HEAD, seed=seed))
        (folder / f"{name}-src" / "vocab.txt").write_text("\n".join(f"w{number}" for number in range(101)))
        convert_checkpoint(folder / f"{name}-src", folder / name, to="pt", verify="weights")
    return folder


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """An output that may be changed."""
    return copied(made / "a", tmp_path / "out")


@pytest.fixture
def other(made: Path, tmp_path: Path) -> Path:
    """An output of the same kind with other weights."""
    return copied(made / "b", tmp_path / "other")


def copied(source: Path, target: Path) -> Path:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def there(hub: WritableHub, ref: str = "main") -> dict[str, bytes]:
    return {name: data for name, data in hub.files(REPO, ref).items() if name != ".gitattributes"}


def refused(error: type[BertconvError], *words: str, folder: Path, **options: object) -> BertconvError:
    with pytest.raises(error) as caught:
        push_checkpoint(folder, REPO, **options)
    for word in words:
        assert word in str(caught.value)
    return caught.value


def test_a_new_repository(hub: WritableHub, out: Path) -> None:
    files = contents(out)
    (out / "notes.md").write_text("mine")
    (out / "events").mkdir()
    (out / "events" / "log").write_text("mine")
    push = push_checkpoint(out, REPO)
    assert there(hub) == files
    assert (push.state, push.commit, push.pull_request) == ("committed", hub.head(REPO), None)
    assert push.url == f"{hub.url}/{REPO}/commit/{push.commit}"
    assert push.not_sent == ("events/log", "notes.md")
    assert set(push.files) == set(files)
    assert push.files["model.safetensors"]["sha256"] == digest("model.safetensors", files["model.safetensors"])
    assert len(hub.repositories[REPO].commits) == 2  # the first one is the Hub's
    assert not hub.repositories[REPO].private
    message, description = hub.texts[push.commit]
    assert message == f"{HEAD}, verified with bertconv"
    assert push.digest in description
    assert "read back" in push.verdict()


def test_private_and_the_message(hub: WritableHub, out: Path) -> None:
    push = push_checkpoint(out, REPO, private=True, message="Mine\n\nAll of it.", token="hf_other")
    assert hub.repositories[REPO].private
    assert push.private
    assert set(hub.authorizations) == {"Bearer hf_other", ""}  # LFS objects go to an address that is signed
    message, description = hub.texts[push.commit or ""]
    assert message == "Mine"
    assert description.startswith("All of it.\n\n- ")
    refused(RequestError, "empty", folder=out, message=" \n")


def test_private_that_is_public(hub: WritableHub, out: Path) -> None:
    hub.make(REPO)
    refused(RequestError, "is public", folder=out, private=True)
    assert there(hub) == {}


def test_what_is_there_already_is_not_sent_again(hub: WritableHub, out: Path) -> None:
    first = push_checkpoint(out, REPO)
    again = push_checkpoint(out, REPO)
    assert (again.state, again.commit) == ("unchanged", first.commit)
    assert push_checkpoint(out, REPO, create_pr=True).state == "unchanged"
    assert hub.posted("/commit/") == 1
    assert "Nothing was sent" in again.verdict()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt"])
def test_a_folder_that_was_changed(hub: WritableHub, out: Path, name: str) -> None:
    raw = bytearray((out / name).read_bytes())
    raw[-2] ^= 1
    (out / name).write_bytes(raw)
    refused(ParityError, name, "not pushed", folder=out)
    (out / name).unlink()
    refused(ParityError, f"{name} is missing", folder=out)
    assert hub.requests == []


def test_a_folder_without_a_manifest(hub: WritableHub, made: Path) -> None:
    error = refused(RequestError, "bertconv.json", folder=made / "a-src")
    assert f"bertconv convert {made / 'a-src'} out/" in error.hint
    assert hub.requests == []


@pytest.mark.parametrize("repository", ["", "a/b/c", "../a", "https://huggingface.co/org/model", "a b", "model"])
def test_what_is_no_repository(hub: WritableHub, out: Path, repository: str) -> None:
    with pytest.raises(RequestError):
        push_checkpoint(out, repository)
    assert hub.requests == []


# What is there already


def test_weights_that_are_no_ancestor(hub: WritableHub, out: Path, other: Path) -> None:
    push_checkpoint(other, REPO)
    before, head = there(hub), hub.head(REPO)
    error = refused(HubError, "not made from", "model.safetensors", folder=out)
    assert f"--parent-commit {head}" in error.hint
    assert "--create-pr" in error.hint
    assert there(hub) == before
    push = push_checkpoint(out, REPO, parent_commit=head[:7])
    assert (push.state, push.parent) == ("committed", head)
    assert there(hub) == contents(out)


@pytest.mark.parametrize("commit", ["0" * 40, "", "abc", "not a commit"])
def test_another_parent_commit_than_the_head(hub: WritableHub, out: Path, commit: str) -> None:
    hub.make(REPO)
    refused(HubError, hub.head(REPO), folder=out, parent_commit=commit)
    assert there(hub) == {}


def test_weights_without_a_manifest(hub: WritableHub, out: Path) -> None:
    hub.make(REPO)
    hub.commit(REPO, {"tf_model.h5": b"anything", "optimizer.bin": b"state"})
    refused(HubError, "(tf_model.h5)", folder=out)
    for no_manifest in (b"{}", b"\xff", b"x" * (MANIFEST_BYTES + 1)):
        hub.commit(REPO, {"bertconv.json": no_manifest})
        refused(HubError, "(tf_model.h5)", folder=out)
    assert "bertconv.json" in hub.downloaded()
    hub.commit(REPO, {"model.safetensors": (out / "model.safetensors").read_bytes()})
    refused(HubError, "model.safetensors", folder=out)
    push = push_checkpoint(out, REPO, parent_commit=hub.head(REPO))
    assert push.remaining == ("tf_model.h5",)
    assert there(hub) == {**contents(out), "tf_model.h5": b"anything", "optimizer.bin": b"state"}


def test_the_same_weights_with_another_config(hub: WritableHub, out: Path) -> None:
    hub.make(REPO)
    hub.commit(REPO, {"model.safetensors": (out / "model.safetensors").read_bytes(), "config.json": b"{}"})
    assert push_checkpoint(out, REPO).state == "committed"


def converted(source: str, out: Path, **options: object) -> Path:
    convert_checkpoint(source, out, to="tf", verify="weights", **options)
    return out


def test_an_ancestor_by_its_commit(hub: WritableHub, made: Path, tmp_path: Path) -> None:
    """What was converted from the repository goes back to it, though there is no manifest."""
    hub.make(REPO)
    source = contents(made / "a-src")
    read = hub.commit(REPO, source)
    out = converted(f"{REPO}@{read}", tmp_path / "tf")
    hub.commit(REPO, {"README.md": b"a card"})
    push = push_checkpoint(out, REPO)
    assert push.state == "committed"
    assert push.remaining == ("model.safetensors",)
    assert there(hub) == {**source, "README.md": b"a card", **contents(out)}


def test_newer_weights_than_those_that_were_read(hub: WritableHub, made: Path, tmp_path: Path) -> None:
    hub.make(REPO)
    hub.commit(REPO, contents(made / "a-src"))
    out = converted(REPO, tmp_path / "tf")
    hub.commit(REPO, {"model.safetensors": (made / "b" / "model.safetensors").read_bytes()})
    refused(HubError, "may be newer", folder=out)


@pytest.mark.usefixtures("hub")
def test_an_ancestor_by_its_digest(out: Path, tmp_path: Path) -> None:
    """The same model in another format, made from the folder that was pushed and not from the Hub."""
    push_checkpoint(out, REPO)
    again = converted(str(out), tmp_path / "tf")
    assert push_checkpoint(again, REPO).remaining == ("model.safetensors",)


def test_a_manifest_that_is_older_than_the_weights(hub: WritableHub, out: Path, made: Path, tmp_path: Path) -> None:
    push_checkpoint(out, REPO)
    hub.commit(REPO, {"model.safetensors": (made / "b" / "model.safetensors").read_bytes()})
    again = converted(str(out), tmp_path / "tf")
    refused(HubError, "model.safetensors", folder=again)
    hub.changes[REPO] = {}  # a mirror that does not say
    refused(HubError, "model.safetensors", folder=again)


def test_a_branch(hub: WritableHub, out: Path, other: Path) -> None:
    refused(HubError, "no branch", folder=out, revision="v2")
    push_checkpoint(other, REPO)
    refused(HubError, "no revision 'v2'", folder=out, revision="v2")
    main = hub.head(REPO)
    hub.commit(REPO, {}, "v2", on=next(iter(hub.repositories[REPO].commits)))
    assert push_checkpoint(out, REPO, revision="v2").state == "committed"
    assert hub.head(REPO) == main
    assert there(hub, "v2") == contents(out)


# Pull requests


def test_a_pull_request(hub: WritableHub, out: Path, other: Path) -> None:
    push_checkpoint(other, REPO)
    before = hub.head(REPO)
    push = push_checkpoint(out, REPO, create_pr=True)
    assert (push.state, push.pull_request) == ("proposed", 1)
    assert push.url == f"{hub.url}/{REPO}/discussions/1"
    assert hub.head(REPO) == before
    assert there(hub, "refs/pr/1") == contents(out)
    _, text = hub.texts[push.commit or ""]
    manifest = json.loads((out / "bertconv.json").read_bytes())
    for word in (manifest["digest"], "`a-src`", f"bertconv pull {REPO}@refs/pr/N checked", "bertconv verify checked",
                 *(facts["sha256"] for facts in push.files.values())):  # fmt: skip
        assert word in text
    again = push_checkpoint(out, REPO, create_pr=True)
    assert (again.state, again.pull_request, again.commit) == ("proposed before", 1, push.commit)
    assert hub.posted("/commit/") == 2


def test_pull_requests_of_others(hub: WritableHub, out: Path, other: Path) -> None:
    push_checkpoint(other, REPO)
    hub.user = "somebody"
    push_checkpoint(out, REPO, create_pr=True)
    hub.user = "me"
    assert push_checkpoint(out, REPO, create_pr=True).pull_request == 2


def test_a_pull_request_to_nowhere(hub: WritableHub, out: Path) -> None:
    refused(HubError, "no such repository", folder=out, create_pr=True)
    assert hub.repositories == {}


@pytest.mark.usefixtures("hub")
def test_no_token(out: Path, hub: WritableHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.make(REPO)
    monkeypatch.delenv("HF_TOKEN")
    error = refused(HubError, "no token", folder=out, create_pr=True)
    assert "hf auth login" in error.hint


@pytest.mark.parametrize(
    "text",
    ["a", "`a", "a`", "``", "`", "@everyone", "<img src=x>", "[a](http://b)", "a\n\n# b", "\x1b[31m", " ", "a|b", "é"],
)
def test_what_comes_from_a_manifest_is_code(text: str) -> None:
    """By CommonMark: as many backticks at the end as at the beginning, none as long within, on one line."""
    found = code(text)
    fence = found[: len(found) - len(found.lstrip("`"))]
    inside = found[len(fence) : -len(fence)]
    assert found.endswith(fence)
    assert fence not in inside.replace(f"`{fence}", "")
    assert not inside.startswith("`")
    assert not inside.endswith("`")
    assert found.isprintable()
    assert code("x" * 10_000) == "`" + "x" * 500 + "...`"


def test_the_commands_of_a_pull_request_are_right(hub: WritableHub, made: Path, tmp_path: Path, cli: Cli) -> None:
    hub.make(REPO)
    hub.commit(REPO, contents(made / "a-src"))
    push = push_checkpoint(converted(REPO, tmp_path / "out"), REPO, create_pr=True)
    lines = [line.strip() for line in push.description.split("\n") if line.startswith("    bertconv")]
    assert len(lines) == 3
    for line in lines:
        done = cli(
            *line.replace("/N ", "/1 ").split()[1:], *(["--level=weights"] if "@" in line and "verify" in line else [])
        )
        assert done.code == 0, done.err


HOSTILE = "`x` @everyone\n# <img src=http://evil> [a](b) ``"


@pytest.mark.parametrize(
    "changes",
    [
        {"head": HOSTILE, "operation": {"verb": HOSTILE, "options": {HOSTILE: HOSTILE}}},
        {
            "parents": [
                {"role": HOSTILE, "given": HOSTILE, "commit": HOSTILE, "digest": HOSTILE, "backbone_digest": HOSTILE}
            ],
            "source": 5,
            "vocabulary": 5,
        },
        {"vocabulary": {"tokens": HOSTILE, "sha256": [HOSTILE]}, "backbone_digest": HOSTILE},
        {"parity": {"verdict": HOSTILE}, "verified": HOSTILE, "bertconv": HOSTILE, "digest": HOSTILE},
        {"left_out": [{"source": HOSTILE, "inside": True}], "source": {"given": HOSTILE, "revision": HOSTILE}},
    ],
)
def test_a_manifest_writes_no_markdown(hub: WritableHub, out: Path, changes: dict[str, object]) -> None:
    (out / "bertconv.json").write_bytes(forged((out / "bertconv.json").read_bytes(), **changes))
    hub.make(REPO)
    push = push_checkpoint(out, REPO, create_pr=True)
    blocks = [line for line in push.description.split("\n") if not line.startswith("    ")]
    spans = r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)"
    plain = "\n".join(re.sub(spans, "", line) for line in blocks) + push.message
    assert not any(word in plain for word in ("@", "<", "[", "#", "evil", "everyone", "`"))
    assert push.description.isprintable() or set(filter(lambda c: not c.isprintable(), push.description)) == {"\n"}


@pytest.mark.parametrize(
    "changes",
    [
        {"parents": [5]},
        {"parents": [{"role": HOSTILE}]},
        {"parents": HOSTILE},
        {"operation": []},
        {"operation": {"verb": 5}},
    ],
)
def test_a_manifest_that_makes_no_sense_is_not_sent(hub: WritableHub, out: Path, changes: dict[str, object]) -> None:
    (out / "bertconv.json").write_bytes(forged((out / "bertconv.json").read_bytes(), **changes))
    hub.make(REPO)
    with pytest.raises(DamagedCheckpoint, match="was changed since it was written"):
        push_checkpoint(out, REPO, create_pr=True)


# What the Hub may do


def conflict(repo: str = REPO) -> Fault:
    return somebody_commits("/commit/", repo, {"model.safetensors": b"newer"})


TROUBLES: dict[str, tuple[Callable[[], Fault], type[BertconvError], str]] = {
    "401": (lambda: answers("/preupload/", 401), HubError, "HTTP 401"),
    "401 to the making": (lambda: answers("/repos/create", 401), HubError, "HTTP 401"),
    "403 to the commit": (lambda: answers("/commit/", 403), HubError, "write access"),
    "404": (lambda: answers("/commit/", 404), HubError, "404"),
    "409": (lambda: answers("/commit/", 409), HubError, "meanwhile"),
    "412": (lambda: answers("/commit/", 412), HubError, "meanwhile"),
    "a commit in between": (conflict, HubError, "meanwhile"),
    "429": (lambda: answers("/commit/", 429, headers={"Retry-After": "1"}), HubError, "429"),
    "429 for a day": (lambda: answers("GET /api/models", 429, headers={"Retry-After": "86400"}), HubError, "429"),
    "500": (lambda: answers("/commit/", 500), HubError, "500"),
    "400": (lambda: answers("/commit/", 400), HubError, "400"),
    "the store is away": (lambda: answers("PUT /lfs/", 503), HubError, "model.safetensors"),
    "the store hangs up": (lambda: hangs_up("PUT /lfs/"), HubError, "model.safetensors"),
    "hangs up": (lambda: hangs_up("/commit/"), HubError, "the Hub did not give it"),
    "no answer to the reading back": (lambda: after_the_commit(answers("/revision/", 403)), HubError, "was made, but"),
}


def after_the_commit(fault: Fault) -> Fault:
    seen = []

    def later(handler: object, request: str, body: bytes) -> bool:
        if seen:
            return fault(handler, request, body)  # type: ignore[arg-type]
        if "/commit/" in request:
            seen.append(request)
        return False

    return later


@pytest.mark.parametrize("name", TROUBLES)
@pytest.mark.usefixtures("waits")
def test_troubles(hub: WritableHub, out: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    make, kind, word = TROUBLES[name]
    if "making" not in name:
        hub.make(REPO)
    hub.fault = make()
    error = refused(kind, REPO, word, folder=out)
    assert error.exit_code == 8
    assert error.hint
    shown = str(error) + "".join(capfd.readouterr())
    assert hub.token not in shown
    assert "secretsecret" not in str(error)
    if "making" not in name and "reading back" not in name:
        assert "config.json" not in there(hub)


HICCUPS: dict[str, Callable[[], Fault]] = {
    "429": lambda: answers("", 429, 2, {"Retry-After": "7"}),
    "429 with a RateLimit header": lambda: answers("/commit/", 429, 1, {"RateLimit": '"api";r=0;t=6'}),
    "429 until a date": lambda: answers("/commit/", 429, 1, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "429 until soon": lambda: answers("/commit/", 429, 1, {"Retry-After": "soon"}),
    "500 to the commit": lambda: answers("/commit/", 500, 2),
    "500 to the looking": lambda: answers("GET /api/models", 500, 1),
    "503 to the store": lambda: answers("PUT", 503, 2),
    "hangs up in the upload": lambda: hangs_up("PUT", 2),
    "hangs up at the commit": lambda: hangs_up("/commit/", 1),
    "the answer to the commit is lost": lambda: loses_the_answer("/commit/"),
    "502 to the batch": lambda: answers("/objects/batch", 502, 1),
}


@pytest.mark.parametrize("create_pr", [False, True], ids=["commit", "pr"])
@pytest.mark.parametrize("name", HICCUPS)
def test_hiccups(hub: WritableHub, out: Path, waits: list[float], name: str, create_pr: bool) -> None:
    """They do not matter, and whatever is tried again is done once."""
    hub.make(REPO)
    hub.fault = HICCUPS[name]()
    push = push_checkpoint(out, REPO, create_pr=create_pr)
    assert there(hub, "refs/pr/1" if create_pr else "main") == contents(out)
    assert len(hub.repositories[REPO].commits) == 2
    assert len(hub.proposals.get(REPO, [])) == create_pr
    assert push.state == ("proposed" if create_pr else "committed")
    asked = {
        "429": {7.0, 8.0},
        "429 with a RateLimit header": {6.0},
        "429 until a date": {0.0},
        "429 until soon": {1.0},
    }
    if name in asked:
        assert max(waits) in asked[name]  # huggingface_hub waits a second longer
    assert all(seconds <= 8 for seconds in waits)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "bertconv.json"])
def test_a_hub_that_keeps_other_bytes(hub: WritableHub, out: Path, name: str) -> None:
    sent = (out / name).read_bytes()
    hub.keeps = lambda data: data[:-1] + bytes([data[-1] ^ 1]) if data == sent else data
    error = refused(ParityError, name, "is not what was verified", folder=out)
    assert error.exit_code == 1
    assert hub.head(REPO) in str(error)


def test_a_file_that_the_repository_ignores(hub: WritableHub, out: Path) -> None:
    hub.make(REPO)
    hub.commit(REPO, {".gitignore": b"vocab.txt"})
    error = refused(ParityError, "vocab.txt", "is not in it", folder=out)
    assert ".gitignore" in error.hint


@pytest.mark.usefixtures("hub")
def test_xet_files_state_their_sha256(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hub_server

    plain = hub_server.listed
    monkeypatch.setattr(hub_server, "listed", lambda *words: plain(*words) | {"xetHash": "f" * 64})
    assert push_checkpoint(out, REPO).state == "committed"


@pytest.mark.usefixtures("hub")
def test_without_the_network(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = refused(HubError, "network is not to be used", folder=out)
    assert error.hint == "Unset HF_HUB_OFFLINE."


# The command line


def test_the_command(hub: WritableHub, out: Path, cli: Cli) -> None:
    (out / "notes.md").write_text("mine")
    dry = cli("push", out, REPO, "--dry-run")
    assert (dry.code, hub.repositories) == (0, {})
    assert "would go to org/model, in a new repository" in dry.out
    assert "model.safetensors" in dry.out
    assert f"{HEAD}, verified with bertconv" in dry.out
    done = cli("push", out, REPO)
    assert done.code == 0, done.err
    assert "Not sent, as bertconv.json does not list it: notes.md." in done.out
    again = cli("push", out, REPO, "--quiet")
    assert again.out.count("\n") == 1
    assert "Nothing was sent" in again.out
    for outcome in (dry, done, again):
        assert hub.token not in outcome.out + outcome.err


def test_the_command_as_json(hub: WritableHub, out: Path, cli: Cli) -> None:
    done = cli("push", out, REPO, "--json", "--token", hub.token)
    found = json.loads(done.out)
    assert (found["ok"], found["state"], found["commit"]) == (True, "committed", hub.head(REPO))
    assert done.err == ""
    assert hub.token not in done.out
    hub.commit(REPO, {"model.safetensors": b"newer"})
    failed = cli("push", out, REPO, "--json")
    assert failed.code == 8
    assert json.loads(failed.out)["error"]["kind"] == "HubError"
    (out / "config.json").unlink()
    assert cli("push", out, REPO).code == 1


@pytest.mark.usefixtures("hub", "waits")
def test_a_token_that_is_none_is_not_shown(out: Path, cli: Cli) -> None:
    """HTTP libraries name the header that they refuse."""
    done = cli("push", out, REPO, "--token", "hf_a\nsecret")
    assert done.code == 8
    assert "characters that no token has" in done.err
    assert "secret" not in done.out + done.err
