"""Check what happens if system calls and socket options are refused, as by seccomp in containers.

- Each call is refused in a separate process.
- Without an optional call, the library works as with it.
- Without a required call, the library raises an error at once, which names the call.
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
        reason="seccomp cannot distinguish the socket calls of this machine, which uses socketcall",
    ),
    pytest.mark.skipif(
        os.geteuid() != 0,
        reason="only root can create a network namespace without a user namespace",
    ),
]

SOL_SOCKET, SO_RCVBUF = 1, 8
MSG_TRUNC = 0x20
ADDRESS = 12
"""The size of a netlink address, in bytes. Sockets of event loops have no address of this size."""

Pattern = list[tuple[str, dict[int, int], dict[int, int]]]
"""System calls to refuse, each with the values and the flags of its arguments, by position."""


def option(name: int, level: int = SOL_SOCKET, call: str = "setsockopt") -> Pattern:
    """Return the pattern of a call that sets or reads one socket option."""
    return [(call, {1: level, 2: name}, {})]


RECVMMSG: Pattern = [("recvmmsg", {}, {})]
ACK_OPTIONS = option(NETLINK_OPTION.CAP_ACK, SOL_NETLINK) + option(
    NETLINK_OPTION.EXT_ACK, SOL_NETLINK
)
FORCE_SIZE, SET_SIZE = option(SO_RCVBUFFORCE), option(SO_RCVBUF)
GET_SIZE, MEMINFO = (option(name, call="getsockopt") for name in (SO_RCVBUF, SO_MEMINFO))
FILTER = option(SO_ATTACH_FILTER)
GET_NAMESPACE: Pattern = [("ioctl", {1: SIOCGSKNS}, {})]
BIND: Pattern = [("bind", {2: ADDRESS}, {})]
CONNECT: Pattern = [("connect", {2: ADDRESS}, {})]
RECVFROM: Pattern = [("recvfrom", {}, {3: MSG_TRUNC})]
RECVMSG: Pattern = [("recvmsg", {}, {2: MSG_TRUNC})]
SENDTO: Pattern = [("sendto", {5: ADDRESS}, {})]
POLL: Pattern = [("poll", {}, {})]
EPOLL: Pattern = [("epoll_create1", {}, {})]
SOCKET: Pattern = [("socket", {0: AF_NETLINK}, {})]
SETNS: Pattern = [("setns", {}, {})]
START_THREAD: Pattern = [("clone3", {}, {}), ("clone", {}, {})]

OPTIONAL: dict[str, tuple[Pattern, list[int]]] = {
    "recvmmsg": (RECVMMSG, [errno.ENOSYS, errno.EPERM, errno.EINVAL]),
    "acknowledgements": (ACK_OPTIONS, [errno.EPERM, errno.ENOPROTOOPT]),
    "force a buffer size": (FORCE_SIZE, [errno.EPERM, errno.ENOPROTOOPT]),
    "set a buffer size": (FORCE_SIZE + SET_SIZE, [errno.EPERM]),
    "read the buffer size": (GET_SIZE, [errno.EPERM, errno.ENOPROTOOPT]),
    "SO_MEMINFO": (MEMINFO, [errno.EPERM, errno.ENOSYS, errno.ENOPROTOOPT, errno.EINVAL]),
    "read any option": ([("getsockopt", {}, {})], [errno.ENOSYS]),
    "set any option": ([("setsockopt", {1: SOL_SOCKET}, {})], [errno.EPERM]),
    "filter": (FILTER, [errno.EPERM, errno.ENOSYS, errno.ENOPROTOOPT, errno.EINVAL]),
    "namespace of a socket": (GET_NAMESPACE, [errno.EPERM, errno.ENOSYS, errno.ENOTTY]),
    "bind": (BIND, [errno.EPERM]),
    "connect": (CONNECT, [errno.EPERM]),
    "recvfrom": (RECVFROM, [errno.EPERM, errno.ENOSYS]),
    "recvfrom and recvmmsg": (RECVFROM + RECVMMSG, [errno.EPERM]),
    "poll": (POLL + MEMINFO, [errno.EPERM]),
    "epoll": (EPOLL, [errno.EPERM]),
    "several at once": (
        RECVMMSG + ACK_OPTIONS + FORCE_SIZE + MEMINFO + GET_SIZE + FILTER + GET_NAMESPACE + CONNECT,
        [errno.EPERM],
    ),
}
"""The calls that the library can do without, with the errnos of their refusal."""

QUICK = ["dump", "events", "loss", "table", "netns", "all_netns"]
"""The scenarios to test for each further errno of a call, and in quick runs."""


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def expected(worker: Worker) -> tuple[Results, Results]:
    """Return the results if nothing is refused.

    :returns: those for a refusal from the start, and those for a later refusal.
    """
    from_start = worker.run(Job("asyncio", [], SELF_CONTAINED))
    later = worker.run(Job("asyncio", [], ["all_at_once"], late=True))
    assert list(from_start) == SELF_CONTAINED
    for result in chain(from_start.values(), later.values()):
        assert not isinstance(result, (str, dict)), (from_start, later)
    return from_start, later


def denials(pattern: Pattern, code: int) -> list[Denial]:
    return [Denial(call, code, arguments, flags) for call, arguments, flags in pattern]


@pytest.mark.parametrize(
    ("backend", "pattern", "code", "scenarios"),
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
    expected: tuple[Results, Results],
    backend: str,
    pattern: Pattern,
    code: int,
    scenarios: list[str],
) -> None:
    results = worker.run(Job(backend, denials(pattern, code), scenarios))
    assert results == {name: expected[0][name] for name in scenarios}


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_optional_call_that_is_refused_later_makes_no_difference(
    worker: Worker, expected: tuple[Results, Results], backend: str, name: str
) -> None:
    """Some programs install a seccomp profile after their start."""
    pattern, codes = OPTIONAL[name]
    results = worker.run(Job(backend, denials(pattern, codes[0]), ["all_at_once"], late=True))
    assert results == expected[1]


@pytest.mark.parametrize("error", ["ImportError", "MemoryError"])
def test_only_python_3_11_needs_ctypes_and_only_for_setns(
    worker: Worker, expected: tuple[Results, Results], backend: str, error: str
) -> None:
    """Python may lack libffi, or memory may not be both writable and executable."""
    # Python has os.setns since 3.12.
    need_ctypes = set() if sys.version_info >= (3, 12) else {"netns", "all_netns"}
    results = worker.run(Job(backend, [], SELF_CONTAINED, ctypes=error))
    for name, result in results.items():
        if name in need_ctypes:
            assert (result["error"], result["is_library_error"]) == ("NamespaceError", True)
            assert "setns()" in result["text"]
            assert "ctypes" in result["text"]
        else:
            assert result == expected[0][name]


# Required calls


class RequiredCall(NamedTuple):
    """A required call, and the error that its refusal must raise."""

    pattern: Pattern
    codes: list[int]
    scenarios: list[str]
    call: str
    """The call that the error names."""
    error: str | None = None
    """The class of the error; ``None`` for that of the errno."""
    capability: str | None = None
    """The capability whose lack causes EPERM too."""
    late: bool = False
    """Whether the call is refused only when everything is open and in use."""


REQUIRED = {
    "socket": RequiredCall(
        SOCKET,
        [errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT],
        ["count", "netns"],
        "socket(AF_NETLINK)",
    ),
    "address": RequiredCall(
        BIND + CONNECT, [errno.EPERM, errno.ENOSYS], ["count"], "bind() and connect()"
    ),
    "send": RequiredCall(SENDTO, [errno.EPERM, errno.ENOSYS], ["count", "events"], "sendto()"),
    "receive": RequiredCall(
        RECVFROM + RECVMSG,
        [errno.EPERM, errno.ENOSYS],
        ["count"],
        "recvfrom() and recvmsg()",
        "NoReply",
    ),
    "enter a namespace": RequiredCall(
        SETNS,
        [errno.EPERM, errno.ENOSYS],
        ["netns", "all_netns"],
        "setns()",
        "NamespaceError",
        "CAP_SYS_ADMIN",
    ),
    "namespace of a socket": RequiredCall(
        GET_NAMESPACE,
        [errno.EPERM, errno.ENOSYS],
        ["replaced_name"],
        "ioctl(SIOCGSKNS)",
        "NamespaceError",
        "CAP_NET_ADMIN",
        late=True,
    ),
    "join a group": RequiredCall(
        option(NETLINK_OPTION.ADD_MEMBERSHIP, SOL_NETLINK),
        [errno.EPERM, errno.ENOSYS],
        ["events", "table", "all_netns"],
        "setsockopt(NETLINK_ADD_MEMBERSHIP)",
        capability="CAP_NET_ADMIN",
    ),
    "reliable events": RequiredCall(
        option(NETLINK_OPTION.BROADCAST_ERROR, SOL_NETLINK),
        [errno.EPERM, errno.ENOSYS, errno.ENOPROTOOPT],
        ["reliable"],
        "setsockopt(NETLINK_BROADCAST_ERROR)",
    ),
    "all namespaces": RequiredCall(
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
def test_the_refusal_of_a_required_call_is_an_error_that_names_it(
    worker: Worker, backend: str, required: RequiredCall, code: int
) -> None:
    job = Job(backend, denials(required.pattern, code), required.scenarios, late=required.late)
    results = worker.run(job)
    assert list(results) == required.scenarios
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
def test_a_lack_of_threads_is_an_error_at_once(worker: Worker, backend: str, code: int) -> None:
    scenarios = ["netns", "large_dump"]
    results = worker.run(Job(backend, denials(START_THREAD, code), scenarios))
    for name in scenarios:
        assert results[name]["error"] == "ResourceExhausted"
        assert results[name]["prompt"]
        assert "start a thread" in results[name]["text"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS])
def test_a_later_refusal_of_sending_is_an_error_that_names_the_call(
    worker: Worker, backend: str, code: int
) -> None:
    results = worker.run(Job(backend, denials(SENDTO, code), ["sending_later"], late=True))
    errors = results["sending_later"]
    assert len(errors) == 7
    for text in errors:
        assert "sendto()" in text
        assert "seccomp" in text
        assert "CAP_" not in text
