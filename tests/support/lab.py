"""The network namespace of a test, and functions that run inside it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from typing import TypeVar

from conntrack_aio import NetNS
from conntrack_aio.netlink.namespaces import run_inside
from conntrack_aio.proc_sys import read_sysctl, set_sysctl
from conntrack_aio.sandbox import rules

T = TypeVar("T")


class Lab:
    """A network namespace, given by a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @property
    def netns(self) -> NetNS:
        return NetNS.from_fd(self.descriptor)

    def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function inside the namespace, and return its result."""
        return run_inside(self.descriptor, lambda: function(*arguments))

    def sysctl(self, name: str, value: int) -> None:
        """Set ``net.netfilter.NAME``."""
        self.run(set_sysctl, f"net.netfilter.{name}", value)

    def read_sysctl(self, name: str) -> str:
        return self.run(read_sysctl, f"net.netfilter.{name}")

    def track(self) -> None:
        """Make the kernel track the traffic inside the namespace."""
        self.run(rules.track_connections)

    def program(self, *command: str, input: str | None = None) -> str:
        """Run a program inside the namespace, and return its standard output.

        :raises AssertionError: when the exit status is not 0, with the program's standard error.
        """
        return self.run(_run, command, input)


def _run(command: Sequence[str], input: str | None) -> str:
    done = subprocess.run(command, input=input, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
