"""Resolving namespace ids to names, and when that takes requests to the kernel."""

from __future__ import annotations

import errno
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import anyio
import anyio.to_thread
import pytest
from support.codec_cases import attr
from support.open_files import OpenFiles
from support.scripted_kernel import standalone_socket

from conntrack_aio.errors import KernelError, PermissionDenied, ResourceExhausted
from conntrack_aio.netlink import messages, nsid_resolver
from conntrack_aio.netlink.nsid_resolver import NsidResolver
from conntrack_aio.testing import FakeSocket, ReceivedRequest
from conntrack_aio.uapi.rtnetlink import RTM

pytestmark = pytest.mark.anyio


def nsid_payload(id: int) -> bytes:
    """Return the payload of a message about an id."""
    return bytes(4) + attr(1, struct.pack("=i", id))


class World:
    """Files of namespaces, their ids, and a scripted kernel that knows both."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ids: dict[str, int] = {}
        self.requested: list[str] = []
        self.threads: set[int] = set()
        self.refusal = 0
        self.answer = self._answer
        """The kernel's answer to a look-up."""
        events, self.events = standalone_socket()
        notifications, self.notifications = standalone_socket()
        lookups, self.lookups = standalone_socket(
            lambda socket, request: self.answer(socket, request)
        )
        self.resolver = NsidResolver(
            events, notifications, lookups, least_cost=10_000, directory=str(directory)
        )

    def add(self, name: str, id: int | None = None) -> None:
        """Add a name that is older than any look-up."""
        (self.directory / name).write_text("")
        self.age()
        if id is not None:
            self.ids[name] = id

    def age(self) -> None:
        os.utime(self.directory, ns=(0, os.stat(self.directory).st_mtime_ns - 10**9))

    def remove(self, name: str) -> None:
        (self.directory / name).unlink()
        self.age()

    def notify(self, kind: RTM, id: int) -> None:
        # The sequence number is that of the request behind it, which may equal one of ours.
        self.notifications.deliver(messages.pack(kind, 0, 1, nsid_payload(id), port=4711))

    def _answer(self, socket: FakeSocket, request: ReceivedRequest) -> None:
        self.threads.add(threading.get_ident())
        (fd,) = struct.unpack("=I", request.payload[8:12])
        name = Path(os.readlink(f"/proc/self/fd/{fd}")).name
        self.requested.append(name)
        if self.refusal:
            socket.ack(request, self.refusal)
            return
        socket.reply(request, RTM.NEWNSID, nsid_payload(self.ids.get(name, -1)), flags=0)
        socket.ack(request)

    async def names(self, *ids: int | None, drained: bool = True) -> list[str | None]:
        return await self.resolver.resolve(ids, drained=drained)

    def opened(self) -> list[str]:
        """Return the names of which this process has a descriptor."""
        held = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        return [path for path in held if path.startswith(str(self.directory))]

    def take_requested(self) -> list[str]:
        request, self.requested = self.requested, []
        return request


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "names")
    world.directory.mkdir()
    world.add("blue", 1)
    world.add("green", 2)
    yield world
    world.resolver.close()
    for socket in (world.events, world.notifications, world.lookups):
        socket.close()


async def test_names(world: World) -> None:
    assert await world.names(2, None, 1, 3, 2) == ["green", None, "blue", None, "green"]


async def test_ids_are_looked_up_once(world: World) -> None:
    await world.names(1)
    assert world.take_requested() == ["blue", "green"]
    assert await world.names(2, 1) == ["green", "blue"]
    assert world.take_requested() == []


async def test_look_ups_run_on_another_thread(world: World) -> None:
    await world.names(1)
    assert threading.get_ident() not in world.threads


async def test_the_own_namespace_needs_no_look_up(world: World) -> None:
    assert await world.names(None, None) == [None, None]
    assert world.requested == []


async def test_only_new_names_are_looked_up(world: World) -> None:
    await world.names(1)
    world.take_requested()
    world.add("red", 3)
    world.notify(RTM.NEWNSID, 3)
    assert await world.names(3) == ["red"]
    assert world.take_requested() == ["red"]


async def test_the_absence_of_a_name_is_looked_up_once(world: World) -> None:
    for _ in range(3):
        assert await world.names(7) == [None]
    assert world.take_requested() == ["blue", "green"]
    world.add("red", 7)
    assert await world.names(7) == ["red"]


