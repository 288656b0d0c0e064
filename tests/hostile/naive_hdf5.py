"""Reads HDF5 files as Keras does, in processes of their own: what becomes of a user who trusts the library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, os, resource, select, signal, sys, time
import h5py, numpy as np
from bertconv.containers.hdf5.process import rested

folders, name, place, sound, secret = json.load(sys.stdin)

def load(path):
    with h5py.File(path) as root:
        return {
            each.decode(): np.asarray(root[layer][each])
            for layer in root.attrs["layer_names"] for each in root[layer].attrs["weight_names"]
        }

def said(values):
    value = values[place if place in values else name].tobytes()
    if value.hex() in (sound, secret):
        return "sound" if value.hex() == sound else "secret"
    return "another" if value.strip(b"\\0") else "zeros"

def attempt(folder):
    os.chdir(folder)
    for limit, value in (("AS", 1 << 30), ("CORE", 0), ("CPU", 2)):
        resource.setrlimit(getattr(resource, f"RLIMIT_{limit}"), (value, value))
    try:
        return said(load("tf_model.h5"))
    except MemoryError:
        return "bomb"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]

answers = {}
for folder in folders:
    here, there = os.pipe()
    began = time.monotonic()
    if not (child := os.fork()):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.write(there, attempt(folder).encode())
        os._exit(0)
    os.close(there)
    while not select.select([here], [], [], 1)[0]:
        if rested(child, began) > 4:  # it waits for ever; what computes for ever is ended by its limit
            os.kill(child, signal.SIGKILL)
    with open(here) as answer:
        answers[folder] = answer.read()
    number = os.waitpid(child, 0)[1] & 127
    if number:
        answers[folder] = "hang" if number in (signal.SIGXCPU, signal.SIGKILL) else "crash"
print(json.dumps(answers))
"""


def naive(folders: list[Path], name: str, place: str, sound: bytes, secret: bytes) -> dict[Path, str]:
    """What h5py makes of each folder's tf_model.h5.

    Args:
        folders: where the files lie; the working directory while each is read.
        name: the tensor that is looked at, as its layer's list of weights names it.
        place: another name that the list may have for it.
        sound: its bytes in a sound file.
        secret: bytes that are no model's.

    Returns:
        "sound", "secret", "zeros", "another" (other values), "bomb" (a GiB is not enough), "hang", "crash", or the
        error.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([list(map(str, folders)), name, place, sound.hex(), secret.hex()]),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {Path(folder): answer for folder, answer in json.loads(done.stdout).items()}
