"""The capabilities that the systemd units grant are sufficient, and each of them is needed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.lab import Lab

pytestmark = [pytest.mark.kernel, pytest.mark.program("setpriv", "util-linux")]

UNITS = Path(__file__).parents[2] / "examples" / "systemd"
SERVER = "conntrack-server.service"
EVENTS = "conntrack-events@.service"


def capabilities(unit: str) -> list[str]:
    """Return the capabilities that a unit grants, by the names of setpriv(1)."""
    text = (UNITS / unit).read_text()
    bounding = re.search(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE)
    ambient = re.search(r"^AmbientCapabilities=(.*)$", text, re.MULTILINE)
    assert bounding is not None
    assert ambient is not None
    assert bounding[1] == ambient[1]
    return [name.removeprefix("CAP_").lower() for name in bounding[1].split()]


def count(lab: Lab, names: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``conntrack-aio count`` with only these capabilities."""
    bounding = ",".join(["-all", *(f"+{name}" for name in names)])
    command = ["setpriv", f"--bounding-set={bounding}", "--inh-caps=-all"]
    command += [sys.executable, "-m", "conntrack_aio", "count", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, pass_fds=[lab.descriptor]
    )


def test_the_server_needs_net_admin(lab: Lab) -> None:
    lab.track()  # otherwise `count` reports that no flow is tracked
    names = capabilities(SERVER)
    assert names == ["net_admin"]
    done = lab.run(count, lab, names)
    assert (done.stdout, done.stderr) == ("0\n", "")
    refused = lab.run(count, lab, [])
    assert refused.returncode == 1
    assert "CAP_NET_ADMIN" in refused.stderr


def test_events_of_another_namespace_need_net_admin_and_sys_admin(lab: Lab) -> None:
    lab.track()
    netns = ("--netns", f"/proc/self/fd/{lab.descriptor}")
    names = capabilities(EVENTS)
    assert sorted(names) == ["net_admin", "sys_admin"]
    done = count(lab, names, *netns)
    assert (done.stdout, done.stderr) == ("0\n", "")
    for name, missing in (("net_admin", "CAP_SYS_ADMIN"), ("sys_admin", "CAP_NET_ADMIN")):
        refused = count(lab, [name], *netns)
        assert refused.returncode == 1
        assert missing in refused.stderr
