"""Run nfct(8), run the package's ``nfct`` in this process, and generate command lines for both."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

from conntrack_aio.cli.nfct.command import run
from conntrack_aio.cli.nfct.refusal import VERSION

Words = list[str]


class Outcome(NamedTuple):
    """What a command did. The name and version of the program is ``VERSION`` in its output."""

    status: int
    stdout: str
    stderr: str


def run_nfct8(words: Sequence[str]) -> Outcome:
    """Run nfct(8)."""
    return outcome_of(subprocess.run(["nfct", *words], capture_output=True, check=False))


def outcome_of(done: subprocess.CompletedProcess[bytes]) -> Outcome:
    """Return what a finished nfct(8) did."""
    stdout, stderr = map(_without_version, (done.stdout, done.stderr))
    return Outcome(done.returncode, stdout, stderr)


def run_own(words: Sequence[str]) -> Outcome:
    """Run the package's ``nfct``."""
    written = io.BytesIO(), io.BytesIO()
    stdout, stderr = (io.TextIOWrapper(buffer, encoding="utf-8") for buffer in written)
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        status = run(words)
        stdout.flush()
        stderr.flush()
    out, err = (_without_version(buffer.getvalue()) for buffer in written)
    return Outcome(status, out, err)


def _without_version(data: bytes) -> str:
    text = os.fsdecode(data)
    return re.sub(rf"nfct v[0-9.]+:|{re.escape(VERSION)}:", "VERSION:", text)


COMMANDS: Final = ("list", "add", "delete", "get", "flush", "default-set", "default-get", "disable")
FAMILIES: Final = ("inet", "inet6")
STATES: Final = {
    "tcp": "syn_sent syn_recv established fin_wait close_wait last_ack time_wait close syn_sent2 "
    "retrans unacknowledged",
    "udp": "unreplied replied",
    "udplite": "unreplied replied",
    "gre": "unreplied replied",
    "sctp": "closed cookie_wait cookie_echoed established shutdown_sent shutdown_recd "
    "shutdown_ack_sent",
    "dccp": "request respond partopen open closereq closing timewait",
    "icmp": "timeout",
    "icmpv6": "timeout",
    "ipv6-icmp": "timeout",
    "generic": "timeout",
}
"""The names of the timeouts of each protocol."""
NAMES: Final = ("a", "b", "web", "n" * 31, "a b", "-x", "%s%n", "\u00fc", "\udcff", "list")
_HELPERS: Final = ["amanda", "dhcpv6", "ftp", "mdns", "rpc", "sane", "slp", "ssdp", "tftp", "tns"]
_WRONG_WORDS: Final = (
    *("x", "INET", "tcp", "6", "esp", "TCP", "Tcp", "heartbeat_sent", "unack", "--help", "-h"),
    *("timeout", "helper", "help", "listx", "ipv4", "\u0663", "\udcfe\udcff", "%d", " "),
)
_SECONDS: Final = ("0", "1", "010", "+7", " 8", "9 ", "432000", "2147483")


class Generator:
    """Generates command lines: mostly valid ones, and valid ones with wrong words.

    It generates none for which the package differs from nfct(8) on purpose.
    """

    def __init__(self, random: Random) -> None:
        self._random = random

    def line(self) -> Words:
        """Return the next command line."""
        command, subsystem, parameters = self._valid()
        if self._random.random() < 0.25:
            self._spoil(parameters)
        if self._random.random() < 0.05:
            command, subsystem = self._wrong(command), self._wrong(subsystem)
        words = [self._abbreviated(command), self._abbreviated(subsystem)]
        if self._random.random() < 0.3:
            words.reverse()
        line = words + parameters
        return line if self._random.random() < 0.98 else line[: self._random.randrange(2)]

    def _valid(self) -> tuple[str, str, Words]:
        pick = self._random.choice
        command = pick((*COMMANDS, "add", "add", "get", "default-set"))
        if self._random.random() < 0.15:
            return command, "helper", self._helper_parameters(command)
        protocol = pick(tuple(STATES))
        parameters: Words = []
        if command in ("add", "get", "delete"):
            parameters.append(pick(NAMES))
        if command in ("add", "default-set", "default-get"):
            parameters += [pick(FAMILIES), protocol]
        if command in ("add", "default-set"):
            for _ in range(self._random.choice((0, 1, 1, 2, 3, 12))):
                parameters += [self._state(protocol), pick(_SECONDS)]
        return command, "timeout", parameters

    def _helper_parameters(self, command: str) -> Words:
        if command in ("list", "flush"):
            return []
        pick = self._random.choice
        key = [pick(_HELPERS), pick(FAMILIES), pick(("tcp", "udp"))]
        # Only "get" and "delete" accept a part of the key. nfct(8) does not report a helper that
        # "get" does not find by family.
        return key[:1] if command == "get" else key

    def _state(self, protocol: str) -> str:
        state = self._random.choice(STATES[protocol].split())
        return self._random.choice((state, state.upper(), state.title()))

    def _spoil(self, parameters: Words) -> None:
        """Make some parameters wrong. Numbers stay as they are."""
        places = [index for index, word in enumerate(parameters) if word not in _SECONDS]
        change = self._random.randrange(3)
        if change == 0 and places:
            parameters[self._random.choice(places)] = self._random.choice(_WRONG_WORDS)
        elif change == 1 and parameters:
            del parameters[self._random.randrange(len(parameters)) :]
        elif change == 2 and len(parameters) not in (2, 3):
            parameters.append(self._random.choice(_WRONG_WORDS))

    def _wrong(self, word: str) -> str:
        return self._random.choice((word, *_WRONG_WORDS))

    def _abbreviated(self, word: str) -> str:
        """Return a prefix of a word, which is not empty; in most cases all of it."""
        if self._random.random() < 0.7:
            return word
        return word[: self._random.randint(1, len(word))]
