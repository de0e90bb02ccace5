"""Debian's packages of any architecture, by an apt of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

SUITES = ("bookworm", "bookworm-updates", "bookworm-backports", "sid")
DEFAULT = "/^bookworm(-updates|-security)?$/"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Missing(Exception):
    """What can't be had here, and why."""


class Archive:
    """The packages of one architecture, kept in a directory."""

    def __init__(self, directory: Path, architecture: str) -> None:
        self.architecture = architecture
        self._directory = directory / f"apt-{architecture}"
        self._environment = os.environ | {"APT_CONFIG": str(self._directory / "apt.conf")}

    def update(self) -> None:
        """Read what there is."""
        if shutil.which("apt-get") is None:
            raise Missing("apt-get is missing: the kernels are Debian's packages")
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
            "APT::Default-Release": DEFAULT,
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
        # A mirror that is being updated may lack one of the lists: the others will do, or what
        # is wanted is not found in them.
        self._apt("apt-get", "-qq", "update", check=False)

    def kernel(self, flavor: str, suite: str | None) -> str:
        """The package of the newest kernel of a flavor, ``cloud-amd64`` say.

        It is that of the stable release, as updates have it, or of a suite beside it.
        """
        of_suite = [] if suite is None else ["-t", suite]
        output = self._apt("apt-cache", "depends", *of_suite, f"linux-image-{flavor}")
        for line in output.splitlines():
            word, _, name = line.strip().partition(": ")
            if word == "Depends" and name.startswith("linux-image-"):
                return name
        raise Missing(f"Debian {suite or ''} has no linux-image-{flavor}")

    def parts(self, package: str) -> list[str]:
        """A package of a kernel, and since Linux 7 those that it is split into."""
        version = package.removeprefix("linux-image-")
        output = self._apt("apt-cache", "depends", package)
        names = {line.strip().partition(": ")[2] for line in output.splitlines()}
        split = {f"linux-{part}-{version}" for part in ("base", "binary", "modules")}
        return [package, *sorted(split & names)]

    def fetch(self, *names: str) -> list[Path]:
        """The files of some packages, without what they depend on."""
        uris = self._apt("apt-get", "download", "--print-uris", *names).splitlines()
        here = self._directory / "archives"
        files = [here / line.split()[1] for line in uris]
        if not all(file.exists() for file in files):
            self._apt("apt-get", "-qq", "download", *names, cwd=here)
        return files

    def fetch_all(self, names: Sequence[str]) -> list[Path]:
        """The files of some packages and of all that they depend on."""
        install = ("apt-get", "-qq", "-y", "--download-only")
        output = self._apt(*install, "--print-uris", "install", *names).splitlines()
        self._apt(*install, "install", *names)
        return [self._directory / "archives" / line.split()[1] for line in output]

    def _apt(self, *command: str, cwd: Path | None = None, check: bool = True) -> str:
        done = subprocess.run(
            command, env=self._environment, cwd=cwd, capture_output=True, text=True, check=False
        )
        if done.returncode and check:
            raise Missing(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout


def unpack(packages: Iterable[Path], directory: Path) -> None:
    """Put the files of some packages into a directory; none of their scripts is run."""
    directory.mkdir(parents=True, exist_ok=True)
    for package in packages:
        subprocess.run(["dpkg-deb", "-x", str(package), str(directory)], check=True)
