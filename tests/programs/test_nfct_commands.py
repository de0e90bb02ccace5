"""Compare the package's ``nfct`` with nfct(8): the same commands in two namespaces."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest
from support.effort import EXAMPLES_FACTOR, thorough_or_quick
from support.lab import Lab
from support.nfct8 import NAMES, Generator, Outcome, Words, outcome_of, run_nfct8, run_own
from support.programs_on_fake_kernels import ProgramRunner

from conntrack_aio.testing import FakeKernel

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.program("nfct", "nfct"),
    pytest.mark.xdist_group("helpers"),  # all network namespaces share the helpers
]

SEEDS = thorough_or_quick(2, 1) * EXAMPLES_FACTOR
LINES = 1000


@pytest.fixture
def other(new_namespace: Callable[[], int]) -> Lab:
    """Return a second namespace, which nfct(8) gets."""
    return Lab(new_namespace())


def run_all(runner: Callable[[Words], Outcome], lines: Sequence[Words]) -> list[Outcome]:
    """Run command lines in order. The word ``rule`` begins a change of the rules instead."""
    outcomes: list[Outcome] = []
    for words in lines:
        if words[:1] == ["rule"]:
            change_rules(words[1:])
        else:
            outcomes.append(runner(words))
    return outcomes


def change_rules(arguments: Sequence[str]) -> None:
    """Change the rules in the table raw. It fails for policies that do not exist."""
    # The lock file of iptables is the machine's, and only root can open it.
    unlocked = {**os.environ, "XTABLES_LOCKFILE": os.devnull}
    subprocess.run(
        ["iptables-legacy", "-t", "raw", *arguments], env=unlocked, capture_output=True, check=False
    )


def compare(lab: Lab, other: Lab, lines: Sequence[Words]) -> list[Outcome]:
    """Run command lines by both programs, and return what both do."""
    own = lab.run(run_all, run_own, lines)
    theirs = other.run(run_all, run_nfct8, lines)
    commands = [words for words in lines if words[:1] != ["rule"]]
    for words, ours, wanted in zip(commands, own, theirs, strict=True):
        assert ours == wanted, words
    return own


def has_helpers(lab: Lab) -> bool:
    """Return whether this kernel has user-space helpers, which the commands would change."""
    return lab.run(run_nfct8, ["list", "helper"]).status == 0


@pytest.mark.program("iptables-legacy", "iptables")
def test_random_commands_do_the_same(lab: Lab, other: Lab) -> None:
    for seed in range(SEEDS):
        lines = random_lines(Random(seed), helpers=not has_helpers(lab))
        outcomes = compare(lab, other, lines)
        assert {outcome.status for outcome in outcomes} == {0, 1}
        assert outcomes[-1] == Outcome(0, "", "")


def random_lines(random: Random, *, helpers: bool) -> list[Words]:
    """Return random command lines, some changes of rules, and commands that show and delete all.

    :param helpers: whether to include commands for helpers.
    """
    generator = Generator(random)
    lines = [generator.line() for _ in range(LINES)]
    if not helpers:
        lines = [words for words in lines if not any(word[:1] == "h" for word in words[:2])]
    for _ in range(LINES // 20):
        name, proto = random.choice(NAMES[:3]), random.choice(("tcp", "udp", "icmp"))
        rule = ["rule", "-A", "OUTPUT", "-p", proto, "-j", "CT", "--timeout", name]
        lines.insert(random.randrange(len(lines)), rule)
    lines.insert(len(lines) // 2, ["rule", "-F"])
    show = ["list", "timeout"]
    return [*lines, show, ["rule", "-F"], ["flush", "timeout"], show]


@pytest.mark.program("iptables-legacy", "iptables")
def test_policies_in_use(lab: Lab, other: Lab) -> None:
    add = ["add", "timeout", "used", "inet", "tcp", "close", "5"]
    rule = ["rule", "-A", "OUTPUT", "-p", "tcp", "-j", "CT", "--timeout", "used"]
    unused = ["add", "timeout", "unused", "inet6", "udp", "replied", "5"]
    show = ["list", "timeout"]
    compare(lab, other, [add, rule, unused, ["flush", "timeout"], show])
    compare(lab, other, [["delete", "timeout", "used"], show, ["rule", "-F"], show])
    compare(lab, other, [["delete", "timeout", "used"], show])


def test_each_protocol_has_the_same_defaults(lab: Lab, other: Lab) -> None:
    """Some protocols of ``/etc/protocols`` have timeouts, by one name or another."""
    names = {"generic", "icmpv6"}
    with open("/etc/protocols") as file:
        for line in file:
            match line.partition("#")[0].split():
                # nfct(8) takes MPTCP, which has 262, for TCP: it keeps 8 bits.
                case [name, number, *aliases] if int(number) < 256:
                    names |= {name, *aliases}
                case _:
                    pass
    compare(lab, other, [["default-get", "timeout", "inet6", name] for name in sorted(names)])


def test_helpers(lab: Lab, other: Lab) -> None:
    """Both get the same helper, one after the other. Without helpers, the kernel refuses all."""
    key = ["dhcpv6", "inet", "udp"]  # a helper that serves no purpose over IPv4
    lines = [
        ["disable", "helper", *key],
        ["add", "helper", *key],
        ["add", "helper", *key],
        ["get", "helper", *key],
        ["get", "helper", key[0]],
        ["disable", "helper", *key],
        ["get", "helper", *key],
        ["delete", "helper", *key],
    ]
    compare(lab, other, lines)


HELPERS = [("ftp", "tcp"), ("rpc", "tcp"), ("rpc", "udp"), ("sane", "tcp"), ("ssdp", "udp")]


def helper_line(random: Random) -> Words:
    """Return a random command line for helpers, without those that differ from nfct(8)."""
    command = random.choice(["add", "add", "add", "get", "delete", "disable", "list", "flush"])
    name, proto = random.choice([*HELPERS, ("ftp", "udp"), ("nope", "tcp")])
    key = [name, random.choice(["inet", "inet6"]), proto]
    parts = {"list": 0, "flush": 0, "get": 1, "delete": random.choice([1, 2, 3])}
    return [command, "helper", *key[: parts.get(command, 3)]]


@pytest.mark.program("cc", "gcc")
def test_helpers_on_a_fake_kernel(tmp_path: Path) -> None:
    """Few kernels have user-space helpers, and other programs of the machine may use theirs."""
    random, runner = Random(3), ProgramRunner(tmp_path)
    statuses: Counter[tuple[str, int]] = Counter()
    for _ in range(thorough_or_quick(20, 2)):
        ours, theirs = FakeKernel(), FakeKernel()
        for kernel in (ours, theirs):
            kernel.builtin_helpers.clear()
            kernel.builtin_helpers.add(("sane", 2, 6))
            kernel.helpers_in_use.add(("rpc", 10, 17))
        for _ in range(100):
            words = helper_line(random)
            with ours.installed():
                outcome = run_own(words)
            assert outcome == outcome_of(runner.run(theirs, ["nfct", *words])), words
            statuses[words[0], outcome.status] += 1
        assert ours.helpers == theirs.helpers
    assert {(name, 0) for name in ("add", "get", "delete", "disable", "list")} <= set(statuses)
    assert {(name, 1) for name in ("add", "get", "delete", "disable", "flush")} <= set(statuses)


@pytest.mark.program("cc", "gcc")
def test_dccp_on_a_fake_kernel(tmp_path: Path) -> None:
    """Linux has no timeouts of DCCP since 6.17."""
    runner, lines = ProgramRunner(tmp_path), ["default-get timeout inet6 dccp"]
    lines += ["add timeout a inet dccp open 5", "list timeout", "default-set timeout inet dccp x 5"]
    ours, theirs = FakeKernel("6.12"), FakeKernel("6.12")
    for line in lines:
        with ours.installed():
            outcome = run_own(line.split())
        assert outcome == outcome_of(runner.run(theirs, ["nfct", *line.split()]))


NAME = "n" * 31
DIFFERENCES = [
    (["flush", ""], 0),
    (["", "timeout"], 0),
    (["add", "timeout", "", "inet", "tcp", "close", "5"], 0),
    (["add", "timeout", f"{NAME}x", "inet", "tcp", "close", "5"], 0),
    (["get", "timeout", f"{NAME}y"], 0),
    (["delete", "timeout", f"{NAME}z"], 0),
    (["add", "timeout", "a", "inet", "tcp", "close", "abc"], 0),
    (["add", "timeout", "b", "inet", "tcp", "close", "12abc"], 0),
    (["add", "timeout", "c", "inet", "tcp", "close", "-1"], 0),
    (["add", "timeout", "d", "inet", "tcp", "close", "2147484"], 0),
    (["default-set", "timeout", "inet", "tcp", "close", ""], 0),
    (["default-get", "timeout", "inet", "tcp", "x"], 0),
]
"""Command lines that nfct(8) accepts, in order, with its exit status. The package refuses them."""


def test_what_nfct8_accepts_although_it_does_something_else(lab: Lab, other: Lab) -> None:
    for words, status in DIFFERENCES:
        assert other.run(run_nfct8, words).status == status, words
        ours = lab.run(run_own, words)
        assert (ours.status, ours.stdout) == (1, ""), words
        assert ours.stderr.startswith("VERSION: "), words
    assert lab.run(run_own, ["list", "timeout"]) == (0, "", "")
    # The policies with the empty name, a, b, c and d. The other one was deleted by another name.
    assert other.run(run_nfct8, ["list", "timeout"]).stdout.count(" = {\n\t.l3proto") == 5
