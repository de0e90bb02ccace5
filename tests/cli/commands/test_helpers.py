"""Test the subcommand ``helpers``, on a fake kernel: many kernels have no user-space helpers."""

from __future__ import annotations

import json
from socket import AF_INET, AF_INET6

import anyio
import pytest
from support.command import Ran, run_here

from conntrack_aio import ExpectPolicy, HelperStatus, UserspaceHelper
from conntrack_aio.testing import FakeKernel

POLICIES = (
    ExpectPolicy(name="control", expect_max=1, expect_timeout=300),
    ExpectPolicy(name="data", expect_max=4, expect_timeout=60),
)
CREATE = ("create", "ftp", "ipv4", "tcp", "--policy", "control:1:5m", "--policy", "data:4:60")
LINE = "ftp ipv4 tcp disabled queue=3 private-data-length=8 policy=control:1:300 policy=data:4:60\n"


class Machine:
    """A fake kernel without helpers of its own, and the command on it."""

    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.kernel.builtin_helpers.clear()

    def run(self, *arguments: str) -> Ran:
        """Run ``helpers`` with arguments."""
        with self.kernel.installed():
            return run_here("helpers", *arguments)

    def helpers(self) -> list[UserspaceHelper]:
        """Return the kernel's helpers."""

        async def main() -> list[UserspaceHelper]:
            async with self.kernel.connect() as conn:
                return await conn.helpers.list()

        return anyio.run(main)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_helper_is_created_and_printed(machine: Machine) -> None:
    created = machine.run(*CREATE, "--queue", "3", "--private-data-length", "8")
    assert created == (0, LINE, "conntrack-aio: 1 user-space helper created\n")
    (helper,) = machine.helpers()
    assert helper.key == ("ftp", AF_INET, 6)
    assert (helper.policies, helper.queue, helper.private_data_length) == (POLICIES, 3, 8)
    assert helper.status == HelperStatus.DISABLED
    assert machine.run("get", "ftp", "ipv4", "tcp") == (0, LINE, "")
    assert machine.run("list") == (0, LINE, "")


def test_a_dry_run_creates_and_deletes_nothing(machine: Machine) -> None:
    status, out, err = machine.run(*CREATE, "--queue", "3", "--dry-run")
    assert (status, err) == (0, "conntrack-aio: 1 user-space helper would be created\n")
    assert out.startswith("ftp ipv4 tcp queue=3 ")
    assert not machine.helpers()
    machine.run(*CREATE)
    status, out, err = machine.run(*CREATE, "--dry-run")
    assert (status, out) == (1, "")
    assert "there is one with this name, family and protocol" in err
    status, out, err = machine.run("delete", "ftp", "ipv4", "tcp", "--dry-run")
    assert (status, err) == (0, "conntrack-aio: 1 user-space helper would be deleted\n")
    assert machine.helpers()


def test_a_dry_run_updates_nothing(machine: Machine) -> None:
    machine.run(*CREATE, "--queue", "3", "--private-data-length", "8")
    before = machine.helpers()
    update = ("update", "ftp", "ipv4", "tcp")
    limits = ("--policy", "control:7:70", "--policy", "data:7:70")
    arguments = (*update, "--queue", "4", "--status", "enabled", *limits)
    status, out, err = machine.run(*arguments, "--dry-run")
    assert (status, err) == (0, "conntrack-aio: 1 user-space helper would be updated\n")
    assert machine.helpers() == before
    assert machine.run(*arguments).out == out
    for wrong in (("--policy", "data:7:70"), ("--policy", "data:7:70", "--policy", "control:7:70")):
        status, out, err = machine.run(*update, *wrong, "--dry-run")
        assert (status, out) == (1, "")
        assert "its policies must be, in this order: control, data" in err
        assert machine.run(*update, *wrong).status == 1
    assert machine.run("update", "tftp", *update[2:], "--queue", "1", "--dry-run").status == 1
    status, _, err = machine.run("create", "n" * 16, *CREATE[2:], "--dry-run")
    assert status == 2
    assert "argument NAME" in err


