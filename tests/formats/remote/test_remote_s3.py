"""Outputs on an S3 server, by multipart upload: through the troubles of a network, and after runs that were killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkpoints as cp
import pytest

pytest.importorskip("s3fs")
pytest.importorskip("moto")

from aiobotocore.endpoint import AioEndpoint
from s3_server import Server, serving

from bertconv import collect_leftovers, convert_checkpoint
from bertconv.errors import OutputError
from bertconv.formats.destination import MANIFEST
from bertconv.formats.remote import flow, site

URL = "s3://bucket/models/out"
PART = 5 << 20
"""S3 takes no smaller one."""
KILLED = f"""
import os, signal, sys
from bertconv import convert_checkpoint
from bertconv.formats.remote import flow, replacing, site
flow.PART = site.PART = {PART}
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[Server, str]]:
    with serving() as found:
        yield found


async def at_once(_endpoint: object, _seconds: float) -> None:
    """In place of the seconds before a request is made again, of which every trouble takes some."""


@pytest.fixture
def server(address: tuple[Server, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server, with an empty bucket; the environment names it."""
    server, url = address
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(flow, "PART", PART)
    monkeypatch.setattr(site, "PART", PART)
    monkeypatch.setattr(AioEndpoint, "_sleep", at_once)
    server.trouble = lambda *_: ""
    files = store()
    if files.exists("bucket"):
        files.rm("bucket", recursive=True)
    files.mkdir("bucket")
    server.requests.clear()
    yield server
    server.trouble = lambda *_: ""


def store() -> Any:
    import fsspec

    return fsspec.filesystem("s3", use_listings_cache=False)


def there(folder: str = "bucket/models") -> dict[str, bytes]:
    files = store()
    return {path.removeprefix(f"{folder}/"): files.cat_file(path) for path in files.find(folder)}


def here(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def src(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of several parts."""
    folder = tmp_path_factory.mktemp("source")
    state = cp.state_dict("BertModel", vocab_size=80_000)
    return cp.save(folder / "in", "BertModel", state, vocab_size=80_000)


@pytest.fixture(scope="module")
def local(src: Path) -> dict[str, bytes]:
    convert_checkpoint(src, src.parent / "local", to="tf")
    return here(src.parent / "local")


def test_a_file_goes_in_parts_and_is_read_back(server: Server, src: Path, local: dict[str, bytes]) -> None:
    convert_checkpoint(src, URL, to="tf")
    assert there() == {f"out/{name}": raw for name, raw in local.items()}
    parts = [query for method, _, query in server.requests if method == "PUT" and "partNumber" in query]
    assert len(parts) == 3
    written = [path for method, path, _ in server.requests if method == "PUT" and "/out/" in path]
    assert written[-1].endswith(f"/{MANIFEST}")
    server.requests.clear()
    convert_checkpoint(URL, f"{URL}2", to="pt")  # from store to store
    assert len(there("bucket/models/out2")) == 3


@pytest.mark.parametrize(("trouble", "overwrite"), [("503", False), ("429", False), ("cut", True)])
def test_troubles_that_pass(server: Server, src: Path, local: dict[str, bytes], trouble: str, overwrite: bool) -> None:
    """The first request of each kind and place fails, and is made again."""
    if overwrite:
        convert_checkpoint(src, URL, to="pt")
    seen = set()

    def first(method: str, path: str, query: str) -> str:
        kind = (method, path.rpartition("/")[2], "partNumber" in query, "uploads" in query)
        if kind in seen or method == "GET":
            return ""
        seen.add(kind)
        return trouble

    server.trouble = first
    convert_checkpoint(src, URL, to="tf", overwrite=overwrite)
    server.trouble = lambda *_: ""
    assert there() == {f"out/{name}": raw for name, raw in local.items()}
    assert store().list_multipart_uploads("bucket") == []


def test_a_trouble_that_stays(server: Server, src: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second part is never taken: nothing is left, parts of the file neither."""
    monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 2)
    server.trouble = lambda _method, _path, query: "503" if "partNumber=2" in query else ""
    with pytest.raises(OutputError, match="could not be written, and nothing was changed"):
        convert_checkpoint(src, URL, to="tf")
    server.trouble = lambda *_: ""
    assert there() == {}
    assert store().list_multipart_uploads("bucket") == []


COPIED = "while it is copied"
KILLS = {
    "between two parts": "fill = flow._fill\n"
    "flow._fill = lambda fd, piece, at: kill() if at else fill(fd, piece, at)\n",
    "before the manifest": "import bertconv.derive as d\nd.manifest_bytes = kill\n",
    COPIED: "copy = site.Site.copy\n"
    "site.Site.copy = lambda one, name, other: kill() if name == 'tf_model.h5' else copy(one, name, other)\n",
    "before the rest goes": "replacing.clear = kill\n",
}


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("moment", "again"),
    [("between two parts", True), ("before the manifest", False), (COPIED, True), ("before the rest goes", False)],
)
def test_after_a_run_that_was_killed(src: Path, local: dict[str, bytes], moment: str, again: bool) -> None:
    """The old output or the new one is there, whole, and nothing else."""
    overwrite = moment not in ("between two parts", "before the manifest")
    if overwrite:
        convert_checkpoint(src, URL, to="pt")
    old = there()
    program = KILLED + KILLS[moment] + f"convert_checkpoint(sys.argv[1], {URL!r}, to='tf', overwrite=True)"
    done = subprocess.run([sys.executable, "-c", program, src], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr.decode()
    if again:
        convert_checkpoint(src, URL, to="tf", overwrite=True)
    else:
        assert collect_leftovers("s3://bucket").ok
    new = {f"out/{name}": raw for name, raw in local.items()}
    finished = again or moment in (COPIED, "before the rest goes")
    assert there() == (new if finished else old)
    assert store().list_multipart_uploads("bucket") == []
