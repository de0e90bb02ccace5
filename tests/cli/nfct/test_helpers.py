"""Test the commands for user-space helpers, on a fake kernel.

``tests/programs/test_nfct_commands.py`` compares them with nfct(8) on the fake kernel.
"""

from __future__ import annotations

import errno
import os

import pytest
from support.nfct8 import Outcome, run_own

from conntrack_aio import ExpectPolicy, HelperStatus
from conntrack_aio.testing import FakeKernel

FTP = """\
{
	.name = ftp,
	.queuenum = 0,
	.l3protonum = 2,
	.l4protonum = 6,
	.priv_data_len = 24,
	.status = disabled,
};
"""


def new_kernel() -> FakeKernel:
    """Return a kernel without helpers of its own."""
    kernel = FakeKernel()
    kernel.builtin_helpers.clear()
    return kernel


def run(kernel: FakeKernel, line: str) -> Outcome:
    """Run a command line, whose words are separated by one blank, on a kernel."""
    with kernel.installed():
        return run_own(line.split(" "))


def refused(message: str) -> Outcome:
    return Outcome(1, "", f"VERSION: {message}\n")


def netlink_error(code: int) -> Outcome:
    return refused(f"netlink error: {os.strerror(code)}")


def keys(kernel: FakeKernel) -> list[tuple[str, int, int]]:
    return [helper.key for helper in kernel.helpers]


def test_the_life_of_a_helper() -> None:
    kernel = new_kernel()
    assert run(kernel, "list helper") == (0, "", "")
    assert run(kernel, "add helper ftp inet tcp") == (0, "", "")
    assert run(kernel, "list helper") == run(kernel, "get helper ftp") == (0, FTP, "")
    assert run(kernel, "get helper ftp inet tcp") == (0, FTP, "")
    (helper,) = kernel.helpers
    assert helper.policies == (ExpectPolicy(name="ftp", expect_max=1, expect_timeout=300),)
    helper.status = HelperStatus.ENABLED
    enabled = FTP.replace("disabled", "enabled")
    assert run(kernel, "get helper ftp") == (0, enabled, "")
    assert run(kernel, "disable helper ftp inet tcp") == (0, "", "")
    assert run(kernel, "get helper ftp") == (0, FTP, "")
    assert run(kernel, "delete helper ftp inet tcp") == (0, "", "")
    assert kernel.helpers == []


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        ("amanda inet udp", (3, 180, 0)),
        ("dhcpv6 inet6 udp", (1, 300, 0)),
        ("mdns inet udp", (8, 30, 0)),
        ("rpc inet tcp", (1, 300, 16)),
        ("rpc inet udp", (1, 300, 16)),
        ("sane inet tcp", (1, 300, 4)),
        ("slp inet udp", (8, 16, 0)),
        ("ssdp inet tcp", (8, 300, 0)),
        ("ssdp inet udp", (8, 300, 0)),
        ("tftp inet udp", (1, 300, 0)),
        ("tns inet tcp", (1, 300, 1)),
    ],
)
def test_the_helpers_of_conntrackd(words: str, limits: tuple[int, int, int]) -> None:
    kernel = new_kernel()
    assert run(kernel, f"add helper {words}") == (0, "", "")
    (helper,) = kernel.helpers
    (policy,) = helper.policies
    assert (policy.expect_max, policy.expect_timeout, helper.private_data_length) == limits


def test_add_changes_the_limits_of_an_existing_helper_and_nothing_else() -> None:
    kernel = new_kernel()
    run(kernel, "add helper ftp inet tcp")
    (helper,) = kernel.helpers
    helper.queue, helper.status = 7, HelperStatus.ENABLED
    helper.policies = (ExpectPolicy(name="ftp", expect_max=9, expect_timeout=9),)
    assert run(kernel, "add helper ftp inet tcp") == (0, "", "")
    assert (helper.queue, helper.status) == (7, HelperStatus.ENABLED)
    assert helper.policies == (ExpectPolicy(name="ftp", expect_max=1, expect_timeout=300),)
    helper.private_data_length = 23
    assert run(kernel, "add helper ftp inet tcp") == netlink_error(errno.EBUSY)


