"""Find the rows of tables that show a command both ways, and describe the effects of each.

A table shows them if its header is one of :data:`HEADERS`. The cells of a row are: what it does, a
command of conntrack(8) or nfct(8), the same as a command of ``conntrack-aio``, and the same as a
call of the library. A cell with a dash says that there is none.
"""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
from blocks import ROOT
from command_worker import Done, Worker
from example_entries import LABELS, LONG
from running import environment
from support.lab import Lab

import conntrack_aio
from conntrack_aio import Connection, Flow, Status, Tuple, UDPTimeouts
from conntrack_aio.model.timeouts import ProtocolTimeouts

HEADERS: Final = tuple(
    ["", program, "new way", "library"] for program in ("conntrack(8)", "nfct(8)")
)

_PROGRAM: Final = """\
#!{python}
import sys
from conntrack_aio.cli import main
sys.exit(main())
"""


@attrs.frozen
class Row:
    """A row of a table."""

    heading: str
    title: str
    program: str | None
    """The command of conntrack(8) or nfct(8)."""
    own: str | None
    """The command of ``conntrack-aio``."""
    library: tuple[str, ...]
    """The calls of the library."""


def rows_of(page: str) -> list[Row]:
    """Return the rows of a page, by its path from the root of the repository."""
    return list(_rows((ROOT / page).read_text(encoding="utf-8").splitlines()))


def _rows(lines: list[str]) -> Iterator[Row]:
    heading, inside = "", False
    for line in lines:
        if match := re.match(r"#+ (.*)", line):
            heading = match[1]
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells in HEADERS:
            inside = True
        elif not cells:
            inside = False
        elif inside and set(cells[0]) != {"-"}:
            title, program, own, library = cells
            command, new = (next(iter(_codes(cell)), None) for cell in (program, own))
            yield Row(heading, title, command, new, _codes(library))


def _codes(cell: str) -> tuple[str, ...]:
    """Return the code of a cell; nothing of a cell without code."""
    if cell == "\N{EN DASH}":
        return ()
    codes = tuple(re.findall(r"`([^`]+)`", cell.replace(r"\|", "|")))
    assert codes, f"a cell without code: {cell}"
    return codes


def start_worker(lab: Lab, directory: Path) -> Worker:
    """Start a worker, whose commands may use :func:`create_links`."""
    create_links(directory)
    return Worker(lab, directory, environment(directory), LABELS)


def create_links(directory: Path) -> Path:
    """Create the directory ``links`` with programs like links of the old names, and return it."""
    links = directory / "links"
    links.mkdir(exist_ok=True)
    for name in ("conntrack", "nfct"):
        program = links / name
        program.write_text(_PROGRAM.format(python=sys.executable))
        program.chmod(0o755)
    return links


def public_names() -> dict[str, object]:
    """Return the names that calls of the library use."""
    names = {name: getattr(conntrack_aio, name) for name in conntrack_aio.__all__}
    return {**names, "AF_INET": socket.AF_INET, "IPPROTO_TCP": socket.IPPROTO_TCP}


# -- what was printed ----------------------------------------------------------------------------

Entry = tuple[str, str, str, str]
"""Source, source port, destination and destination port of the original direction.

A port is empty if there is none, or if an expectation has any.
"""

_THEIRS: Final = re.compile(
    r"\bsrc=(\S+) dst=(\S+)(?: (?:sport|srckey)=(\S+) (?:dport|dstkey)=(\S+))?"
)
_XML: Final = re.compile(
    r"<src>([^<]+)</src><dst>([^<]+)</dst></layer3><layer4[^>]*?>"
    r"(?:<(?:sport|srckey)>(\w+)<.*?><(?:dport|dstkey)>(\w+)<)?"
)
_JSON: Final = re.compile(
    r'"orig": {"src": "([^"]+)", "dst": "([^"]+)", "proto": \d+'
    r'(?:, "sport": (\d+), "dport": (\d+))?'
)
_END: Final = r"(?:\[([0-9a-f:]+)\]|(\d+\.\d+\.\d+\.\d+)|([0-9a-f:]+))(?::(\d+))?"
_OURS: Final = re.compile(rf" {_END} -> {_END}")


def entries_in(text: str) -> list[Entry]:
    """Return the entry of each line of text that a command printed."""
    return [entry for line in text.splitlines() if (entry := _entry_in(line)) is not None]


