"""Test the streams, the exit status and the interrupts of the command, as a process."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio
import pytest
from support.command import COMMAND
from support.lab import Lab
from support.processes import (
    DESTROY,
    NEW,
    TIMEOUT,
    UPDATE,
    Process,
    count_subscribers,
    unread_bytes,
    wait_until,
)

from conntrack_aio import Flow, connect
from conntrack_aio.cli import failures, main
from conntrack_aio.cli.failures import guarded
from conntrack_aio.model.settings import ConntrackSysctls

EVENTS = (*COMMAND, "events")
PIPE = 65536
"""The capacity of a pipe in bytes."""


@pytest.fixture(autouse=True)
def buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python buffer standard output, so that write errors occur at exit."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def shell(lab: Lab, line: str, **environment: str) -> tuple[int, str, str]:
    """Run a line of shell in which ``$C`` is the command.

    :returns: the exit status, standard output and standard error.
    """
    start = partial(
        subprocess.run,
        ["/bin/bash", "-c", line.replace("$C", shlex.join(COMMAND))],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    done = lab.run(start)
    return done.returncode, done.stdout, done.stderr


def create_flows(lab: Lab, count: int) -> None:
    """Create entries in the lab's namespace, with the source ports from 1 on."""

    async def action() -> None:
        async with connect(netns=lab.netns) as conn:
            flows = (Flow.udp("10.0.0.1", 1 + n, "10.0.0.2", 53, timeout=600) for n in range(count))
            async with conn.create_many(flows) as bulk:
                async for outcome in bulk:
                    assert outcome.ok

    anyio.run(action)


# Standard error: reports that cannot be written are discarded


REPORTING = {
    "a hint": ("$C list", 0),
    "the trace": ("CONNTRACK_AIO_DEBUG=1 $C list", 0),
    "a failure": ("$C count --netns no-such-thing", 1),
    "an invalid match": ("$C count proto nonsense", 2),
    "an invalid argument": ("$C nonsense", 2),
    "an invalid argument of the demo": ("$C demo --nonsense", 2),
}
"""Commands that write to standard error, and their exit statuses."""


@pytest.mark.parametrize("case", REPORTING)
def test_reports_go_to_standard_error_alone(lab: Lab, case: str) -> None:
    line, expected = REPORTING[case]
    status, out, err = shell(lab, line)
    assert (status, out) == (expected, "")
    assert err


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2</dev/null"])
@pytest.mark.parametrize("case", REPORTING)
def test_unwritable_standard_error_does_not_change_the_exit_status(
    lab: Lab, case: str, redirection: str
) -> None:
    line, expected = REPORTING[case]
    assert shell(lab, f"{line} {redirection}") == (expected, "", "")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_events_continue_though_standard_error_is_unwritable(lab: Lab, redirection: str) -> None:
    lab.sysctl("nf_conntrack_events", 2)  # the command reports this setting
    lab.track()
    line = f"exec {shlex.join(EVENTS)} --json --type new {redirection}"
    with Process(lab, "/bin/bash", "-c", line) as events:
        wait_until(lambda: count_subscribers(lab, NEW))
        create_flows(lab, 3)
        printed = [json.loads(events.line()) for _ in range(3)]
        assert [event["flow"]["orig"]["sport"] for event in printed] == [1, 2, 3]
        events.signal(signal.SIGINT)
        assert events.wait() == (130, "")


def test_the_descriptor_of_a_closed_standard_error_is_reserved(lab: Lab) -> None:
    """Otherwise the next socket would get descriptor 2, and Python's messages would go to it."""
    with Process(lab, "/bin/bash", "-c", f"exec {shlex.join(EVENTS)} 2>&-") as events:
        wait_until(lambda: count_subscribers(lab, NEW | UPDATE | DESTROY))
        assert os.readlink(f"/proc/{events.pid}/fd/2") == "/dev/null"


# Standard output: data that cannot be written is a failure


@pytest.mark.parametrize(
    "command", ["list", "events", "count", "explain", "demo", "list --json", "--help", "--version"]
)
def test_standard_output_that_is_closed_is_a_failure(lab: Lab, command: str) -> None:
    create_flows(lab, 1)
    status, _, err = shell(lab, f"$C {command} >&-")
    assert (status, err) == (1, "conntrack-aio: standard output is closed\n")


