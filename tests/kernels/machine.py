"""Starting a guest under qemu, and waiting until it ends."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from debian import Missing
from guests import Architecture
from images import Image

MEMORY = 3072
"""MiB that a guest has."""


def check(architecture: Architecture) -> None:
    """Say what is missing for a guest of this architecture."""
    for program, package in (
        (architecture.program, architecture.package),
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


def command(architecture: Architecture, image: Image, shared: dict[str, Path]) -> list[str]:
    """How qemu is called, with directories or disks. It can write into ``job`` alone."""
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


def now() -> float:
    return time.monotonic()
