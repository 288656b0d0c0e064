"""`bertconv fleet plan`: what is found in a folder and on the Hub, in which order, and what a list says of each."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import checkpoints as cp
import pytest
from hub_models import ListingHub

from bertconv.errors import HubError, OutputError, RequestError
from bertconv.fleet import finding
from bertconv.fleet.finding import Found, config_facts, find_checkpoints
from bertconv.fleet.hub_models import Query
from bertconv.fleet.items import Item, read_items
from bertconv.fleet.listing import Listed, list_checkpoints, write_list
from bertconv.fleet.trees import ListedTree, LocalTree, UrlTree

Cli = Callable[..., cp.Outcome]
HEAD = "BertForMaskedLM"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>'")  # huggingface_hub 2.4 to its HTTP library


def laid(folder: Path, *names: str, size: int = 10) -> Path:
    """Files of some bytes; a name that ends in `.json` is a config's."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}" if name.endswith(".json") else bytes(size))
    return folder


def places(folder: Path) -> list[str]:
    return [one.place for one in find_checkpoints(LocalTree(folder))]


def only(found: Iterable[Found]) -> Found:
    (one,) = found
    return one


@pytest.mark.parametrize(
    ("names", "place", "form", "size"),
    [
        (("m/model.safetensors",), "m", "safetensors", 10),
        (("m/pytorch_model.bin", "m/optimizer.pt", "m/training_args.bin", "m/rng_state_0.pth"), "m", "torch", 10),
        (("m/tf_model.h5",), "m", "hdf5", 10),
        (("m/model.safetensors", "m/pytorch_model.bin", "m/tf_model.h5"), "m", "safetensors", 10),
        (("m/flax_model.msgpack",), "m", "msgpack", 10),
        (("m/model.weights.h5", "m/config.json"), "m", "keras3", 10),
        (("m/model.onnx",), "m", "onnx", 10),
        (("m/model.safetensors.index.json", "m/model-00001-of-00002.safetensors", "m/model-00002-of-00002.safetensors"),
         "m", "safetensors", 20),
        (("m/pytorch_model.bin.index.json", "m/pytorch_model-00001-of-00001.bin"), "m", "torch", 10),
        (("m/.metadata", "m/__0_0.distcp", "m/__1_0.distcp"), "m", "dcp", 30),
        (("m/config.json", "m/pytorch_model_fsdp_0/.metadata", "m/pytorch_model_fsdp_0/__0_0.distcp"), "m", "dcp", 20),
        (("m/bert_model.ckpt.index", "m/bert_model.ckpt.data-00000-of-00001", "m/bert_model.ckpt.meta"),
         "m", "bundle", 20),
        (("m/saved_model.pb", "m/variables/variables.index", "m/variables/variables.data-00000-of-00001"),
         "m", "bundle", 20),
        (("m/config.json", "m/saved_model/1/saved_model.pb", "m/saved_model/1/variables/variables.index",
          "m/saved_model/1/variables/variables.data-00000-of-00001"), "m", "bundle", 20),
        (("m/modules.json", "m/model.safetensors", "m/2_Dense/model.safetensors", "m/2_Dense/pytorch_model.bin"),
         "m", "safetensors", 20),
        (("m/model.safetensors", "m/onnx/model.onnx", "m/openvino/openvino_model.bin"), "m", "safetensors", 10),
        (("model.safetensors",), "", "safetensors", 10),
    ],
)  # fmt: skip
def test_one_checkpoint_of_each_kind(tmp_path: Path, names: tuple[str, ...], place: str, form: str, size: int) -> None:
    found = only(find_checkpoints(LocalTree(laid(tmp_path, *names))))
    assert (found.place, found.format, found.size, found.problems) == (place, form, size, ())


