"""New network namespaces."""

from __future__ import annotations

import os

from conntrack_aio.netlink.namespaces import run_inside, unshare
from conntrack_aio.sandbox.links import set_up
from conntrack_aio.sandbox.namespace import namespace_error
from conntrack_aio.uapi.sched import CLONE_NEWNET

_CURRENT = "/proc/thread-self/ns/net"


def new_network_namespace() -> int:
    """Create a network namespace in which ``lo`` is up, and return a descriptor of it.

    The caller closes the descriptor. The namespace exists as long as the descriptor, or a socket
    or process inside it. This needs CAP_SYS_ADMIN: root, or a process that has entered a sandbox.

    :raises NamespaceError: when the kernel refuses it.
    """
    current = os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # run_inside() has a thread of its own, which can leave its namespace for good.
        return run_inside(current, _unshare)
    finally:
        os.close(current)


def _unshare() -> int:
    try:
        unshare(CLONE_NEWNET)
        set_up("lo")
    except OSError as error:
        raise namespace_error(error, "create a network namespace") from error
    return os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC)
