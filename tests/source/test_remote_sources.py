"""Checkpoints that lie elsewhere: the same bytes as from the disk, through everything that a network does to them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import checkpoints as c
import pytest
import web_server
from web_server import Answer, Site

from bertconv import convert_checkpoint, errors
from bertconv.fleet.listing import list_checkpoints
from bertconv.source import SourceOptions, mounts, open_source
from bertconv.source.remote import blocks, file, http, patience, urls
from bertconv.text import public

HEAD = "BertForMaskedLM"


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with web_server.serving() as site:
        yield site


@pytest.fixture
def site(server: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The server as good as new, small blocks, and no waiting."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.0005)
    monkeypatch.setattr(blocks, "BLOCK", 8192)
    monkeypatch.setattr(blocks, "PAGE", 512)
    monkeypatch.setattr(file, "_TINY", 0)
    server.__init__(url=server.url)  # type: ignore[misc]
    return server


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = c.save(tmp_path_factory.mktemp("remote") / "bert", HEAD, c.state_dict(HEAD))
    (folder / "vocab.txt").write_text("".join(f"word{number}\n" for number in range(101)))
    return folder


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return converted(str(source), tmp_path_factory.mktemp("expected") / "out")


def converted(src: str, dst: Path, to: str = "tf") -> dict[str, bytes]:
    convert_checkpoint(src, dst, to=to)
    return {path.name: path.read_bytes() for path in dst.iterdir() if path.name != "bertconv.json"}


@pytest.mark.parametrize(
    "address",
    ["http://u:secret@[bad/x", "http://u:secret@host:99999/x?y=secret", "http://", "https:///x", "s3://", "S3:///",
     "hf://", "gs://"],
)  # fmt: skip
def test_an_address_of_no_place_is_refused(address: str) -> None:
    with pytest.raises(errors.RequestError, match="is no address") as caught:
        open_source(address, SourceOptions())
    assert "secret" not in f"{caught.value} {caught.value.file}"


@pytest.mark.parametrize("lists", [True, False], ids=["listed", "unlisted"])
def test_a_web_folder_is_converted_as_the_local_one(
    site: Site, source: Path, expected: dict[str, bytes], tmp_path: Path, *, lists: bool
) -> None:
    site.lists = lists
    assert converted(site.put(source, "/m/bert"), tmp_path / "out") == expected
    size = (source / "model.safetensors").stat().st_size
    assert size <= site.bytes_of("model.safetensors") <= 1.05 * size + 1024


@pytest.mark.parametrize("container", ["safetensors", "bin", "h5", "shards"])
def test_every_container_is_read_where_it_lies(site: Site, tmp_path: Path, container: str) -> None:
    tensors = c.state_dict(HEAD)
    folder = tmp_path / "src"
    if container == "h5":
        folder.mkdir()
        c.write_config(folder, c.config(HEAD))
        c.save_tf(folder, c.tf_state(tensors), c.keras_name(HEAD), "hdf5")
    elif container == "shards":
        folder.mkdir()
        c.write_config(folder, c.config(HEAD))
        c.save_shards(folder, tensors)
    else:
        c.save(folder, HEAD, tensors, container)
    site.lists = container != "shards"  # then the index alone says what the shards are called
    local = converted(str(folder), tmp_path / "local", "pt")
    assert converted(site.put(folder, "/m/x"), tmp_path / "remote", "pt") == local


def test_the_address_of_one_file_brings_its_folder_along(
    site: Site, source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    url = site.put(source, "/m/bert")
    assert converted(f"{url}/model.safetensors", tmp_path / "out") == expected


# Faults of the network


def first(times: int, spoil: Callable[[Answer], None]) -> Callable[[Answer], None]:
    """Spoils the first answers about weights, whatever part is asked for, after one that is good."""
    seen = [0]

    def trouble(answer: Answer) -> None:
        if answer.path.endswith(".safetensors"):
            seen[0] += 1
            if 1 < seen[0] <= times + 1:
                spoil(answer)

    return trouble


def cut(answer: Answer) -> None:
    answer.headers["Content-Length"] = str(len(answer.body))
    answer.cut = len(answer.body) // 2


def reset(answer: Answer) -> None:
    cut(answer)
    answer.reset = True


def status(number: int, **headers: str) -> Callable[[Answer], None]:
    def spoil(answer: Answer) -> None:
        answer.status, answer.body, answer.headers = (
            number,
            b"no",
            {name.replace("_", "-"): v for name, v in headers.items()},
        )

    return spoil


def shorter(answer: Answer) -> None:
    answer.body = answer.body[: len(answer.body) // 2]


def other_range(answer: Answer) -> None:
    answer.headers["Content-Range"] = answer.headers["Content-Range"].replace("bytes ", "bytes 1", 1)


def compressed(answer: Answer) -> None:
    answer.headers["Content-Encoding"] = "br-unknown"


FAULTS = {
    "cut": cut, "reset": reset, "500": status(500), "503": status(503), "429": status(429, Retry_After="0"),
    "shorter": shorter, "other-range": other_range, "compressed": compressed,
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_changes_nothing(
    site: Site, source: Path, expected: dict[str, bytes], tmp_path: Path, fault: str
) -> None:
    url = site.put(source, "/m/bert")
    site.trouble = first(3, FAULTS[fault])
    assert converted(url, tmp_path / "out") == expected


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_is_one_sentence_and_leaves_nothing(
    site: Site, source: Path, tmp_path: Path, fault: str
) -> None:
    url = site.put(source, "/m/bert")
    site.trouble = first(10**6, FAULTS[fault])
    with pytest.raises(errors.HubError) as caught:
        converted(url, tmp_path / "out")
    assert caught.value.file == f"{url}/model.safetensors"
    assert caught.value.message.endswith(".")
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "kind"), [(404, errors.HubError), (403, errors.HubError)])
def test_what_no_other_try_can_change_is_tried_once(
    site: Site, source: Path, number: int, kind: type[Exception]
) -> None:
    url = site.put(source, "/m/bert")
    with pytest.raises(kind):
        tried(site, url, status(number))
    assert len(site.asked) == 1


def tried(site: Site, url: str, spoil: Callable[[Answer], None]) -> None:
    found = open_source(url)
    opened = found.open("model.safetensors")
    site.asked.clear()
    site.trouble = spoil
    opened.read(0, 100)


def test_a_wish_to_wait_long_is_not_waited_for(site: Site, source: Path) -> None:
    url = site.put(source, "/m/bert")
    with pytest.raises(errors.HubError, match="no more requests"):
        tried(site, url, status(429, Retry_After="86400"))
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("", None), ("soon", None), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)]
)
def test_wishes_to_wait(value: str, seconds: float | None) -> None:
    assert patience.retry_after(value) == seconds


@pytest.mark.parametrize("tags", [True, False], ids=["tag", "length"])
def test_a_file_that_changes_meanwhile_is_refused(site: Site, source: Path, tmp_path: Path, *, tags: bool) -> None:
    url = site.put(source, "/m/bert")
    site.tags = tags
    path = "/m/bert/model.safetensors"

    def change(answer: Answer) -> None:
        if answer.path == path and answer.start > 20_000:
            whole = (source / "model.safetensors").read_bytes()
            site.files[path] = bytes([whole[0] ^ 1]) + whole[1:] if tags else whole + b"more"

    site.trouble = change
    with pytest.raises(errors.DamagedCheckpoint, match="modified while"):
        converted(url, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_server_without_ranges(
    site: Site, source: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = site.put(source, "/m/bert")
    site.ranges = False
    assert converted(url, tmp_path / "out") == expected
    size = (source / "model.safetensors").stat().st_size
    assert [count for path, _, count in site.asked if path.endswith("safetensors")].count(size) <= 3  # two look at it
    monkeypatch.setattr(http, "WHOLE_BYTES", 1000)
    with pytest.raises(errors.HubError, match="as a whole only"):
        converted(url, tmp_path / "other")


# Trust


def test_a_redirect_never_leads_to_the_disk(site: Site, source: Path, tmp_path: Path) -> None:
    secret = tmp_path / "model.safetensors"
    secret.write_bytes((source / "model.safetensors").read_bytes())
    site.redirects = {f"/x/{name}": f"file://{tmp_path}/{name}" for name in ("model.safetensors", "config.json")}
    with pytest.raises(errors.BertconvError) as caught:
        open_source(f"{site.url}/x/model.safetensors")
    assert isinstance(caught.value, errors.HubError | errors.UnsafeCheckpoint)


def test_a_redirect_to_another_web_address_is_followed(
    site: Site, source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    site.put(source, "/far/away")
    for name in ("model.safetensors", "config.json", "vocab.txt"):
        site.redirects[f"/x/{name}"] = f"{site.url}/far/away/{name}"
    assert converted(f"{site.url}/x/model.safetensors", tmp_path / "out") == expected


@pytest.mark.parametrize(
    "name", ["../../evil.json", "..%2f..%2fevil.json", "a\\evil.json", "c:evil.json", "x" * 300 + ".json"]
)
def test_names_out_of_the_folder_are_not_taken(
    site: Site, source: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = site.put(source, "/m/bert")
    real = site.answer

    def answer(path: str, wanted: str | None) -> Answer:
        found = real(path, wanted)
        if found.headers.get("Content-Type") == "text/html":
            found.body = bytes(found.body).replace(b"</html>", f'<a href="{name}">x</a></html>'.encode())
        return found

    monkeypatch.setattr(site, "answer", answer)
    found = open_source(url)
    assert not [one for one in (*found.sidecars, *found.not_carried) if "evil" in one or "xxx" in one]
    mounted = mounts.at(found.folder)
    assert mounted is not None
    assert mounted.mount.names() == {"config.json", "model.safetensors", "vocab.txt"}


def test_an_index_that_leads_out_is_refused(site: Site, tmp_path: Path) -> None:
    folder = c.save(tmp_path / "src", HEAD, c.state_dict(HEAD))
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    c.write_index(folder, {"x": "../part.safetensors"})
    with pytest.raises(errors.UnsafeCheckpoint):
        open_source(site.put(folder, "/m/x"))


def test_rights_in_an_address_are_never_shown(site: Site, source: Path, tmp_path: Path) -> None:
    url = site.put(source, "/m/bert").replace("http://", "http://me:hunter2@")
    signed = f"{url}/model.safetensors?X-Amz-Signature=abcdef"
    said = io.StringIO()
    config = source / "config.json"
    with redirect_stdout(said), redirect_stderr(said):
        good = c.call(
            "convert", signed, tmp_path / "out", "--to", "tf", "--config", config, "--verify", "weights", "--json"
        )
        site.trouble = status(403)
        bad = c.call("inspect", signed)
    assert (good, bad) == (0, 8)
    written = (tmp_path / "out" / "bertconv.json").read_text() + said.getvalue()
    assert "hunter2" not in written
    assert "abcdef" not in written
    assert json.loads((tmp_path / "out" / "bertconv.json").read_text())["parents"][0]["given"] == "model.safetensors"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://u:p@h:1/a/b/?x=y#z", "https://h:1/a/b"), ("s3://bucket/a", "s3://bucket/a"), ("http://h?q", "http://h"),
        ("org/name", "org/name"), ("/a?b", "/a?b"),
    ],
)  # fmt: skip
def test_what_is_shown_of_an_address(address: str, shown: str) -> None:
    assert public(address) == shown


@pytest.mark.parametrize("address", ["file:///etc", "ftp://h/x", "simplecache::s3://b/x", "s4://b"])
def test_other_schemes_are_refused(address: str) -> None:
    with pytest.raises(errors.RequestError):
        open_source(address)


def test_errors_and_reports_name_the_address_and_the_local_folder_goes(site: Site, source: Path) -> None:
    found = open_source(site.put(source, "/m/bert"))
    folder = found.folder
    assert (folder / "config.json").is_file()
    assert not (folder / "model.safetensors").exists()
    error = errors.DamagedCheckpoint("is broken.", file=str(folder / "config.json"))
    assert error.file == f"{site.url}/m/bert/config.json"
    del found
    assert not folder.exists()
    assert mounts.at(folder) is None


def test_a_revision_elsewhere_is_a_note(site: Site, source: Path) -> None:
    found = open_source(site.put(source, "/m/bert"), SourceOptions(revision="main"))
    assert found.notes[0] == "nothing here has revisions: the one that was asked for, 'main', changes nothing"


def test_options_of_the_hub_are_refused_elsewhere(site: Site) -> None:
    with pytest.raises(errors.RequestError, match="only local files"):
        open_source(f"{site.url}/x", SourceOptions(local_files_only=True))


def test_nothing_there(site: Site) -> None:
    with pytest.raises(errors.HubError, match="no checkpoint"):
        open_source(f"{site.url}/nothing/here")


@pytest.mark.parametrize("verb", ["inspect", "hash", "doctor", "verify", "diff", "cast"])
def test_verbs_take_addresses(site: Site, source: Path, tmp_path: Path, verb: str) -> None:
    url = site.put(source, "/m/bert")
    more = {
        "verify": [str(source), "--level", "weights"], "diff": [str(source)],
        "cast": [str(tmp_path / "out"), "--dtype", "bfloat16", "--verify", "weights"],
    }.get(verb, [])  # fmt: skip
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = c.call(verb, url, *more)
        if verb == "doctor":
            code -= c.call(verb, source)  # which is ill: its vocabulary has no special tokens
    assert code == 0, said.getvalue()
    assert "bertconv-" not in said.getvalue().replace("bertconv-json", "")


def test_an_output_elsewhere_is_held_to_its_manifest(site: Site, source: Path, tmp_path: Path) -> None:
    convert_checkpoint(source, tmp_path / "out", to="tf")
    url = site.put(tmp_path / "out", "/m/out")
    assert c.call("verify", url, "--quiet") == 0
    path = "/m/out/tf_model.h5"
    whole = bytearray(site.files[path])
    whole[-1] ^= 1
    site.files[path] = bytes(whole)
    assert c.call("verify", url, "--quiet") == 1


# Other stores


@pytest.fixture
def memory(source: Path) -> Iterator[str]:
    found, path = urls.filesystem("memory://bucket/bert")
    for one in source.iterdir():
        found.pipe_file(f"{path}/{one.name}", one.read_bytes())
    yield "memory://bucket/bert"
    found.rm("/bucket", recursive=True)


def test_memory(memory: str, expected: dict[str, bytes], tmp_path: Path) -> None:
    assert converted(memory, tmp_path / "out") == expected
    assert converted(f"{memory}/model.safetensors", tmp_path / "file") == expected
    with pytest.raises(errors.HubError, match="no such file"):
        open_source("memory://bucket/other")


# Amazon's protocol, by a server on loopback


@pytest.fixture(scope="module")
def bucket(source: Path) -> Iterator[str]:
    import s3fs
    from moto.server import ThreadedMotoServer

    s3fs.S3FileSystem.clear_instance_cache()  # one that another module's server was asked through
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        found, _ = urls.filesystem("s3://models")
        found.mkdir("models")
        for one in source.iterdir():
            found.pipe_file(f"models/bert/{one.name}", one.read_bytes())
        yield "s3://models/bert"
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


def test_s3(bucket: str, source: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    assert converted(bucket, tmp_path / "out") == expected
    found = open_source(bucket)
    with pytest.raises(errors.HubError, match="no such file"):
        open_source("s3://models/other")
    weights = found.open("model.safetensors")
    weights.read(0, 8)
    store, _ = urls.filesystem("s3://models")
    whole = bytearray((source / "model.safetensors").read_bytes())
    whole[-1] ^= 1
    store.pipe_file("models/bert/model.safetensors", bytes(whole))
    with pytest.raises(errors.DamagedCheckpoint, match="modified while"):
        weights.check_unchanged()


def test_s3_without_access_says_no_secret(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(patience, "TRIES", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    from s3fs import S3FileSystem

    monkeypatch.setattr(S3FileSystem, "retries", 1)
    S3FileSystem.clear_instance_cache()
    with pytest.raises(errors.HubError) as caught:
        open_source(bucket)
    S3FileSystem.clear_instance_cache()
    assert "hunter2" not in str(caught.value)
    assert caught.value.file == bucket


@pytest.mark.parametrize("address", ["hf://", "hf://models", "hf://models/", "s3://", "https://"])
def test_an_address_of_no_place_is_refused_in_a_sentence(address: str) -> None:
    with pytest.raises(errors.RequestError, match=r"names no repository|is no address"):
        urls.filesystem(address)
    with pytest.raises(errors.RequestError, match=r"names no repository|is no address"):
        next(iter(list_checkpoints(address)))
