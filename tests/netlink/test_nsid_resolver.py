"""Check how namespace ids are resolved to names, and when that takes requests to the kernel."""

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


class Namespaces:
    """A directory of namespace files, and a scripted kernel that assigns ids to them.

    The look-up identifies a file by a descriptor, so the script can answer with the id of its name.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ids: dict[str, int] = {}
        """The id that the kernel has for each name."""
        self.requested: list[str] = []
        """The names whose ids the resolver requested."""
        self.threads: set[int] = set()
        """The threads that sent these requests."""
        self.refusal = 0
        """The errno with which the kernel refuses a look-up; 0 for none."""
        self.answer = self._answer
        """The script that answers a look-up."""
        events, self.events = standalone_socket()
        notifications, self.notifications = standalone_socket()
        lookups, self.lookups = standalone_socket(
            lambda socket, request: self.answer(socket, request)
        )
        self.resolver = NsidResolver(
            events, notifications, lookups, least_cost=10_000, directory=str(directory)
        )

    def add(self, name: str, id: int | None = None) -> None:
        """Add a name, which appears to be older than any look-up."""
        (self.directory / name).write_text("")
        self.age()
        if id is not None:
            self.ids[name] = id

    def age(self) -> None:
        """Set the modification time of the directory back by one second."""
        os.utime(self.directory, ns=(0, os.stat(self.directory).st_mtime_ns - 10**9))

    def remove(self, name: str) -> None:
        (self.directory / name).unlink()
        self.age()

    def notify(self, kind: RTM, id: int) -> None:
        """Send a notification of the kernel about an id."""
        # A notification has the sequence number of the request that caused it. Another program sent
        # that request, so the number may equal one of ours.
        self.notifications.deliver(messages.pack(kind, 0, 1, nsid_payload(id), port_id=4711))

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

    async def resolve(self, *ids: int | None, drained: bool = True) -> list[str | None]:
        """Resolve the ids of a batch of datagrams."""
        return await self.resolver.resolve(ids, drained=drained)

    def opened(self) -> list[str]:
        """Return the namespace files that this process has open."""
        paths = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        return [path for path in paths if path.startswith(str(self.directory))]

    def take_requested(self) -> list[str]:
        """Return the names requested since the last call."""
        requested, self.requested = self.requested, []
        return requested


@pytest.fixture
def namespaces(tmp_path: Path) -> Iterator[Namespaces]:
    namespaces = Namespaces(tmp_path / "names")
    namespaces.directory.mkdir()
    namespaces.add("blue", 1)
    namespaces.add("green", 2)
    yield namespaces
    namespaces.resolver.close()
    for socket in (namespaces.events, namespaces.notifications, namespaces.lookups):
        socket.close()


async def test_ids_resolve_to_names(namespaces: Namespaces) -> None:
    assert await namespaces.resolve(2, None, 1, 3, 2) == ["green", None, "blue", None, "green"]


async def test_ids_are_looked_up_once(namespaces: Namespaces) -> None:
    await namespaces.resolve(1)
    assert namespaces.take_requested() == ["blue", "green"]
    assert await namespaces.resolve(2, 1) == ["green", "blue"]
    assert namespaces.take_requested() == []


async def test_look_ups_run_on_another_thread(namespaces: Namespaces) -> None:
    await namespaces.resolve(1)
    assert threading.get_ident() not in namespaces.threads


async def test_the_namespace_of_the_socket_needs_no_look_up(namespaces: Namespaces) -> None:
    assert await namespaces.resolve(None, None) == [None, None]
    assert namespaces.requested == []


async def test_only_new_names_are_looked_up(namespaces: Namespaces) -> None:
    await namespaces.resolve(1)
    namespaces.take_requested()
    namespaces.add("red", 3)
    namespaces.notify(RTM.NEWNSID, 3)
    assert await namespaces.resolve(3) == ["red"]
    assert namespaces.take_requested() == ["red"]


async def test_an_id_without_a_name_is_looked_up_once(namespaces: Namespaces) -> None:
    for _ in range(3):
        assert await namespaces.resolve(7) == [None]
    assert namespaces.take_requested() == ["blue", "green"]
    namespaces.add("red", 7)
    assert await namespaces.resolve(7) == ["red"]


async def test_a_directory_that_changed_just_now_is_read_again(namespaces: Namespaces) -> None:
    """Another change at the same moment would not change the modification time."""
    (namespaces.directory / "grey").write_text("")
    await namespaces.resolve(7)
    assert namespaces.take_requested() == ["blue", "green", "grey"]
    await namespaces.resolve(7)
    assert namespaces.take_requested() == ["grey"]


async def test_a_mount_is_detected(namespaces: Namespaces, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ip netns`` first creates a file, and then mounts the namespace on it."""
    namespaces.add("red")
    assert await namespaces.resolve(7) == [None]
    namespaces.ids["red"] = 7
    assert await namespaces.resolve(7) == [None]
    changes = namespaces.resolver._mounts.changes
    monkeypatch.setattr(namespaces.resolver._mounts, "changes", lambda: changes() + 1)
    assert await namespaces.resolve(7) == ["red"]


