"""FTP through a router: the helper creates an expectation, which the data connection meets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from ftplib import FTP
from pathlib import Path

import anyio
import attrs
import pytest
from anyio import to_thread
from support import conntrack8_expect as conntrack8
from support import expectations, kernel_modules
from support.command import run_process
from support.ftp_server import CONTENT, FTPServer
from support.hosts import Host, connect_host
from support.lab import Lab
from support.namespaces import new_network_namespace
from support.processes import TIMEOUT
from support.saved_tables import in_order, list_at_rest

from conntrack_aio import Connection, EventType, Flow, Helper, Status, Tuple
from conntrack_aio.model.enums import Direction, ExpectFlags
from conntrack_aio.model.expectations import Expectation, ExpectNAT
from conntrack_aio.proc_sys import set_sysctl

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.anyio,
    pytest.mark.kernel,
    pytest.mark.program("nft", "nftables"),
    pytest.mark.program("conntrack", "conntrack"),
    pytest.mark.program("unshare", "util-linux"),
]

PORT = 2121
RULES = f"""
table inet t {{
    ct helper ftp {{
        type "ftp" protocol tcp
    }}
    chain attach {{
        type filter hook prerouting priority filter
        tcp dport {PORT} ct helper set "ftp"
    }}
}}
"""
MASQUERADE = """
table inet nat {
    chain postrouting {
        type nat hook postrouting priority srcnat
        oifname "server" masquerade
    }
}
"""


@attrs.frozen
class Network:
    client: Host
    server: Host
    masquerades: bool

    @property
    def client_as_seen(self) -> str:
        """The client's address as the server sees it."""
        return self.server.gateway if self.masquerades else self.client.address


@pytest.fixture(params=["10.{}.0.{}/24", "fd00:{}::{}/64"], ids=["IPv4", "IPv6"])
def network(lab: Lab, request: pytest.FixtureRequest, masquerade: bool) -> Iterator[Network]:
    """A client and a server, which are connected through the lab."""
    kernel_modules.load_in_guest("nf_nat_ftp")
    net: str = request.param
    with ExitStack() as stack:
        hosts: list[Host] = []
        for number, name in enumerate(("client", "server"), 1):
            descriptor = new_network_namespace()
            stack.callback(os.close, descriptor)
            hosts.append(
                connect_host(lab, name, net.format(number, 1), descriptor, net.format(number, 2))
            )
        for sysctl in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            lab.run(set_sysctl, sysctl, 1)
        lab.program("nft", "-f", "-", input=RULES + MASQUERADE * masquerade)
        yield Network(*hosts, masquerades=masquerade)


def sent_tuple(end: socket.socket) -> Tuple:
    """Return the tuple of the packets that a socket sends."""
    return Tuple.tcp(*end.getsockname()[:2], *end.getpeername()[:2])


def announce(network: Network, ftp: FTP, passive: bool) -> tuple[socket.socket | None, Tuple]:
    """Announce a data connection in the control connection.

    :returns: the client's listener in active mode, and the tuple that the helper must expect.
    """
    client, server = network.client.address, network.server.address
    if passive:
        _, port = ftp.makepasv()
        return None, Tuple.tcp(client, 0, server, port)
    listener = network.client.lab.run(ftp.makeport)
    return listener, Tuple.tcp(server, 0, network.client_as_seen, listener.getsockname()[1])


def fetch(network: Network, ftp: FTP, listener: socket.socket | None, port: int) -> bytes:
    """Return what the server sends over the data connection."""
    with ExitStack() as stack:
        if listener is not None:
            stack.enter_context(listener)
            ftp.sendcmd("RETR file")
            data, _ = listener.accept()
        else:
            data = network.client.bind(socket.SOCK_STREAM)
            data.connect((network.server.address, port))
            ftp.sendcmd("RETR file")
        stack.enter_context(data)
        content = b"".join(iter(lambda: data.recv(4096), b""))
    ftp.voidresp()
    return content


def check_expectation(
    network: Network, control: Flow, found: Expectation, announced: Tuple, passive: bool
) -> None:
    """Check that an expectation has the announced tuple, any source port, and its master's NAT."""
    assert found == attrs.evolve(
        Expectation.of(control.orig, announced, any_sport=True, flags=ExpectFlags(0)),
        timeout=found.timeout,
        id=found.id,
        helper="ftp",
        expect_class=0,
        nat=found.nat,
        function="nat-follow-master" if network.masquerades else None,
    )
    assert (found.timeout or 0) > 200
    if not network.masquerades:
        assert found.nat is None
        return
    assert announced.dport is not None
    direction = Direction.ORIGINAL if passive else Direction.REPLY
    unspecified = "::" if ":" in network.client.address else "0.0.0.0"
    assert found.nat == ExpectNAT.of(unspecified, announced.dport, direction=direction)


