"""What the names of settings begin with."""

from __future__ import annotations

from typing import Final

CONNTRACK: Final = "net.netfilter.nf_conntrack_"
"""The settings of connection tracking (``net/netfilter/nf_conntrack_standalone.c``)."""
