"""Each way to name a network namespace, and those that name none."""

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
    """The lab as ``ip netns`` would name it, in a directory of the test's."""
    monkeypatch.setattr(namespaces, "NAMED", str(tmp_path))
    (tmp_path / "lab").symlink_to(f"/proc/{os.getpid()}/fd/{lab.descriptor}")
    return "lab"


class OtherPath:
    """Something else than a :class:`Path` that names a file."""

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
async def test_each_form(lab: Lab, name: str, tmp_path: Path, form: str) -> None:
    async with connect(netns=lab.netns) as conn:
        await conn.create(flows.tcp())
    async with connect(netns=FORMS[form](lab, name, tmp_path)) as conn:
        assert await conn.count() == 1
        assert len(await conn.list()) == 1
        assert (await conn.sysctls.read()).count == 1


async def test_of_a_process(lab: Lab) -> None:
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


async def use(conn: Connection) -> None:
    """Everything that takes another socket, or a file, of the namespace."""
    assert await conn.list() == []
    async with conn.events(), conn.events(all_netns=True):
        pass
    await conn.sysctls.set(acct=True)
    assert (await conn.sysctls.read()).acct is True


async def test_no_thread_is_left_in_it(lab: Lab) -> None:
    here = os.stat("/proc/thread-self/ns/net")
    async with connect(netns=lab.netns) as conn, conn.events():
        await use(conn)
        assert os.path.samestat(os.stat("/proc/thread-self/ns/net"), here)
        for thread in threading.enumerate():
            try:
                where = os.stat(f"/proc/self/task/{thread.native_id}/ns/net")
            except FileNotFoundError:
                continue
            assert os.path.samestat(where, here)


async def test_it_is_entered_on_threads_made_for_that(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the loop's nor a pooled one: a thread that could not go back would be lost."""
    entered: list[threading.Thread] = []
    plain = namespaces.setns

    def setns(fd: int, kind: int) -> None:
        entered.append(threading.current_thread())
        plain(fd, kind)

    async with connect(netns=lab.netns) as conn:
        await use(conn)  # so that the pool has its threads
        monkeypatch.setattr(namespaces, "setns", setns)
        before = set(threading.enumerate())
        async with connect(netns=lab.netns) as other:
            assert len(entered) == 1
            await use(other)
    assert len(entered) == len(set(entered)) >= 6
    assert not before & set(entered)
    assert not [thread for thread in entered if thread.is_alive()]


def namespaces_held() -> list[str]:
    """The network namespaces that descriptors of this process are of."""
    held: list[str] = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue  # of the directory itself
        if target.startswith("net:"):
            held.append(target)
    return sorted(held)


async def test_no_descriptor_of_it_is_kept(lab: Lab) -> None:
    before = namespaces_held()
    assert len(before) >= 1  # the lab's own, which shows that they are seen
    async with connect(netns=lab.netns) as conn:
        assert namespaces_held() == before
        await conn.create(flows.tcp())
        async with conn.events(), conn.events(all_netns=True), conn.dump() as dump:
            await anext(dump)
            await conn.sysctls.read()
            assert namespaces_held() == before


async def test_it_lives_as_long_as_the_connection(around: OtherNamespaces) -> None:
    blue = around.new("blue", id=4)
    conn = await connect(netns="blue")
    around.unname("blue")
    around.close_descriptor(blue)
    with pytest.raises(NamespaceError, match="There is no such namespace"):
        await connect(netns="blue")
    async with conn.events() as stream:
        made = await conn.create(flows.tcp())
        with anyio.fail_after(5):
            assert (await anext(stream)).flow.id == made.id
    assert len(await conn.list()) == 1
    assert (await conn.sysctls.read()).count == 1
    await conn.aclose()
    around.wait_until_destroyed()


async def test_a_connection_stays_where_it_was_made(lab: Lab) -> None:
    """Whatever namespace the thread is in that asks for another dump or stream."""
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
async def test_one_that_does_not_exist(netns: str | NetNS) -> None:
    with pytest.raises(NamespaceError, match="There is no such namespace"):
        await connect(netns=netns)


async def test_a_file_that_is_no_namespace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NamespaceError, match="not a network namespace"):
        await connect(netns=tmp_path / "file")


def test_a_number_is_ambiguous() -> None:
    with pytest.raises(TypeError, match=r"from_pid\(\) or NetNS\.from_fd\(\)"):
        connect(netns=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name"):
        NetNS.from_name(name)
