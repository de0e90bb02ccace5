"""The connections that the kernel tracks, read without this library's netlink."""

from __future__ import annotations

import re
from pathlib import Path

from conntrack_aio.proc_sys import read_sysctl

PROCFS = Path("/proc/thread-self/net/nf_conntrack")
"""A list of the entries, in kernels that were built with it (CONFIG_NF_CONNTRACK_PROCFS)."""


def read_entries() -> tuple[int, list[str] | None]:
    """How many connections are tracked in this thread's namespace, and a line about each."""
    count = int(read_sysctl("net.netfilter.nf_conntrack_count"))
    return count, PROCFS.read_text().splitlines() if PROCFS.exists() else None


def check_single_entry(pattern: str) -> None:
    count, lines = read_entries()
    assert count == 1
    if lines is not None:
        (line,) = lines
        assert re.search(pattern, line), line
