"""A network namespace that a test has to itself."""

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
    """A namespace by its descriptor, and ways to do things in it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @property
    def netns(self) -> NetNS:
        return NetNS.from_fd(self.descriptor)

    def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function inside."""
        return run_inside(self.descriptor, lambda: function(*arguments))

    def sysctl(self, name: str, value: int) -> None:
        """Set ``net.netfilter.NAME``."""
        self.run(set_sysctl, f"net.netfilter.{name}", value)

    def read_sysctl(self, name: str) -> str:
        return self.run(read_sysctl, f"net.netfilter.{name}")

    def track(self) -> None:
        """Have the kernel track the traffic inside."""
        self.run(rules.track_connections)

    def program(self, *command: str, input: str | None = None) -> str:
        """Run another program inside; what it prints. A failure raises, with its words."""
        return self.run(_run, command, input)


def _run(command: Sequence[str], input: str | None) -> str:
    done = subprocess.run(command, input=input, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
