"""Test ``watch``: the changes of the table, and what it says of lost events."""

from __future__ import annotations

import json
import re
import signal
import socket

import pytest
from support.command import COMMAND, create, do, run_process
from support.lab import Lab
from support.processes import Process, unread_bytes, wait_until

from conntrack_aio import Connection, Flow

pytestmark = pytest.mark.kernel

WATCH = (*COMMAND, "watch")
STARTED = "conntrack-aio: watching: {} flows at the start\n"
WEB = Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 80, timeout=600)
DNS = Flow.udp("fd00::1", 1000, "fd00::2", 53, timeout=600, mark=7)


def test_changes_are_printed_as_they_occur(lab: Lab) -> None:
    create(lab, DNS)
    with Process(lab, *WATCH) as watch:
        wait_until(lambda: unread_bytes(watch.stderr))
        create(lab, WEB)
        assert watch.line().startswith("ADDED    tcp ESTABLISHED 10.0.0.1:1000 -> 10.0.0.2:80 ")
        do(lab, lambda conn: conn.update(WEB, mark=5))
        assert re.match(r"CHANGED  tcp .* mark=0x5 \(mark\)$", watch.line())
        do(lab, lambda conn: conn.delete(DNS.orig))
        assert watch.line().startswith("REMOVED  udp [fd00::1]:1000 -> ")
        watch.signal(signal.SIGINT)
        assert watch.wait() == (130, STARTED.format(1))


def test_flows_that_exist_are_printed_on_request(lab: Lab) -> None:
    create(lab, DNS, WEB)
    with Process(lab, *WATCH, "--initial", "--json", "proto tcp or mark 7") as watch:
        lines = [json.loads(watch.line()) for _ in range(2)]
        assert {line["flow"]["orig"]["sport"] for line in lines} == {1000}
        assert {(line["type"], line["cause"]) for line in lines} == {("added", "present")}
        do(lab, lambda conn: conn.update(DNS, mark=8))
        line = json.loads(watch.line())
        assert (line["type"], line["cause"], line["fields"]) == ("removed", "unmatched", [])
        assert line["flow"]["mark"] == 8
        watch.signal(signal.SIGINT)
        assert watch.wait()[0] == 130


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_lost_events_are_reported_and_made_up_for(lab: Lab, form: list[str]) -> None:
    def storm() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for port in range(1024, 24024):  # more than fit into the receive buffer, as root too
                sender.sendto(b"", ("127.0.0.1", port))

    async def delete_all(conn: Connection) -> None:
        await conn.flush()
        await conn.create(WEB)

    create(lab, DNS)
    lab.track()
    with Process(lab, *WATCH, *form, "proto udp or orig.dport 80", merged=True) as watch:
        assert f"{watch.line()}\n" == STARTED.format(1)
        create(lab, WEB)
        assert "10.0.0.1" in watch.line()
        watch.pause()
        lab.run(storm)
        do(lab, delete_all)
        watch.signal(signal.SIGCONT)
        seen: set[str] = set()
        while not (line := watch.line()).startswith("conntrack-aio: "):
            seen.add(json.loads(line)["type"] if form else line.split()[0])
        assert re.search(r"events were lost; the table was read again, and its changes", line)
        assert ("resynchronized" in seen) is bool(form)
        removed = '"src": "fd00::1", "dst"' if form else "REMOVED  udp [fd00::1]:1000 "
        if not seen & {"removed", "REMOVED"}:
            while removed not in watch.line():
                pass


@pytest.mark.parametrize(("mode", "text"), [(0, "no flow emits events"), (2, "may emit no events")])
def test_flows_without_events_are_reported(lab: Lab, mode: int, text: str) -> None:
    create(lab, WEB)
    lab.sysctl("nf_conntrack_events", mode)
    with Process(lab, *WATCH, "--initial", merged=True) as watch:
        assert text in watch.line()
        assert f"{watch.line()}\n" == STARTED.format(1)
        assert watch.line().startswith("ADDED ")
    with Process(lab, *WATCH, "--initial", "--quiet", merged=True) as watch:
        assert watch.line().startswith("ADDED ")


def test_a_wrong_match_is_an_error(lab: Lab) -> None:
    status, out, err = run_process(lab, "watch", "orig.dprt 80")
    assert (status, out) == (2, "")
    assert "did you mean 'orig.dport'" in err
