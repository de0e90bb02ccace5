"""Mutate netlink messages, as trees of attributes and as bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

from . import socket_script
from .socket_script import Step, StepKind

_HEADER = struct.Struct("=HH")
_MESSAGE = struct.Struct("=IHHII")
_HEADERS_SIZE = 20
"""The size of ``nlmsghdr`` and ``nfgenmsg``."""
_NESTED = 0x8000
_MAX_DEPTH = 20
"""The depth of nests below which attributes are mutated as bytes, not as trees."""

MAX_DATAGRAM = 0xFFFC
"""The approximate size limit of a mutated datagram."""

_SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 20, 255, 256, 0x7FFF, 0x8000, 0xFFFC, 0xFFFF)
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 1 << 31, (1 << 31) - 1, (1 << 32) - 1)
_TYPES = (0, 1, 2, 3, 4, 0x100, 0x101, 0x102, 0x103, 0x104, 0x105, 0x200, 0x202, 0x203, 0x800)
_TYPES += (0x804, 0x900, 0xA00, 0xC00, 0xFFFF, 88, 89, 90)
_FLAGS = (0, 2, 0x10, 0x100, 0x200, 0x300, 0x400, 0x600, 0xFFFF)


class Node:
    """An attribute: its type with the flags, and its payload or the attributes nested in it."""

    def __init__(self, kind: int, payload: bytes, depth: int) -> None:
        self.kind = kind
        self.payload = payload
        self.inside = parse(payload, depth + 1) if kind & _NESTED and depth < _MAX_DEPTH else None

    def pack(self) -> bytes:
        payload = self.payload if self.inside is None else b"".join(n.pack() for n in self.inside)
        size = min(4 + len(payload), 0xFFFF)
        return _HEADER.pack(size, self.kind) + payload[: size - 4] + bytes(-size & 3)


def parse(data: bytes, depth: int = 0) -> list[Node] | None:
    """Return the attributes in these bytes, or ``None`` if the bytes are not attributes."""
    nodes: list[Node] = []
    at, end = 0, len(data)
    while at < end:
        if end - at < 4:
            return None
        size, kind = _HEADER.unpack_from(data, at)
        if size < 4 or at + size > end:
            return None
        nodes.append(Node(kind, data[at + 4 : at + size], depth))
        at += size + 3 & ~3
    return nodes


def split(datagram: bytes) -> list[bytes]:
    """Return the messages of a datagram, and last the rest that is not a message."""
    found: list[bytes] = []
    at = 0
    while len(datagram) - at >= 16:
        size = int.from_bytes(datagram[at : at + 4], "little")
        if not 16 <= size <= len(datagram) - at:
            break
        found.append(datagram[at : at + size])
        at += size + 3 & ~3
    return [*found, datagram[at:]] if at < len(datagram) else found


def join(messages: Sequence[bytes]) -> bytes:
    return b"".join([message + bytes(-len(message) & 3) for message in messages])


def _attribute_lists(nodes: list[Node]) -> list[list[Node]]:
    """Return a list of attributes, and the lists of all attributes nested in it."""
    found = [nodes]
    for node in nodes:
        if node.inside is not None:
            found += _attribute_lists(node.inside)
    return found


class Mutator:
    """Mutates inputs with a random generator."""

    def __init__(self, random: Random, donors: Sequence[bytes]) -> None:
        """Create a mutator.

        :param donors: messages whose parts are inserted into others.
        """
        self._random = random
        self._donors = donors
        self._on_trees: list[Callable[[list[Node]], None]] = [
            self._duplicate,
            self._remove,
            self._reorder,
            self._renumber,
            self._flag,
            self._fill,
            self._resize,
            self._graft,
            self._wrap,
            self._multiply,
        ]
        self._on_bytes: list[Callable[[bytearray], None]] = [
            self._flip,
            self._put_number,
            self._put_size,
            self._truncate,
            self._cut,
            self._insert,
            self._splice,
        ]

    # -- a script ---------------------------------------------------------------------------

    def script(self, data: bytes, other: bytes) -> bytes:
        """Mutate a script: its datagrams, and the order of its steps."""
        random = self._random
        option, steps = socket_script.unpack(data)
        if not steps or random.random() < 0.1:
            steps += socket_script.unpack(other)[1]
        for _ in range(random.choice((1, 1, 2, 3))):
            if not steps:
                break
            at = random.randrange(len(steps))
            step = steps[at]
            match random.randrange(10):
                case 0:
                    steps.insert(at, step)
                case 1:
                    del steps[at]
                case 2:
                    random.shuffle(steps)
                case 3:
                    kind = random.choice((StepKind.OVERRUN, StepKind.NOTHING))
                    steps.insert(at, Step(kind, to=step.to))
                case 4:
                    steps[at] = step._replace(kind=random.choice(tuple(StepKind)))
                case _ if len(step.data) <= 2:  # a user action
                    steps[at] = step._replace(data=random.randbytes(2))
                case _:
                    steps[at] = step._replace(data=self.datagram(step.data))
        if random.random() < 0.02:
            option = random.randrange(256)
        return socket_script.pack(steps, option)

    # -- a datagram -------------------------------------------------------------------------

    def datagram(self, data: bytes) -> bytes:
        """Mutate a datagram: one or more of its messages, or their order."""
        random = self._random
        messages = split(data)
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            if not messages:
                messages = [random.choice(self._donors)]
            at = random.randrange(len(messages))
            match random.randrange(24):
                case 0:
                    messages.insert(at, messages[at])
                case 1:
                    del messages[at]
                case 2:
                    random.shuffle(messages)
                case 3:
                    messages.insert(at, random.choice(self._donors))
                case 4:
                    messages += [messages[at]] * random.choice((1, 31, 32, 33, 60))
                case 5:
                    messages[at] = self._header(messages[at])
                case _:
                    messages[at] = self.message(messages[at])
        data = join(messages)[: MAX_DATAGRAM + 4]
        if random.random() < 0.1 and messages:
            data = join(messages[:-1]) + messages[-1]  # without its padding
        elif random.random() < 0.1:
            data = data[: -random.randint(1, 24)]
        if random.random() < 0.05:
            raw = bytearray(data)
            random.choice(self._on_bytes)(raw)
            data = bytes(raw)
        return data

    def message(self, data: bytes) -> bytes:
        """Mutate a message: the tree of its attributes, or its bytes."""
        random = self._random
        nodes = parse(data[_HEADERS_SIZE:]) if len(data) > _HEADERS_SIZE else None
        if nodes is None or random.random() < 0.4:
            raw = bytearray(data)
            random.choice(self._on_bytes)(raw)
            if random.random() < 0.6 and len(raw) >= 16:
                raw[:4] = len(raw).to_bytes(4, "little")
            return bytes(raw)
        for _ in range(random.choice((1, 1, 2, 3))):
            random.choice(self._on_trees)(random.choice(_attribute_lists(nodes)))
        body = b"".join([node.pack() for node in nodes])[:MAX_DATAGRAM]
        return (_HEADERS_SIZE + len(body)).to_bytes(4, "little") + data[4:_HEADERS_SIZE] + body

    def _header(self, data: bytes) -> bytes:
        random = self._random
        if len(data) < 16:
            return data
        size, kind, flags, seq, port = _MESSAGE.unpack_from(data)
        match random.randrange(5):
            case 0:
                size = (
                    random.choice((*_SIZES, *_NUMBERS, size + random.randint(-4, 4))) & 0xFFFFFFFF
                )
            case 1:
                kind = random.choice(_TYPES)
            case 2:
                flags = random.choice(_FLAGS) ^ random.choice((0, flags))
            case 3:
                seq = random.choice((*_NUMBERS, seq + 1, 1, 2, 3)) & 0xFFFFFFFF
            case _:
                port = random.choice(_NUMBERS)
        return _MESSAGE.pack(size, kind, flags, seq, port) + data[16:]

    # -- the tree ---------------------------------------------------------------------------

    def _pick(self, nodes: list[Node]) -> Node | None:
        return self._random.choice(nodes) if nodes else None

    def _duplicate(self, nodes: list[Node]) -> None:
        if (node := self._pick(nodes)) is not None:
            nodes.insert(self._random.randint(0, len(nodes)), node)

    def _remove(self, nodes: list[Node]) -> None:
        if nodes:
            del nodes[self._random.randrange(len(nodes))]

    def _reorder(self, nodes: list[Node]) -> None:
        self._random.shuffle(nodes)

    def _renumber(self, nodes: list[Node]) -> None:
        if (node := self._pick(nodes)) is not None:
            number = self._random.choice((0, 0x3FFF, self._random.randint(1, 32)))
            node.kind = node.kind & 0xC000 | number

    def _flag(self, nodes: list[Node]) -> None:
        if (node := self._pick(nodes)) is not None:
            node.kind ^= self._random.choice((_NESTED, 0x4000, 0xC000))

    def _fill(self, nodes: list[Node]) -> None:
        node = self._pick(nodes)
        if node is None or node.inside is not None or not node.payload:
            return
        size = len(node.payload)
        number = self._random.choice((*_NUMBERS, self._random.getrandbits(8 * min(size, 16))))
        node.payload = (number % (1 << 8 * size)).to_bytes(size, "big")

    def _resize(self, nodes: list[Node]) -> None:
        if (node := self._pick(nodes)) is not None:
            size = self._random.choice((0, 1, 2, 3, 4, 8, 16, 17, 32, 33, 64, 128, 4096))
            node.payload = (node.payload + bytes(size))[:size]
            node.inside = None

    def _graft(self, nodes: list[Node]) -> None:
        given = parse(self._random.choice(self._donors)[_HEADERS_SIZE:])
        if given:
            scion = self._pick(self._random.choice(_attribute_lists(given)))
            if scion is not None:
                nodes.insert(self._random.randint(0, len(nodes)), scion)

    def _wrap(self, nodes: list[Node]) -> None:
        if (node := self._pick(nodes)) is not None:
            payload, kind = node.pack(), node.kind & 0x3FFF | _NESTED
            for _ in range(self._random.choice((1, 1, 2, 20, 300))):
                if len(payload) < 0xFF00:
                    payload = _HEADER.pack(len(payload) + 4, kind) + payload
            node.kind, node.payload, node.inside = kind, payload[4:], None

    def _multiply(self, nodes: list[Node]) -> None:
        if self._random.random() < 0.2 and (node := self._pick(nodes)) is not None:
            times = self._random.choice((2, 5, 30, 30, 30, 300))
            nodes += [node] * min(times, MAX_DATAGRAM // (4 + len(node.payload)))

    # -- the bytes --------------------------------------------------------------------------

    def _flip(self, data: bytearray) -> None:
        for _ in range(self._random.choice((1, 1, 2, 8))):
            if data:
                data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _put_number(self, data: bytearray) -> None:
        width = self._random.choice((1, 2, 4, 8))
        if len(data) >= width:
            at = self._random.randrange(len(data) - width + 1) & ~(width - 1)
            number = self._random.choice(_NUMBERS) % (1 << 8 * width)
            order = self._random.choice(("little", "big"))
            data[at : at + width] = number.to_bytes(width, order)  # type: ignore[arg-type]

    def _put_size(self, data: bytearray) -> None:
        """Write a size where the length of a message or attribute is likely to be."""
        if len(data) >= 4:
            at = self._random.randrange(len(data) // 4) * 4
            near = int.from_bytes(data[at : at + 2], "little") + self._random.randint(-5, 5)
            data[at : at + 2] = (self._random.choice((near, *_SIZES)) & 0xFFFF).to_bytes(
                2, "little"
            )

    def _truncate(self, data: bytearray) -> None:
        if data:
            del data[self._random.randrange(len(data)) :]

    def _cut(self, data: bytearray) -> None:
        if data:
            at = self._random.randrange(len(data))
            del data[at : at + self._random.choice((1, 2, 3, 4, 8, 20))]

    def _insert(self, data: bytearray) -> None:
        at = self._random.randint(0, len(data))
        data[at:at] = self._random.randbytes(self._random.choice((1, 2, 3, 4, 8, 20)))

    def _splice(self, data: bytearray) -> None:
        other = self._random.choice(self._donors)
        here = self._random.randint(0, len(data)) & ~3
        there = self._random.randint(0, len(other)) & ~3
        data[here:] = other[there:]