@pytest.mark.parametrize("masquerade", [False, True], ids=["routed", "masqueraded"])
@pytest.mark.parametrize("passive", [True, False], ids=["passive", "active"])
async def test_a_transfer_with_the_kernels_expectation(
    lab: Lab, conn: Connection, network: Network, passive: bool
) -> None:
    with FTPServer(network.server, PORT), FTP(timeout=TIMEOUT) as ftp:
        network.client.lab.run(ftp.connect, network.server.address, PORT)
        ftp.login()
        ftp.set_pasv(passive)
        control = await conn.get(sent_tuple(ftp.sock))
        assert control.helper == Helper(name="ftp")
        assert str(control.reply.dst) == network.client_as_seen
        assert await conn.expectations.list(master=control) == []

        async with conn.expectations.events() as stream, conn.events(EventType.NEW) as flows:
            # The announcement creates an expectation.
            listener, announced = announce(network, ftp, passive)
            (new,) = await expectations.next_events(stream, 1)
            assert (new.type, new.port_id) == (EventType.NEW, 0)
            check_expectation(network, control, new.expectation, announced, passive)
            for found in (
                await conn.expectations.get(announced),
                await conn.expectations.get(new.expectation),
                await conn.expectations.find(attrs.evolve(announced, sport=12345)),
                *await conn.expectations.list(),
                *await conn.expectations.list(master=control),
            ):
                assert expectations.without_timeout(found) == expectations.without_timeout(
                    new.expectation
                )
            lines, _ = conntrack8.list_expectations(lab, announced.src.version)
            ours = attrs.evolve(new.expectation, timeout=lines[0]["timeout"])
            assert lines == [conntrack8.expected_facts(ours)]

            # The data connection meets it.
            assert announced.dport is not None
            assert fetch(network, ftp, listener, announced.dport) == CONTENT
            (met,) = await expectations.next_events(stream, 1)
            assert (met.type, met.port_id) == (EventType.DESTROY, 0)
            assert expectations.without_timeout(met.expectation) == expectations.without_timeout(
                new.expectation
            )
            assert await conn.expectations.list() == []

            # The flow of the data connection has its master.
            with anyio.fail_after(TIMEOUT):
                event = await anext(flows)
            assert attrs.evolve(event.flow.orig, sport=0) == announced
            assert event.flow.master == control.orig
            assert (event.flow.status or 0) & Status.EXPECTED
            related = await conn.get(event.flow)
            assert related.master == control.orig
            assert (related.status or 0) & Status.ASSURED
            ends = {related.orig.src, related.reply.src}
            assert ends == {control.orig.src, control.reply.src}

        counted = await conn.expectations.cpu_statistics()
        assert sum(cpu.new or 0 for cpu in counted) == 1


@pytest.mark.parametrize("masquerade", [True], ids=["masqueraded"])
async def test_a_transfer_with_a_programs_expectation(
    lab: Lab, conn: Connection, network: Network
) -> None:
    """Create an expectation instead of the helper, which translates to another port."""
    with FTPServer(network.server, PORT), FTP(timeout=TIMEOUT) as ftp:
        network.client.lab.run(ftp.connect, network.server.address, PORT)
        control = await conn.get(
            Tuple.tcp(*ftp.sock.getsockname()[:2], *ftp.sock.getpeername()[:2])
        )
        # A connection from the server to the router's port 4000 is translated to the client's 5000.
        await conn.expectations.create(
            Expectation.of(
                control.orig,
                Tuple.tcp(network.server.address, 0, network.client_as_seen, 4000),
                any_sport=True,
                nat=ExpectNAT.of(network.client.address, 5000, direction=Direction.REPLY),
                function="nat-follow-master",
            )
        )
        with (
            network.client.bind(socket.SOCK_STREAM, 5000) as listener,
            network.server.bind(socket.SOCK_STREAM) as caller,
        ):
            listener.listen()
            caller.connect((network.client_as_seen, 4000))
            accepted, peer = listener.accept()
            accepted.close()
            flow = await conn.get(sent_tuple(caller))
        assert flow.master == control.orig
        assert flow.orig.dport == 4000
        assert flow.reply == Tuple.tcp(network.client.address, 5000, *peer[:2])
        assert (flow.status or 0) & Status.DST_NAT


@pytest.mark.parametrize("masquerade", [False, True], ids=["routed", "masqueraded"])
@pytest.mark.parametrize("passive", [True, False], ids=["passive", "active"])
async def test_a_saved_and_restored_transfer_goes_on(
    lab: Lab, conn: Connection, network: Network, passive: bool, tmp_path: Path
) -> None:
    """Between the announcement and the data connection, and during the data connection."""
    file = str(tmp_path / "table")

    async def replace_table() -> None:
        """Save, flush and restore the table, and compare what the kernel then has."""
        before, expected = await list_at_rest(conn), await conn.expectations.list()
        assert (await to_thread.run_sync(run_process, lab, "save", "--quiet", "--output", file))[
            0
        ] == 0
        await conn.flush()
        assert await conn.expectations.list() == []
        # Without the rule, the helper can only be that of the restored entry.
        lab.program("nft", "flush", "chain", "inet", "t", "attach")
        assert await to_thread.run_sync(run_process, lab, "restore", "--quiet", file) == (0, "", "")
        assert in_order(await conn.list()) == in_order(before)
        assert [
            attrs.evolve(each, id=None, timeout=None) for each in await conn.expectations.list()
        ] == [attrs.evolve(each, id=None, timeout=None) for each in expected]

    with FTPServer(network.server, PORT), FTP(timeout=TIMEOUT) as ftp:
        network.client.lab.run(ftp.connect, network.server.address, PORT)
        ftp.login()
        ftp.set_pasv(passive)
        control = await conn.get(sent_tuple(ftp.sock))
        listener, announced = announce(network, ftp, passive)
        assert len(await conn.expectations.list()) == 1
        await replace_table()
        assert announced.dport is not None
        async with conn.events(EventType.NEW) as stream:
            assert fetch(network, ftp, listener, announced.dport) == CONTENT
            with anyio.fail_after(TIMEOUT):
                related = (await anext(stream)).flow
        assert related.master == control.orig
        assert await conn.expectations.list() == []
        await replace_table()
        assert (await conn.get(related.orig)).master == control.orig
        # The control connection goes on, although a masqueraded one has shifted sequence numbers.
        # Its helper reads the next announcement.
        listener, announced = announce(network, ftp, passive)
        assert [found.tuple for found in await conn.expectations.list()] == [announced]
        assert announced.dport is not None
        assert fetch(network, ftp, listener, announced.dport) == CONTENT