def test_helpers_are_selected_by_name_family_and_protocol(machine: Machine) -> None:
    for key in (("ftp", "ipv4", "tcp"), ("ftp", "ipv6", "tcp"), ("tftp", "ipv4", "udp")):
        assert machine.run("create", *key, "--policy", "data:1:60").status == 0
    out = machine.run("list", "--name", "ftp", "--family", "ipv6", "--json").out
    (line,) = map(json.loads, out.splitlines())
    assert (line["name"], line["family"]) == ("ftp", AF_INET6)
    assert machine.run("list", "--proto", "udp").out.startswith("tftp ipv4 udp ")
    assert machine.run("list", "--name", "none") == (0, "", "")


def test_only_the_given_values_are_updated(machine: Machine) -> None:
    machine.run(*CREATE, "--queue", "3")
    status, out, err = machine.run("update", "ftp", "ipv4", "tcp", "--status", "enabled")
    assert (status, err) == (0, "conntrack-aio: 1 user-space helper updated\n")
    assert " enabled queue=3 " in out
    machine.run("update", "ftp", "ipv4", "tcp", "--queue", "4")
    limits = ("--policy", "control:7:70", "--policy", "data:7:70")
    machine.run("update", "ftp", "ipv4", "tcp", *limits)
    (helper,) = machine.helpers()
    assert (helper.queue, helper.status) == (4, HelperStatus.ENABLED)
    assert [(policy.expect_max, policy.expect_timeout) for policy in helper.policies] == [
        (7, 70)
    ] * 2


def test_a_helper_is_deleted_and_printed(machine: Machine) -> None:
    machine.run(*CREATE, "--queue", "3", "--private-data-length", "8")
    deleted = machine.run("delete", "ftp", "ipv4", "tcp")
    assert deleted == (0, LINE, "conntrack-aio: 1 user-space helper deleted\n")
    assert not machine.helpers()


def test_flush_deletes_every_helper(machine: Machine) -> None:
    machine.run(*CREATE, "--queue", "3", "--private-data-length", "8")
    dry = machine.run("flush", "--all", "--dry-run")
    assert dry == (0, LINE, "conntrack-aio: 1 user-space helper would be deleted\n")
    assert machine.helpers()
    flushed = machine.run("flush", "--all")
    assert flushed == (0, "", "conntrack-aio: 1 user-space helper deleted\n")
    assert not machine.helpers()


@pytest.mark.parametrize(
    "arguments",
    [("get",), ("delete",), ("update", "--queue", "1")],
)
def test_a_helper_that_does_not_exist_is_a_failure(
    machine: Machine, arguments: tuple[str, ...]
) -> None:
    verb, *options = arguments
    status, out, err = machine.run(verb, "ftp", "ipv6", "tcp", *options)
    assert (status, out) == (1, "")
    assert "ENOENT" in err


def test_a_helper_that_exists_or_is_in_use_is_a_failure(machine: Machine) -> None:
    machine.run(*CREATE)
    status, out, err = machine.run(*CREATE)
    assert (status, out) == (1, "")
    assert "`helpers update` changes it" in err
    machine.kernel.helpers_in_use.add(("ftp", AF_INET, 6))
    status, out, err = machine.run("delete", "ftp", "ipv4", "tcp")
    assert (status, out) == (1, "")
    assert "EBUSY" in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("get ftp ipv4", "the following arguments are required: PROTO"),
        ("get ftp ipv4 tpc", "unknown protocol 'tpc'"),
        ("create ftp ipv4 tcp", "the following arguments are required: --policy"),
        ("create ftp ipv4 tcp --policy data", "'data' is not NAME:MAX:SECONDS"),
        ("create ftp ipv4 tcp --policy data:256:1", "invalid number of expectations '256'"),
        ("create ftp ipv4 tcp" + " --policy d:1:1" * 5, "a helper has at most four"),
        ("update ftp ipv4 tcp", "nothing to change; pass --policy, --queue or --status"),
        ("update ftp ipv4 tcp --queue 65536", "invalid queue '65536'; expected 0 to 65535"),
        ("flush", "--all is required"),
    ],
)
def test_wrong_arguments_are_errors(machine: Machine, line: str, message: str) -> None:
    status, out, err = machine.run(*line.split())
    assert (status, out) == (2, "")
    assert message in err
    assert not machine.kernel.requests
