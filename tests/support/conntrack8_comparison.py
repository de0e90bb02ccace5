"""Compare what the program conntrack(8) and this package do with the same command line."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from conntrack_aio import __version__

from .conntrack8_commands import PORTS
from .conntrack8_worker import Result

_OURS = f"conntrack v{__version__} (conntrack_aio)"
_THEIRS = re.compile(r"conntrack v[0-9.]+ \(conntrack-tools\)")

_TIMEOUT = re.compile(
    r"^((?:ipv[46] +\d+ )?[a-z0-9]+ +\d+ )(\d+)|(<timeout>)(\d+)|(-t )(\d+)"
    r"|^((?:\[\*\]\t)?)(\d+)(?= proto=)"
)
_VARYING = re.compile(
    r"\b(use|delta-time|insert|found|searched|error)=\d+|<(use|deltatime)>\d+|Version \S+"
)
_IDS = re.compile(r"\bid=\d{6,}|<id>\d+|\[start=.*?\]|<start>\d+")
_TIME = re.compile(r"^\[\d+\.[\d ]{6}\]")

_RANDOM_PORT = re.compile(
    rf"(\[UNREPLIED\] src=\S+ dst=\S+ sport=\d+ dport=)(?!(?:{'|'.join(PORTS)})\b)\d+"
)
"""The port of replies to a new entry, which the kernel chooses if the reply tuple is in use.

Below port 512 it chooses another one below 512. One of the generator's own ports is that of a
command.
"""

_NOT_SAVED = re.compile(r"(?<= -[ng] )\[?([^] ]+)\]?:\d+(?= |$)| -m \d+$| -m \d+(?= --label-add)")
"""What this package saves and the program loses: ports of translations and marks, besides labels.

They follow all other options, but for the ports.
"""
_LABELS_SAVED = re.compile(r" --label-add .*")

_UPDATES = re.compile(r" [0-9]+ flow entries have been updated\.")

_NOT_FOUND = re.compile(r"^Operation failed: No such file", re.MULTILINE)
"""The message about an entry that an update does not find, which has no version."""

_CLOCK_TICKS = 3
"""The seconds by which timeouts of two lists may differ."""


class _Line(NamedTuple):
    """A line of output."""

    text: str
    """The text without the values that vary."""
    timeout: int | None


def difference(
    theirs: Result, ours: Result, *, same_entries: bool, updates: bool = False
) -> str | None:
    """Describe how two results differ; ``None`` if they are equal.

    The order of lines is that of the table, which varies. Timeouts may differ by some seconds.

    :param theirs: the result of the program.
    :param ours: the result of this package.
    :param same_entries: whether both ran on the same entries, which have the same ids.
    :param updates: whether some of the lines may be those of updated entries.
    """
    if theirs.status < 0 or _fails_in_zones(theirs) or _fails_in_zones(ours):
        return None  # the program crashed, or cannot do it
    if theirs.status != ours.status:
        return f"status {theirs.status}, ours {ours.status}: {theirs.errors!r}, {ours.errors!r}"
    # Where the program cannot make a request, the error that it reports is undefined.
    errors = theirs.errors.replace(os.strerror(errno.ENODATA), os.strerror(0))
    expected = _THEIRS.sub(_OURS, errors)
    if expected != ours.errors:
        return f"errors {expected!r}, ours {ours.errors!r}"
    expected_lines = lines_of(theirs.output, same_entries=same_entries)
    lines = lines_of(ours.output, same_entries=same_entries)
    if (updates or _UPDATES.search(expected)) and len(lines) > 1:
        # Of several updated flows the program prints only some.
        printed = {line.text for line in expected_lines}
        lines = [line for line in lines if line.text in printed]
    return lines_difference(expected_lines, lines)


def _fails_in_zones(result: Result) -> bool:
    """Return whether an update found entries in zones, which the program cannot update.

    Among several entries the program reports that of some and counts others twice. Which entry
    ends an update with another error depends on the order of the table.
    """
    return _NOT_FOUND.search(result.errors) is not None


def lines_of(output: str, *, same_entries: bool) -> list[_Line]:
    """Return the lines of an output, sorted."""
    found: list[_Line] = []
    for line in _THEIRS.sub(_OURS, output).splitlines():
        line = _TIME.sub("[*]", line)
        if line.startswith(("-A -t", "-D -t", "-U -t")):
            line = _NOT_SAVED.sub(lambda match: match[1] or "", _LABELS_SAVED.sub("", line))
        text = _VARYING.sub(lambda match: f"{match[1] or match[2]}=*", line)
        if not same_entries:
            text = _RANDOM_PORT.sub(r"\1*", _IDS.sub("id=*", text))
        match = _TIMEOUT.search(text)
        timeout: int | None = None
        if match is not None:
            last = match.lastindex or 0
            timeout = int(match[last])
            text = text[: match.start(last)] + "*" + text[match.end(last) :]
        found.append(_Line(text, timeout))
    return sorted(found, key=lambda line: (line.text, line.timeout or 0))


def lines_difference(theirs: Sequence[_Line], ours: Sequence[_Line]) -> str | None:
    """Describe how sorted lines differ; ``None`` if they are equal."""
    if [line.text for line in theirs] != [line.text for line in ours]:
        missing = {line.text for line in theirs} - {line.text for line in ours}
        added = {line.text for line in ours} - {line.text for line in theirs}
        return f"output lacks {sorted(missing)!r}, has {sorted(added)!r}"
    for one, other in zip(theirs, ours, strict=True):
        if abs((one.timeout or 0) - (other.timeout or 0)) > _CLOCK_TICKS:
            return f"timeout {one.timeout}, ours {other.timeout}: {one.text}"
    return None