async def test_a_removed_name_is_not_used(namespaces: Namespaces) -> None:
    await namespaces.resolve(1)
    namespaces.remove("blue")
    assert await namespaces.resolve(1, 2) == [None, "green"]


async def test_a_name_that_now_means_another_namespace_is_looked_up_again(
    namespaces: Namespaces,
) -> None:
    await namespaces.resolve(1)
    (namespaces.directory / "new").write_text("")
    (namespaces.directory / "new").replace(namespaces.directory / "blue")
    namespaces.age()
    namespaces.ids = {"blue": 9, "green": 2}
    assert await namespaces.resolve(1, 9, 2) == [None, "blue", "green"]


async def test_the_alphabetically_first_of_several_names_is_used(namespaces: Namespaces) -> None:
    namespaces.add("aqua", 1)
    assert await namespaces.resolve(1) == ["aqua"]
    namespaces.remove("aqua")
    assert await namespaces.resolve(1) == ["blue"]


async def test_more_names_than_fit_in_one_exchange_are_looked_up(namespaces: Namespaces) -> None:
    for number in range(100):
        namespaces.add(f"n{number:03}", 100 + number)
    assert await namespaces.resolve(*range(100, 200)) == [f"n{number:03}" for number in range(100)]


@pytest.mark.parametrize("what", ["directory", "fifo", "dangling"])
async def test_files_that_are_no_namespaces_are_ignored(namespaces: Namespaces, what: str) -> None:
    path = namespaces.directory / "odd"
    if what == "directory":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)  # opening it without O_NONBLOCK would block
    else:
        path.symlink_to("/nosuch")
    with anyio.fail_after(5):
        assert await namespaces.resolve(1, 2) == ["blue", "green"]


async def test_a_missing_directory_means_no_names(namespaces: Namespaces) -> None:
    for name in ("blue", "green"):
        namespaces.remove(name)
    namespaces.directory.rmdir()
    assert await namespaces.resolve(1) == [None]
    assert await namespaces.resolve(1) == [None]
    namespaces.directory.mkdir()
    namespaces.add("blue", 1)
    assert await namespaces.resolve(1) == ["blue"]


async def test_a_failed_look_up_is_repeated(namespaces: Namespaces) -> None:
    namespaces.refusal = errno.EINVAL
    assert await namespaces.resolve(1) == [None]
    namespaces.refusal = 0
    namespaces.age()
    assert await namespaces.resolve(1) == ["blue"]


async def test_all_files_are_closed_after_a_look_up(namespaces: Namespaces) -> None:
    namespaces.refusal = errno.EINVAL
    await namespaces.resolve(1)
    namespaces.refusal = 0
    await namespaces.resolve(2)
    assert namespaces.opened() == []