@pytest.mark.parametrize(
    "command", ["list", "count", "explain", "demo", "list --json", "--help", "--version"]
)
def test_standard_output_that_is_full_is_a_failure(lab: Lab, command: str) -> None:
    create_flows(lab, 1)
    status, _, err = shell(lab, f"$C {command} >/dev/full")
    assert status == 1
    lines = err.splitlines()
    assert lines[0] == "conntrack-aio: standard output: No space left on device"
    assert "Traceback" not in err
    assert "Exception ignored" not in err


def test_standard_output_that_is_read_only_is_a_failure(lab: Lab) -> None:
    status, _, err = shell(lab, "$C count 1</dev/null")
    assert (status, err) == (1, "conntrack-aio: standard output: Bad file descriptor\n")


def test_events_end_when_standard_output_is_full(lab: Lab) -> None:
    lab.track()
    with Process(lab, "/bin/bash", "-c", f"exec {shlex.join(EVENTS)} >/dev/full") as events:
        wait_until(lambda: count_subscribers(lab, NEW | UPDATE | DESTROY))
        create_flows(lab, 1)
        assert events.wait() == (1, "conntrack-aio: standard output: No space left on device\n")


@pytest.mark.parametrize("command", ["list", "list --json", "count", "explain", "--help"])
def test_a_reader_that_closes_the_pipe_is_no_failure(lab: Lab, command: str) -> None:
    create_flows(lab, 2000)
    status, _, err = shell(lab, f"set -o pipefail; $C {command} | head -1 >/dev/null")
    assert (status, err.replace(HINT, "")) == (0, "")


HINT = f"conntrack-aio: {ConntrackSysctls(acct=False).blind_spots()[0]}\n"
"""What ``list`` reports with the kernel's default settings."""


def test_a_failure_names_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        Path("/no/such/file").write_text("")

    assert guarded(fail) == 1
    assert capsys.readouterr().err == "conntrack-aio: /no/such/file: No such file or directory\n"


def test_a_failure_is_reported_though_the_output_pipe_is_closed(lab: Lab) -> None:
    line = "set -o pipefail; $C count --netns no-such-thing | true"
    status, _, err = shell(lab, line)
    assert status == 1
    assert re.fullmatch(r"conntrack-aio: .*There is no such namespace\n", err)


# Interrupts