def test_a_list_of_names_is_looked_at_by_the_same_rules(tmp_path: Path) -> None:
    names = ("a/model.safetensors", "b/c/pytorch_model.bin", "b/c/1_Dense/model.safetensors", "d/readme.md", "e.h5")
    listed = list(find_checkpoints(ListedTree((name, 10) for name in names)))
    assert listed == list(find_checkpoints(LocalTree(laid(tmp_path, *names))))
    assert [one.place for one in listed] == ["", "a", "b/c"]


def test_what_is_passed_over(tmp_path: Path) -> None:
    laid(
        tmp_path, "a/model.safetensors", ".b.bertconv-tmp-0123456789ab/model.safetensors", "a.tmp/notes.txt",
        "s.bertconv-tmp-0123456789ab/model.safetensors", "fleet/.bertconv-fleet/ledger.db", "fleet/o/model.safetensors",
        "models--org--name/snapshots/0/model.safetensors", ".cache/x/model.safetensors", "run/runs/events.out",
    )  # fmt: skip
    (tmp_path / "link").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "circle").symlink_to(tmp_path, target_is_directory=True)
    assert places(tmp_path) == ["a"]
    assert places(tmp_path / "fleet") == ["o"]  # what was asked for by its name


def test_checkpoints_of_a_training_are_their_own(tmp_path: Path) -> None:
    laid(tmp_path, *(f"run/{name}model.safetensors" for name in ("", "checkpoint-500/", "checkpoint-1000/")))
    assert places(tmp_path) == ["run", "run/checkpoint-1000", "run/checkpoint-500"]


def test_files_of_which_none_is_the_folders_are_listed_one_by_one(tmp_path: Path) -> None:
    laid(tmp_path, "b.safetensors", "a.bin", "optimizer.bin")
    assert places(tmp_path) == ["a.bin", "b.safetensors"]
    both = [f"{prefix}.{part}" for prefix in ("x", "y") for part in ("index", "data-00000-of-00001", "meta")]
    laid(tmp_path / "tf", *both)
    assert places(tmp_path / "tf") == ["x", "y"]
    (tmp_path / "tf" / "checkpoint").write_text('model_checkpoint_path: "/there/y"\n')
    assert places(tmp_path / "tf") == [""]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("model-00001-of-00002.safetensors",), "the index that names them is missing"),
        (("config.json", "model.gguf"), "GGUF"),
        (("adapter_config.json", "adapter_model.safetensors"), "a LoRA adapter"),
    ],
)
def test_what_cannot_be_read_has_a_problem(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    found = only(find_checkpoints(LocalTree(laid(tmp_path / "m", *names))))
    assert words in " ".join(found.problems)


def test_problems_of_files(tmp_path: Path) -> None:
    laid(tmp_path, "empty/model.safetensors", size=0)
    laid(tmp_path, "sick/model.safetensors", "linked/config.json", "list/model.safetensors")
    (tmp_path / "sick" / "config.json").write_text("{")
    (tmp_path / "list" / "config.json").write_text("[]")
    (tmp_path / "linked" / "model.safetensors").symlink_to(tmp_path / "sick" / "model.safetensors")
    found = {one.place: one.problems for one in find_checkpoints(LocalTree(tmp_path))}
    assert found == {
        "empty": ("model.safetensors is empty",),
        "linked": ("model.safetensors is a symbolic link, which is not followed",),
        "list": ("config is no JSON object",),
        "sick": ("config.json cannot be read: it is no JSON",),
    }


def test_a_folder_that_cannot_be_listed_is_a_problem_of_its_own() -> None:
    class Sick(ListedTree):
        def entries(self, folder: str) -> Any:
            if folder == "b":
                raise PermissionError(13, "Permission denied")
            return super().entries(folder)

    tree = Sick([("a/model.safetensors", 1), ("b/model.safetensors", 1), ("c/model.safetensors", None)])
    found = {one.place: one.problems for one in find_checkpoints(tree)}
    assert found["a"] == ()
    assert found["b"] == ("cannot be listed: Permission denied",)
    assert "the size of model.safetensors is not to be had" in found["c"][0]


def test_no_tree_is_too_deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "MOST_DEPTH", 2)
    laid(tmp_path, "a/b/model.safetensors", "a/b/c/model.safetensors")
    found = list(find_checkpoints(LocalTree(tmp_path)))
    assert [one.place for one in found] == ["a/b", "a/b"]
    assert "deep" in found[0].problems[0]


