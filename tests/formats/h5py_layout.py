"""What h5py writes when it is asked for the same file as `lay_out`: the oracle of the writer's tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s

from bertconv.containers.hdf5.layout import ATTRIBUTE_LIMIT, Attributes, Dataset
from bertconv.containers.hdf5.library import type_of


def write(path: Path, datasets: Sequence[Dataset], attributes: Attributes) -> None:
    """A file with every dataset's space allocated and nothing in it, in the oldest version of the format."""
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_layout(h5d.CONTIGUOUS)
    creation.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    links = h5p.create(h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    with h5py.File(path, "w", libver="earliest") as root:
        for group, values in attributes.items():
            _write_attributes(root.require_group(group) if group else root, values)
        for dataset in datasets:
            space = h5s.create_simple(dataset.shape)
            made = h5d.create(root.id, None, type_of(dataset.dtype), space, creation)
            for name in (dataset.path, *dataset.links):
                h5py.h5o.link(made, root.id, name.encode(), lcpl=links)


def _write_attributes(group: Any, values: Mapping[str, str | Sequence[str]]) -> None:
    for key, value in values.items():
        if isinstance(value, str):
            group.attrs.create(key, np.bytes_(value.encode()))
            continue
        names = np.array([name.encode() for name in value] or [], dtype="S" if value else "S1")
        if names.nbytes <= ATTRIBUTE_LIMIT:
            group.attrs.create(key, names)
            continue
        per_chunk = ATTRIBUTE_LIMIT // names.itemsize
        for number, start in enumerate(range(0, len(names), per_chunk)):
            group.attrs.create(f"{key}{number}", names[start : start + per_chunk])


def described(path: Path) -> dict[str, Any]:
    """All that h5py tells of a file, except where things lie: every object by its path, with what is said of it."""
    with h5py.File(path) as root:
        found: dict[str, Any] = {"": _object(root)}
        waiting = [("", root)]
        while waiting:
            above, group = waiting.pop()
            for name in group:
                member = group[name]
                found[f"{above}/{name}"] = _object(member)
                if isinstance(member, h5py.Group):
                    waiting.append((f"{above}/{name}", member))
    return found


def _object(item: Any) -> Any:
    info = h5py.h5o.get_info(item.id)
    attributes = {}
    for key in item.attrs:
        attribute = item.attrs.get_id(key)
        kind = attribute.get_type()
        attributes[key] = (
            kind.get_class(), kind.get_size(), kind.get_strpad(), kind.get_cset(), attribute.shape,
            attribute.get_space().get_simple_extent_type(), np.asarray(item.attrs[key]).tolist(),
        )  # fmt: skip
    if isinstance(item, h5py.Group):
        return ("group", list(item), info.rc, attributes)
    plist, kind, space = item.id.get_create_plist(), item.id.get_type(), item.id.get_space()
    return (
        "dataset", item.shape, item.maxshape, space.get_simple_extent_type(), kind.encode(), plist.get_layout(),
        plist.get_alloc_time(), plist.get_fill_time(), plist.get_nfilters(), item.id.get_storage_size(),
        item.id.get_offset() is None, info.rc, attributes,
    )  # fmt: skip
