"""PyTorch checkpoints: `pytorch_model.bin`, `.pt`, `.ckpt`; they are read and never written."""

from __future__ import annotations

from bertconv.containers.container import Container
from bertconv.containers.keras3.parts import is_keras_archive
from bertconv.containers.stored import Header, SourceFile


class PyTorch(Container):
    """What `torch.save` writes, since torch 1.6 and before."""

    name = "torch"
    title = "PyTorch"
    kind = "a PyTorch file"
    stem = "pytorch_model"
    suffixes = (".bin", ".pt", ".pth", ".ckpt")
    magic = (b"PK\x03\x04", b"\x80")
    runs_code = True

    def recognises(self, start: bytes, size: int) -> bool:
        """Whether a file begins so, and not as the other archive of weights does."""
        return super().recognises(start, size) and not is_keras_archive(start)

    def read(self, file: SourceFile, *, check_data: bool) -> Header:
        """As `read_torch`."""
        from bertconv.containers.pytorch.reader import read_torch  # which most conversions do not need

        return read_torch(file, crc=check_data)
