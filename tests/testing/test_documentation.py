"""The examples in the documentation of conntrack_aio.testing run as they are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import conntrack_aio.testing

BLOCKS = re.compile(r"::\n\n((?:    .*\n|\n)+)")


def files() -> dict[str, str]:
    """Return the code blocks by the file names that they begin with."""
    assert conntrack_aio.testing.__doc__ is not None
    examples: dict[str, str] = {}
    for block in BLOCKS.findall(conntrack_aio.testing.__doc__):
        name = re.match(r"# (\w+\.py)\n", dedent(block))
        assert name is not None, block
        examples[name[1]] = dedent(block)
    return examples


def test_the_examples_pass(tmp_path: Path) -> None:
    examples = files()
    assert set(examples) == {"program.py", "test_program.py", "test_follow.py"}
    for name, text in examples.items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "4 passed" in process.stdout
