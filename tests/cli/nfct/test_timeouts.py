"""Test the commands for timeout policies, on a fake kernel."""

from __future__ import annotations

import errno
import os
from socket import AF_INET

import pytest
from support.nfct8 import Outcome, run_own

from conntrack_aio.model.timeouts import TCPTimeouts, TimeoutPolicy, UDPTimeouts
from conntrack_aio.testing import FakeKernel

UDP = """\
.a = {
	.l3proto = 2,
	.l4proto = 17,
	.policy = {
		.UNREPLIED = 30,
		.REPLIED = 5,
	},
};
"""


def run(kernel: FakeKernel, line: str) -> Outcome:
    """Run a command line, whose words are separated by one blank, on a kernel."""
    with kernel.installed():
        return run_own(line.split(" "))


def refused(message: str) -> Outcome:
    return Outcome(1, "", f"VERSION: {message}\n")


def netlink_error(code: int) -> Outcome:
    return refused(f"netlink error: {os.strerror(code)}")


def kernel_with_policy(release: str = "6.18") -> FakeKernel:
    kernel = FakeKernel(release)
    kernel.timeout_policies.append(
        TimeoutPolicy.of("a", UDPTimeouts(replied=5), family=int(AF_INET))
    )
    return kernel


def test_the_life_of_a_policy() -> None:
    kernel = FakeKernel()
    assert run(kernel, "list timeout") == (0, "", "")
    assert run(kernel, "add timeout a inet udp replied 5") == (0, "", "")
    assert run(kernel, "add timeout a inet6 tcp close 5") == netlink_error(errno.EBUSY)
    assert run(kernel, "list timeout") == run(kernel, "get timeout a") == (0, UDP, "")
    assert run(kernel, "delete timeout a") == (0, "", "")
    assert run(kernel, "delete timeout a") == netlink_error(errno.ENOENT)
    assert run(kernel, "get timeout a") == netlink_error(errno.ENOENT)


def test_default_timeouts() -> None:
    kernel = FakeKernel()
    assert run(kernel, "default-set timeout inet udp replied 5") == (0, "", "")
    body = UDP.partition("\n")[2]
    assert run(kernel, "default-get timeout inet udp") == (0, body, "")
    inet6 = body.replace(".l3proto = 2", ".l3proto = 10")
    assert run(kernel, "default-get timeout inet6 udp") == (0, inet6, "")


def test_flush_keeps_policies_in_use_if_the_kernel_does() -> None:
    for release, left in (("6.18", ["a"]), ("7.1", [])):
        kernel = kernel_with_policy(release)
        kernel.timeout_policies.append(TimeoutPolicy.of("b", TCPTimeouts(), family=int(AF_INET)))
        kernel.timeout_policies[0].use = 2
        assert run(kernel, "flush timeout") == (0, "", "")
        assert [policy.name for policy in kernel.timeout_policies] == left


def test_a_policy_in_use_cannot_be_deleted() -> None:
    kernel = kernel_with_policy()
    kernel.timeout_policies[0].use = 2
    assert run(kernel, "delete timeout a") == netlink_error(errno.EBUSY)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("list timeout a", "too many arguments"),
        ("flush timeout a", "too many arguments"),
        ("get timeout a b", "too many arguments"),
        ("delete timeout a b", "too many arguments"),
        ("default-get timeout inet tcp x", "too many arguments"),
        ("get timeout", "missing timeout policy name"),
        ("delete timeout", "missing timeout policy name"),
        ("delete timeout ", "missing timeout policy name"),
        ("add timeout  inet tcp close 5", "missing timeout policy name"),
        ("add timeout a foo bar", "unknown layer 3 protocol"),
        ("add timeout a inet bar", "unknown layer 4 protocol"),
        ("default-set timeout foo tcp x", "unknown layer 3 protocol"),
        ("default-get timeout inet bar", "unknown layer 4 protocol"),
    ],
)
def test_wrong_parameters(line: str, message: str) -> None:
    kernel = kernel_with_policy()
    assert run(kernel, line) == refused(message)
    assert not kernel.sockets


@pytest.mark.parametrize(
    ("line", "syntax"),
    [
        ("add timeout", "add timeout name family protocol state1 timeout1 ..."),
        ("add timeout a inet", "add timeout name family protocol state1 timeout1 ..."),
        ("default-set timeout inet tcp", "default-set timeout family protocol state1 timeout1..."),
        ("default-get timeout inet", "default-get timeout family protocol"),
    ],
)
def test_missing_parameters(line: str, syntax: str) -> None:
    assert run(FakeKernel(), line) == refused(f"missing parameters\nsyntax: nfct {syntax}")


@pytest.mark.parametrize(
    "command", ["get timeout {}", "delete timeout {}", "add timeout {} inet tcp"]
)
@pytest.mark.parametrize("name", ["n" * 31, "\u00fc" * 15 + "n", "n" * 30 + "\udcff"])
def test_the_longest_names(command: str, name: str) -> None:
    """nfct(8) cuts off what is longer, and thus deletes the policy of another name."""
    kernel = FakeKernel()
    kernel.timeout_policies.append(TimeoutPolicy.of(name, TCPTimeouts(), family=int(AF_INET)))
    outcome = run(kernel, command.format(name + "x"))
    assert outcome == refused(f"timeout policy name too long: `{name}x' has more than 31 bytes")
    assert len(kernel.timeout_policies) == 1
    assert run(kernel, f"get timeout {name}").status == 0


def test_a_policy_without_timeouts_is_refused_as_by_the_kernel() -> None:
    kernel = kernel_with_policy()
    for line in ("add timeout b inet tcp", "add timeout a inet udp", "add timeout b inet esp"):
        assert run(kernel, line) == netlink_error(errno.EINVAL)
    assert len(kernel.timeout_policies) == 1


@pytest.mark.parametrize("seconds", ["2147484", "9" * 5000])
def test_too_many_seconds(seconds: str) -> None:
    kernel = FakeKernel()
    outcome = run(kernel, f"add timeout a inet tcp close {seconds}")
    assert outcome.status == 1
    assert "seconds are more than 2147483" in outcome.stderr
    assert not kernel.timeout_policies


def test_a_protocol_without_timeouts() -> None:
    kernel = FakeKernel()
    for line in (
        "default-get timeout inet esp",
        "default-get timeout inet dccp",  # Linux dropped it in 6.17
        "add timeout a inet dccp open 5",
        "default-set timeout inet dccp open 5",
    ):
        assert run(kernel, line) == netlink_error(errno.EOPNOTSUPP)
    assert run(FakeKernel("6.12"), "default-get timeout inet dccp").status == 0


REQUESTS = [
    "list timeout",
    "get timeout a",
    "add timeout b inet udp replied 5",
    "add timeout b inet udp",
    "delete timeout a",
    "flush timeout",
    "default-get timeout inet udp",
    "default-get timeout inet esp",
    "default-set timeout inet udp replied 5",
]


@pytest.mark.parametrize("line", REQUESTS)
def test_without_a_capability_or_the_subsystem(line: str) -> None:
    unprivileged = FakeKernel(without=["CAP_NET_ADMIN"])
    assert run(unprivileged, line) == netlink_error(errno.EPERM)
    unsupported = FakeKernel(without=["ctnetlink_timeout"])
    assert run(unsupported, line) == netlink_error(errno.EINVAL)
