"""The catalogue of what lies elsewhere: an object store, a web server, memory; with tables that are kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import checkpoints as cp
import pytest
from catalogued import family_tree, forged
from histories import digest, manifest, parent, raw

from bertconv import Catalog
from bertconv.catalog import remote
from bertconv.errors import HubError, RequestError
from bertconv.formats.destination import MANIFEST, MANIFEST_BYTES
from bertconv.source.remote import patience

sys.path.insert(0, str(Path(__file__).parents[1] / "source"))  # the web server of the tests lies there

from web_server import Answer, Site, serving

Cli = Callable[..., cp.Outcome]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return family_tree(tmp_path / "runs")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.001)
    with serving() as found:
        yield found


@pytest.fixture
def memory(tree: Path) -> Iterator[Any]:
    """A store that says of its files when they were made, and no more."""
    import fsspec

    files = fsspec.filesystem("memory")
    for path in tree.rglob("*"):
        if path.is_file():
            files.pipe(f"/models/{path.relative_to(tree).as_posix()}", path.read_bytes())
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


class Bucket:
    """A bucket of a server of S3, and its client; called with a folder it holds that."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name
        client.create_bucket(Bucket=name)

    def __call__(self, tree: Path) -> str:
        for path in tree.rglob("*"):
            if path.is_file():
                key = f"models/{path.relative_to(tree).as_posix()}"
                self.client.put_object(Bucket=self.name, Key=key, Body=path.read_bytes())
        return self.name


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    import boto3
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
                "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield Bucket(boto3.client("s3"), "catalogued")
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def names(found: Any) -> list[str]:
    return [entry.place.rpartition("/")[2] for entry in found]


def test_a_web_server(tree: Path, site: Site, database: Any) -> None:
    root = site.put(tree, "/models")
    with Catalog(database) as catalog:
        found = catalog.refresh(root + "/")
        assert (found.root, found.seen, found.read) == (root, 8, 8)
        assert [entry.place for entry in catalog.find(labels=["spam"], parent="mail")] == [
            f"{root}/mail-tf", f"{root}/news",
        ]  # fmt: skip
        assert names(catalog.find(descendants=digest("tuned"))) == ["mail", "mail-tf", "news"]

        site.asked.clear()
        assert catalog.refresh(root).read == 0
        assert max(count for path, _, count in site.asked if path.endswith(MANIFEST)) == 1  # what tells it from others

        del site.files[f"/models/mail/{MANIFEST}"]
        site.files[f"/models/tuned/{MANIFEST}"] = raw(manifest(digest("again")))
        changed = catalog.refresh(root)
        assert (changed.seen, changed.read, changed.removed) == (7, 1, 1)
        assert names(catalog.find(digest=digest("again"))) == ["tuned"]


def test_names_of_all_kinds_on_a_web_server(site: Site) -> None:
    for name in ("a b", "ä", "100%", ".hidden", "a#b"):
        site.files[f"/models/{name}/{MANIFEST}"] = raw(manifest(digest(name)))
    with Catalog() as catalog:
        catalog.refresh(f"{site.url}/models")
        assert sorted(entry.digest for entry in catalog.find()) == sorted(map(digest, ("a b", "ä", "100%")))


def test_troubles_of_the_network(tree: Path, site: Site) -> None:
    """Some pass, one folder stays out of order, and what is on record of it stays."""
    root = site.put(tree, "/models")
    troubles = {f"/models/base/{MANIFEST}": 2, f"/models/head/{MANIFEST}": 2}

    def trouble(answer: Answer) -> None:
        if troubles.get(answer.path, 0):
            troubles[answer.path] -= 1
            answer.status, answer.body = 503, b""
        if broken and answer.path == "/models/deep/":
            answer.status, answer.body = 500, b""

    broken = False
    site.trouble = trouble
    with Catalog() as catalog:
        assert catalog.refresh(root).seen == 8
        broken = True
        found = catalog.refresh(root)
        assert (found.seen, found.removed) == (7, 0)
        assert found.notes == (f"{root}/deep was not searched: is out of order (HTTP 500)",)
        assert catalog.count() == 8
        site.trouble = lambda answer: setattr(answer, "status", 500)
        with pytest.raises(HubError, match="out of order"):
            catalog.refresh(root)
        assert catalog.count() == 8


def test_a_manifest_that_cannot_be_fetched_is_fetched_later(tree: Path, site: Site) -> None:
    root = site.put(tree, "/models")

    def trouble(answer: Answer) -> None:
        if answer.path == f"/models/base/{MANIFEST}" and len(answer.body) > 1:
            answer.status, answer.body = 403, b""

    site.trouble = trouble
    with Catalog() as catalog:
        catalog.refresh(root)
        assert [one.place for one in catalog.problems()] == [f"{root}/base"]
        site.trouble = lambda _: None
        assert catalog.refresh(root).read == 1
        assert (catalog.count(), catalog.problems()) == (8, ())


