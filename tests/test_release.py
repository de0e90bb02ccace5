"""What a release needs: a version that all places agree on, and files that say what is true."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import conntrack_aio

ROOT = Path(__file__).parents[1]
SECTION = re.compile(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)


def test_the_command_reports_the_version_of_the_distribution() -> None:
    command = [sys.executable, "-m", "conntrack_aio", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"conntrack-aio {metadata.version('conntrack_aio')}\n"
    assert conntrack_aio.__version__ == metadata.version("conntrack_aio")


def test_the_changelog_goes_with_the_version() -> None:
    """A development version has changes that are not released; a release has a dated section."""
    (newest, date), *older = SECTION.findall((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    if ".dev" in conntrack_aio.__version__:
        assert (newest, date) == ("Unreleased", "")
    else:
        assert newest == conntrack_aio.__version__
        assert date
    assert all(date for _, date in older)


def test_the_publishing_job_has_no_code_and_no_password() -> None:
    workflow = (ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8")
    build, publish = workflow.split("\n  publish:\n")
    assert "id-token: write" in publish
    assert "id-token" not in build
    assert "run:" not in publish
    assert "actions/checkout" not in publish
    assert "secrets." not in workflow
    assert "password" not in workflow.replace("no password", "")