def test_a_helper_inside_the_kernel_cannot_be_replaced() -> None:
    assert run(FakeKernel(), "add helper ftp inet tcp") == netlink_error(errno.EBUSY)


def test_a_missing_helper() -> None:
    kernel = new_kernel()
    assert run(kernel, "delete helper ftp") == (0, "", "")  # the kernel has no helper at all
    run(kernel, "add helper tftp inet udp")
    for line in (
        "get helper ftp",
        "get helper tftp inet",  # nfct(8) asks for protocol 0, which no helper has
        "get helper tftp inet6 udp",
        "delete helper ftp",
        "delete helper tftp inet",
        "delete helper tftp inet6 udp",
    ):
        assert run(kernel, line) == netlink_error(errno.ENOENT)
    assert run(kernel, "disable helper ftp inet tcp") == netlink_error(errno.EINVAL)
    assert len(kernel.helpers) == 1


def test_a_name_alone_is_for_all_helpers_of_the_name() -> None:
    kernel = new_kernel()
    for words in ("rpc inet tcp", "rpc inet6 udp", "ftp inet tcp", "rpc inet udp"):
        run(kernel, f"add helper {words}")
    kernel.helpers_in_use.add(("rpc", 10, 17))
    assert run(kernel, "get helper rpc").stdout.count("rpc") == 1
    assert run(kernel, "delete helper rpc") == (0, "", "")
    assert keys(kernel) == [("rpc", 10, 17), ("ftp", 2, 6)]
    assert run(kernel, "delete helper rpc") == netlink_error(errno.EBUSY)
    assert run(kernel, "flush helper") == (0, "", "")
    assert keys(kernel) == [("rpc", 10, 17)]
    assert run(kernel, "flush helper") == netlink_error(errno.EBUSY)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("list helper ftp", "too many arguments"),
        ("flush helper ftp", "too many arguments"),
        ("get helper ftp inet tcp x", "too many arguments"),
        ("delete helper ftp foo tcp x", "too many arguments"),
        ("add helper ftp inet tcp 5", "too many arguments"),
        ("disable helper ftp inet tcp 5", "too many arguments"),
        ("get helper", "missing helper policy name"),
        ("delete helper ", "missing helper policy name"),
        ("add helper ftp foo bar", "unknown layer 3 protocol"),
        ("add helper nope inet sctp", "unsupported layer 4 protocol"),
        ("delete helper ftp foo", "unknown layer 3 protocol"),
        ("add helper nope inet tcp", "that helper is not supported"),
        ("add helper ftp inet udp", "that helper is not supported"),
        ("disable helper nope inet udp", "that helper is not supported"),
        ("add helper  inet tcp", "that helper is not supported"),
        (f"delete helper {'n' * 16}", f"helper name too long: `{'n' * 16}' has more than 15 bytes"),
        ("add helper ftp inet", "missing parameters\nsyntax: nfct add helper name family protocol"),
        ("disable helper", "missing parameters\nsyntax: nfct disable helper name family protocol"),
    ],
)
def test_wrong_parameters(line: str, message: str) -> None:
    kernel = FakeKernel()
    assert run(kernel, line) == refused(message)
    assert not kernel.sockets


REQUESTS = [
    "list helper",
    "get helper ftp",
    "get helper ftp inet tcp",
    "add helper ftp inet tcp",
    "disable helper ftp inet tcp",
    "delete helper ftp",
    "flush helper",
]


@pytest.mark.parametrize("line", REQUESTS)
def test_without_a_capability_or_the_subsystem(line: str) -> None:
    for kernel, code in (
        (FakeKernel(without=["CAP_NET_ADMIN"]), errno.EPERM),
        (FakeKernel(without=["initial CAP_NET_ADMIN"]), errno.EPERM),
        (FakeKernel(without=["cthelper"]), errno.EINVAL),
    ):
        assert run(kernel, line) == netlink_error(code)
