"""Starting a guest under qemu, and waiting until it ends."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from debian import Missing
from guests import ARCHITECTURES, Guest
from images import Image

MEMORY = 3072
"""MiB that a guest has."""


def check(guest: Guest) -> None:
    """Say what is missing for a guest."""
    needed = [("unshare", "util-linux")]
    if not guest.here:
        architecture = ARCHITECTURES[guest.architecture]
        needed = [(architecture.program, architecture.package)]
    for program, package in (
        *needed,
        ("cpio", "cpio"),
        ("depmod", "kmod"),
        ("dpkg-deb", "dpkg"),
        ("zstd", "zstd"),
        ("mke2fs", "e2fsprogs"),
    ):
        if shutil.which(program, path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
            raise Missing(
                f"{program} is missing: apt-get install --no-install-recommends {package}"
            )


def command(guest: Guest, image: Image, shared: dict[str, Path]) -> list[str]:
    """How qemu is called, with directories or disks. It can write into ``job`` alone."""
    architecture = ARCHITECTURES[guest.architecture]
    # Software emulation, whatever the machine offers: where guests can't be had otherwise, this
    # works, and everywhere it does the same.
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


HERE = """\
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
"""What runs a userland on this machine's kernel."""


def enter(shared: dict[str, Path]) -> list[str]:
    """What runs a guest's script in a root of its own, without a machine."""
    if os.geteuid() != 0:
        raise Missing("root alone can enter another root")
    given = [f"{name.upper()}={path}" for name, path in shared.items()]
    own = ["unshare", "--mount", "--net", "--propagation", "private"]
    return ["env", *given, *own, "sh", "-c", HERE]


def run(arguments: list[str], console: Path, limit: float) -> bool:
    """Run it until it ends, and return whether it did so within a number of seconds."""
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
