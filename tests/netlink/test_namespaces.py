"""Check functions that run in other network namespaces: where they run, and how they fail."""

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
    current,
    identify,
    run_in_namespace_of,
    run_inside,
)
from conntrack_aio.netlink.netns import NetNS
from conntrack_aio.netlink.opening import open_socket
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.uapi.netlink import NETLINK

pytestmark = pytest.mark.kernel


def raise_errno(code: int) -> Callable[..., NoReturn]:
    """Return a function that fails with an errno."""

    def raise_error(*arguments: object, **options: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return raise_error


@pytest.fixture
def inside(lab: Lab) -> NetlinkSocket:
    """Return a socket in the lab's namespace."""
    return lab.run(lambda: open_socket(NETLINK.NETFILTER))


def current_in_namespace_of(
    socket: NetlinkSocket, home: tuple[int, int] | None, name: NetNS | None
) -> object:
    """Return the namespace in which ``run_in_namespace_of`` runs a function."""
    return run_in_namespace_of(socket.raw.fileno(), home, name, current)


def test_a_function_runs_in_the_namespace_of_the_socket(lab: Lab, inside: NetlinkSocket) -> None:
    home = identify(lab.descriptor)
    assert home != current()
    for known in (home, None):
        assert current_in_namespace_of(inside, known, None) == home
        assert lab.run(current_in_namespace_of, inside, known, None) == home
    inside.close()


def test_a_function_runs_in_this_thread_if_it_is_in_the_namespace_already(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This takes no file descriptor, no other thread and no ioctl."""
    socket = open_socket(NETLINK.NETFILTER)
    monkeypatch.setattr(fcntl, "ioctl", raise_errno(errno.EMFILE))
    threads: list[int] = []
    run_in_namespace_of(
        socket.raw.fileno(), current(), None, lambda: threads.append(threading.get_ident())
    )
    assert threads == [threading.get_ident()]
    socket.close()


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTTY, errno.ENOSYS])
def test_without_siocgskns_a_name_is_used_only_for_the_same_namespace(
    lab: Lab, inside: NetlinkSocket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The name is used while it means the namespace of the socket, and never for another one."""
    path = tmp_path / "name"
    path.symlink_to(f"/proc/{os.getpid()}/fd/{lab.descriptor}")
    name, home = NetNS.from_path(path), identify(lab.descriptor)
    monkeypatch.setattr(fcntl, "ioctl", raise_errno(code))
    files = OpenFiles()
    assert current_in_namespace_of(inside, home, name) == home
    for unknown in [(None, name), (home, None), (None, None)]:
        with pytest.raises(NamespaceError, match=r"ioctl\(SIOCGSKNS\)"):
            current_in_namespace_of(inside, *unknown)
    other = new_network_namespace()
    path.unlink()
    path.symlink_to(f"/proc/{os.getpid()}/fd/{other}")
    with pytest.raises(NamespaceError, match=r"ioctl\(SIOCGSKNS\)"):
        current_in_namespace_of(inside, home, name)
    path.unlink()
    with pytest.raises(NamespaceError, match="no such namespace"):
        current_in_namespace_of(inside, home, name)
    os.close(other)
    assert not files.new()
    inside.close()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("call", ["open", "dup", "ioctl"])
def test_a_lack_of_descriptors_is_reported(
    lab: Lab, inside: NetlinkSocket, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    calls: dict[str, tuple[object, Callable[[], object]]] = {
        "open": (os, NetNS.from_path("/proc/self/ns/net").open),
        "dup": (os, lab.netns.open),
        "ioctl": (
            fcntl,
            lambda: current_in_namespace_of(inside, identify(lab.descriptor), lab.netns),
        ),
    }
    module, action = calls[call]
    with monkeypatch.context() as patched:
        patched.setattr(module, call, raise_errno(code))
        with pytest.raises(ResourceExhausted) as raised:
            action()
    assert raised.value.errno == code
    inside.close()


def test_a_lack_of_threads_is_reported(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ResourceExhausted, match="enter the place: start a thread") as raised:
        run_inside(lab.descriptor, current, "place")
    assert raised.value.errno == errno.EAGAIN


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.EPERM, "CAP_SYS_ADMIN.*seccomp"),
        (errno.ENOSYS, "seccomp"),
        (errno.EINVAL, "not a network namespace"),
    ],
)
def test_a_failure_to_enter_a_namespace_is_reported_with_its_cause(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, code: int, hint: str
) -> None:
    monkeypatch.setattr(namespaces, "setns", raise_errno(code))
    with pytest.raises(NamespaceError, match=rf"enter the place: setns\(\): .*{hint}") as raised:
        run_inside(lab.descriptor, current, "place")
    assert raised.value.errno == code


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES, errno.ENOENT])
def test_a_failure_to_open_a_namespace_is_reported_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    for name, call in ((NetNS.from_name("x"), "open"), (NetNS.from_fd(0), "dup")):
        with monkeypatch.context() as patched:
            patched.setattr(os, call, raise_errno(code))
            with pytest.raises(NamespaceError, match=rf"{call}\(\): ") as raised:
                name.open()
        assert raised.value.hint


# -- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("blue", NetNS.from_name("blue")),
        ("/proc/1/ns/net", NetNS.from_path("/proc/1/ns/net")),
        (Path("/proc/1/ns/net"), NetNS.from_path("/proc/1/ns/net")),
        (NetNS.from_pid(1), NetNS.from_pid(1)),
    ],
)
def test_netns_accepts_names_paths_and_other_netns_objects(
    value: str | Path | NetNS, expected: NetNS
) -> None:
    assert NetNS(value) == expected


@pytest.mark.parametrize("value", [1, None, b"blue"])
def test_netns_refuses_other_types(value: object) -> None:
    with pytest.raises(TypeError, match=r"netns must be a name, a path or a NetNS"):
        NetNS(value)  # type: ignore[arg-type]
