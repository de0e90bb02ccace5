"""Network namespaces around a test's own."""

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
    """Other namespaces, with names in a directory of the test's, and with ids in the lab."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.labs: list[Lab] = []
        self._lab = lab
        self._directory = directory
        self._notices: NetlinkSocket = lab.run(open_socket, NETLINK.ROUTE)
        self._notices.join(RTNLGRP.NSID)

    def new(self, name: str | None = None, *, id: int | None = None) -> Lab:
        """Another namespace, whose flows emit events."""
        lab = Lab(new_network_namespace())
        self.labs.append(lab)
        lab.sysctl("nf_conntrack_events", 1)
        if name is not None:
            self.name(lab, name)
        if id is not None:
            assert self._lab.run(links.assign_nsid, lab.descriptor, id) == id
        return lab

    def name(self, lab: Lab, name: str) -> None:
        """As ``ip netns`` would."""
        (self._directory / name).symlink_to(f"/proc/{os.getpid()}/fd/{lab.descriptor}")

    def unname(self, name: str) -> None:
        (self._directory / name).unlink()

    def let_go(self, lab: Lab) -> None:
        """Close the last descriptor of it that we know of."""
        self.labs.remove(lab)
        os.close(lab.descriptor)

    def wait_until_gone(self) -> None:
        """Until one that had an id is gone: which it never is if anybody keeps it alive."""
        while RTM.DELNSID not in self._heard():
            ready, _, _ = select.select([self._notices.raw.fileno()], [], [], TIMEOUT)
            assert ready, "something keeps the namespace alive"

    def end(self, lab: Lab) -> None:
        self.let_go(lab)
        self.wait_until_gone()

    def _heard(self) -> set[int]:
        try:
            size = self._notices.receive()
        except BlockingIOError:
            return set()
        return {message.type for message in messages.walk(self._notices.buffer, size)}

    def close(self) -> None:
        self._notices.close()
        for lab in self.labs:
            os.close(lab.descriptor)