@pytest.mark.parametrize("call", ["open", "listdir"])
async def test_a_look_up_that_lacked_descriptors_is_repeated(
    namespaces: Namespaces, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        assert await namespaces.resolve(1) == [None]
    assert await namespaces.resolve(1) == ["blue"]


async def test_a_look_up_that_lacked_a_thread_is_repeated(
    namespaces: Namespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(anyio.to_thread, "run_sync", refuse)
        assert await namespaces.resolve(1) == [None]
    assert await namespaces.resolve(1) == ["blue"]


async def test_without_poll_names_are_looked_up_again_for_each_batch(
    namespaces: Namespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    class RefusedPoll:
        def poll(self, timeout: int) -> NoReturn:
            raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(namespaces.resolver._mounts, "_poll", RefusedPoll())
    namespaces.add("red")
    assert await namespaces.resolve(7) == [None]
    namespaces.ids["red"] = 7
    assert await namespaces.resolve(7) == ["red"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS])
async def test_without_epoll_notifications_are_read_with_the_next_batch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    def refuse() -> NoReturn:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(select, "epoll", refuse)
    namespaces = Namespaces(tmp_path)
    namespaces.add("blue", 1)
    assert await namespaces.resolve(1) == ["blue"]
    namespaces.remove("blue")
    namespaces.notify(RTM.DELNSID, 1)
    namespaces.notify(RTM.NEWNSID, 1)
    assert await namespaces.resolve(1) == [None]
    namespaces.resolver.close()
    for socket in (namespaces.events, namespaces.notifications, namespaces.lookups):
        socket.close()


def test_a_lack_of_descriptors_for_epoll_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_late_answers_are_not_attributed_to_a_later_look_up(namespaces: Namespaces) -> None:
    """The answers to an earlier look-up have other sequence numbers."""
    answer = namespaces._answer
    unanswered: list[ReceivedRequest] = []
    namespaces.answer = lambda socket, request: unanswered.append(request)
    assert await namespaces.resolve(1) == [None]
    for request in unanswered:
        namespaces.lookups.reply(request, RTM.NEWNSID, nsid_payload(2), flags=0)
    namespaces.answer = answer
    assert await namespaces.resolve(1, 2) == ["blue", "green"]


# -- reassigned ids -------------------------------------------------------------------------


async def test_the_last_datagrams_of_a_namespace_keep_its_name(namespaces: Namespaces) -> None:
    await namespaces.resolve(1)
    namespaces.remove("blue")
    del namespaces.ids["blue"]
    namespaces.notify(RTM.DELNSID, 1)
    assert await namespaces.resolve(1) == ["blue"]


async def test_a_reassigned_id_has_no_name_until_older_datagrams_are_read(
    namespaces: Namespaces,
) -> None:
    await namespaces.resolve(1)
    namespaces.remove("blue")
    namespaces.add("red", 1)
    namespaces.notify(RTM.DELNSID, 1)
    namespaces.notify(RTM.NEWNSID, 1)
    assert await namespaces.resolve(1, 2, drained=False) == [None, "green"]
    assert await namespaces.resolve(1, 2, drained=True) == [None, "green"]
    assert await namespaces.resolve(1, 2) == ["red", "green"]


async def test_an_id_reassigned_while_the_queue_is_empty_has_its_new_name_at_once(
    namespaces: Namespaces,
) -> None:
    await namespaces.resolve(1)
    namespaces.remove("blue")
    namespaces.add("red", 1)
    namespaces.notify(RTM.DELNSID, 1)
    namespaces.notify(RTM.NEWNSID, 1)
    namespaces.resolver.read_notifications()
    namespaces.resolver.note_drained()
    assert await namespaces.resolve(1) == ["red"]


async def test_an_id_reassigned_during_a_look_up_has_no_name(namespaces: Namespaces) -> None:
    original = namespaces._answer

    def change(socket: FakeSocket, request: ReceivedRequest) -> None:
        original(socket, request)
        namespaces.notify(RTM.DELNSID, 1)
        namespaces.notify(RTM.NEWNSID, 1)

    namespaces.answer = change
    assert await namespaces.resolve(1) == [None]
    assert await namespaces.resolve(1, drained=False) == [None]


@pytest.mark.parametrize("cause", ["overrun", "malformed", "truncated"])
async def test_lost_notifications_invalidate_all_names(namespaces: Namespaces, cause: str) -> None:
    await namespaces.resolve(1)
    if cause == "overrun":
        namespaces.notifications.fail(errno.ENOBUFS)
    else:
        data = messages.pack(RTM.NEWNSID, 0, 1, nsid_payload(1))
        namespaces.notifications.deliver(b"\xff" * 40 if cause == "malformed" else data[:-2])
    assert await namespaces.resolve(1) == [None]
    assert await namespaces.resolve(1) == [None]
    assert await namespaces.resolve(1) == ["blue"]


async def test_another_read_error_is_raised(namespaces: Namespaces) -> None:
    namespaces.notifications.fail(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        await namespaces.resolve(1)


# -- cancelling and closing ---------------------------------------------------------------------


async def test_a_cancelled_look_up_is_repeated(
    namespaces: Namespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on = threading.Event(), threading.Event()
    original: Callable[[str], list[str]] = nsid_resolver._files

    def slow(directory: str) -> list[str]:
        started.set()
        assert go_on.wait(5)
        return original(directory)

    monkeypatch.setattr(nsid_resolver, "_files", slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(namespaces.resolve, 1)
        await anyio.to_thread.run_sync(started.wait)
        tasks.cancel_scope.cancel()
        go_on.set()
    assert await namespaces.resolve(1) == ["blue"]


async def test_closing_during_a_look_up_ends_it_with_an_error(namespaces: Namespaces) -> None:
    original = namespaces._answer
    started, go_on = threading.Event(), threading.Event()

    def slow(socket: FakeSocket, request: ReceivedRequest) -> None:
        started.set()
        assert go_on.wait(5)
        original(socket, request)

    async def resolve() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await namespaces.resolve(1)

    namespaces.answer = slow
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(resolve)
        await anyio.to_thread.run_sync(started.wait)
        namespaces.resolver.close()
        assert not namespaces.lookups.closed
        go_on.set()
    assert namespaces.lookups.closed
    with pytest.raises(anyio.ClosedResourceError):
        await namespaces.resolve(1)


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        (errno.EPERM, PermissionDenied, "CAP_NET_BROADCAST"),
        (errno.ENOPROTOOPT, KernelError, "listen to all network namespaces"),
    ],
)
def test_a_refused_socket_option_is_reported(
    code: int, error: type[KernelError], text: str
) -> None:
    def refuse(level: int, option: int, value: int) -> None:
        raise OSError(code, os.strerror(code))

    files = OpenFiles()
    pairs = [standalone_socket() for _ in range(3)]
    pairs[0][1].setsockopt = refuse  # type: ignore[method-assign]
    with pytest.raises(error, match=text):
        NsidResolver(*(socket for socket, _ in pairs), least_cost=1)
    for socket, _ in pairs:
        socket.close()
    assert not files.new()
