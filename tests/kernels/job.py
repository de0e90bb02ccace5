"""Write the shell script that a guest runs, and read the results that it leaves.

- The script leaves all files in ``/run/job``, which is a directory of this machine.
- ``ended`` exists if the script came to its end, and ``release`` holds the kernel release.
- ``demo`` and ``demo-status`` hold the output and the exit status of the demo.
- ``results-NUMBER.xml`` and ``status-NUMBER`` hold those of each run of pytest.
"""

from __future__ import annotations

import shlex
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import attrs
from guests import Guest
from images import SAVE_BY_DISK

SCRIPT = """\
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/tmp LANG=C.UTF-8 PYTHONPATH={path} CONNTRACK_AIO_TEST_GUEST={guest}
export PYTHONPYCACHEPREFIX={compiled}
unset PYTHONDONTWRITEBYTECODE
exec > /run/job/log 2>&1
ip link set lo up
chmod o+x {parents}
uname -r > /run/job/release
cd /run/code
for module in {modules}; do modprobe $module || echo "no module $module"; done
{steps}
echo ended > /run/job/ended
"""

POWER_OFF = """\
sync
echo o > /proc/sysrq-trigger
sleep 60
"""
"""The end of the script in a virtual machine."""


def build_script(guest: Guest, python: str, path: str, steps: list[str]) -> str:
    """Return the script that a guest runs.

    :param python: the path of the Python interpreter in the guest.
    :param path: the value of ``PYTHONPATH``.
    :param steps: the commands that run the demo and the tests.
    """
    executables = (Path(python), Path(python).resolve())
    parents = {str(parent) for executable in executables for parent in executable.parents}
    script = SCRIPT.format(
        path=path,
        guest=shlex.quote(guest.name),
        compiled="/tmp/compiled" if guest.is_chroot else "",
        parents=" ".join(map(shlex.quote, sorted(parents))),
        modules=" ".join(guest.modules),
        steps="\n".join(steps),
    )
    if guest.uses_disks:
        script += f"{SAVE_BY_DISK}\n"
    return script if guest.is_chroot else script + POWER_OFF


def demo_command(python: str) -> str:
    """Return the command that runs the demo, which is the README's first after installation."""
    return f"{python} -m conntrack_aio demo > /run/job/demo 2>&1; echo $? > /run/job/demo-status"


def pytest_command(python: str, number: int, *arguments: str) -> str:
    """Return the command that runs pytest and writes ``results-NUMBER.xml``."""
    options = (
        "-p no:cacheprovider -o faulthandler_timeout=1200 -q --durations=10 "
        f"--junitxml=/run/job/results-{number}.xml"
    )
    quoted = " ".join(map(shlex.quote, arguments))
    return f"{python} -m pytest {options} {quoted}; echo $? > /run/job/status-{number}"


@attrs.define
class Results:
    """The results of a guest's tests."""

    passed: int = 0
    failed: list[str] = attrs.field(factory=list)
    """The pytest ids of the tests that failed."""
    skipped: Counter[str] = attrs.field(factory=Counter)
    """The number of skipped tests for each reason."""

    def add(self, file: Path) -> None:
        """Add the results in a JUnit XML file of pytest."""
        for case in ET.parse(file).iter("testcase"):
            name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
            skipped = case.find("skipped")
            if skipped is not None:
                self.skipped[skipped.get("message", "")] += 1
            elif case.find("failure") is not None or case.find("error") is not None:
                self.failed.append(name)
            else:
                self.passed += 1
