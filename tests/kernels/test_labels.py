"""Check which bit of a flow's labels other programs set for a label number."""

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
WITH_LABEL_NAMES = """\
mkdir -p /etc/xtables
mount -t tmpfs names /etc/xtables
cat > /etc/xtables/connlabel.conf
exec iptables-legacy "$@"
"""
"""A script that runs iptables with names for label numbers, which it reads from its input.

iptables accepts a label only by its name.
"""


def send_to_ports(ports: list[int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in ports:
            sender.sendto(b"labelled", ("127.0.0.1", port))


async def labels_by_port(conn: Connection) -> dict[int | None, int | None]:
    """Return the labels of each flow, by its destination port."""
    return {flow.orig.dport: flow.labels async for flow in conn.dump()}


async def test_iptables_sets_the_bit_with_the_number_of_the_label(
    lab: Lab, conn: Connection
) -> None:
    """The ``connlabel`` match calls the kernel's ``set_bit()``."""
    for number in NUMBERS:
        rule = f"-t mangle -A OUTPUT -p udp --dport {1000 + number} -m connlabel --label it --set"
        command = ("unshare", "--mount", "sh", "-e", "-c", WITH_LABEL_NAMES, "sh", *rule.split())
        lab.program(*command, input=f"{number} it\n")
    lab.run(send_to_ports, [1000 + number for number in NUMBERS])
    assert await labels_by_port(conn) == {1000 + number: 1 << number for number in NUMBERS}


async def test_nft_swaps_the_64_bit_halves_of_the_labels_on_a_big_endian_machine(
    lab: Lab, conn: Connection
) -> None:
    """nft writes the 128 bits as one number in host byte order, so the high half comes first."""
    rules = [f"udp dport {1000 + number} ct label set {number}" for number in NUMBERS]
    chain = "\n".join(["type filter hook output priority 0", *rules])
    lab.program("nft", "-f", "-", input=f"table inet t {{\nchain c {{\n{chain}\n}}\n}}\n")
    lab.run(send_to_ports, [1000 + number for number in NUMBERS])
    swap = 64 if sys.byteorder == "big" else 0
    assert await labels_by_port(conn) == {1000 + n: 1 << (n ^ swap) for n in NUMBERS}
