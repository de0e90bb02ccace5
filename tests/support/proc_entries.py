"""Read the kernel's connection tracking entries from procfs, without netlink."""

from __future__ import annotations

import re
from pathlib import Path

from conntrack_aio.proc_sys import read_sysctl

PROCFS = Path("/proc/thread-self/net/nf_conntrack")
"""The list of entries. It exists in kernels with CONFIG_NF_CONNTRACK_PROCFS."""


def read_entries() -> tuple[int, list[str] | None]:
    """Return the number of entries in this thread's network namespace, and a line for each.

    Instead of the lines, return ``None`` if the kernel has no :data:`PROCFS`.
    """
    count = int(read_sysctl("net.netfilter.nf_conntrack_count"))
    return count, PROCFS.read_text().splitlines() if PROCFS.exists() else None


def check_single_entry(pattern: str) -> None:
    """Check that there is one entry, and that its line matches a regular expression."""
    count, lines = read_entries()
    assert count == 1
    if lines is not None:
        (line,) = lines
        assert re.search(pattern, line), line
