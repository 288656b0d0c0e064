"""A file's metadata, read in pages and within limits; no byte of them is part of two things."""

from __future__ import annotations

from bertconv.containers.stored import SourceFile

PAGE = 1 << 13
"""Bytes that are read at once: metadata lie close together, between the data."""
MOST_PAGES = 512
"""Pages that are kept, 4 MiB."""
MOST_METADATA = 16 << 20
"""Bytes of metadata that are looked at: a model of 48 layers with its optimizer, 3,000 objects, has 3 MiB."""


class NotClassic(Exception):
    """The file is not of the kind that this reader knows to the last byte, sound or not; says why."""


def require(condition: bool, what: str) -> None:
    """NotClassic, unless it holds."""
    if not condition:
        raise NotClassic(what)


class Pages:
    """The metadata of one file.

    Args:
        file: open for reading.
    """

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._pages: dict[int, bytes] = {}
        self._left = MOST_METADATA
        self._taken: list[tuple[int, int]] = []

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return self._file.size

    def take(self, start: int, length: int) -> bytes:
        """Bytes that are one structure.

        Args:
            start: offset in the file.
            length: bytes that it takes up.

        Raises:
            NotClassic: not in the file, or too much in all.
            DamagedCheckpoint: the file cannot be read.
        """
        require(start + length <= self._file.size, "metadata outside of the file")
        self.charge(length)
        self._taken.append((start, start + length))
        first, last = start // PAGE, (start + length - 1) // PAGE
        if first == last:
            offset = start % PAGE
            return self._page(first)[offset : offset + length]
        return b"".join(map(self._page, range(first, last + 1)))[start % PAGE :][:length]

    def charge(self, length: int) -> None:
        """Count bytes that are looked at; NotClassic where they are too many."""
        self._left -= length
        require(self._left >= 0, "too much metadata")

    def reserve(self, start: int, length: int) -> None:
        """Say that bytes are data, which are not read."""
        self._taken.append((start, start + length))

    def check_apart(self) -> None:
        """NotClassic where two structures share a byte."""
        end = 0
        for start, stop in sorted(self._taken):
            require(start >= end, "structures that overlap")
            end = stop

    def _page(self, number: int) -> bytes:
        if number not in self._pages:
            if len(self._pages) >= MOST_PAGES:
                self._pages.clear()
            start = number * PAGE
            self._pages[number] = self._file.read(start, min(PAGE, self._file.size - start))
        return self._pages[number]