async def test_a_change_at_this_moment_may_be_followed_by_another(world: World) -> None:
    """The second change would not change the modification time of the directory."""
    (world.directory / "grey").write_text("")
    await world.names(7)
    assert world.take_requested() == ["blue", "green", "grey"]
    await world.names(7)
    assert world.take_requested() == ["grey"]


async def test_a_mount_is_detected(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ip netns` makes the file first, and then mounts the namespace on it."""
    world.add("red")
    assert await world.names(7) == [None]
    world.ids["red"] = 7
    assert await world.names(7) == [None]
    changes = world.resolver._mounts.changes
    monkeypatch.setattr(world.resolver._mounts, "changes", lambda: changes() + 1)
    assert await world.names(7) == ["red"]


async def test_a_removed_name_is_not_used(world: World) -> None:
    await world.names(1)
    world.remove("blue")
    assert await world.names(1, 2) == [None, "green"]


async def test_a_name_that_is_given_to_another(world: World) -> None:
    await world.names(1)
    (world.directory / "new").write_text("")
    (world.directory / "new").replace(world.directory / "blue")
    world.age()
    world.ids = {"blue": 9, "green": 2}
    assert await world.names(1, 9, 2) == [None, "blue", "green"]


async def test_of_several_names_the_first(world: World) -> None:
    world.add("aqua", 1)
    assert await world.names(1) == ["aqua"]
    world.remove("aqua")
    assert await world.names(1) == ["blue"]


async def test_more_names_than_one_exchange_takes(world: World) -> None:
    for number in range(100):
        world.add(f"n{number:03}", 100 + number)
    assert await world.names(*range(100, 200)) == [f"n{number:03}" for number in range(100)]


@pytest.mark.parametrize("what", ["directory", "fifo", "dangling"])
async def test_what_is_no_namespace_is_ignored(world: World, what: str) -> None:
    path = world.directory / "odd"
    if what == "directory":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)  # opening it without O_NONBLOCK would block
    else:
        path.symlink_to("/nosuch")
    with anyio.fail_after(5):
        assert await world.names(1, 2) == ["blue", "green"]


async def test_without_a_directory(world: World) -> None:
    for name in ("blue", "green"):
        world.remove(name)
    world.directory.rmdir()
    assert await world.names(1) == [None]
    assert await world.names(1) == [None]
    world.directory.mkdir()
    world.add("blue", 1)
    assert await world.names(1) == ["blue"]


async def test_answers_that_do_not_come(world: World) -> None:
    world.refusal = errno.EINVAL
    assert await world.names(1) == [None]
    world.refusal = 0
    world.age()
    assert await world.names(1) == ["blue"]


async def test_every_file_is_closed(world: World) -> None:
    world.refusal = errno.EINVAL
    await world.names(1)
    world.refusal = 0
    await world.names(2)
    assert world.opened() == []


@pytest.mark.parametrize("call", ["open", "listdir"])
async def test_without_descriptors_it_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        assert await world.names(1) == [None]
    assert await world.names(1) == ["blue"]


async def test_without_a_thread_it_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(anyio.to_thread, "run_sync", refuse)
        assert await world.names(1) == [None]
    assert await world.names(1) == ["blue"]


async def test_without_poll_any_name_may_have_come(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def poll(self, timeout: int) -> NoReturn:
            raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(world.resolver._mounts, "_poll", Refusing())
    world.add("red")
    assert await world.names(7) == [None]
    world.ids["red"] = 7
    assert await world.names(7) == ["red"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS])
async def test_without_epoll_notifications_wait_for_an_event(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    def refuse() -> NoReturn:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(select, "epoll", refuse)
    world = World(tmp_path)
    world.add("blue", 1)
    assert await world.names(1) == ["blue"]
    world.remove("blue")
    world.notify(RTM.DELNSID, 1)
    world.notify(RTM.NEWNSID, 1)
    assert await world.names(1) == [None]
    world.resolver.close()
    for socket in (world.events, world.notifications, world.lookups):
        socket.close()


def test_without_descriptors_for_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(select, "epoll", refuse)
    files = OpenFiles()
    sockets = [standalone_socket()[0] for _ in range(3)]
    with pytest.raises(ResourceExhausted, match="listen to all"):
        NsidResolver(*sockets, least_cost=1)
    for socket in sockets:
        socket.close()
    assert not files.new()


async def test_late_answers_are_not_taken_for_others(world: World) -> None:
    """The answers to an earlier look-up have other sequence numbers."""
    answer = world._answer
    held: list[ReceivedRequest] = []
    world.answer = lambda socket, request: held.append(request)
    assert await world.names(1) == [None]
    for request in held:
        world.lookups.reply(request, RTM.NEWNSID, nsid_payload(2), flags=0)
    world.answer = answer
    assert await world.names(1, 2) == ["blue", "green"]


# -- ids that are reassigned ----------------------------------------------------------------


async def test_the_last_datagrams_of_a_namespace_keep_its_name(world: World) -> None:
    await world.names(1)
    world.remove("blue")
    del world.ids["blue"]
    world.notify(RTM.DELNSID, 1)
    assert await world.names(1) == ["blue"]


async def test_an_id_that_was_reassigned(world: World) -> None:
    await world.names(1)
    world.remove("blue")
    world.add("red", 1)
    world.notify(RTM.DELNSID, 1)
    world.notify(RTM.NEWNSID, 1)
    assert await world.names(1, 2, drained=False) == [None, "green"]
    assert await world.names(1, 2, drained=True) == [None, "green"]
    assert await world.names(1, 2) == ["red", "green"]


async def test_an_id_that_was_reassigned_while_nothing_came(world: World) -> None:
    await world.names(1)
    world.remove("blue")
    world.add("red", 1)
    world.notify(RTM.DELNSID, 1)
    world.notify(RTM.NEWNSID, 1)
    world.resolver.read_notifications()
    world.resolver.note_drained()
    assert await world.names(1) == ["red"]


async def test_an_id_that_is_reassigned_during_a_look_up(world: World) -> None:
    plain = world._answer

    def change(socket: FakeSocket, request: ReceivedRequest) -> None:
        plain(socket, request)
        world.notify(RTM.DELNSID, 1)
        world.notify(RTM.NEWNSID, 1)

    world.answer = change
    assert await world.names(1) == [None]
    assert await world.names(1, drained=False) == [None]


@pytest.mark.parametrize("how", ["overrun", "garbage", "cut"])
async def test_lost_notifications(world: World, how: str) -> None:
    await world.names(1)
    if how == "overrun":
        world.notifications.fail(errno.ENOBUFS)
    else:
        data = messages.pack(RTM.NEWNSID, 0, 1, nsid_payload(1))
        world.notifications.deliver(b"\xff" * 40 if how == "garbage" else data[:-2])
    assert await world.names(1) == [None]
    assert await world.names(1) == [None]
    assert await world.names(1) == ["blue"]


async def test_another_failure_is_raised(world: World) -> None:
    world.notifications.fail(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        await world.names(1)


# -- life -----------------------------------------------------------------------------------


async def test_a_cancelled_look_up_is_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on = threading.Event(), threading.Event()
    plain: Callable[[str], list[str]] = nsid_resolver._files

    def slow(directory: str) -> list[str]:
        started.set()
        assert go_on.wait(5)
        return plain(directory)

    monkeypatch.setattr(nsid_resolver, "_files", slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.names, 1)
        await anyio.to_thread.run_sync(started.wait)
        tasks.cancel_scope.cancel()
        go_on.set()
    assert await world.names(1) == ["blue"]


async def test_closed_during_a_look_up(world: World) -> None:
    plain = world._answer
    started, go_on = threading.Event(), threading.Event()

    def slow(socket: FakeSocket, request: ReceivedRequest) -> None:
        started.set()
        assert go_on.wait(5)
        plain(socket, request)

    async def resolve() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await world.names(1)

    world.answer = slow
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(resolve)
        await anyio.to_thread.run_sync(started.wait)
        world.resolver.close()
        assert not world.lookups.closed
        go_on.set()
    assert world.lookups.closed
    with pytest.raises(anyio.ClosedResourceError):
        await world.names(1)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (errno.EPERM, PermissionDenied, "CAP_NET_BROADCAST"),
        (errno.ENOPROTOOPT, KernelError, "listen to all network namespaces"),
    ],
)
def test_a_refusal(code: int, error: type[KernelError], words: str) -> None:
    def refuse(level: int, option: int, value: int) -> None:
        raise OSError(code, os.strerror(code))

    files = OpenFiles()
    pairs = [standalone_socket() for _ in range(3)]
    pairs[0][1].setsockopt = refuse  # type: ignore[method-assign]
    with pytest.raises(error, match=words):
        NsidResolver(*(socket for socket, _ in pairs), least_cost=1)
    for socket, _ in pairs:
        socket.close()
    assert not files.new()
