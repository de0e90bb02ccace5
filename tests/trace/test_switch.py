"""When there is a trace: by the environment, by the logger's level, and else not a trace of it."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import pytest
from support.hexdumps import bytes_of
from support.lab import Lab

VARIABLE = "CONNTRACK_AIO_DEBUG"
COUNT = [sys.executable, "-m", "conntrack_aio", "count"]

# A session on a kernel that is scripted, with something before and something behind it.
SESSION = """
import logging, sys
import anyio
import conntrack_aio
from support.scripted import ScriptedKernel

async def main():
    async with ScriptedKernel().connect() as conn:
        print(await conn.count())

{before}
anyio.run(main)
{behind}
"""
SHOW_IMPORTS = "print(sorted(n for n in sys.modules if n.startswith('conntrack_aio.trace')))"
SWITCH = "['conntrack_aio.trace', 'conntrack_aio.trace.switch']\n"


def run(
    before: str = "", behind: str = "", variable: str | None = None
) -> subprocess.CompletedProcess[str]:
    code = SESSION.format(before=before, behind=behind)
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment(variable),
        cwd=os.path.dirname(os.path.dirname(__file__)),
    )


def environment(variable: str | None) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return others if variable is None else others | {VARIABLE: variable}


def lines_of(text: str) -> list[str]:
    """The line of each message, without the others, and without the time."""
    return [line for line in text.splitlines() if " type=" in line and not line.startswith(" ")]


# Off


@pytest.mark.parametrize("variable", [None, "", "0"])
def test_off(variable: str | None) -> None:
    done = run(behind=SHOW_IMPORTS, variable=variable)
    assert (done.stdout, done.stderr) == ("3\n" + SWITCH, "")


@pytest.mark.parametrize(
    "before",
    [
        "logging.basicConfig(level=logging.DEBUG)",
        "logging.basicConfig(level=1); logging.getLogger('conntrack_aio').setLevel(1)",
        "logging.basicConfig(); logging.getLogger('conntrack_aio.trace').setLevel(logging.INFO)",
        "logging.getLogger('conntrack_aio.trace').setLevel(10); logging.disable()",
    ],
)
def test_who_wants_to_hear_everything_does_not_mean_this(before: str) -> None:
    done = run(before, SHOW_IMPORTS)
    assert done.stdout == "3\n" + SWITCH
    assert "IPCTNL" not in done.stderr


def test_off_costs_nothing() -> None:
    behind = """
from conntrack_aio.netlink.socket import NetlinkSocket
from support.scripted import lone_socket
socket, raw = lone_socket()
assert socket.raw is raw
"""
    run(behind=behind)


# By the environment


@pytest.mark.parametrize("variable", ["1", "yes", "00"])
def test_by_the_environment(variable: str) -> None:
    done = run(variable=variable)
    assert done.stdout == "3\n"
    lines = lines_of(done.stderr)
    assert [line.split()[1] for line in lines] == ["sent", "recv", "recv"] * 2
    assert all(len(line.split()[0]) == len("12:34:56.789") for line in lines)


def test_a_second_socket_gets_no_second_handler_and_no_other_logger_hears_it() -> None:
    done = run(
        before="logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)",
        behind="anyio.run(main)\nprint(len(logging.getLogger('conntrack_aio.trace').handlers))",
        variable="1",
    )
    assert len(lines_of(done.stderr)) == 12
    assert "IPCTNL" not in done.stdout
    assert done.stdout.endswith("3\n1\n")


def test_the_environment_is_read_when_a_socket_is_made() -> None:
    done = run(before="anyio.run(main); import os; os.environ['CONNTRACK_AIO_DEBUG'] = '1'")
    assert done.stdout == "3\n3\n"
    assert len(lines_of(done.stderr)) == 6


@pytest.mark.kernel
def test_a_real_one(lab: Lab) -> None:
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
    assert done.stdout == "0\n"
    lines = lines_of(done.stderr)
    assert [line.split()[3:5] for line in lines] == [
        ["len=20", "type=IPCTNL_MSG_CT_GET_STATS"],
        ["len=36", "type=IPCTNL_MSG_CT_GET_STATS"],
        ["len=36", "type=NLMSG_ERROR"],
    ] * 2
    dumped = bytes_of(done.stderr.splitlines())
    assert len(dumped) == 2 * (20 + 36 + 36)
    assert "\n  CTA_STATS_GLOBAL_ENTRIES 0\n" in done.stderr


@pytest.mark.kernel
def test_sockets_that_are_not_a_connections_too() -> None:
    """The demo makes its namespace, its rules and its interface by netlink."""
    done = subprocess.run(
        [sys.executable, "-m", "conntrack_aio", "demo"],
        capture_output=True,
        text=True,
        check=True,
        env=environment("1"),
    )
    lines = lines_of(done.stderr)
    for words in (
        "type=RTM_SETLINK flags=NLM_F_REQUEST|NLM_F_ACK ",
        "type=NFT_MSG_NEWRULE flags=NLM_F_REQUEST|NLM_F_ACK|NLM_F_CREATE|NLM_F_APPEND ",
        "group=NFNLGRP_CONNTRACK_DESTROY ",
    ):
        assert [line for line in lines if words in line], words


# By the logger


def test_by_the_level_of_the_logger_the_programs_handlers_get_it() -> None:
    done = run(
        before="logging.basicConfig(format='%(name)s %(levelname)s %(message)s')\n"
        "logging.getLogger('conntrack_aio.trace').setLevel(logging.DEBUG)"
    )
    lines = lines_of(done.stderr)
    assert [line.split()[:3] for line in lines] == [
        ["conntrack_aio.trace", "DEBUG", direction] for direction in ["sent", "recv", "recv"] * 2
    ]


def test_without_a_handler_there_is_none_made() -> None:
    done = run(before="logging.getLogger('conntrack_aio.trace').setLevel(logging.DEBUG)")
    assert (done.stdout, done.stderr) == ("3\n", "")
