"""A symbolic reader of pickles: it says what a torch pickle describes and never imports, calls or builds anything.

It knows the opcodes that picklers of protocol 2 to 5 write (Python's `Lib/pickletools.py` documents them) and turns
them into the values of `values`. Work and memory are bounded: every opcode is counted, every length is compared
with the bytes that are there before anything is allocated, and nothing recurses.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from bertconv.containers.pytorch import calls
from bertconv.containers.pytorch.names import PLAIN_TENSORS, resolve
from bertconv.containers.pytorch.stream import MAX_NAME, ByteStream
from bertconv.containers.pytorch.values import (
    Container,
    Global,
    Opaque,
    PickledDict,
    PickledList,
    PickledTuple,
    Record,
    Role,
    Storage,
    Tensor,
    children,
    unsafe,
    unsupported,
)
from bertconv.errors import DamagedCheckpoint
from bertconv.text import printable

MAX_BYTES = 64 << 20
MAX_TENSORS = 100_000
MAX_OPCODES = 2_000_000
MAX_MEMO = 500_000
MAX_STACK = 100_000
MAX_DEPTH = 32
CONTAINER_WORK = 8
NAME_WORK = 200
"""Steps that a container and a new name count for: what they take of memory and time, beside a number."""
MAX_MARKS = 2 * MAX_DEPTH  # a nested call may need one for its items and one for its arguments

_STOP = ord(".")


class PickleReader(ByteStream):
    """Reads one pickle after the other from a buffer.

    Args:
        data: the bytes; the first pickle starts at index zero.
        file: the file's name for messages.
        names: what a dotted name stands for.
        steps: how many are taken at most.

    Attributes:
        inert: names of the objects that were described and not built.
        storages: every storage that was named, by key; the first description wins.
    """

    def __init__(
        self, data: bytes, file: str, names: Callable[[str, str], Global] = resolve, steps: int = MAX_OPCODES
    ) -> None:
        super().__init__(data, file)
        self._names = names
        self._steps = steps
        self.inert: dict[str, None] = {}
        self.storages: dict[str, Storage] = {}
        self._globals: dict[str, Global] = {}
        self._refused = ""
        self._work = 0
        self._tensors = 0
        self._reset()

    def _reset(self) -> None:
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def load(self) -> object:
        """What the next pickle describes.

        Raises:
            UnsafeCheckpoint: it names something that could run code, or exceeds a budget.
            DamagedCheckpoint: it is not a pickle, ends early or describes something impossible.
            UnsupportedCheckpoint: it holds a whole module or tensors that are not plain and dense.
        """
        self._reset()
        try:
            self._run()
        except DamagedCheckpoint as error:
            if self._refused and not self.ended:  # a payload in front of nonsense is still a payload
                raise calls.refused(self._file, self._refused) from error
            raise
        if self._refused:
            raise calls.refused(self._file, self._refused)
        if self._marks or len(self._stack) != 1:
            raise self.damaged("its pickle leaves something half built.")
        return self._stack[0]

    def _run(self) -> None:
        while (opcode := self.read(1)[0]) != _STOP:
            self._charge(1)
            handler = _HANDLERS.get(opcode)
            if handler is None:
                raise self.damaged(f"byte {self.position - 1} of its pickle is no opcode that torch writes.")
            handler(self)

    def _charge(self, work: int) -> None:
        self._work += work
        if self._work > self._steps:
            raise unsafe(self._file, f"its pickle needs more than {self._steps:,} steps.")

    # the stack and the memo

    def push(self, value: object) -> None:
        """Put a value on the stack."""
        if len(self._stack) >= MAX_STACK:
            raise unsafe(self._file, f"its pickle holds more than {MAX_STACK:,} values at once.")
        self._stack.append(value)

    def pop(self) -> object:
        """Take the last value off the stack."""
        self.top()
        return self._stack.pop()

    def top(self) -> object:
        """The last value on the stack, above the last mark."""
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise self.damaged("its pickle takes a value that is not there.")
        return self._stack[-1]

    def mark(self) -> None:
        """Remember the height of the stack."""
        if len(self._marks) >= MAX_MARKS:
            raise unsafe(self._file, f"its pickle nests deeper than {MAX_DEPTH} levels.")
        self._marks.append(len(self._stack))

    def pop_mark(self) -> list[object]:
        """Take everything above the last mark off the stack, and the mark."""
        if not self._marks:
            raise self.damaged("its pickle ends a group that was not begun.")
        height = self._marks.pop()
        items = self._stack[height:]
        del self._stack[height:]
        return items

    def drop(self) -> None:
        """Forget the last value, or the last mark if nothing lies above it."""
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self.pop()

    def put(self, index: int) -> None:
        """Remember the last value under a number."""
        if len(self._memo) >= MAX_MEMO:
            raise unsafe(self._file, f"its pickle remembers more than {MAX_MEMO:,} values.")
        self._memo[index] = self.top()

    def put_next(self) -> None:
        """Remember the last value under the next number."""
        self.put(len(self._memo))

    def get(self, index: int) -> None:
        """Push what is remembered under a number."""
        if index not in self._memo:
            raise self.damaged("its pickle recalls a value that it never stored.")
        self.push(self._memo[index])

    # containers

    def deepen(self, container: Container, items: list[object]) -> None:
        """Note how deep `container` nests now that it holds `items`."""
        depths = [item.depth for item in items if isinstance(item, Container)]
        container.depth = max([container.depth, *(depth + 1 for depth in depths)])
        if container.depth > MAX_DEPTH:
            raise unsafe(self._file, f"its pickle nests deeper than {MAX_DEPTH} levels.")

    def push_container(self, container: Container) -> None:
        """Push a new container."""
        self._charge(CONTAINER_WORK)
        self.push(container)

    def push_tuple(self, items: list[object]) -> None:
        """Push a tuple of `items`."""
        container = PickledTuple(items)
        self.deepen(container, items)
        self.push_container(container)

    def push_last(self, count: int) -> None:
        """Push a tuple of the last `count` values."""
        self.push_tuple([self.pop() for _ in range(count)][::-1])

    def extend(self, items: list[object]) -> None:
        """Add `items` to the list on top of the stack."""
        target = self.top()
        if isinstance(target, PickledList):
            target.items += items
            self.deepen(target, items)
        elif not isinstance(target, Opaque):
            raise self.damaged("its pickle appends to something that is not a list.")

    def set_items(self, items: list[object]) -> None:
        """Add keys and values, in turn, to the dict on top of the stack."""
        target = self.top()
        if len(items) % 2:
            raise self.damaged("its pickle has a key without a value.")
        if isinstance(target, PickledDict):
            target.items += zip(items[::2], items[1::2], strict=True)
            self.deepen(target, items)
        elif not isinstance(target, Opaque):
            raise self.damaged("its pickle sets an item of something that is not a dict.")

    def freeze(self) -> None:
        """Replace everything above the mark by a frozen set, which no weights are in."""
        self.pop_mark()
        self.push(Opaque("builtins.frozenset"))

    # names and calls

    def push_global(self, module: object, name: object) -> None:
        """Push what a name stands for."""
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > MAX_NAME:
            raise self.damaged("its pickle has a global whose name is not text.")
        self.push(self.resolve(f"{module}.{name}"))

    def resolve(self, name: str) -> Global:
        """What a dotted name stands for, noted where it is inert or refused."""
        found = self._globals.get(name)
        if found is None:
            self._charge(NAME_WORK)
            found = self._globals[name] = self._names(name, self._file)
            if found.role is Role.INERT and name not in PLAIN_TENSORS:
                self.inert[name] = None
            elif found.role is Role.REFUSED:
                self._refused = self._refused or name  # guard: pickle-name
        return found

    def call(self) -> None:
        """Replace a function and its arguments by what the call means."""
        arguments, function = self.pop(), self.pop()
        if isinstance(arguments, PickledTuple):
            self._charge(sum(map(_work, arguments.items)))
        result = calls.call(function, arguments, self._file)
        self._tensors += isinstance(result, Tensor)
        if self._tensors > 2 * MAX_TENSORS:  # a Parameter counts twice; the state dict's own limit comes later
            raise unsafe(self._file, f"holds more than {MAX_TENSORS:,} tensors.")
        self.push(result)

    def new(self, arguments: int) -> None:
        """Replace a class and its arguments by an instance; the arguments are not used."""
        for _ in range(arguments):
            self.pop()
        made = calls.new(self.pop(), self._file)
        self._charge(CONTAINER_WORK if isinstance(made, Record) else 0)
        self.push(made)

    def build(self) -> None:
        """Give the last value its attributes."""
        state, target = self.pop(), self.top()
        calls.build(target, state, self._file)
        if isinstance(target, Record):
            self.deepen(target, [state])

    def refer(self) -> None:
        """Replace a persistent id by the storage that it names."""
        storage = calls.storage(self.pop(), self._file)
        self.storages.setdefault(storage.key, storage)
        self.push(storage)

    def refuse_instance(self) -> None:
        """INST and OBJ call a class in a way that only pickles of protocol 0 and 1 need."""
        if self._data[self.position - 1] == ord("i"):
            cls: object = self.resolve(f"{self.read_line()}.{self.read_line()}")
        else:
            cls = next(iter(self.pop_mark()), None)
        raise calls.refused(self._file, cls.name if isinstance(cls, Global) else "a class")

    def refuse_extension(self) -> None:
        """EXT1, EXT2 and EXT4 name a function by a number that only the writer's process knew."""
        raise unsafe(self._file, "its pickle uses the extension registry (copyreg), which no weights need.")

    def refuse_reference(self) -> None:
        """PERSID refers to something outside by text; torch uses tuples."""
        name = printable(self.read_line())
        raise unsafe(self._file, f"its pickle refers to something outside the file ({name[:200]}).")

    # scalars

    def push_long(self, length: int) -> None:
        """Push an integer of `length` bytes; 9 bytes hold 64 bits without a sign."""
        if length > 9:
            raise unsafe(self._file, "its pickle has an integer of more than 64 bits.")
        value = self.read_int(length, signed=True)
        if not -(2**63) <= value < 2**64:
            raise unsafe(self._file, "its pickle has an integer of more than 64 bits.")
        self.push(value)

    def push_old_text(self, length: int) -> None:
        """Push a string of Python 2: text where it is UTF-8, else bytes."""
        data = self.read(length)
        try:
            self.push(str(data, "utf-8"))
        except UnicodeDecodeError:
            self.push(data)

    def protocol(self) -> None:
        """Check the protocol's number."""
        number = self.read_int(1)
        if not 2 <= number <= 5:
            raise unsupported(self._file, f"is a pickle of protocol {number}, not 2 to 5.")

    def frame(self) -> None:
        """Check that the bytes of a frame are there; frames only help readers that buffer."""
        self.require(self.read_int(8))


