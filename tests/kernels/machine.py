"""Start a guest, under qemu or in a chroot, and wait until it ends."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from debian import Unavailable
from guests import ARCHITECTURES, Guest
from images import Image

MEMORY = 3072
"""The memory of a guest, in MiB."""


def check_programs(guest: Guest) -> None:
    """Check that this machine has the programs that a guest needs.

    :raises Unavailable: when one is missing; the message names its package.
    """
    runners = [("unshare", "util-linux")]
    if not guest.is_chroot:
        architecture = ARCHITECTURES[guest.architecture]
        runners = [(architecture.program, architecture.package)]
    for program, package in (
        *runners,
        ("cpio", "cpio"),
        ("depmod", "kmod"),
        ("dpkg-deb", "dpkg"),
        ("zstd", "zstd"),
        ("mke2fs", "e2fsprogs"),
    ):
        if shutil.which(program, path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
            raise Unavailable(
                f"{program} is missing; run: apt-get install --no-install-recommends {package}"
            )


def qemu_command(guest: Guest, image: Image, shared: dict[str, Path]) -> list[str]:
    """Return the qemu command line that boots a guest.

    :param shared: the directories or disk images to share, by name. The guest can write only to
        ``job``.
    """
    architecture = ARCHITECTURES[guest.architecture]
    # Always use software emulation, even if the machine has KVM. It works on every machine, and the
    # guest sees the same processor everywhere.
    arguments = [
        *(architecture.program, *architecture.arguments),
        *("-accel", "tcg,thread=multi", "-m", str(MEMORY), "-smp", "2"),
        *("-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-nic", "none"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initial)),
        *("-append", f"{architecture.console} panic=-1 quiet"),
    ]
    for tag, path in shared.items():
        if path.is_file():
            option = f"file={path},format=raw,if=virtio"
            arguments += ["-drive", option if tag == "job" else f"{option},readonly=on"]
            continue
        option = f"local,path={path},mount_tag={tag},security_model=none,multidevs=remap"
        arguments += ["-virtfs", option if tag == "job" else f"{option},readonly=on"]
    return arguments


CHROOT_SCRIPT = """\
set -e
mount --bind "$ROOT" "$ROOT"
cd "$ROOT"
mkdir -p proc sys dev tmp run
mount -t proc proc proc
mount -t sysfs sys sys
mount --rbind /dev dev
mount -t tmpfs tmp tmp
mount -t tmpfs run run
mkdir -p run/netns run/code run/job run/python
mount --bind "$CODE" run/code
mount --bind "$JOB" run/job
mount --bind "$PYTHON" run/python
exec chroot . /bin/sh /run/job/start
"""
"""The shell script that mounts the shared directories and runs the guest's script in a chroot."""


def chroot_command(shared: dict[str, Path]) -> list[str]:
    """Return the command that runs a guest's script in a chroot, on this machine's kernel.

    :param shared: the shared directories, by name.
    :raises Unavailable: when the caller is not root.
    """
    if os.geteuid() != 0:
        raise Unavailable("this guest runs in a chroot, which needs root")
    variables = [f"{name.upper()}={path}" for name, path in shared.items()]
    unshare = ["unshare", "--mount", "--net", "--propagation", "private"]
    return ["env", *variables, *unshare, "sh", "-c", CHROOT_SCRIPT]


def run(arguments: list[str], console: Path, limit: float) -> bool:
    """Run a command until it ends, and kill it when it exceeds the time limit.

    :param console: the file that gets its output.
    :param limit: the time limit, in seconds.
    :returns: whether it ended within the limit.
    """
    with console.open("wb") as output:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            return False
        finally:
            process.kill()
            process.wait()
    return True
