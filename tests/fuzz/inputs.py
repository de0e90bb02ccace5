"""The targets of the fuzzer: the function to run, its seeds, and its mutator."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Generator, Sequence
from random import Random

import attrs

from . import harnesses, mirror_programs, scripted_operations, scripted_tables, seeds
from .mutation import Mutator

Mutate = Callable[[Mutator, Random, bytes, bytes], bytes]
"""A function that mutates an input with the help of another input."""


def _mutate_datagram(mutator: Mutator, random: Random, data: bytes, other: bytes) -> bytes:
    """Mutate an input that consists of an option byte and a datagram."""
    option = data[:1] if random.random() < 0.9 else other[:1]
    return option + mutator.datagram(data[1:])


def _mutate_script(mutator: Mutator, random: Random, data: bytes, other: bytes) -> bytes:
    return mutator.script(data, other)


def _mutate_program(mutator: Mutator, random: Random, data: bytes, other: bytes) -> bytes:
    return mirror_programs.mutate(random, data, other)


_TOKENS = (b"null", b"-1", b"0", b"1.0", b"1e999", b"true", b"[]", b"{}", b'""', b'"\\ud800"')
_TOKENS += (b"4294967296", b"18446744073709551616", b'"kind"', b'"tcp"', b'"0.0.0.0"', b'"::"')
_TOKENS += (b"9" * 5000, b'"00ff"', b'"0"', b"[0, 127, 128]", b'"unknown"', b'["SEEN_REPLY", 1]')


def _mutate_text(mutator: Mutator, random: Random, data: bytes, other: bytes) -> bytes:
    """Mutate an input that consists of an option byte and JSON: replace a value by another."""
    cuts = [at for at, byte in enumerate(data) if at and byte in b"[]{},:"]
    if len(cuts) < 2 or random.random() < 0.1:
        return data[:1] + random.choice(_TOKENS)
    at = random.randrange(len(cuts) - 1)
    first, last = cuts[at] + 1, cuts[min(at + random.choice((1, 1, 1, 3)), len(cuts) - 1)]
    colons = [each for each in cuts if other[each : each + 1] == b":"]
    given = random.choice(_TOKENS)
    if colons and random.random() < 0.3:
        start = random.choice(colons) + 1
        given = other[start : other.find(b",", start)]
    return data[:first] + given + data[last:]


def _with_options(datagrams: Sequence[bytes], options: Sequence[int]) -> list[bytes]:
    return [bytes([option]) + data for data in datagrams for option in options]


def _datagrams_by_kind() -> list[bytes]:
    """Return datagrams of each kind of message, with the option of the decoder that reads them."""
    found = [
        bytes([number | more]) + data
        for number, (_, known) in enumerate(seeds.DECODERS)
        for data in [*known, known[0] * 40, b"".join(known)]
        for more in (0, 0xC0)
    ]
    return found + _with_options(seeds.DATAGRAMS, [0])


def _json_texts() -> list[bytes]:
    """Return each JSON text twice: with the option of its own class, and of another class."""
    found: list[bytes] = []
    for number, (cls, text) in enumerate(seeds.JSON_TEXTS):
        own = harnesses.CLASSES.index(cls)
        found += [bytes([own]) + text, bytes([number % len(harnesses.CLASSES)]) + text]
    return found


@attrs.frozen
class Target:
    """A function that is fuzzed."""

    name: str
    run: Callable[[bytes], Awaitable[None] | None]
    mutate: Mutate
    seeds: Sequence[bytes]
    weight: int
    """Its share of the inputs, relative to the weights of the other targets."""


TARGETS = {
    target.name: target
    for target in (
        Target("layouts", harnesses.layouts, _mutate_datagram, _datagrams_by_kind(), 40),
        Target(
            "trace",
            harnesses.trace,
            _mutate_datagram,
            _with_options(seeds.DATAGRAMS, [0, 1, 2, 3]),
            8,
        ),
        Target(
            "replies",
            harnesses.request_replies,
            _mutate_script,
            seeds.scripts(seeds.CONVERSATIONS, range(5)),
            14,
        ),
        Target(
            "vectors",
            harnesses.message_vectors,
            _mutate_script,
            seeds.scripts([*seeds.CONVERSATIONS, *seeds.STREAMS], range(len(seeds.DECODERS))),
            8,
        ),
        Target(
            "texts",
            harnesses.json_texts,
            _mutate_text,
            _json_texts(),
            8,
        ),
        Target(
            "methods",
            scripted_operations.operations,
            _mutate_script,
            seeds.scripts(seeds.CONVERSATIONS, scripted_operations.OPTIONS),
            14,
        ),
        Target(
            "streams",
            scripted_operations.streams,
            _mutate_script,
            seeds.scripts(seeds.STREAMS, scripted_operations.STREAM_OPTIONS),
            8,
        ),
        Target(
            "tables",
            scripted_tables.tables,
            _mutate_script,
            seeds.scripts(seeds.TABLE_SCRIPTS, scripted_tables.OPTIONS),
            3,
        ),
        Target(
            "mirrors",
            mirror_programs.run_program,
            _mutate_program,
            mirror_programs.initial_programs(Random(0)),
            1,
        ),
    )
}

MAX_KEPT = 400
"""The number of mutated inputs of one target that are kept and mutated again."""


def inputs(target: Target, random: Random) -> Generator[bytes]:
    """Yield the seeds of a target, and then mutations without end."""
    yield from target.seeds
    yield from mutations(target, random)


def mutations(target: Target, random: Random) -> Generator[bytes]:
    """Yield mutations of the seeds of a target, and mutations of these, without end."""
    mutator = Mutator(random, seeds.ALL_MESSAGES)
    kept: list[bytes] = []
    while True:
        pool = kept if kept and random.random() < 0.3 else target.seeds
        mutated = target.mutate(mutator, random, random.choice(pool), random.choice(target.seeds))
        yield mutated
        if len(mutated) > 4096 and random.random() < 0.95:
            continue  # large inputs are slow, and their mutations are large, too
        if zlib.crc32(mutated) % 8 == 0:
            if len(kept) < MAX_KEPT:
                kept.append(mutated)
            else:
                kept[random.randrange(MAX_KEPT)] = mutated
