"""The examples of the documentation are run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import conntrack_aio.testing

BLOCKS = re.compile(r"::\n\n((?:    .*\n|\n)+)")


def files() -> dict[str, str]:
    """Each block that begins with a file's name."""
    assert conntrack_aio.testing.__doc__ is not None
    found: dict[str, str] = {}
    for block in BLOCKS.findall(conntrack_aio.testing.__doc__):
        name = re.match(r"# (\w+\.py)\n", dedent(block))
        assert name is not None, block
        found[name[1]] = dedent(block)
    return found


def test_the_examples(tmp_path: Path) -> None:
    examples = files()
    assert set(examples) == {"program.py", "test_program.py", "test_follow.py"}
    for name, text in examples.items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
