"""Test the ways to name the network namespace of a connection, and how it is entered."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from support import flows
from support.lab import Lab
from support.other_namespaces import OtherNamespaces

from conntrack_aio import Connection, NamespaceError, NetNS, connect
from conntrack_aio.netlink import namespaces

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]


@pytest.fixture
def name(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name the lab as ``ip netns`` would, in a directory of this test, and return the name."""
    monkeypatch.setattr(namespaces, "NAMES_DIRECTORY", str(tmp_path))
    (tmp_path / "lab").symlink_to(f"/proc/{os.getpid()}/fd/{lab.descriptor}")
    return "lab"


class OtherPath:
    """A path-like object that is not a :class:`Path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


FORMS: dict[str, Callable[[Lab, str, Path], str | os.PathLike[str] | NetNS]] = {
    "a name": lambda lab, name, path: name,
    "a path as text": lambda lab, name, path: str(path / name),
    "a path": lambda lab, name, path: path / name,
    "another kind of path": lambda lab, name, path: OtherPath(path / name),
    "from_name": lambda lab, name, path: NetNS.from_name(name),
    "from_path": lambda lab, name, path: NetNS.from_path(path / name),
    "from_fd": lambda lab, name, path: NetNS.from_fd(lab.descriptor),
}


@pytest.mark.parametrize("form", FORMS)
async def test_a_namespace_can_be_given_in_each_form(
    lab: Lab, name: str, tmp_path: Path, form: str
) -> None:
    async with connect(netns=lab.netns) as conn:
        await conn.create(flows.tcp())
    async with connect(netns=FORMS[form](lab, name, tmp_path)) as conn:
        assert await conn.count() == 1
        assert len(await conn.list()) == 1
        assert (await conn.sysctls.read()).count == 1


async def test_a_namespace_can_be_given_by_a_process_id(lab: Lab) -> None:
    async with connect(netns=lab.netns) as conn:
        await conn.create(flows.tcp())
    sleeper = lab.run(
        lambda: subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
        )
    )
    try:
        async with connect(netns=NetNS.from_pid(sleeper.pid)) as conn:
            assert await conn.count() == 1
    finally:
        sleeper.communicate()


async def open_sockets_and_files(conn: Connection) -> None:
    """Use everything that opens another socket, or a file, of the namespace."""
    assert await conn.list() == []
    async with conn.events(), conn.events(all_netns=True):
        pass
    await conn.sysctls.set(acct=True)
    assert (await conn.sysctls.read()).acct is True


async def test_no_thread_stays_in_the_namespace(lab: Lab) -> None:
    here = os.stat("/proc/thread-self/ns/net")
    async with connect(netns=lab.netns) as conn, conn.events():
        await open_sockets_and_files(conn)
        assert os.path.samestat(os.stat("/proc/thread-self/ns/net"), here)
        for thread in threading.enumerate():
            try:
                where = os.stat(f"/proc/self/task/{thread.native_id}/ns/net")
            except FileNotFoundError:
                continue
            assert os.path.samestat(where, here)


async def test_the_namespace_is_entered_on_dedicated_threads(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the thread of the event loop nor a pooled thread enters the namespace.

    A thread that cannot return to its own namespace is unusable afterwards.
    """
    entered: list[threading.Thread] = []
    original = namespaces.setns

    def setns(fd: int, kind: int) -> None:
        entered.append(threading.current_thread())
        original(fd, kind)

    async with connect(netns=lab.netns) as conn:
        await open_sockets_and_files(conn)  # starts the threads of the pool
        monkeypatch.setattr(namespaces, "setns", setns)
        before = set(threading.enumerate())
        async with connect(netns=lab.netns) as other:
            assert len(entered) == 1
            await open_sockets_and_files(other)
    assert len(entered) == len(set(entered)) >= 6
    assert not before & set(entered)
    assert not [thread for thread in entered if thread.is_alive()]


def open_namespaces() -> list[str]:
    """Return the network namespaces that this process has descriptors of."""
    found: list[str] = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue  # the descriptor of the listed directory is closed
        if target.startswith("net:"):
            found.append(target)
    return sorted(found)


async def test_no_descriptor_of_the_namespace_is_kept(lab: Lab) -> None:
    before = open_namespaces()
    assert len(before) >= 1  # the descriptor of the lab: open_namespaces() sees descriptors
    async with connect(netns=lab.netns) as conn:
        assert open_namespaces() == before
        await conn.create(flows.tcp())
        async with conn.events(), conn.events(all_netns=True), conn.dump() as dump:
            await anext(dump)
            await conn.sysctls.read()
            assert open_namespaces() == before


async def test_the_namespace_lives_as_long_as_the_connection(neighbors: OtherNamespaces) -> None:
    blue = neighbors.new("blue", id=4)
    conn = await connect(netns="blue")
    neighbors.unname("blue")
    neighbors.close_descriptor(blue)
    with pytest.raises(NamespaceError, match="There is no such namespace"):
        await connect(netns="blue")
    async with conn.events() as stream:
        created = await conn.create(flows.tcp())
        with anyio.fail_after(5):
            assert (await anext(stream)).flow.id == created.id
    assert len(await conn.list()) == 1
    assert (await conn.sysctls.read()).count == 1
    await conn.aclose()
    neighbors.wait_until_destroyed()


async def test_a_connection_stays_in_the_namespace_it_was_opened_in(lab: Lab) -> None:
    """The namespace of the thread that opens a dump or a stream does not matter."""
    async with connect(netns=lab.netns) as conn:
        await conn.create(flows.tcp())
        assert len(await conn.list()) == 1
    async with connect() as conn:
        here = await conn.count()
        stream = lab.run(conn.events)
        assert stream.receive_buffer > 0
        await stream.aclose()
        assert await conn.count() == here


@pytest.mark.parametrize(
    "netns", ["nosuch", "/nosuch/path", NetNS.from_pid(2**22), NetNS.from_path("/nosuch")]
)
async def test_a_namespace_that_does_not_exist_is_refused(netns: str | NetNS) -> None:
    with pytest.raises(NamespaceError, match="There is no such namespace"):
        await connect(netns=netns)


async def test_a_file_that_is_not_a_namespace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NamespaceError, match="not a network namespace"):
        await connect(netns=tmp_path / "file")


def test_a_number_is_refused_as_ambiguous() -> None:
    with pytest.raises(TypeError, match=r"from_pid\(\) or NetNS\.from_fd\(\)"):
        connect(netns=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_an_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name"):
        NetNS.from_name(name)
