"""The hostile HDF5 files, and those that are odd and sound, given to our own reader alone."""

from __future__ import annotations

import sys
from pathlib import Path

import checkpoints as cp
import pytest
from hdf5_model import FILE
from hostile_hdf5 import CASES, MISFITS
from hostile_hdf5_traps import HARMLESS
from hostile_work import little_work

from bertconv.containers.hdf5 import child
from bertconv.containers.hdf5.classic import read_classic
from bertconv.containers.hdf5.pages import NotClassic
from bertconv.errors import BertconvError
from qa.fuzz.targets.hdf5 import check_same

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the child's limits are those of Linux")
SOUND_ONES = {name: make for name, (make, _) in (HARMLESS | MISFITS).items()}


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    child.warm_up()


@pytest.mark.parametrize("name", CASES)
def test_what_it_says_of_hostile_files(tmp_path: Path, name: str) -> None:
    """It leaves them to libhdf5, or refuses them as libhdf5's walk does, or sees the same in them."""
    case = CASES[name]
    path = case.write(tmp_path) / case.file
    with little_work():
        error = refusal(path)
    said = check_same(path)
    assert (error is not None) == (said == "refused")
    if error is not None:
        assert type(error) is case.error
        assert case.words in error.message
        assert error.tensor == case.tensor


@pytest.mark.parametrize("name", SOUND_ONES)
def test_what_it_says_of_odd_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / FILE
    path.write_bytes(SOUND_ONES[name](tmp_path / "canary"))
    with little_work():
        assert refusal(path) is None
    assert check_same(path) in {"accepted", "left"}


def refusal(path: Path) -> BertconvError | None:
    file = cp.open_file(path)
    try:
        read_classic(file)
    except NotClassic:
        return None
    except BertconvError as error:
        return error
    finally:
        file.close()
    return None