def _work(argument: object) -> int:
    # Calls copy their argument, and one value can be the argument of many calls.
    if isinstance(argument, str):
        return len(argument) >> 4
    return sum(1 for _ in children(argument)) if isinstance(argument, Container) else 0


_HANDLERS: dict[int, Callable[[PickleReader], None]] = {
    0x80: PickleReader.protocol,
    0x95: PickleReader.frame,
    ord("("): PickleReader.mark,
    ord("0"): PickleReader.drop,
    ord("1"): lambda reader: reader.pop_mark().clear(),
    ord("2"): lambda reader: reader.push(reader.top()),
    ord("N"): lambda reader: reader.push(None),
    0x88: lambda reader: reader.push(True),
    0x89: lambda reader: reader.push(False),
    ord("J"): lambda reader: reader.push(reader.read_int(4, signed=True)),
    ord("K"): lambda reader: reader.push(reader.read_int(1)),
    ord("M"): lambda reader: reader.push(reader.read_int(2)),
    0x8A: lambda reader: reader.push_long(reader.read_int(1)),
    0x8B: lambda reader: reader.push_long(reader.read_int(4)),
    ord("G"): lambda reader: reader.push(struct.unpack(">d", reader.read(8))[0]),
    ord("U"): lambda reader: reader.push_old_text(reader.read_int(1)),
    ord("T"): lambda reader: reader.push_old_text(reader.read_int(4)),
    0x8C: lambda reader: reader.push(reader.read_text(reader.read_int(1))),
    ord("X"): lambda reader: reader.push(reader.read_text(reader.read_int(4))),
    0x8D: lambda reader: reader.push(reader.read_text(reader.read_int(8))),
    ord("C"): lambda reader: reader.push(reader.read(reader.read_int(1))),
    ord("B"): lambda reader: reader.push(reader.read(reader.read_int(4))),
    0x8E: lambda reader: reader.push(reader.read(reader.read_int(8))),
    0x96: lambda reader: reader.push(reader.read(reader.read_int(8))),
    ord("]"): lambda reader: reader.push_container(PickledList()),
    ord("}"): lambda reader: reader.push_container(PickledDict()),
    ord(")"): lambda reader: reader.push_tuple([]),
    ord("t"): lambda reader: reader.push_tuple(reader.pop_mark()),
    0x85: lambda reader: reader.push_last(1),
    0x86: lambda reader: reader.push_last(2),
    0x87: lambda reader: reader.push_last(3),
    ord("a"): lambda reader: reader.extend([reader.pop()]),
    ord("e"): lambda reader: reader.extend(reader.pop_mark()),
    ord("s"): lambda reader: reader.set_items([reader.pop(), reader.pop()][::-1]),
    ord("u"): lambda reader: reader.set_items(reader.pop_mark()),
    0x8F: lambda reader: reader.push(Opaque("builtins.set")),
    0x90: lambda reader: reader.extend(reader.pop_mark()),
    0x91: PickleReader.freeze,
    ord("q"): lambda reader: reader.put(reader.read_int(1)),
    ord("r"): lambda reader: reader.put(reader.read_int(4)),
    0x94: PickleReader.put_next,
    ord("h"): lambda reader: reader.get(reader.read_int(1)),
    ord("j"): lambda reader: reader.get(reader.read_int(4)),
    ord("c"): lambda reader: reader.push_global(reader.read_line(), reader.read_line()),
    0x93: lambda reader: reader.push_global(*[reader.pop(), reader.pop()][::-1]),
    ord("R"): PickleReader.call,
    0x81: lambda reader: reader.new(1),
    0x92: lambda reader: reader.new(2),
    ord("b"): PickleReader.build,
    ord("Q"): PickleReader.refer,
    ord("i"): PickleReader.refuse_instance,
    ord("o"): PickleReader.refuse_instance,
    ord("P"): PickleReader.refuse_reference,
    0x82: PickleReader.refuse_extension,
    0x83: PickleReader.refuse_extension,
    0x84: PickleReader.refuse_extension,
}