def _entry_in(line: str) -> Entry | None:
    if match := _THEIRS.search(line):
        src, dst, sport, dport = match.groups()
        return src, _number(sport), dst, _number(dport)
    if match := _XML.search(line) or _JSON.search(line):
        src, dst, sport, dport = match.groups()
        return src, _number(sport), dst, _number(dport)
    if match := _OURS.search(line):
        src, sport = next(filter(None, match.groups()[:3])), match[4]
        dst, dport = next(filter(None, match.groups()[4:7])), match[8]
        return src, _number(sport), dst, _number(dport)
    return None


def _number(text: str | None) -> str:
    return "" if text in (None, "0") else str(int(text, 0))


def entry_of(flow: Flow) -> Entry:
    """Return the entry that commands print of a flow."""
    return entry_of_tuple(flow.orig)


def entry_of_tuple(tuple_: Tuple) -> Entry:
    """Return the entry with this original direction."""
    sport, dport = ("" if not port else str(port) for port in (tuple_.sport, tuple_.dport))
    return str(tuple_.src), sport, str(tuple_.dst), dport


def number_in(done: Done) -> int | None:
    """Return the number that a command printed, or that it reports."""
    if re.fullmatch(r"\d+\n", done.output):
        return int(done.output)
    found = re.search(r"(\d+) (?:flow entries|expectations|flows?) ", done.errors)
    return int(found[1]) if found else None


def counters_in(text: str) -> list[tuple[int, ...]] | None:
    """Return the counters of each processor, or the timeouts, that a command printed.

    Counters are pairs of a name and a number, or rows below a line of names. The timeouts of all
    policies are one item.
    """
    timeouts = re.findall(r"\t\.[A-Z_]\w+ = (\d+),|\b(?!rules)[a-z]\w+=(\d+)", text)
    if re.match(r"\t?\.|(\w+ )?(ipv[46] )?(tcp|udp) [a-z]\w+=", text):
        return [tuple(sorted(int(one or other) for one, other in timeouts))]
    lines = re.findall(r"^cpu=\d+\s+(\S+=\d.*)$", text, re.MULTILINE)
    found = [tuple(map(int, re.findall(r"=(\d+)", line))) for line in lines]
    table = re.search(r"^cpu  .*insert.*\n((?: *\d+.*\n)+)", text, re.MULTILINE)
    if table:
        found = [tuple(map(int, line.split()[1:])) for line in table[1].splitlines()]
    return found or None


def counters_of(result: object) -> list[tuple[int, ...]] | None:
    """Return the counters of each processor, or the timeouts, that a call returned."""
    policies = result if isinstance(result, list) else [result]
    timeouts = [getattr(each, "timeouts", each) for each in policies]
    if timeouts and all(isinstance(each, ProtocolTimeouts) for each in timeouts):
        values = [value for each in timeouts for value in attrs.astuple(each)]
        return [tuple(sorted(value for value in values if isinstance(value, int)))]
    if not isinstance(result, list) or not result or not hasattr(result[0], "cpu"):
        return None
    rows = [attrs.asdict(each, filter=lambda field, value: value is not None) for each in result]
    return [tuple(v for k, v in row.items() if k != "cpu" and isinstance(v, int)) for row in rows]


# -- what was changed ----------------------------------------------------------------------------

_SET_BY_COMMANDS: Final = Status.SEEN_REPLY | Status.ASSURED | Status.NAT_MASK
_SECONDS: Final = 30
"""Timeouts are rounded up to a multiple of this: those that the pages set are multiples."""


async def state_of(conn: Connection) -> dict[str, object]:
    """Return what the tables of a namespace have that commands can set."""
    flows = {f"{flow.orig} {flow.zone}": _values(flow) for flow in await conn.list()}
    expected = {f"expected {each.tuple}": each.mask for each in await conn.expectations.list()}
    policies = {f"policy {each.name}": each.timeouts for each in await conn.timeouts.list()}
    defaults = {"defaults": await conn.timeouts.get_defaults(UDPTimeouts)}
    return {**flows, **expected, **policies, **defaults}


def _values(flow: Flow) -> tuple[object, ...]:
    return (
        flow.reply,
        flow.mark or 0,
        flow.labels or 0,
        (flow.status or Status(0)) & _SET_BY_COMMANDS,
        getattr(flow.protoinfo, "state", None),
        None if flow.helper is None else flow.helper.name,
        _rounded(flow.timeout or 0),
    )


def _rounded(timeout: int) -> int:
    """Return a timeout rounded up; that of an entry whose timeout was not changed is the same."""
    return LONG if timeout > LONG / 2 else -(-timeout // _SECONDS) * _SECONDS
