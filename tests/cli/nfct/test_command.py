"""Test ``nfct`` as a process: its names, its streams, and arguments of any bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from random import Random

import pytest
from support.lab import Lab
from support.nfct8 import COMMANDS, NAMES, STATES, run_own
from support.processes import TIMEOUT

from conntrack_aio import Connection
from conntrack_aio.cli import main
from conntrack_aio.cli.nfct.grammar import USAGE
from conntrack_aio.cli.nfct.refusal import VERSION
from conntrack_aio.model.timeouts import TimeoutPolicy, UDPTimeouts
from conntrack_aio.testing import FakeKernel

MODULE = (sys.executable, "-W", "error::ResourceWarning", "-m", "conntrack_aio", "nfct")
SCRIPT = "import sys\nfrom conntrack_aio.cli import main\nsys.exit(main())\n"
ROOT = str(Path(__file__).parents[3])


def run(lab: Lab, line: str, command: tuple[str | bytes, ...] = MODULE) -> tuple[int, bytes, bytes]:
    """Run a line of shell in which ``$C`` is the command."""
    start = partial(
        subprocess.run,
        ["/bin/bash", "-c", line.replace("$C", '"$@"'), "bash", *command],
        env=os.environ | {"PYTHONPATH": ROOT},
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    done = lab.run(start)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.kernel
@pytest.mark.anyio
async def test_names_that_are_not_utf8(lab: Lab, conn: Connection) -> None:
    """They are printed as the bytes that they are, in any locale."""
    name = "\u00fc\udcff"
    await conn.timeouts.create(TimeoutPolicy.of(name, UDPTimeouts(replied=5), family=2))
    command = (*MODULE, "get", "timeout", b"\xc3\xbc\xff")
    for locale in ("C", "C.UTF-8", "POSIX"):
        status, out, err = run(lab, f"LC_ALL={locale} $C", command)
        assert (status, err) == (0, b"")
        assert out.startswith(b".\xc3\xbc\xff = {\n\t.l3proto = 2,\n")
    status, out, err = run(lab, "$C", (*MODULE, b"\xc3\xbc\xff", "timeout"))
    unknown = f"{VERSION}: Unknown subsystem: ".encode() + b"\xc3\xbc\xff\n"
    assert (status, out, err) == (1, b"", unknown + USAGE.encode() + b"\n")


@pytest.mark.kernel
def test_the_program_named_nfct(lab: Lab, tmp_path: Path) -> None:
    script = tmp_path / "nfct"
    script.write_text(SCRIPT)
    command = (sys.executable, str(script))
    assert run(lab, "$C", command) == (1, b"", f"{USAGE}\n".encode())
    assert run(lab, "$C add timeout a inet udp replied 5", command) == (0, b"", b"")
    assert run(lab, "$C list timeout", command) == run(lab, "$C list timeout")
    # Under this name, there are no other subcommands.
    assert run(lab, "$C nfct list", command)[::2] == (
        1,
        f"{VERSION}: Unknown subsystem: nfct\n{USAGE}\n".encode(),
    )


def test_an_interrupt_while_modules_load_is_handled_under_this_name(tmp_path: Path) -> None:
    script = tmp_path / "nfct"
    script.write_text("from conntrack_aio import interrupts\nprint(interrupts.IS_COMMAND)\n")
    command = [sys.executable, str(script)]
    environment = os.environ | {"PYTHONPATH": ROOT}
    assert subprocess.check_output(command, env=environment, timeout=TIMEOUT) == b"True\n"


@pytest.mark.kernel
def test_output_that_cannot_be_written_is_a_failure(lab: Lab) -> None:
    """nfct(8) succeeds."""
    assert run(lab, "$C default-get timeout inet tcp > /dev/full") == (
        1,
        b"",
        b"conntrack-aio: standard output: No space left on device\n",
    )
    status, out, err = run(lab, "$C get timeout missing 2> /dev/full")
    assert (status, out, err) == (1, b"", b"")
    status, out, err = run(lab, "$C default-get timeout inet tcp | true; echo ${PIPESTATUS[0]}")
    assert (out, err) == (b"0\n", b"")


@pytest.mark.parametrize("words", [["list", "version"], ["v", "add", "x"]])
def test_version(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nfct", *words]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{VERSION}: utility for the Netfilter's Connection Tracking System\n")
    assert err == ""


def test_any_words_end_without_a_traceback() -> None:
    """Random bytes, among words that mean something."""
    random = Random(8)
    words = [*COMMANDS, "timeout", "helper", "inet", "inet6", *STATES, *NAMES, "replied", "5", ""]
    kernel = FakeKernel()
    statuses: set[int] = set()
    for _ in range(2000):
        line = [
            os.fsdecode(bytes(random.randrange(1, 256) for _ in range(random.randrange(40))))
            if random.random() < 0.2
            else random.choice(words)
            for _ in range(random.randrange(9))
        ]
        with kernel.installed():
            status, stdout, stderr = run_own(line)
        statuses.add(status)
        assert stderr == "" or stderr.startswith(("VERSION: ", USAGE)), line
        assert status == 0 or not stdout, line
    assert statuses == {0, 1}
