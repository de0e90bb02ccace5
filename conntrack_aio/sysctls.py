"""The kernel's settings of connection tracking, ``net.netfilter.nf_conntrack_*``."""

from __future__ import annotations

_DIRECTORY = "/proc/sys/net/netfilter"


def read(name: str) -> int | None:
    """A setting in the calling thread's network namespace; ``None`` where it can't be read."""
    try:
        with open(f"{_DIRECTORY}/{name}", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
