"""System calls and socket options that are refused, mostly by seccomp, as in containers.

Each is refused in a process of its own. Without an optional call, the library works the same. The
refusal of a required call is an error at once, which names the call.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import pytest
from support.denied_syscalls import BACKENDS, SELF_CONTAINED, Job, Results, Worker
from support.effort import thorough_or_quick
from support.seccomp import SUPPORTED, Denial

from conntrack_aio.uapi.netlink import AF_NETLINK, NETLINK_OPTION, SOL_NETLINK
from conntrack_aio.uapi.socket import SIOCGSKNS, SO_ATTACH_FILTER, SO_MEMINFO, SO_RCVBUFFORCE

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        not SUPPORTED,
        reason="seccomp can't tell this machine's socket calls apart (socketcall)",
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes namespaces without another one"),
]

SOL_SOCKET, SO_RCVBUF = 1, 8
MSG_TRUNC = 0x20
ADDRESS = 12
"""The size of a netlink address: event loops have no such sockets."""

Pattern = list[tuple[str, dict[int, int], dict[int, int]]]
"""System calls with the values and the flags of their arguments."""


def option(name: int, level: int = SOL_SOCKET, call: str = "setsockopt") -> Pattern:
    return [(call, {1: level, 2: name}, {})]


RECVMMSG: Pattern = [("recvmmsg", {}, {})]
ACKS = option(NETLINK_OPTION.CAP_ACK, SOL_NETLINK) + option(NETLINK_OPTION.EXT_ACK, SOL_NETLINK)
FORCED, SIZED = option(SO_RCVBUFFORCE), option(SO_RCVBUF)
SIZE, MEMINFO = (option(name, call="getsockopt") for name in (SO_RCVBUF, SO_MEMINFO))
FILTER = option(SO_ATTACH_FILTER)
HOME: Pattern = [("ioctl", {1: SIOCGSKNS}, {})]
BIND: Pattern = [("bind", {2: ADDRESS}, {})]
CONNECT: Pattern = [("connect", {2: ADDRESS}, {})]
RECVFROM: Pattern = [("recvfrom", {}, {3: MSG_TRUNC})]
RECVMSG: Pattern = [("recvmsg", {}, {2: MSG_TRUNC})]
SENDTO: Pattern = [("sendto", {5: ADDRESS}, {})]
POLL: Pattern = [("poll", {}, {})]
EPOLL: Pattern = [("epoll_create1", {}, {})]
SOCKET: Pattern = [("socket", {0: AF_NETLINK}, {})]
SETNS: Pattern = [("setns", {}, {})]
THREADS: Pattern = [("clone3", {}, {}), ("clone", {}, {})]

OPTIONAL: dict[str, tuple[Pattern, list[int]]] = {
    "recvmmsg": (RECVMMSG, [errno.ENOSYS, errno.EPERM, errno.EINVAL]),
    "acknowledgements": (ACKS, [errno.EPERM, errno.ENOPROTOOPT]),
    "force a buffer": (FORCED, [errno.EPERM, errno.ENOPROTOOPT]),
    "ask for a buffer": (FORCED + SIZED, [errno.EPERM]),
    "read the buffer": (SIZE, [errno.EPERM, errno.ENOPROTOOPT]),
    "meminfo": (MEMINFO, [errno.EPERM, errno.ENOSYS, errno.ENOPROTOOPT, errno.EINVAL]),
    "read any option": ([("getsockopt", {}, {})], [errno.ENOSYS]),
    "set any option": ([("setsockopt", {1: SOL_SOCKET}, {})], [errno.EPERM]),
    "filter": (FILTER, [errno.EPERM, errno.ENOSYS, errno.ENOPROTOOPT, errno.EINVAL]),
    "home": (HOME, [errno.EPERM, errno.ENOSYS, errno.ENOTTY]),
    "bind": (BIND, [errno.EPERM]),
    "connect": (CONNECT, [errno.EPERM]),
    "recvfrom": (RECVFROM, [errno.EPERM, errno.ENOSYS]),
    "recvfrom, recvmmsg": (RECVFROM + RECVMMSG, [errno.EPERM]),
    "poll": (POLL + MEMINFO, [errno.EPERM]),
    "epoll": (EPOLL, [errno.EPERM]),
    "all": (RECVMMSG + ACKS + FORCED + MEMINFO + SIZE + FILTER + HOME + CONNECT, [errno.EPERM]),
}

QUICK = ["dump", "events", "loss", "table", "netns", "all_netns"]
"""Situations for a further errno of the same call, and for short runs."""


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def unhindered(worker: Worker) -> tuple[Results, Results]:
    """Return the results of all situations if nothing is refused: early and late."""
    early = worker.run(Job("asyncio", [], SELF_CONTAINED))
    late = worker.run(Job("asyncio", [], ["all_at_once"], late=True))
    assert list(early) == SELF_CONTAINED
    for result in chain(early.values(), late.values()):
        assert not isinstance(result, (str, dict)), (early, late)
    return early, late


def denials(pattern: Pattern, code: int) -> list[Denial]:
    return [Denial(call, code, arguments, flags) for call, arguments, flags in pattern]


@pytest.mark.parametrize(
    ("backend", "pattern", "code", "situations"),
    [
        pytest.param(
            backend,
            pattern,
            code,
            thorough_or_quick(SELF_CONTAINED, QUICK) if code == codes[0] else QUICK,
            id=f"{backend}-{name}-{errno.errorcode[code]}",
        )
        for number, (name, (pattern, codes)) in enumerate(OPTIONAL.items())
        for code in codes
        for backend in (BACKENDS if code == codes[0] else [[*BACKENDS][number % 3]])
    ],
    indirect=["backend"],
)
def test_an_optional_call_makes_no_difference(
    worker: Worker,
    unhindered: tuple[Results, Results],
    backend: str,
    pattern: Pattern,
    code: int,
    situations: list[str],
) -> None:
    results = worker.run(Job(backend, denials(pattern, code), situations))
    assert results == {name: unhindered[0][name] for name in situations}


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_optional_call_that_is_refused_later_makes_no_difference(
    worker: Worker, unhindered: tuple[Results, Results], backend: str, name: str
) -> None:
    """Some programs install a seccomp profile after their start."""
    pattern, codes = OPTIONAL[name]
    results = worker.run(Job(backend, denials(pattern, codes[0]), ["all_at_once"], late=True))
    assert results == unhindered[1]


@pytest.mark.parametrize("error", ["ImportError", "MemoryError"])
def test_without_ctypes(
    worker: Worker, unhindered: tuple[Results, Results], backend: str, error: str
) -> None:
    """Python may lack libffi, or memory may not be both writable and executable."""
    by_ctypes = set() if sys.version_info >= (3, 12) else {"netns", "all_netns"}
    results = worker.run(Job(backend, [], SELF_CONTAINED, ctypes=error))
    for name, result in results.items():
        if name in by_ctypes:
            assert (result["error"], result["is_library_error"]) == ("NamespaceError", True)
            assert "setns()" in result["text"]
            assert "ctypes" in result["text"]
        else:
            assert result == unhindered[0][name]


# Required calls


class Required(NamedTuple):
    pattern: Pattern
    codes: list[int]
    situations: list[str]
    call: str
    """The call that the error names."""
    error: str | None = None
    """The class of the error, where it is not that of the errno."""
    capability: str | None = None
    """The capability that may be missing instead."""
    late: bool = False


REQUIRED = {
    "socket": Required(
        SOCKET,
        [errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT],
        ["count", "netns"],
        "socket(AF_NETLINK)",
    ),
    "address": Required(
        BIND + CONNECT, [errno.EPERM, errno.ENOSYS], ["count"], "bind() and connect()"
    ),
    "send": Required(SENDTO, [errno.EPERM, errno.ENOSYS], ["count", "events"], "sendto()"),
    "receive": Required(
        RECVFROM + RECVMSG,
        [errno.EPERM, errno.ENOSYS],
        ["count"],
        "recvfrom() and recvmsg()",
        "NoReply",
    ),
    "enter": Required(
        SETNS,
        [errno.EPERM, errno.ENOSYS],
        ["netns", "all_netns"],
        "setns()",
        "NamespaceError",
        "CAP_SYS_ADMIN",
    ),
    "home": Required(
        HOME,
        [errno.EPERM, errno.ENOSYS],
        ["replaced_name"],
        "ioctl(SIOCGSKNS)",
        "NamespaceError",
        "CAP_NET_ADMIN",
        late=True,
    ),
    "join": Required(
        option(NETLINK_OPTION.ADD_MEMBERSHIP, SOL_NETLINK),
        [errno.EPERM, errno.ENOSYS],
        ["events", "table", "all_netns"],
        "setsockopt(NETLINK_ADD_MEMBERSHIP)",
        capability="CAP_NET_ADMIN",
    ),
    "reliable": Required(
        option(NETLINK_OPTION.BROADCAST_ERROR, SOL_NETLINK),
        [errno.EPERM, errno.ENOSYS, errno.ENOPROTOOPT],
        ["reliable"],
        "setsockopt(NETLINK_BROADCAST_ERROR)",
    ),
    "all namespaces": Required(
        option(NETLINK_OPTION.LISTEN_ALL_NSID, SOL_NETLINK),
        [errno.EPERM, errno.ENOSYS, errno.ENOPROTOOPT],
        ["all_netns"],
        "setsockopt(NETLINK_LISTEN_ALL_NSID)",
        capability="CAP_NET_BROADCAST",
    ),
}
CLASSES = {
    errno.EPERM: "PermissionDenied",
    errno.EACCES: "PermissionDenied",
    errno.EAFNOSUPPORT: "NotSupported",
    errno.ENOPROTOOPT: "NotSupported",
    errno.ENOSYS: "KernelError",
}


@pytest.mark.parametrize(
    ("required", "code"),
    [
        pytest.param(required, code, id=f"{name}-{errno.errorcode[code]}")
        for name, required in REQUIRED.items()
        for code in required.codes
    ],
)
def test_a_required_call_is_an_error_that_names_it(
    worker: Worker, backend: str, required: Required, code: int
) -> None:
    job = Job(backend, denials(required.pattern, code), required.situations, late=required.late)
    results = worker.run(job)
    assert list(results) == required.situations
    for result in results.values():
        assert result["error"] == (required.error or CLASSES[code])
        assert result["is_library_error"]
        assert result["prompt"]
        text = result["text"]
        assert required.call in text
        assert errno.errorcode[code] in text
        assert ("seccomp" in text) == (code != errno.ENOPROTOOPT)
        may_lack = code == errno.EPERM and required.capability is not None
        assert ("CAP_" in text) == may_lack
        assert not may_lack or str(required.capability) in text


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EPERM])
def test_no_thread_can_be_started(worker: Worker, backend: str, code: int) -> None:
    situations = ["netns", "large_dump"]
    results = worker.run(Job(backend, denials(THREADS, code), situations))
    for name in situations:
        assert results[name]["error"] == "ResourceExhausted"
        assert results[name]["prompt"]
        assert "start a thread" in results[name]["text"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS])
def test_sending_is_refused_later(worker: Worker, backend: str, code: int) -> None:
    results = worker.run(Job(backend, denials(SENDTO, code), ["sending_later"], late=True))
    errors = results["sending_later"]
    assert len(errors) == 7
    for text in errors:
        assert "sendto()" in text
        assert "seccomp" in text
        assert "CAP_" not in text
