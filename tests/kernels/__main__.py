"""Run the tests on other kernels, in guests under qemu: ``python tests/kernels [GUEST...]``.

This needs Debian's qemu, cpio, kmod and zstd; if one is missing, the output names its package. The
kernels are fetched and kept in ``~/.cache/conntrack_aio``. A guest uses this machine's root file
system, and what it writes stays in its memory. A guest of another architecture has a root file
system of Debian packages. ``--smoke`` runs only the demo and the smoke tests. The exit status is 0
if all tests passed, 1 if one failed, and 2 if this machine can run none of the guests.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import attrs
import images
import job
import machine
from debian import Archive, Unavailable
from guests import GUESTS, Guest

REPOSITORY = Path(__file__).parents[2]
FIRST_USE_TESTS = "tests/kernels/test_first.py"

TIME_LIMIT = 5400.0
"""The seconds that a guest may take."""

HOST_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64", "s390x": "s390x"}.get(
    platform.machine()
)
"""Debian's name of this machine's architecture."""


@attrs.frozen
class GuestReport:
    """The results of a guest, and why it failed as a whole."""

    guest: Guest
    release: str
    """The release of its kernel."""
    seconds: float
    """The time that it took, in seconds."""
    demo: str
    """The last line that the demo printed."""
    results: job.Results
    error: str | None
    """Why the guest failed, besides tests that failed; else ``None``."""
    unavailable: bool = False
    """Whether this machine cannot run the guest."""

    @property
    def succeeded(self) -> bool:
        return self.error is None and not self.results.failed


def main() -> int:
    names = [guest.name for guest in GUESTS]
    parser = argparse.ArgumentParser(prog="tests/kernels", description=__doc__)
    parser.add_argument(
        "guests",
        nargs="*",
        metavar="GUEST",
        help=f"the guests to run, instead of all: {', '.join(names)}",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="run only the demo and the smoke tests, in minutes"
    )
    parser.add_argument(
        "--tests",
        nargs=argparse.REMAINDER,
        help="run pytest with all further arguments, instead of the tests of the guest",
    )
    parser.add_argument(
        "--cache", type=Path, default=_default_cache(), help="the directory that keeps packages"
    )
    parser.add_argument(
        "--keep", type=Path, help="the directory that keeps the output and the results of guests"
    )
    options = parser.parse_args()
    unknown = set(options.guests) - set(names)
    if unknown:
        parser.error(
            f"unknown guest {', '.join(sorted(unknown))}; the guests are {', '.join(names)}"
        )
    chosen = [guest for guest in GUESTS if not options.guests or guest.name in options.guests]
    reports = []
    with tempfile.TemporaryDirectory(prefix="kernels-") as scratch:
        for guest in chosen:
            directory = (options.keep or Path(scratch)) / guest.name
            directory.mkdir(parents=True, exist_ok=True)
            try:
                reports.append(run(guest, directory, options))
            except Unavailable as error:
                reports.append(
                    GuestReport(guest, "", 0, "", job.Results(), str(error), unavailable=True)
                )
            print_report(reports[-1], directory)
    print(markdown_table(reports))
    if all(report.unavailable for report in reports):
        return 2
    return 0 if all(report.succeeded for report in reports) else 1


def _default_cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "conntrack_aio"


def run(guest: Guest, directory: Path, options: argparse.Namespace) -> GuestReport:
    """Run the tests of a guest in it.

    :param directory: the directory for its output and results.
    :raises Unavailable: when this machine cannot run the guest.
    """
    machine.check_programs(guest)
    for file in directory.iterdir():
        file.unlink()
    options.cache.mkdir(parents=True, exist_ok=True)
    archive = Archive(options.cache, guest.architecture)
    archive.update()
    shares_host_root = guest.architecture == HOST_ARCHITECTURE and not guest.uses_disks
    shared = {"root": Path("/"), "job": directory}
    python, path = sys.executable, "/run/code"
    if not shares_host_root:
        shared["root"] = images.build_root(archive, options.cache)
        shared["python"] = images.build_python(options.cache, [sys.executable, "-m", "pip"])
        python, path = "/usr/bin/python3", "/run/code:/run/python"
    steps = build_steps(guest, shlex.quote(python), options)
    (directory / "start").write_text(job.build_script(guest, python, path, steps))
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="guest-") as scratch:
        # The guest gets a copy, so that edits made while it runs do not reach it.
        shared["code"] = images.build_code(REPOSITORY, Path(scratch) / "code")
        if guest.is_chroot:
            arguments = machine.chroot_command(shared)
        else:
            image = images.build(
                archive,
                guest.flavor,
                guest.suite,
                options.cache,
                python=not shares_host_root,
                disks=guest.uses_disks,
            )
            shared["modules"] = image.modules
            if guest.uses_disks:
                shared = _build_disks(shared, Path(scratch))
            arguments = machine.qemu_command(guest, image, shared)
        in_time = machine.run(arguments, directory / "console", TIME_LIMIT)
        if guest.uses_disks:
            subprocess.run(["tar", "-xf", str(shared["job"]), "-C", str(directory)], check=False)
    return _read_report(guest, directory, time.monotonic() - begin, in_time=in_time)


def _build_disks(shared: dict[str, Path], scratch: Path) -> dict[str, Path]:
    """Return disk images of the shared directories.

    The image of ``job`` is a tar archive, which the guest overwrites with one of the results.
    """
    disks = {}
    for name in images.SHARED:
        disk = scratch / f"{name}.img"
        if name == "job":
            subprocess.run(["tar", "-cf", str(disk), "-C", str(shared[name]), "."], check=True)
            os.truncate(disk, 64 << 20)
        else:
            images.build_disk(shared[name], disk)
        disks[name] = disk
    return disks


def build_steps(guest: Guest, python: str, options: argparse.Namespace) -> list[str]:
    """Return the commands that run the demo and the tests in a guest."""
    if options.tests:
        return [job.pytest_command(python, 1, *options.tests)]
    steps = [job.demo_command(python)]
    smoke = job.pytest_command(python, 1, "-m", "smoke", *_files_with("pytest.mark.smoke"))
    if options.smoke:
        return [*steps, smoke]
    parallel = ("-n", "2")  # a guest has two processors
    marked = _files_with("pytest.mark.kernels", "anykernel")
    if guest.selected_tests:
        marked = [file for file in marked if file.startswith(guest.selected_tests)]
    if guest.is_chroot:  # its kernel is this machine's; tests/kernels is for other kernels
        marked = [file for file in marked if not file.startswith("tests/kernels/")]
    elif not guest.selected_tests:
        # These tests unload modules, so no other test runs at the same time.
        steps.append(job.pytest_command(python, 1, FIRST_USE_TESTS))
    elif not guest.modules:
        steps.append(smoke)
    steps.append(job.pytest_command(python, 2, *parallel, "-m", "kernels and not long", *marked))
    if guest.extra_tests:
        without_marker = ("-m", "not kernels and not long", *guest.extra_tests)
        steps.append(job.pytest_command(python, 3, *parallel, *without_marker))
    return steps


def _files_with(*texts: str) -> list[str]:
    """Return the test files that contain one of these texts.

    Importing all test files would take minutes in a guest.
    """
    tests = sorted((REPOSITORY / "tests").rglob("test_*.py"))
    return [
        str(file.relative_to(REPOSITORY))
        for file in tests
        if any(text in file.read_text() for text in texts)
    ]


def _read_report(guest: Guest, directory: Path, seconds: float, *, in_time: bool) -> GuestReport:
    """Read the results that a guest left in a directory."""

    def contents(name: str) -> str:
        file = directory / name
        return file.read_text(errors="replace").strip() if file.exists() else ""

    results = job.Results()
    error = None
    for file in sorted(directory.glob("results-*.xml")):
        results.add(file)
    if not in_time:
        error = f"the guest did not end within {TIME_LIMIT:.0f} s"
    elif not contents("ended"):
        error = "the guest ended before its tests did; see its output"
    elif any(status.read_text().strip() not in "01" for status in directory.glob("status-*")):
        error = "pytest could not run the tests; see the output of the guest"
    demo = contents("demo").splitlines()[-1:]
    if contents("demo-status") not in ("", "0"):
        error = f"the demo failed: {' '.join(demo)}"
    return GuestReport(guest, contents("release"), seconds, " ".join(demo), results, error)


def print_report(report: GuestReport, directory: Path) -> None:
    """Print the results of a guest and, if it failed, the end of its output."""
    print(f"== {report.guest.name}: Linux {report.release}, {report.seconds:.0f} s")
    print(report.demo)
    for name in report.results.failed:
        print(f"failed: {name}")
    for reason, count in report.results.skipped.most_common():
        print(f"{count} skipped: {reason}")
    if not report.succeeded:
        print(report.error or "")
        for file in (directory / "log", directory / "console"):
            if file.exists():
                lines = file.read_text(errors="replace").splitlines()
                print(f"-- {file.name}", *lines[-200:], sep="\n")
    sys.stdout.flush()


def markdown_table(reports: Sequence[GuestReport]) -> str:
    """Return the results of all guests as a Markdown table."""
    lines = [
        "| guest | kernel | passed | failed | skipped | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for report in reports:
        results = report.results
        failed = report.error or str(len(results.failed))
        cells = (
            report.guest.name,
            report.release,
            results.passed,
            failed,
            results.skipped.total(),
            round(report.seconds),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
