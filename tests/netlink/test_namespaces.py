"""Calling functions inside namespaces: where they run, and shortages."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from support.lab import Lab
from support.namespaces import new_network_namespace
from support.open_files import OpenFiles

from conntrack_aio.errors import NamespaceError, ResourceExhausted
from conntrack_aio.netlink import namespaces
from conntrack_aio.netlink.namespaces import (
    NetNS,
    current,
    identify,
    run_in_namespace_of,
    run_inside,
)
from conntrack_aio.netlink.opening import open_socket
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.uapi.netlink import NETLINK

pytestmark = pytest.mark.kernel


def fail(code: int) -> Callable[..., NoReturn]:
    def failing(*arguments: object, **options: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return failing


@pytest.fixture
def inside(lab: Lab) -> NetlinkSocket:
    """Return a socket in the lab's namespace."""
    return lab.run(lambda: open_socket(NETLINK.NETFILTER))


def current_beside(
    socket: NetlinkSocket, home: tuple[int, int] | None, name: NetNS | None
) -> object:
    """Return the namespace in which a function runs in the namespace of the socket."""
    return run_in_namespace_of(socket.raw.fileno(), home, name, current)


def test_where_it_runs(lab: Lab, inside: NetlinkSocket) -> None:
    home = identify(lab.descriptor)
    assert home != current()
    for known in (home, None):
        assert current_beside(inside, known, None) == home
        assert lab.run(current_beside, inside, known, None) == home
    inside.close()


def test_it_runs_in_this_thread_if_that_is_in_the_namespace(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs no descriptor, no thread and no ioctl."""
    socket = open_socket(NETLINK.NETFILTER)
    monkeypatch.setattr(fcntl, "ioctl", fail(errno.EMFILE))
    threads: list[int] = []
    run_in_namespace_of(
        socket.raw.fileno(), current(), None, lambda: threads.append(threading.get_ident())
    )
    assert threads == [threading.get_ident()]
    socket.close()


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTTY, errno.ENOSYS])
def test_a_socket_whose_namespace_can_not_be_read(
    lab: Lab, inside: NetlinkSocket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The name is used as long as it is the same namespace, and never another one."""
    path = tmp_path / "name"
    path.symlink_to(f"/proc/{os.getpid()}/fd/{lab.descriptor}")
    name, home = NetNS.from_path(path), identify(lab.descriptor)
    monkeypatch.setattr(fcntl, "ioctl", fail(code))
    files = OpenFiles()
    assert current_beside(inside, home, name) == home
    for unknown in [(None, name), (home, None), (None, None)]:
        with pytest.raises(NamespaceError, match=r"ioctl\(SIOCGSKNS\)"):
            current_beside(inside, *unknown)
    other = new_network_namespace()
    path.unlink()
    path.symlink_to(f"/proc/{os.getpid()}/fd/{other}")
    with pytest.raises(NamespaceError, match=r"ioctl\(SIOCGSKNS\)"):
        current_beside(inside, home, name)
    path.unlink()
    with pytest.raises(NamespaceError, match="no such namespace"):
        current_beside(inside, home, name)
    os.close(other)
    assert not files.new()
    inside.close()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("call", ["open", "dup", "ioctl"])
def test_without_descriptors(
    lab: Lab, inside: NetlinkSocket, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    calls: dict[str, tuple[object, Callable[[], object]]] = {
        "open": (os, NetNS.from_path("/proc/self/ns/net").open),
        "dup": (os, lab.netns.open),
        "ioctl": (fcntl, lambda: current_beside(inside, identify(lab.descriptor), lab.netns)),
    }
    module, action = calls[call]
    with monkeypatch.context() as patched:
        patched.setattr(module, call, fail(code))
        with pytest.raises(ResourceExhausted) as raised:
            action()
    assert raised.value.errno == code
    inside.close()


def test_without_threads(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ResourceExhausted, match="enter the place: start a thread") as raised:
        run_inside(lab.descriptor, current, "place")
    assert raised.value.errno == errno.EAGAIN


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EPERM, "CAP_SYS_ADMIN.*seccomp"),
        (errno.ENOSYS, "seccomp"),
        (errno.EINVAL, "not a network namespace"),
    ],
)
def test_a_namespace_that_may_not_be_entered(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    monkeypatch.setattr(namespaces, "setns", fail(code))
    with pytest.raises(NamespaceError, match=rf"enter the place: setns\(\): .*{words}") as raised:
        run_inside(lab.descriptor, current, "place")
    assert raised.value.errno == code


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES, errno.ENOENT])
def test_a_namespace_that_may_not_be_opened(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    for name, call in ((NetNS.from_name("x"), "open"), (NetNS.from_fd(0), "dup")):
        with monkeypatch.context() as patched:
            patched.setattr(os, call, fail(code))
            with pytest.raises(NamespaceError, match=rf"{call}\(\): ") as raised:
                name.open()
        assert raised.value.hint


# -- naming -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "same"),
    [
        ("blue", NetNS.from_name("blue")),
        ("/proc/1/ns/net", NetNS.from_path("/proc/1/ns/net")),
        (Path("/proc/1/ns/net"), NetNS.from_path("/proc/1/ns/net")),
        (NetNS.from_pid(1), NetNS.from_pid(1)),
    ],
)
def test_a_namespace_is_made_of_what_netns_takes(value: str | Path | NetNS, same: NetNS) -> None:
    assert NetNS(value) == same


@pytest.mark.parametrize("value", [1, None, b"blue"])
def test_a_namespace_is_not_made_of_anything_else(value: object) -> None:
    with pytest.raises(TypeError, match=r"netns must be a name, a path or a NetNS"):
        NetNS(value)  # type: ignore[arg-type]
