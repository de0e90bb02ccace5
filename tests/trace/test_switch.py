"""Test that the environment and the level of the logger switch the trace on and off."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import anyio
import pytest
from support.hexdumps import parse_hexdump
from support.lab import Lab

from conntrack_aio import Flow, connect

VARIABLE = "CONNTRACK_AIO_DEBUG"
COUNT = [sys.executable, "-m", "conntrack_aio", "count"]

# A connection to a scripted kernel, with code before and after it.
SESSION = """
import logging, sys
import anyio
import conntrack_aio
from support.scripted_kernel import ScriptedKernel

async def main():
    async with ScriptedKernel().connect() as conn:
        print(await conn.count())

{before}
anyio.run(main)
{after}
"""
SHOW_IMPORTS = "print(sorted(n for n in sys.modules if n.startswith('conntrack_aio.trace')))"
ONLY_THE_SWITCH = "['conntrack_aio.trace', 'conntrack_aio.trace.switch']\n"


def run(
    before: str = "", after: str = "", variable: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the session in a new process.

    :param before: code that runs before the connection is opened.
    :param after: code that runs after the connection is closed.
    :param variable: the value of the environment variable, or ``None`` to leave it unset.
    """
    code = SESSION.format(before=before, after=after)
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment(variable),
        cwd=os.path.dirname(os.path.dirname(__file__)),
    )


def environment(variable: str | None) -> dict[str, str]:
    """Return the environment with this value of the variable, or without it."""
    others = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return others if variable is None else others | {VARIABLE: variable}


def lines_of(text: str) -> list[str]:
    """Return the first line of each message."""
    return [line for line in text.splitlines() if " type=" in line and not line.startswith(" ")]


# Off


@pytest.mark.parametrize("variable", [None, "", "0"])
def test_the_trace_is_off_by_default(variable: str | None) -> None:
    done = run(after=SHOW_IMPORTS, variable=variable)
    assert (done.stdout, done.stderr) == ("3\n" + ONLY_THE_SWITCH, "")


@pytest.mark.parametrize(
    "before",
    [
        "logging.basicConfig(level=logging.DEBUG)",
        "logging.basicConfig(level=1); logging.getLogger('conntrack_aio').setLevel(1)",
        "logging.basicConfig(); logging.getLogger('conntrack_aio.trace').setLevel(logging.INFO)",
        "logging.getLogger('conntrack_aio.trace').setLevel(10); logging.disable()",
    ],
)
def test_the_level_of_other_loggers_does_not_switch_the_trace_on(before: str) -> None:
    done = run(before, SHOW_IMPORTS)
    assert done.stdout == "3\n" + ONLY_THE_SWITCH
    assert "IPCTNL" not in done.stderr


def test_without_the_trace_a_socket_is_not_wrapped() -> None:
    after = """
from conntrack_aio.netlink.socket import NetlinkSocket
from support.scripted_kernel import standalone_socket
socket, raw = standalone_socket()
assert socket.raw is raw
"""
    run(after=after)


# On by the environment


@pytest.mark.parametrize("variable", ["1", "yes", "00"])
def test_the_environment_switches_the_trace_on(variable: str) -> None:
    done = run(variable=variable)
    assert done.stdout == "3\n"
    lines = lines_of(done.stderr)
    assert [line.split()[1] for line in lines] == ["sent", "recv", "recv"] * 2
    assert all(len(line.split()[0]) == len("12:34:56.789") for line in lines)


def test_all_sockets_share_one_handler_and_parent_loggers_get_nothing() -> None:
    done = run(
        before="logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)",
        after="anyio.run(main)\nprint(len(logging.getLogger('conntrack_aio.trace').handlers))",
        variable="1",
    )
    assert len(lines_of(done.stderr)) == 12
    assert "IPCTNL" not in done.stdout
    assert done.stdout.endswith("3\n1\n")


def test_the_environment_is_read_when_a_socket_is_opened() -> None:
    done = run(before="anyio.run(main); import os; os.environ['CONNTRACK_AIO_DEBUG'] = '1'")
    assert done.stdout == "3\n3\n"
    assert len(lines_of(done.stderr)) == 6


@pytest.mark.kernel
def test_the_trace_of_a_real_connection(lab: Lab) -> None:
    async def create_entry() -> None:
        async with connect(netns=lab.netns) as conn:
            await conn.create(Flow.udp("10.0.0.1", 1000, "10.0.0.2", 53, timeout=600))

    anyio.run(create_entry)  # for an empty table, `count` sends further requests
    done = lab.run(
        partial(
            subprocess.run,
            COUNT,
            capture_output=True,
            text=True,
            check=True,
            env=environment("1"),
        )
    )
    assert done.stdout == "1\n"
    lines = lines_of(done.stderr)
    assert [line.split()[3:5] for line in lines] == [
        ["len=20", "type=IPCTNL_MSG_CT_GET_STATS"],
        ["len=36", "type=IPCTNL_MSG_CT_GET_STATS"],
        ["len=36", "type=NLMSG_ERROR"],
    ] * 2
    dumped = parse_hexdump(done.stderr.splitlines())
    assert len(dumped) == 2 * (20 + 36 + 36)
    assert "\n  CTA_STATS_GLOBAL_ENTRIES 1\n" in done.stderr


@pytest.mark.kernel
def test_sockets_outside_of_connections_are_traced_too() -> None:
    """The demo sets up its network interface and its firewall rules by netlink."""
    done = subprocess.run(
        [sys.executable, "-m", "conntrack_aio", "demo"],
        capture_output=True,
        text=True,
        check=True,
        env=environment("1"),
    )
    lines = lines_of(done.stderr)
    for text in (
        "type=RTM_SETLINK flags=NLM_F_REQUEST|NLM_F_ACK ",
        "type=NFT_MSG_NEWRULE flags=NLM_F_REQUEST|NLM_F_ACK|NLM_F_CREATE|NLM_F_APPEND ",
        "group=NFNLGRP_CONNTRACK_DESTROY ",
    ):
        assert [line for line in lines if text in line], text


# On by the logger


def test_the_level_of_the_logger_switches_the_trace_on() -> None:
    done = run(
        before="logging.basicConfig(format='%(name)s %(levelname)s %(message)s')\n"
        "logging.getLogger('conntrack_aio.trace').setLevel(logging.DEBUG)"
    )
    lines = lines_of(done.stderr)
    assert [line.split()[:3] for line in lines] == [
        ["conntrack_aio.trace", "DEBUG", direction] for direction in ["sent", "recv", "recv"] * 2
    ]


def test_the_level_of_the_logger_adds_no_handler() -> None:
    done = run(before="logging.getLogger('conntrack_aio.trace').setLevel(logging.DEBUG)")
    assert (done.stdout, done.stderr) == ("3\n", "")
