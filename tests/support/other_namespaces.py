"""Create and destroy network namespaces besides the one of the test."""

from __future__ import annotations

import os
import select
from pathlib import Path

from conntrack_aio.netlink import messages
from conntrack_aio.netlink.opening import open_socket
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.uapi.netlink import NETLINK
from conntrack_aio.uapi.rtnetlink import RTM, RTNLGRP

from . import links
from .lab import Lab
from .namespaces import new_network_namespace
from .processes import TIMEOUT


class OtherNamespaces:
    """Other network namespaces, which may have names, and ids as seen from the lab.

    The names are in a directory of the test, as those of ``ip netns`` are in ``/run/netns``.
    """

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.labs: list[Lab] = []
        self._lab = lab
        self._directory = directory
        self._notices: NetlinkSocket = lab.run(open_socket, NETLINK.ROUTE)
        self._notices.join(RTNLGRP.NSID)

    def new(self, name: str | None = None, *, id: int | None = None) -> Lab:
        """Create a namespace whose flows emit events."""
        lab = Lab(new_network_namespace())
        self.labs.append(lab)
        lab.sysctl("nf_conntrack_events", 1)
        if name is not None:
            self.name(lab, name)
        if id is not None:
            assert self._lab.run(links.assign_nsid, lab.descriptor, id) == id
        return lab

    def name(self, lab: Lab, name: str) -> None:
        """Name a namespace, as ``ip netns attach`` does."""
        (self._directory / name).symlink_to(f"/proc/{os.getpid()}/fd/{lab.descriptor}")

    def unname(self, name: str) -> None:
        (self._directory / name).unlink()

    def close_descriptor(self, lab: Lab) -> None:
        """Close this object's descriptor of a namespace."""
        self.labs.remove(lab)
        os.close(lab.descriptor)

    def wait_until_destroyed(self) -> None:
        """Wait until the kernel destroys a namespace that has an id.

        :raises AssertionError: when that does not happen, because a socket, a process or a
            descriptor keeps the namespace.
        """
        while RTM.DELNSID not in self._received_types():
            ready, _, _ = select.select([self._notices.raw.fileno()], [], [], TIMEOUT)
            assert ready, "something keeps the namespace alive"

    def destroy(self, lab: Lab) -> None:
        """Close the last descriptor of a namespace, and wait until the kernel destroys it."""
        self.close_descriptor(lab)
        self.wait_until_destroyed()

    def _received_types(self) -> set[int]:
        """Return the message types of one waiting datagram."""
        try:
            size = self._notices.receive()
        except BlockingIOError:
            return set()
        return {message.type for message in messages.walk(self._notices.buffer, size)}

    def close(self) -> None:
        self._notices.close()
        for lab in self.labs:
            os.close(lab.descriptor)
