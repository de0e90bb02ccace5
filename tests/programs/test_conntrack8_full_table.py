"""In a full table, the command line of conntrack(8) fails as the program does.

No network namespace may have a limit of its own, so the kernel is the fake one.
"""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from support.programs_on_fake_kernels import ProgramRunner

from conntrack_aio.cli import main
from conntrack_aio.testing import FakeKernel

pytestmark = [
    pytest.mark.program("conntrack", "conntrack"),
    pytest.mark.program("cc", "gcc"),
]

NEW = "-p udp -s 10.0.0.1 -d 10.0.0.2 --sport {} --dport 2 -t 100"


def full_kernel() -> FakeKernel:
    kernel = FakeKernel()
    kernel.sysctls["nf_conntrack_max"] = 1
    return kernel


def without_version(text: str) -> str:
    return re.sub(r"conntrack v\S+ \([^)]*\)", "VERSION", text)


@pytest.mark.parametrize("action", ["-I", "-A"])
def test_an_entry_that_does_not_fit(tmp_path: Path, action: str) -> None:
    runner, ours, theirs = ProgramRunner(tmp_path), full_kernel(), full_kernel()
    for port, status in ((1, 0), (2, 1)):
        words = [action, *NEW.format(port).split()]
        done = runner.run(theirs, ["conntrack", *words])
        with (
            ours.installed(),
            redirect_stdout(io.StringIO()) as out,
            redirect_stderr(io.StringIO()) as err,
        ):
            assert main(words) == done.returncode == status
        assert out.getvalue() == os.fsdecode(done.stdout)
        assert without_version(err.getvalue()) == without_version(os.fsdecode(done.stderr))
    assert "Operation failed: " in err.getvalue()
