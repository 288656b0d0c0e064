"""Protections that are not refusals, each as a change of text that takes it away."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """A change of text.

    Attributes:
        file: relative to the repository.
        old: text that stands in the file exactly once, inside a function.
        new: what it becomes.
        why: what is no longer done.
    """

    file: str
    old: str
    new: str
    why: str


_TEXT, _CONVERT, _SAVING = "bertconv/text.py", "bertconv/convert.py", "bertconv/saving.py"
_LOCAL, _PLACE, _STORED = "bertconv/source/local.py", "bertconv/source/place.py", "bertconv/source/stored.py"
_STAGING, _WRITING = "bertconv/formats/staging.py", "bertconv/formats/writing.py"
_DESTINATION = "bertconv/formats/destination.py"
_READBACK, _CERTIFICATE = "bertconv/formats/readback.py", "bertconv/verify/certificate.py"
_MACHINE, _WORKERS = "bertconv/formats/pytorch/machine.py", "bertconv/formats/workers.py"
_MODULES, _LISTING = "bertconv/modules.py", "bertconv/source/modules.py"
_CONFIG, _CHILD = "bertconv/config.py", "bertconv/formats/hdf5/child.py"
_PROCESS, _SANDBOX = "bertconv/formats/hdf5/process.py", "bertconv/formats/hdf5/sandbox.py"

TEXTS: tuple[Text, ...] = (
    # JSON
    Text(_TEXT, "        object_pairs_hook=_unique,\n", "", "keys that stand twice are not looked for"),
    Text(_TEXT, "        parse_constant=_refuse_constant,\n", "", "NaN and Infinity are read"),
    Text(_TEXT, "content if isinstance(content, str) else content.decode()", "content",
         "JSON in other encodings, or behind a mark of its encoding, is read"),
    Text(_TEXT, "parse_float or _finite", "parse_float or float", "1e999 becomes infinite"),
    Text(_CONFIG, 'path.read_bytes() if path.stat().st_size <= limit else b""', "path.read_bytes()",
         "JSON of any size is read"),
    # Opening
    Text(_STORED, " | os.O_NONBLOCK", "", "opening a FIFO waits for its writer"),
    Text(_STORED, "(0 if follow_link else os.O_NOFOLLOW)", "0", "links are followed"),
    Text(_STORED, "(now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns)",
         "now.st_size != before.st_size", "a file that changed at the same length goes unseen"),
    Text(_STORED, "for number in range(done, len(rows)):", "for number in range(0):",
         "rows after a short read stay as they were"),
    Text(_STORED, "return os.preadv(self._fd, buffers, offset)",
         "return os.preadv(self._fd, buffers, offset) or sum(map(len, buffers))", "the end of a file reads as zeros"),
    Text(_PLACE, "path.resolve(strict=True)\n    except", "path.parent / path.readlink()\n    except",
         "where a link of the cache leads is not resolved to the end"),
    Text(_LOCAL, "    open_in(place.folder, name).close()\n    weight_map", "    weight_map",
         "an index that is a link is read"),
    Text(_LOCAL, "    open_in(place.folder, name).close()\n    return place.folder / name",
         "    return place.folder / name", "a config that is a link is read"),
    # PyTorch
    Text(_MACHINE, "self._refused = self._refused or name", "pass", "a name that no weights need is forgotten"),
    # HDF5
    Text(_CHILD, "    sandbox.confine()", "    pass", "libhdf5 is not confined"),
    Text(_SANDBOX, "    landlock()\n", "", "Landlock is not used"),
    Text(_SANDBOX, '        "RLIMIT_AS": None if taken is None else taken + MEMORY,\n', "", "memory is not limited"),
    Text(_SANDBOX, '        "RLIMIT_CPU": math.ceil(time.process_time() + CPU_SECONDS),\n', "", "time is not limited"),
    Text(_SANDBOX, '        "RLIMIT_FSIZE": 0,\n', "", "files may be written"),
    Text(_SANDBOX, '        "RLIMIT_NOFILE": 0,', "", "files may be opened"),
    Text(_PROCESS, '"HDF5_PLUGIN_PRELOAD": "::", ', "", "filters are loaded as a file asks for them"),
    Text(_PROCESS, ", start_new_session=True,", ",", "Ctrl-C ends the child before its parent"),
    Text(_PROCESS, "while len(told) <= MOST_BYTES:", "while True:", "an answer of any length is listened to"),
    Text(_PROCESS, "            child.kill()", "            pass", "the child is left behind"),
    # Writing
    Text(_WRITING, "            os.fsync(fd)", "            pass", "weights do not reach the disk before the rename"),
    Text(_WRITING, "os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW", "os.O_RDWR | os.O_CLOEXEC",
         "weights are written through a link"),
    Text(_WRITING, "        flushed.result()", "        pass", "what the disk refused on the way is forgotten"),
    Text(_WRITING, "    while done < len(content):\n        done +=", "    if content:\n        done +=",
         "a short write leaves zeros"),
    Text(_WORKERS, "if stop.is_set():", "if False:", "threads go on after an error"),
    Text(_SAVING, "        synced.result()", "        pass", "what the disk refused at the end is forgotten"),
    Text(_SAVING, "pool.submit(sync, staged.path, files)", "pool.submit(int)", "the weights are not synced at all"),
    Text(_SAVING, 'verify_weights(tensors, counter("verifying", total)) if verify else ()', "()",
         "nothing is read back"),
    Text(_READBACK, "(cast(piece, source.dtype, tensor.written.dtype) for piece in elements)",
         "pieces(tensor.written, tensor.canonical, workspace.twin)", "what was written is compared with itself"),
    Text(_CONVERT, "            staged.write(MANIFEST, manifest_bytes(report, staged.path, files))\n", "",
         "the output has no manifest"),
    Text(_CONVERT,
         "            job.check_unchanged()\n            check_signals()\n            staged.commit()\n",
         "            staged.commit()\n            check_signals()\n            job.check_unchanged()\n",
         "the output appears before the source was looked at again"),
    # Modules
    Text(_LISTING, "if file.size <= LISTING_BYTES else", "if file.size >= 0 else",
         "a list of modules of any size is read"),
    Text(_MODULES, "            sync(staged.path, [made])", "            pass",
         "weights of modules do not reach the disk"),
    Text(_MODULES, "checks += verify_weights(pairs, tick) if verify else []", "checks += []",
         "weights of modules are not read back"),
    Text(_CONVERT, "(*self.header.files, *(module.file for module in self.modules))", "self.header.files",
         "a module that changed meanwhile goes unseen"),
    # The folder
    Text(_STAGING, "file.writelines(pieces)\n                file.flush()\n                os.fsync(file.fileno())",
         "file.writelines(pieces)", "small files and those of the source do not reach the disk"),
    Text(_STAGING, "                _fsync(Path(folder))", "                pass",
         "staged folders do not reach the disk"),
    Text(_STAGING, "            _fsync(self.destination.parent)", "            pass",
         "the rename does not reach the disk"),
    Text(_STAGING, "            _fsync(new)", "            pass", "a copied file does not reach the disk"),
    Text(_STAGING, " | os.O_NOFOLLOW", "", "the lock is opened through a link"),
    Text(_STAGING, "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass", "nothing is locked"),
    Text(_STAGING, "if _is_still(self._lock, fd):", "if fd >= 0:", "a lock that was removed counts"),
    Text(_STAGING, "if left.is_symlink():", "if False:", "a link among what killed runs left is taken for it"),
    Text(_DESTINATION, "if entry.is_symlink() or not entry.is_dir()", "if not entry.is_dir()",
         "links of others to folders are not seen"),
    Text(_DESTINATION, "if file.size <= MANIFEST_BYTES else", "if file.size >= 0 else",
         "an old manifest of any size is read"),
    Text(_STAGING, "            self._remove_leftovers()", "            pass", "what killed runs left stays"),
    Text(_STAGING, "                left.rename(self.destination)", "                pass",
         "an old output that was set aside is not put back"),
    Text(_STAGING, "                self._put_back(aside)\n", "",
         "when the second rename fails, the old output stays aside"),
    Text(_STAGING, "            _renameat2(self.path, self.destination, _RENAME_EXCHANGE)",
         "            raise OSError(errno.ENOSYS, '')", "old and new are not exchanged in one step"),
    Text(_STAGING, "        shutil.rmtree(self.path, ignore_errors=True)", "        pass",
         "a failed run leaves its folder"),
    Text(_STAGING, 'path.open("xb") as file:', 'path.open("wb") as file:', "a file that was written is written over"),
    Text(_STAGING, ", onerror=_raise", "", "a folder that cannot be listed is taken for empty"),
    Text(_STAGING, "os.link(old, new, follow_symlinks=False)", "os.link(old.resolve(), new)",
         "links are followed when files are kept"),
    Text(_STAGING, "shutil.copy2(old, new, follow_symlinks=False)", "shutil.copy2(old, new)",
         "links are followed when files are copied"),
    # The certificate
    Text(_CERTIFICATE, "if file.size <= MANIFEST_BYTES else", "if file.size >= 0 else",
         "a manifest of any size is read"),
    Text(_CERTIFICATE, 'if file.size != wanted["size"]:', "if False:", "sizes of files are not compared"),
    Text(_CERTIFICATE, '!= wanted["sha256"]', '== ""', "digests of small files are not compared"),
    Text(_CERTIFICATE, ' and frame_digest(file, spans) != wanted["sha256_outside_tensors"]', " and False",
         "bytes outside of the tensors are not compared"),
    Text(_CERTIFICATE, '== facts["digest"]', "!= ''", "digests of tensors are not compared"),
    Text(_CERTIFICATE, 'tensor.dtype == facts["dtype"] and ', "", "element types are not compared"),
    Text(_CERTIFICATE, " and tensor.shape == (turn or shape)", "", "shapes are not compared"),
    Text(_CERTIFICATE, "        elif complete:", "        elif False:", "a tensor that is gone is not missed"),
    Text(_CERTIFICATE, "return not self.changes", "return True", "changes do not count"),
)  # fmt: skip
"""Every one, in the order in which a conversion comes past it."""

KEPT: dict[tuple[str, str, str], str] = {
    ("bertconv/formats/pytorch/calls.py", "_encode", "not isinstance(encoding, str)"): (
        "a later alternative refuses it too, but the type checker does not see that"
    ),
    ("bertconv/source/place.py", "is_cache_link", "not is_so(path.is_symlink)"): (
        "a file that is no link lies in its own folder, which is not the one of blobs; this is the short way"
    ),
}
"""Guards without which nothing changes, by file, function and text, and why they stay."""
