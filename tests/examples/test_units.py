"""The capabilities that the systemd units grant are enough, and none of them is too many."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.lab import Lab

pytestmark = [pytest.mark.kernel, pytest.mark.program("setpriv", "util-linux")]

UNITS = Path(__file__).parents[2] / "examples" / "systemd"
HERE = "conntrack-server.service"
ELSEWHERE = "conntrack-events@.service"


def capabilities(unit: str) -> list[str]:
    """``["net_admin"]``, as setpriv calls them."""
    text = (UNITS / unit).read_text()
    bounding = re.search(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE)
    ambient = re.search(r"^AmbientCapabilities=(.*)$", text, re.MULTILINE)
    assert bounding is not None
    assert ambient is not None
    assert bounding[1] == ambient[1]
    return [name.removeprefix("CAP_").lower() for name in bounding[1].split()]


def count(lab: Lab, names: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """``conntrack-aio count`` with these capabilities and no others."""
    bounding = ",".join(["-all", *(f"+{name}" for name in names)])
    command = ["setpriv", f"--bounding-set={bounding}", "--inh-caps=-all"]
    command += [sys.executable, "-m", "conntrack_aio", "count", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, pass_fds=[lab.descriptor]
    )


def test_this_namespace(lab: Lab) -> None:
    lab.track()  # otherwise `count` reports that no flow is tracked
    names = capabilities(HERE)
    assert names == ["net_admin"]
    done = lab.run(count, lab, names)
    assert (done.stdout, done.stderr) == ("0\n", "")
    refused = lab.run(count, lab, [])
    assert refused.returncode == 1
    assert "CAP_NET_ADMIN" in refused.stderr


def test_another_namespace(lab: Lab) -> None:
    lab.track()
    where = ("--netns", f"/proc/self/fd/{lab.descriptor}")
    names = capabilities(ELSEWHERE)
    assert sorted(names) == ["net_admin", "sys_admin"]
    done = count(lab, names, *where)
    assert (done.stdout, done.stderr) == ("0\n", "")
    for name, missing in (("net_admin", "CAP_SYS_ADMIN"), ("sys_admin", "CAP_NET_ADMIN")):
        refused = count(lab, [name], *where)
        assert refused.returncode == 1
        assert missing in refused.stderr