def test_hostile_manifests_elsewhere(tmp_path: Path, memory: Any) -> None:
    forged(tmp_path / "forged")
    memory.pipe(f"/models/forged/{MANIFEST}", (tmp_path / "forged").read_bytes())
    memory.pipe(f"/models/huge/{MANIFEST}", bytes(MANIFEST_BYTES + 1))
    memory.pipe("/models/mail/config.json", memory.cat("/models/mail/config.json").replace(b"spam", b"eggs"))
    with Catalog() as catalog:
        catalog.refresh("memory://models")
        problems = {one.place: one.problem for one in catalog.problems()}
        assert problems.keys() == {f"memory://models/{name}" for name in ("forged", "huge", "mail")}
        assert "not the one on record" in problems["memory://models/mail"]
        assert catalog.find(labels=["eggs"], only_labels=True) == ()
        assert names(catalog.find(labels=["spam"])) == ["mail-tf", "news"]


def test_what_a_store_cannot_tell_apart_is_read_again(memory: Any) -> None:
    """Times are to the second, so two files of one second look alike."""
    with Catalog() as catalog:
        assert catalog.refresh("memory://models").read == 8
        memory.pipe(f"/models/base/{MANIFEST}", raw(manifest(digest("b"))))
        assert catalog.refresh("memory://models").read == 8
        assert names(catalog.find(digest=digest("b"))) == ["base"]


def test_many_at_once_come_in_order(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "AT_ONCE", 3)
    monkeypatch.setattr(remote, "_AHEAD", 5)
    for number in range(30):
        site.files[f"/models/{number:02}/{MANIFEST}"] = raw(manifest(digest(str(number)), parent("x")))
    with Catalog() as catalog:
        assert catalog.refresh(f"{site.url}/models").read == 30
        assert [entry.digest for entry in catalog.find()] == [digest(str(number)) for number in range(30)]


def test_an_object_store(tree: Path, tmp_path: Path, s3: Any, cli: Cli) -> None:
    bucket = s3(tree)
    kept = tmp_path / "kept.db"
    done = cli("catalog", f"s3://{bucket}/models", "--db", kept, "--label", "spam", "--json")
    said = json.loads(done.out)
    assert done.code == 0, done.err
    assert [one["place"] for one in said["found"]] == [
        f"s3://{bucket}/models/{name}" for name in ("mail", "mail-tf", "news")
    ]
    assert said["places"] == [{"root": f"s3://{bucket}/models", "seen": 8, "read": 8, "removed": 0, "notes": []}]
    s3.client.put_object(Bucket=bucket, Key=f"models/tuned/{MANIFEST}", Body=raw(manifest(digest("again"))))
    s3.client.delete_object(Bucket=bucket, Key=f"models/news/{MANIFEST}")
    done = cli("catalog", f"s3://{bucket}/models/", "--db", kept)
    assert done.out.splitlines()[-1] == "7 found of 7 outputs, 1 read, 1 gone."
    assert cli("catalog", f"s3://{bucket}/models", "--db", kept, "--forget").out == "7 taken off record.\n"
    assert cli("catalog", f"s3://{bucket}-not-there/models").code in {1, 8}


@pytest.mark.parametrize(
    ("url", "message"),
    [("file:///tmp", "no scheme that is read"), ("ftp://server/x", "no scheme that is read"),
     ("postgresql://server/db", "no scheme that is read")],
)  # fmt: skip
def test_addresses_that_are_not_read(url: str, message: str) -> None:
    with Catalog() as catalog, pytest.raises(RequestError, match=message):
        catalog.refresh(url)


def test_no_secret_of_an_address_is_put_on_record(site: Site, tree: Path) -> None:
    root = site.put(tree, "/models")
    with Catalog() as catalog:
        address = root.replace("://", "://user:hunter2@")
        with pytest.raises(RequestError, match="has a query") as caught:
            catalog.refresh(f"{address}?signature=hunter2")
        assert "hunter2" not in str(caught.value)
        found = catalog.refresh(address)
        assert found.root == root
        assert found.seen == 8
        assert all("hunter2" not in entry.place for entry in catalog.find())


def test_a_server_without_an_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder of it holds itself."""

    def trouble(answer: Answer) -> None:
        page = b"<a href='again/'>again</a>"
        answer.status, answer.headers, answer.body = 200, {"Content-Type": "text/html"}, page

    site.trouble = trouble
    monkeypatch.setattr(remote, "MOST_DEPTH", 5)
    with Catalog() as catalog:
        assert catalog.refresh(f"{site.url}/models").seen == 0
        assert len(site.asked) == 6
        monkeypatch.setattr(remote, "MOST_FOLDERS", 3)
        assert "more than 3 folders" in catalog.refresh(f"{site.url}/models").notes[0]
