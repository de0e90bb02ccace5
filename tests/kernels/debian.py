"""Fetch and unpack Debian packages of any architecture.

- Each architecture has its own apt configuration, separate from that of this machine.
- No script of a package runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

SUITES = ("bookworm", "bookworm-updates", "bookworm-backports", "sid")
DEFAULT_RELEASE = "/^bookworm(-updates|-security)?$/"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Unavailable(Exception):
    """A guest cannot be run on this machine; the message says why."""


class Archive:
    """The Debian packages of one architecture, cached in a directory."""

    def __init__(self, directory: Path, architecture: str) -> None:
        self.architecture = architecture
        self._directory = directory / f"apt-{architecture}"
        self._environment = os.environ | {"APT_CONFIG": str(self._directory / "apt.conf")}

    def update(self) -> None:
        """Write the apt configuration and fetch the package lists.

        :raises Unavailable: when this machine has no apt.
        """
        if shutil.which("apt-get") is None:
            raise Unavailable("apt-get is missing; it is needed to fetch Debian's kernel packages")
        for name in ("lists/partial", "archives/partial"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        lines = [
            f"deb [signed-by={KEYRING}] http://deb.debian.org/debian {suite} main"
            for suite in SUITES
        ]
        security = "http://deb.debian.org/debian-security bookworm-security main"
        lines.append(f"deb [signed-by={KEYRING}] {security}")
        (self._directory / "sources.list").write_text("\n".join(lines) + "\n")
        settings = {
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Default-Release": DEFAULT_RELEASE,
            "APT::Sandbox::User": "root",
            "APT::Install-Recommends": "false",
            "Dir::State::Lists": self._directory / "lists",
            "Dir::State::Status": "/dev/null",
            "Dir::Cache": self._directory,
            "Dir::Cache::Archives": self._directory / "archives",
            "Dir::Etc::SourceList": self._directory / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Acquire::Retries": 3,
        }
        text = "".join(f'{name} "{value}";\n' for name, value in settings.items())
        (self._directory / "apt.conf").write_text(text)
        # A mirror that is being updated may lack one of the lists. That is no error yet: if a
        # package is in none of the other lists, fetching it fails.
        self._apt("apt-get", "-qq", "update", check=False)

    def kernel(self, flavor: str, suite: str | None) -> str:
        """Return the name of the package with the newest kernel of a flavor.

        :param flavor: the flavor and architecture, such as ``cloud-amd64``.
        :param suite: the Debian suite; ``None`` for the stable release with its updates.
        :raises Unavailable: when the suite has no such kernel.
        """
        suite_options = [] if suite is None else ["-t", suite]
        output = self._apt("apt-cache", "depends", *suite_options, f"linux-image-{flavor}")
        for line in output.splitlines():
            relation, _, name = line.strip().partition(": ")
            if relation == "Depends" and name.startswith("linux-image-"):
                return name
        raise Unavailable(f"Debian {suite or 'stable'} has no package linux-image-{flavor}")

    def kernel_packages(self, package: str) -> list[str]:
        """Return the names of all packages that a kernel consists of.

        Since Linux 7, Debian splits a kernel into several packages.
        """
        version = package.removeprefix("linux-image-")
        output = self._apt("apt-cache", "depends", package)
        names = {line.strip().partition(": ")[2] for line in output.splitlines()}
        split = {f"linux-{part}-{version}" for part in ("base", "binary", "modules")}
        return [package, *sorted(split & names)]

    def fetch(self, *names: str) -> list[Path]:
        """Return the files of some packages, without their dependencies."""
        uris = self._apt("apt-get", "download", "--print-uris", *names).splitlines()
        directory = self._directory / "archives"
        files = [directory / line.split()[1] for line in uris]
        if not all(file.exists() for file in files):
            self._apt("apt-get", "-qq", "download", *names, cwd=directory)
        return files

    def fetch_all(self, names: Sequence[str]) -> list[Path]:
        """Return the files of some packages and of all their dependencies."""
        install = ("apt-get", "-qq", "-y", "--download-only")
        output = self._apt(*install, "--print-uris", "install", *names).splitlines()
        self._apt(*install, "install", *names)
        return [self._directory / "archives" / line.split()[1] for line in output]

    def _apt(self, *command: str, cwd: Path | None = None, check: bool = True) -> str:
        process = subprocess.run(
            command, env=self._environment, cwd=cwd, capture_output=True, text=True, check=False
        )
        if process.returncode and check:
            raise Unavailable(f"{' '.join(command)}: {process.stderr.strip()}")
        return process.stdout


def unpack(packages: Iterable[Path], directory: Path) -> None:
    """Unpack some packages into a directory, without running their scripts."""
    directory.mkdir(parents=True, exist_ok=True)
    for package in packages:
        subprocess.run(["dpkg-deb", "-x", str(package), str(directory)], check=True)
