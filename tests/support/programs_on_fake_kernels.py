"""Run programs of libmnl, such as nfct(8), on a fake kernel.

The kernels on which the tests run may lack what a program asks for, such as user-space helpers. A
library that is loaded before the C library replaces the program's netlink socket by a Unix socket,
from which this module passes the datagrams to the fake kernel.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from conntrack_aio.testing import FakeKernel

from .real_or_fake_kernel import FakeKernelAdapter

_SOURCE: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int replaced = -1;
static const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

int socket(int domain, int type, int protocol)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (domain != AF_NETLINK)
        return NEXT(socket)(domain, type, protocol);
    strncpy(address.sun_path, getenv("FAKE_KERNEL"), sizeof(address.sun_path) - 1);
    replaced = NEXT(socket)(AF_UNIX, SOCK_SEQPACKET, 0);
    if (connect(replaced, (struct sockaddr *)&address, sizeof(address)))
        return -1;
    return replaced;
}

int bind(int fd, const struct sockaddr *address, socklen_t size)
{
    return fd == replaced ? 0 : NEXT(bind)(fd, address, size);
}

int getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
    struct sockaddr_nl own = kernel;

    if (fd != replaced)
        return NEXT(getsockname)(fd, address, size);
    recv(fd, &own.nl_pid, sizeof(own.nl_pid), 0); /* the first datagram is the port id */
    memcpy(address, &own, sizeof(own));
    *size = sizeof(own);
    return 0;
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to,
               socklen_t to_size)
{
    if (fd == replaced)
        to = NULL, to_size = 0;
    return NEXT(sendto)(fd, data, size, flags, to, to_size);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    if (fd != replaced)
        return NEXT(recvmsg)(fd, message, flags);
    memcpy(message->msg_name, &kernel, sizeof(kernel));
    message->msg_namelen = sizeof(kernel);
    message->msg_flags = 0;
    return recv(fd, message->msg_iov[0].iov_base, message->msg_iov[0].iov_len, 0);
}
"""


class ProgramRunner:
    """Runs programs on fake kernels.

    :param directory: an empty directory for the library and the socket.
    """

    def __init__(self, directory: Path) -> None:
        source = directory / "fake_kernel.c"
        source.write_text(_SOURCE)
        self._library = directory / "fake_kernel.so"
        self._path = directory / "socket"
        compiler = ["cc", "-shared", "-fPIC", "-o", str(self._library), str(source), "-ldl"]
        subprocess.run(compiler, check=True)

    def run(self, kernel: FakeKernel, command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        """Run a program that opens at most one netlink socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(self._path))
            listener.listen()
            server = threading.Thread(target=_serve, args=(listener, kernel))
            server.start()
            try:
                return subprocess.run(
                    command,
                    env={
                        **os.environ,
                        "LD_PRELOAD": str(self._library),
                        "FAKE_KERNEL": str(self._path),
                    },
                    capture_output=True,
                    check=False,
                )
            finally:
                listener.shutdown(socket.SHUT_RDWR)  # a program may not have connected
                server.join()
                self._path.unlink()


def _serve(listener: socket.socket, kernel: FakeKernel) -> None:
    try:
        program, _ = listener.accept()
    except OSError:
        return
    own = FakeKernelAdapter(kernel).open()
    with program:
        program.send(struct.pack("=I", kernel.sockets[-1].port_id))
        while request := program.recv(65536):
            own.send(request)
            while True:
                try:
                    size, _ = own.raw.recvfrom_into(memoryview(own.buffer), 65536, 0x20)
                except BlockingIOError:
                    break
                program.send(own.buffer[:size])
    own.close()
