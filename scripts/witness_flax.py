"""The outside witness for Flax: transformers 4.57.6's Flax classes judge what bertconv reads and writes.

    python scripts/witness_flax.py --env DIR                tiny models of every family and class
    python scripts/witness_flax.py --families bert,albert --heads BertModel,AlbertModel

DIR is a virtual environment with transformers 4.57.6, flax, jax and PyTorch, made when it is not there yet.

For every class, and for language models also untied:
    read      what the Flax class saved (msgpack, shards, safetensors) comes back as PyTorch's checkpoint, bit for bit
    bytes     our flax_model.msgpack is the file that Flax writes, byte for byte
    load      the Flax class loads our files (msgpack, shards, safetensors) without a warning, every parameter equal,
              and computes what PyTorch computes, to 1e-10 in float64
One line per case; exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from bertconv.convert import convert_checkpoint
from bertconv.errors import BertconvError
from bertconv.families import families
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.table import table_for
from bertconv.tasks import CAUSAL_LM, MASKED_LM, QUESTION_ANSWERING

PACKAGES = ("transformers==4.57.6", "flax==0.12.8", "jax==0.10.2", "torch==2.13.0")
SIDE = Path(__file__).with_name("witness_flax_side.py")
DIALECT = load_dialects().by_name["flax"]
OWN = {"ours": "flax", "ours-shards": "flax", "ours-safetensors": "flax-safetensors"}
SIZES = {
    "vocab_size": 101, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 5, "intermediate_size": 53,
    "max_position_embeddings": 37, "type_vocab_size": 3,
}  # fmt: skip
MORE: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 35, "num_hidden_groups": 2, "inner_group_num": 2, "num_hidden_layers": 4},
    "electra": {"embedding_size": 35},
}


def cases(wanted: list[str], heads: list[str] | None, temp: Path) -> Iterator[dict[str, Any]]:
    """Every class that there is in Flax, language models untied too."""
    for name in wanted:
        family = families()[name]
        table = table_for(name)
        for head, task in family.tasks.items():
            if heads is not None and head not in heads:
                continue
            rest = head.removeprefix(family.prefix)
            flax = f"Flax{family.prefix}{'ForCausalLM' if task == CAUSAL_LM else rest}"
            for untied in (False, True) if task in (MASKED_LM, CAUSAL_LM) else (False,):
                sizes = (
                    SIZES | MORE.get(name, {}) | {"is_decoder": task == CAUSAL_LM, "tie_word_embeddings": not untied}
                )
                sizes["num_labels"] = 2 if task == QUESTION_ANSWERING or rest == "ForPreTraining" else 11
                title = f"{head}{' untied' if untied else ''}"
                folder = temp / title.replace(" ", "-")
                folder.mkdir()
                config = table.family.schema.respelled(sizes)
                yield {
                    "name": title, "family": name, "head": head, "flax": flax, "config": config, "folder": str(folder),
                    "seed": len(title), "segments": "token_type_ids" in table.inputs,
                }  # fmt: skip


def own(case: dict[str, Any]) -> dict[str, list[str]]:
    """What bertconv makes of a case."""
    folder = Path(case["folder"])
    expected = load_file(folder / "pt/model.safetensors")
    found: dict[str, list[str]] = {}
    for name in ("theirs", "theirs-shards", "theirs-safetensors"):
        convert_checkpoint(folder / name, folder / f"{name}-pt", to="pt", verify="weights", head=case["head"])
        back = load_file(folder / f"{name}-pt/model.safetensors")
        other = {one for one in back.keys() ^ expected.keys() if not _is_second(one, back, expected)}
        found[f"read {name}"] = [
            *([f"other tensors: {sorted(other)[:3]}"] if other else []),
            *(one for one in back.keys() & expected.keys() if back[one].tobytes() != expected[one].tobytes()),
        ]
    for name, form in OWN.items():
        limit = "20KB" if name.endswith("shards") else "5GB"
        convert_checkpoint(
            folder / "pt", folder / name, to=form, verify="weights", max_shard_size=limit, head=case["head"]
        )
    ours, theirs = ((folder / one / "flax_model.msgpack").read_bytes() for one in ("ours", "theirs"))
    found["bytes"] = [] if ours == theirs else ["our msgpack file is another"]
    shards = len(list((folder / "ours-shards").glob("flax_model-*")))
    found["premises"] = [] if shards > 1 else ["our files are not sharded"]
    return found


def _is_second(name: str, back: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether it is a decoder's bias, which 4.57.6 stores once, and transformers 5 and we under both names."""
    first = name.replace(".decoder.bias", ".bias")
    return name not in expected and first in expected and first != name and bool((back[name] == expected[first]).all())


def ask(python: Path, verb: str, jobs: list[dict[str, Any]], temp: Path) -> list[dict[str, Any]]:
    """Run one step of all cases in the witness environment."""
    asked, results = temp / f"{verb}-jobs.json", temp / f"{verb}-results.json"
    asked.write_text(json.dumps(jobs), encoding="utf-8")
    done = subprocess.run([python, SIDE, verb, asked, results], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"The witness failed at `{verb}`:\n{done.stderr[-5000:]}")
    found: list[dict[str, Any]] = json.loads(results.read_text(encoding="utf-8"))
    return found


def witness_python(env: Path) -> Path:
    """The interpreter of the witness environment, which is made when it is not there."""
    python = env / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", env], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def main() -> int:
    """Make the cases, convert them, ask the witness; 0 when everything agrees."""
    known = [name for name in families() if table_for(name).speaks(DIALECT) and name != "camembert"]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--env", type=Path, default=cache / "bertconv/witness-flax", help="[default: %(default)s]")
    parser.add_argument("--families", default=",".join(known), help="model types [default: all that Flax has]")
    parser.add_argument("--heads", default="", help="classes such as BertModel [default: all]")
    options = parser.parse_args()
    python = witness_python(options.env)
    with tempfile.TemporaryDirectory(prefix="bertconv-witness-") as temp:
        jobs = list(cases(options.families.split(","), options.heads.split(",") if options.heads else None, Path(temp)))
        results = ask(python, "make", jobs, Path(temp))
        for number, job in enumerate(jobs):
            if not results[number]:
                try:
                    results[number] = own(job)
                except BertconvError as error:
                    results[number] = {"bertconv": [str(error)]}
        judged = [
            number for number, result in enumerate(results) if "failed" not in result and "bertconv" not in result
        ]
        for number, found in zip(judged, ask(python, "load", [jobs[n] for n in judged], Path(temp)), strict=True):
            results[number] |= {f"load {check}": problems for check, problems in found.items()}
    failed = 0
    for job, result in zip(jobs, results, strict=True):
        bad = {check: problems for check, problems in result.items() if problems}
        failed += bool(bad)
        print("FAIL" if bad else "ok  ", f"{job['name']}: {len(result) - len(bad)} of {len(result)} checks hold")
        for check, problems in bad.items():
            print(*(f"       {check}: {problem}" for problem in problems[:5]), sep="\n")
    print("FAILED" if failed else "everything agrees", f"({failed} of {len(jobs)} cases differ)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