def wait_until_blocked(process: Process) -> None:
    """Wait until the process blocks in a write to its output pipe.

    A pipe is full when all of its pages are used, though each page may have room left.
    """
    wait_until(lambda: unread_bytes(process.stdout) > PIPE // 2)
    wait_until(lambda: "pipe" in Path(f"/proc/{process.pid}/wchan").read_text())


@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.parametrize("merged", [False, True])
def test_one_interrupt_ends_events_that_block_on_a_full_pipe(
    lab: Lab, form: list[str], merged: bool
) -> None:
    lab.track()
    with Process(lab, *EVENTS, *form, merged=merged) as events:
        wait_until(lambda: count_subscribers(lab, NEW | UPDATE | DESTROY))
        create_flows(lab, 3000)
        wait_until_blocked(events)
        events.signal(signal.SIGINT)
        assert events.wait() == (130, "")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_one_interrupt_ends_a_list_that_blocks_on_a_full_pipe(lab: Lab, form: list[str]) -> None:
    create_flows(lab, 3000)
    with Process(lab, *COMMAND, "list", *form) as listing:
        wait_until_blocked(listing)
        listing.signal(signal.SIGINT)
        assert listing.wait() == (130, "")


def test_one_interrupt_ends_a_write_that_blocks_on_standard_error(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNTRACK_AIO_DEBUG", "1")
    line = f"exec {shlex.join(EVENTS)} 2>&1 >/dev/null"
    with Process(lab, "/bin/bash", "-c", line) as events:
        wait_until(lambda: count_subscribers(lab, NEW | UPDATE | DESTROY))
        monkeypatch.delenv("CONNTRACK_AIO_DEBUG")
        create_flows(lab, 200)
        wait_until_blocked(events)
        events.signal(signal.SIGINT)
        assert events.wait() == (130, "")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_an_interrupt_ends_the_demo(lab: Lab, form: list[str]) -> None:
    """A terminal interrupts both processes of the demo, here while the child waits to write."""
    line = f"import os, sys; os.setsid(); os.execv(sys.executable, {[*COMMAND, 'demo', *form]!r})"
    with Process(lab, sys.executable, "-c", line) as demo:
        assert demo.line()
        os.killpg(demo.pid, signal.SIGINT)
        status, errors = demo.wait()
        assert (status, errors) in [(130, ""), (0, "")]  # the demo may end before the interrupt


def test_lines_before_an_interrupt_are_complete(lab: Lab) -> None:
    lab.track()
    with Process(lab, *EVENTS, "--json") as events:
        wait_until(lambda: count_subscribers(lab, NEW | UPDATE | DESTROY))
        create_flows(lab, 5)
        printed = [json.loads(events.line()) for _ in range(5)]
        assert len(printed) == 5
        events.signal(signal.SIGINT)
        assert events.wait() == (130, "")
        with pytest.raises(EOFError, match=r"after b''"):
            events.line()


SITE = """
import os, signal, sys

def interrupt(event, arguments, target=os.environ.get("INTERRUPT_AT")):
    if event == "import":
        if target is None:
            with open(os.environ["IMPORTS"], "a") as file:
                print(arguments[0], file=file)
        elif arguments[0] == target:
            os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(interrupt)
"""
"""The module sitecustomize, which Python runs first.

It sends an interrupt when the import of the module INTERRUPT_AT begins. Without that variable, it
records the names of all imported modules.
"""

SCRIPT = """
import sys
from conntrack_aio.cli import main
if __name__ == "__main__":
    sys.exit(main())
"""


@pytest.fixture(params=["python -m", "script"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    """Return the command line that starts the command in one of the two ways."""
    (tmp_path / "sitecustomize.py").write_text(SITE)
    if request.param == "python -m":
        return COMMAND
    script = tmp_path / "conntrack-aio"
    script.write_text(SCRIPT)
    return sys.executable, str(script)


def test_an_interrupt_while_modules_load_is_quiet(
    lab: Lab, program: tuple[str, ...], tmp_path: Path
) -> None:
    root = str(Path(__file__).parents[2])

    def run(**environment: str) -> tuple[int, str, str]:
        paths = os.pathsep.join([str(tmp_path), root])
        start = partial(
            subprocess.run,
            (*program, "list", "--quiet"),
            env=os.environ | {"PYTHONPATH": paths} | environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        done = lab.run(start)
        return done.returncode, done.stdout, done.stderr

    imports = tmp_path / "imports"
    assert run(IMPORTS=str(imports)) == (0, "", "")
    names = list(dict.fromkeys(imports.read_text().split()))
    # The modules before this one load before the signal handler is installed.
    names = names[names.index("conntrack_aio.cli.command") :]
    assert {"anyio", "argparse", "asyncio", "conntrack_aio.connection"} <= set(names)
    for name in names[:: len(names) // 7]:
        assert run(INTERRUPT_AT=name) == (130, "", ""), name


def test_an_interrupt_as_the_action_ends_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the handler is changed, an interrupt raises an exception."""
    calls: list[None] = []

    def interrupted_once() -> None:
        calls.append(None)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(failures, "exit_on_interrupt", interrupted_once)
    monkeypatch.setattr(failures, "discard_output", lambda: None)
    assert guarded(lambda: 0) == 130
    assert len(calls) == 2


def test_a_process_that_ignores_interrupts_continues(lab: Lab) -> None:
    lab.track()
    with Process(lab, "/bin/bash", "-c", f"trap '' INT; exec {shlex.join(EVENTS)}") as events:
        wait_until(lambda: count_subscribers(lab, NEW | UPDATE | DESTROY))
        events.signal(signal.SIGINT)
        create_flows(lab, 1)
        assert events.line().startswith("NEW ")


@pytest.mark.parametrize("program", ["-c", "file"])
def test_importing_the_library_changes_no_signal_handler(tmp_path: Path, program: str) -> None:
    code = """
import signal, sys
signals = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}
before = {number: signal.getsignal(number) for number in signals}, sys.stderr, sys.stdout
import conntrack_aio, conntrack_aio.cli.command, conntrack_aio.cli.demonstration
after = {number: signal.getsignal(number) for number in signals}, sys.stderr, sys.stdout
assert before == after
"""
    path = tmp_path / "server.py"
    path.write_text(code)
    arguments = ["-c", code] if program == "-c" else [str(path)]
    subprocess.run([sys.executable, *arguments], check=True, timeout=TIMEOUT)


def test_main_restores_the_streams_and_signal_handlers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGINT), sys.stderr, sys.stdout
    assert main(["count", ""]) == 2
    assert main(["--version"]) == 0
    assert (signal.getsignal(signal.SIGINT), sys.stderr, sys.stdout) == before
    out, err = capsys.readouterr()
    assert out.startswith("conntrack-aio ")
    assert "argument MATCH" in err
