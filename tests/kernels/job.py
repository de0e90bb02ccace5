"""What a guest does: a shell script, and the files that it leaves."""

from __future__ import annotations

import shlex
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import attrs
from guests import Guest
from images import SAVE_BY_DISK

START = """\
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

OFF = """\
sync
echo o > /proc/sysrq-trigger
sleep 60
"""
"""How a guest that is a machine ends."""


def start(guest: Guest, python: str, path: str, steps: list[str]) -> str:
    """The script that a guest starts with; ``python`` is the interpreter in it."""
    parents = {str(each) for end in (python, Path(python).resolve()) for each in Path(end).parents}
    script = START.format(
        path=path,
        guest=shlex.quote(guest.name),
        compiled="/tmp/compiled" if guest.here else "",
        parents=" ".join(map(shlex.quote, sorted(parents))),
        modules=" ".join(guest.modules),
        steps="\n".join(steps),
    )
    if guest.disks:
        script += f"{SAVE_BY_DISK}\n"
    return script if guest.here else script + OFF


def demo(python: str) -> str:
    """The README's first command, when its packages are installed."""
    return f"{python} -m conntrack_aio demo > /run/job/demo 2>&1; echo $? > /run/job/demo-status"


def pytest(python: str, number: int, *arguments: str) -> str:
    """A run of tests, whose results are ``results-NUMBER.xml``."""
    options = (
        "-p no:cacheprovider -o faulthandler_timeout=1200 -q --durations=10 "
        f"--junitxml=/run/job/results-{number}.xml"
    )
    given = " ".join(map(shlex.quote, arguments))
    return f"{python} -m pytest {options} {given}; echo $? > /run/job/status-{number}"


@attrs.define
class Results:
    """What became of a guest's tests."""

    passed: int = 0
    failed: list[str] = attrs.field(factory=list)
    skipped: Counter[str] = attrs.field(factory=Counter)
    """How many were skipped for each reason."""

    def add(self, file: Path) -> None:
        for case in ET.parse(file).iter("testcase"):
            name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
            skipped = case.find("skipped")
            if skipped is not None:
                self.skipped[skipped.get("message", "")] += 1
            elif case.find("failure") is not None or case.find("error") is not None:
                self.failed.append(name)
            else:
                self.passed += 1
