"""Which bit of a flow's labels other programs set by a number."""

from __future__ import annotations

import socket
import sys

import pytest
from support.lab import Lab

from conntrack_aio import Connection

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.kernel,
    pytest.mark.kernels,
    pytest.mark.program("iptables-legacy", "iptables"),
    pytest.mark.program("nft", "nftables"),
]

NUMBERS = (0, 3, 63, 64, 70, 127)
PRIVATELY = """\
mkdir -p /etc/xtables
mount -t tmpfs names /etc/xtables
cat > /etc/xtables/connlabel.conf
exec iptables-legacy "$@"
"""
"""It gives numbers names, by which alone iptables takes them."""


def send(to: list[int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in to:
            sender.sendto(b"labelled", ("127.0.0.1", port))


async def labels(conn: Connection) -> dict[int | None, int | None]:
    return {flow.orig.dport: flow.labels async for flow in conn.dump()}


async def test_by_iptables_a_number_is_its_bit(lab: Lab, conn: Connection) -> None:
    """``connlabel`` calls the kernel's ``set_bit()``."""
    for number in NUMBERS:
        rule = f"-t mangle -A OUTPUT -p udp --dport {1000 + number} -m connlabel --label it --set"
        command = ("unshare", "--mount", "sh", "-e", "-c", PRIVATELY, "sh", *rule.split())
        lab.program(*command, input=f"{number} it\n")
    lab.run(send, [1000 + number for number in NUMBERS])
    assert await labels(conn) == {1000 + number: 1 << number for number in NUMBERS}


async def test_by_nft_a_number_is_in_the_other_word_on_a_big_endian_machine(
    lab: Lab, conn: Connection
) -> None:
    """It writes all 128 bits as one number, whose first word is the high one there."""
    rules = [f"udp dport {1000 + number} ct label set {number}" for number in NUMBERS]
    chain = "\n".join(["type filter hook output priority 0", *rules])
    lab.program("nft", "-f", "-", input=f"table inet t {{\nchain c {{\n{chain}\n}}\n}}\n")
    lab.run(send, [1000 + number for number in NUMBERS])
    moved = 64 if sys.byteorder == "big" else 0
    assert await labels(conn) == {1000 + number: 1 << (number ^ moved) for number in NUMBERS}