@pytest.mark.parametrize(
    ("keys", "facts"),
    [
        ({"model_type": "bert", "architectures": [HEAD]}, ("bert", HEAD, ())),
        ({"model_type": "bert", "architectures": [HEAD, "BertModel"]}, ("bert", "", ())),
        ({"model_type": 5, "architectures": "x"}, ("", "", ())),
        ({"model_type": "gpt\x1b2"}, ("gpt\\x1b2", "", ("no table knows the family 'gpt\\\\x1b2'",))),
        ({}, ("", "", ())),
        ([], ("", "", ("config is no JSON object",))),
    ],
)
def test_what_a_config_states(keys: object, facts: tuple[str, str, tuple[str, ...]]) -> None:
    assert config_facts(keys) == facts


# Lists


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints that are sound, and one whose header is not."""
    folder = tmp_path_factory.mktemp("three")
    cp.save(folder / "a", "DistilBertModel", cp.state_dict("DistilBertModel"))
    cp.save(folder / "b", HEAD, cp.state_dict(HEAD), "h5")
    cp.save(folder / "c", HEAD, cp.state_dict(HEAD))
    weights = folder / "c" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    return folder


def test_a_list(cli: Cli, three: Path, tmp_path: Path) -> None:
    done = cli("fleet", "plan", three, "-o", tmp_path / "list.jsonl")
    assert done.code == 0, done.err
    assert done.out.startswith("3 checkpoints, ")
    lines = [json.loads(line) for line in (tmp_path / "list.jsonl").read_text().splitlines()]
    sizes = [(three / name).stat().st_size for name in ("a/model.safetensors", "b/tf_model.h5")]
    assert lines[:2] == [
        {"src": str(three / "a"), "size": sizes[0], "family": "distilbert", "format": "safetensors",
         "head": "DistilBertModel"},
        {"src": str(three / "b"), "size": sizes[1], "family": "bert", "format": "hdf5", "head": HEAD},
    ]  # fmt: skip
    printed = cli("fleet", "plan", three, "-o", "-")
    assert printed.out == (tmp_path / "list.jsonl").read_text()
    assert "3 checkpoints" in printed.err
    assert cli("fleet", "plan", three, "-o", "-", "--quiet").err == ""


def test_headers_say_what_is_damaged(three: Path) -> None:
    a, b, c = list_checkpoints(three, headers=True)
    assert (a.family, a.head, a.problems) == ("distilbert", "DistilBertModel", ())
    assert (b.family, b.head, b.problems) == ("bert", HEAD, ())
    assert len(c.problems) == 1
    assert "is truncated" in c.problems[0]


def test_a_list_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"

    def sick() -> Iterable[Listed]:
        yield Listed("a", 1)
        raise HubError("is away.")

    write_list(path, [Listed("before")])
    with pytest.raises(HubError):
        write_list(path, sick())
    assert [entry.name for entry in tmp_path.iterdir()] == ["list.jsonl"]
    assert path.read_text() == '{"src": "before", "size": 0}\n'
    path.write_bytes(b"\x80weights")
    with pytest.raises(OutputError, match="is no report"):
        write_list(path, [])


def test_numbers(cli: Cli, three: Path, tmp_path: Path) -> None:
    done = cli("fleet", "plan", three, "-o", tmp_path / "list.jsonl", "--headers", "--json")
    facts = json.loads(done.out)
    assert facts["families"] == {"bert": 2, "distilbert": 1}
    assert facts["formats"] == {"safetensors": 2, "hdf5": 1}
    assert (facts["checkpoints"], facts["with_problems"]) == (3, 1)
    assert cli("fleet", "plan", three, "-o", "-", "--json").code == 2
    assert cli("fleet", "plan", tmp_path / "nowhere", "-o", "-").code == 2


# Addresses


def test_a_prefix_of_a_store() -> None:
    pytest.importorskip("fsspec")
    import fsspec

    store = fsspec.filesystem("memory")
    here = f"/plan-{uuid.uuid4().hex}"
    config = json.dumps({"model_type": "bert", "architectures": [HEAD]}).encode()
    for name, content in (("m/b/model.safetensors", bytes(10)), ("m/b/config.json", config), ("m/a.bin", bytes(3)),
                          ("m/x/.bertconv-fleet/ledger.db", b"x"), ("m/x/o/model.safetensors", bytes(9)),
                          ("m/b.bertconv-tmp-0123456789ab/model.safetensors", b"x"), ("n/model.h5", b"x")):  # fmt: skip
        store.pipe(f"{here}/{name}", content)
    try:
        found = list(list_checkpoints(f"memory:/{here}/m/"))
        assert found == [
            Listed(f"memory:/{here}/m", 3, "", "torch"), Listed(f"memory:/{here}/m/b", 10, "bert", "safetensors", HEAD)
        ]  # fmt: skip
        with pytest.raises(RequestError, match="no files"):
            list(list_checkpoints(f"memory:/{here}/nowhere"))
        with pytest.raises(RequestError, match="no files"):
            list(list_checkpoints(f"memory:/{here}/n/model.h5"))
    finally:
        store.rm(here, recursive=True)


class Store:
    """A store whose listings have ETags, and sizes of some files only."""

    def __init__(self, files: dict[str, dict[str, Any]]) -> None:
        self.files = files
        self.asked: list[str] = []

    def invalidate_cache(self) -> None:
        """It keeps no list."""

    def unstrip_protocol(self, name: str) -> str:
        return f"store://{name}"

    def find(self, root: str, *, detail: bool) -> dict[str, dict[str, Any]]:
        assert detail
        return {name: facts for name, facts in self.files.items() if name.startswith(root)}

    def info(self, name: str) -> dict[str, Any]:
        self.asked.append(name)
        if name.endswith(".bin"):
            raise FileNotFoundError(name)
        return {"size": 77 if name.endswith(".safetensors") else None}

    def cat_file(self, name: str, *, start: int, end: int) -> bytes:
        self.asked.append(name)
        return b"{}"[start:end]


def test_sizes_that_a_listing_lacks_are_asked_for_one_by_one() -> None:
    store = Store({f"root/{name}": {"size": None} for name in (
        "a/model.safetensors", "a/config.json", "a/vocab.txt", "b/pytorch_model.bin", "c/tf_model.h5"
    )})  # fmt: skip
    a, b, c = find_checkpoints(UrlTree(store, "root/"))
    assert (a.size, a.problems) == (77, ())
    assert "there is no such file" in b.problems[0]
    assert "the server states none" in c.problems[0]
    assert "root/a/vocab.txt" not in store.asked


def test_which_bytes_a_listing_is_about() -> None:
    files = {f"root/{name}": {"size": 1, "ETag": name} for name in ("a/model.safetensors", "b/tf_model.h5", "b/x")}
    before = UrlTree(Store(files), "root")
    names = [one.files for one in find_checkpoints(before)]
    identities = [before.identity(one) for one in names]
    assert len(set(identities)) == 2
    files["root/b/tf_model.h5"]["ETag"] = "other"
    after = UrlTree(Store(files), "root")
    assert after.identity(names[0]) == identities[0]
    assert after.identity(names[1]) not in ("", identities[1])
    del files["root/b/tf_model.h5"]["ETag"]
    assert UrlTree(Store(files), "root").identity(names[1]) == ""


def test_a_web_servers_folders(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    laid(tmp_path, "m/model.safetensors", "m/config.json", "n/readme.txt")
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            assert list(list_checkpoints(address)) == [Listed(f"{address}/m", 10, "", "safetensors")]
        finally:
            server.shutdown()
            thread.join()


def test_a_list_is_one_of_items(tmp_path: Path) -> None:
    write_list(tmp_path / "list", [Listed("a", 5, "bert", "torch", HEAD, ("is damaged",), "commit"), Listed("b")])
    assert read_items(tmp_path / "list") == [Item("a", size=5, identity="commit"), Item("b")]


# The Hub


def filled(hub: ListingHub) -> None:
    for name in ("org/b", "org/a", "org/none", "other/c", "org/gated"):
        hub.make(name)
        if name != "org/none":
            hub.commit(name, {"model.safetensors": bytes(1000), "config.json": b"{}", "sub/model.safetensors": b"x"})
        hub.tags[name] = ["bert", "pytorch"]
        hub.configs[name] = {"model_type": "bert", "architectures": [HEAD]}
    hub.commit("org/none", {"gguf/model.gguf": b"x"})
    hub.tags["org/b"] = ["pytorch"]
    hub.gated.add("org/gated")


def test_a_filter_of_the_hub(hub: ListingHub) -> None:
    filled(hub)
    found = list(list_checkpoints("hf://models?author=org&filter=bert&filter=pytorch"))
    heads = {name: hub.head(name) for name in hub.repositories}
    assert [one.src for one in found] == [f"hf://{name}@{heads[name]}" for name in ("org/a", "org/gated", "org/none")]
    a, gated, none = found
    assert a == Listed(a.src, 1000, "bert", "safetensors", HEAD, (), heads["org/a"])
    assert gated.problems == ("is gated: access has to be asked for",)
    assert none.problems == ("no file at its root looks like weights; it has the folders gguf",)
    # A page for two repositories each, one question about each with weights, and not a byte of a file.
    assert hub.asked("GET /api/models/org/") == 2
    assert hub.downloaded() == []


def test_a_limit_and_the_lines_of_a_list(hub: ListingHub, cli: Cli, tmp_path: Path) -> None:
    filled(hub)
    done = cli("fleet", "plan", "hf://models?author=org&limit=2", "-o", tmp_path / "list.jsonl", "--json")
    assert json.loads(done.out)["checkpoints"] == 2
    (first, second) = (json.loads(line) for line in (tmp_path / "list.jsonl").read_text().splitlines())
    assert (first["size"], first["identity"]) == (1000, hub.head("org/a"))
    assert second["src"].startswith("hf://org/b@")


def test_sizes_that_the_hub_does_not_give_are_a_problem(hub: ListingHub) -> None:
    filled(hub)

    def without_sizes(handler: Any, request: str, _: bytes) -> bool:
        if request.startswith("GET /api/models/org/a"):
            handler.send(403)
            return True
        return False

    hub.fault = without_sizes
    a, *_ = list_checkpoints("hf://models?author=org")
    assert a.size == 0
    assert "the size of model.safetensors is not to be had" in a.problems[0]


@pytest.mark.usefixtures("waits")
def test_a_hub_that_is_away(hub: ListingHub) -> None:
    hub.fail = 503
    with pytest.raises(HubError):
        list(list_checkpoints("hf://models?author=org"))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "every model"), ("limit=5", "every model"), ("author=a&sort=likes", "'sort'"), ("author=", "nothing"),
        ("author=a&author=b", "twice"), ("author=a&limit=0", "limit"), ("author=a&limit=x", "limit"),
        ("author=a&limit=%C2%B2", "limit"),
    ],
)  # fmt: skip
def test_a_filter_that_cannot_be(query: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        Query.of(f"hf://models?{query}")


def test_what_a_filter_says() -> None:
    asked = Query.of("hf://models?author=a&search=b%20c&filter=d&filter=license:e&limit=7")
    assert asked == Query("a", "b c", ("d", "license:e"), 7)
