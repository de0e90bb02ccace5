"""Run tests on other kernels, under qemu: ``python tests/kernels [GUEST...]``.

It needs Debian's qemu, cpio, kmod and zstd, says which are missing, and fetches the kernels itself.
This machine's root is the guest's, below what the guest writes; for another architecture it is made
of Debian's packages. ``--smoke`` runs the demo and what must work first. Everything that is fetched
stays in ``~/.cache/conntrack_aio``. The exit status is 0 where all is well, 1 where a test failed,
and 2 where no guest can be had here.
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
from debian import Archive, Missing
from guests import GUESTS, Guest

REPOSITORY = Path(__file__).parents[2]
FIRST = "tests/kernels/test_first.py"

LIMIT = 5400.0
"""Seconds that a guest may take."""

HERE = {"x86_64": "amd64", "aarch64": "arm64", "s390x": "s390x"}.get(platform.machine())
"""Debian's name of this machine's architecture."""


@attrs.frozen
class Outcome:
    """What a guest showed."""

    guest: Guest
    release: str
    seconds: float
    demo: str
    results: job.Results
    trouble: str | None
    missing: bool = False
    """Whether it could not be had here."""

    @property
    def right(self) -> bool:
        return self.trouble is None and not self.results.failed


def main() -> int:
    names = [guest.name for guest in GUESTS]
    parser = argparse.ArgumentParser(prog="tests/kernels", description=__doc__)
    parser.add_argument("guests", nargs="*", metavar="GUEST", help=f"of {', '.join(names)}")
    parser.add_argument("--smoke", action="store_true", help="what must work first, in minutes")
    parser.add_argument(
        "--tests", nargs=argparse.REMAINDER, help="what pytest is given instead, to the end"
    )
    parser.add_argument("--cache", type=Path, default=_cache(), help="where packages are kept")
    parser.add_argument("--keep", type=Path, help="keep what the guests printed in this directory")
    options = parser.parse_args()
    unknown = set(options.guests) - set(names)
    if unknown:
        parser.error(f"there is no guest {', '.join(sorted(unknown))}; there are: {names}")
    chosen = [guest for guest in GUESTS if not options.guests or guest.name in options.guests]
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="kernels-") as scratch:
        for guest in chosen:
            directory = (options.keep or Path(scratch)) / guest.name
            directory.mkdir(parents=True, exist_ok=True)
            try:
                outcomes.append(run(guest, directory, options))
            except Missing as error:
                outcomes.append(Outcome(guest, "", 0, "", job.Results(), str(error), missing=True))
            report(outcomes[-1], directory)
    print(table(outcomes))
    if all(outcome.missing for outcome in outcomes):
        return 2
    return 0 if all(outcome.right for outcome in outcomes) else 1


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "conntrack_aio"


def run(guest: Guest, directory: Path, options: argparse.Namespace) -> Outcome:
    """Start a guest, and have it run its tests."""
    machine.check(guest)
    for file in directory.iterdir():
        file.unlink()
    options.cache.mkdir(parents=True, exist_ok=True)
    archive = Archive(options.cache, guest.architecture)
    archive.update()
    own = guest.architecture == HERE and not guest.disks
    shared = {"root": Path("/"), "job": directory}
    python, path = sys.executable, "/run/code"
    if not own:
        shared["root"] = images.build_root(archive, options.cache)
        shared["python"] = images.build_python(options.cache, [sys.executable, "-m", "pip"])
        python, path = "/usr/bin/python3", "/run/code:/run/python"
    start = job.start(guest, python, path, _steps(guest, shlex.quote(python), options))
    (directory / "start").write_text(start)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="guest-") as scratch:
        # A copy: what is edited meanwhile is not the guest's.
        shared["code"] = images.build_code(REPOSITORY, Path(scratch) / "code")
        if guest.here:
            arguments = machine.enter(shared)
        else:
            image = images.build(
                archive, guest.flavor, guest.suite, options.cache, python=not own, disks=guest.disks
            )
            shared["modules"] = image.modules
            if guest.disks:
                shared = _disks(shared, Path(scratch))
            arguments = machine.command(guest, image, shared)
        in_time = machine.run(arguments, directory / "console", LIMIT)
        if guest.disks:
            subprocess.run(["tar", "-xf", str(shared["job"]), "-C", str(directory)], check=False)
    return _outcome(guest, directory, time.monotonic() - begin, in_time=in_time)


def _disks(shared: dict[str, Path], scratch: Path) -> dict[str, Path]:
    """The shared directories as disks; that of the job is an archive, to be replaced."""
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


def _steps(guest: Guest, python: str, options: argparse.Namespace) -> list[str]:
    if options.tests:
        return [job.pytest(python, 1, *options.tests)]
    first = [job.demo(python)]
    smoke = job.pytest(python, 1, "-m", "smoke", *_files("pytest.mark.smoke"))
    if options.smoke:
        return [*first, smoke]
    both = ("-n", "2")  # processors
    marked = _files("pytest.mark.kernels", "anykernel")
    if guest.only:
        marked = [file for file in marked if file.startswith(guest.only)]
    if guest.here:  # with this machine's kernel
        marked = [file for file in marked if not file.startswith("tests/kernels/")]
    elif not guest.only:
        first.append(job.pytest(python, 1, FIRST))  # it unloads modules
    elif not guest.modules:
        first.append(smoke)
    steps = [*first, job.pytest(python, 2, *both, "-m", "kernels and not long", *marked)]
    if guest.also:
        steps.append(job.pytest(python, 3, *both, "-m", "not kernels and not long", *guest.also))
    return steps


def _files(*texts: str) -> list[str]:
    """The files of tests that have one of these texts: to read them all takes a guest minutes."""
    tests = sorted((REPOSITORY / "tests").rglob("test_*.py"))
    return [
        str(file.relative_to(REPOSITORY))
        for file in tests
        if any(text in file.read_text() for text in texts)
    ]


def _outcome(guest: Guest, directory: Path, seconds: float, *, in_time: bool) -> Outcome:
    def contents(name: str) -> str:
        file = directory / name
        return file.read_text(errors="replace").strip() if file.exists() else ""

    results = job.Results()
    trouble = None
    for file in sorted(directory.glob("results-*.xml")):
        results.add(file)
    if not in_time:
        trouble = f"it took more than {LIMIT:.0f} s"
    elif not contents("ended"):
        trouble = "it ended before its tests had: see what it printed"
    elif any(status.read_text().strip() not in "01" for status in directory.glob("status-*")):
        trouble = "pytest could not run the tests: see what it printed"
    demo = contents("demo").splitlines()[-1:]
    if contents("demo-status") not in ("", "0"):
        trouble = f"the demo failed: {' '.join(demo)}"
    return Outcome(guest, contents("release"), seconds, " ".join(demo), results, trouble)


def report(outcome: Outcome, directory: Path) -> None:
    """Print what became of a guest, and what it printed where that is not well."""
    print(f"== {outcome.guest.name}: Linux {outcome.release}, {outcome.seconds:.0f} s")
    print(outcome.demo)
    for name in outcome.results.failed:
        print(f"failed: {name}")
    for reason, count in outcome.results.skipped.most_common():
        print(f"{count} skipped: {reason}")
    if not outcome.right:
        print(outcome.trouble or "")
        for file in (directory / "log", directory / "console"):
            if file.exists():
                lines = file.read_text(errors="replace").splitlines()
                print(f"-- {file.name}", *lines[-200:], sep="\n")
    sys.stdout.flush()


def table(outcomes: Sequence[Outcome]) -> str:
    """The results, as a table of Markdown."""
    lines = [
        "| guest | kernel | passed | failed | skipped | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        results = outcome.results
        failed = outcome.trouble or str(len(results.failed))
        cells = (
            outcome.guest.name,
            outcome.release,
            results.passed,
            failed,
            results.skipped.total(),
            round(outcome.seconds),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
