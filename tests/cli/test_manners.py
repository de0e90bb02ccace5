"""Where the command writes what it says, and how it ends: as a process among others."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio
import pytest
from support.lab import Lab
from support.processes import (
    DESTROY,
    NEW,
    PATIENCE,
    UPDATE,
    Process,
    subscribers,
    wait_until,
    waiting_bytes,
)

from conntrack_aio import Flow, connect
from conntrack_aio.cli import main
from conntrack_aio.cli.failures import guarded

COMMAND = (sys.executable, "-W", "error::ResourceWarning", "-m", "conntrack_aio")
EVENTS = (*COMMAND, "events")
PIPE = 65536
"""What a pipe holds."""


@pytest.fixture(autouse=True)
def buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that is written at the end fails at the end."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def shell(lab: Lab, line: str, **environment: str) -> tuple[int, str, str]:
    """Run a shell's line, in which ``$C`` is the command: exit status, output and errors."""
    start = partial(
        subprocess.run,
        ["/bin/bash", "-c", line],
        env=os.environ | {"C": " ".join(COMMAND)} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    done = lab.run(start)
    return done.returncode, done.stdout, done.stderr


def make(lab: Lab, count: int) -> None:
    async def action() -> None:
        async with connect(netns=lab.netns) as conn:
            flows = (Flow.udp("10.0.0.1", 1 + n, "10.0.0.2", 53, timeout=600) for n in range(count))
            async with conn.create_many(flows) as bulk:
                async for outcome in bulk:
                    assert outcome.ok

    anyio.run(action)


# Standard error: what can't be said there is not said


SPEAKING = {
    "a hint": ("$C list", 0),
    "what passes between it and the kernel": ("CONNTRACK_AIO_DEBUG=1 $C list", 0),
    "a failure": ("$C count --netns no-such-thing", 1),
    "a bad match": ("$C count proto nonsense", 2),
    "a bad argument": ("$C nonsense", 2),
    "a failure of the demo": ("$C demo --nonsense", 2),
}
"""Commands that say something on standard error, and their exit statuses."""


@pytest.mark.parametrize("case", SPEAKING)
def test_they_do_say_something_and_not_on_standard_output(lab: Lab, case: str) -> None:
    line, expected = SPEAKING[case]
    status, out, err = shell(lab, line)
    assert (status, out) == (expected, "")
    assert err


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full", "2</dev/null"])
@pytest.mark.parametrize("case", SPEAKING)
def test_where_standard_error_takes_nothing_all_else_is_the_same(
    lab: Lab, case: str, where: str
) -> None:
    line, expected = SPEAKING[case]
    assert shell(lab, f"{line} {where}") == (expected, "", "")


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_events_go_on_whatever_standard_error_is(lab: Lab, where: str) -> None:
    lab.sysctl("nf_conntrack_events", 2)  # which it says
    lab.track()
    line = f"exec {' '.join(EVENTS)} --json --type new {where}"
    with Process(lab, "/bin/bash", "-c", line) as events:
        wait_until(lambda: subscribers(lab, NEW))
        make(lab, 3)
        told = [json.loads(events.line()) for _ in range(3)]
        assert [event["flow"]["orig"]["sport"] for event in told] == [1, 2, 3]
        events.signal(signal.SIGINT)
        assert events.end() == (130, "")


def test_a_closed_standard_error_is_not_another_file(lab: Lab) -> None:
    """Its number would be that of the next socket, which Python's own messages would go to."""
    with Process(lab, "/bin/bash", "-c", f"exec {' '.join(EVENTS)} 2>&-") as events:
        wait_until(lambda: subscribers(lab, NEW | UPDATE | DESTROY))
        assert os.readlink(f"/proc/{events.pid}/fd/2") == "/dev/null"


# Standard output: what can't be listed there is a failure


@pytest.mark.parametrize(
    "command", ["list", "events", "count", "explain", "demo", "list --json", "--help", "--version"]
)
def test_standard_output_that_is_closed_is_a_failure(lab: Lab, command: str) -> None:
    make(lab, 1)
    status, _, err = shell(lab, f"$C {command} >&-")
    assert (status, err) == (1, "conntrack-aio: standard output: it is closed\n")


@pytest.mark.parametrize(
    "command", ["list", "count", "explain", "demo", "list --json", "--help", "--version"]
)
def test_standard_output_that_is_full_is_a_failure(lab: Lab, command: str) -> None:
    make(lab, 1)
    status, _, err = shell(lab, f"$C {command} >/dev/full")
    assert status == 1
    lines = err.splitlines()
    assert lines[0] == "conntrack-aio: standard output: No space left on device"
    assert "Traceback" not in err
    assert "Exception ignored" not in err


def test_standard_output_that_is_for_reading_is_a_failure(lab: Lab) -> None:
    status, _, err = shell(lab, "$C count 1</dev/null")
    assert (status, err) == (1, "conntrack-aio: standard output: Bad file descriptor\n")


def test_events_end_when_standard_output_is_full(lab: Lab) -> None:
    lab.track()
    with Process(lab, "/bin/bash", "-c", f"exec {' '.join(EVENTS)} >/dev/full") as events:
        wait_until(lambda: subscribers(lab, NEW | UPDATE | DESTROY))
        make(lab, 1)
        assert events.end() == (1, "conntrack-aio: standard output: No space left on device\n")


@pytest.mark.parametrize("command", ["list", "list --json", "count", "explain", "--help"])
def test_a_reader_that_has_enough_is_no_failure(lab: Lab, command: str) -> None:
    make(lab, 2000)
    status, _, err = shell(lab, f"set -o pipefail; $C {command} | head -1 >/dev/null")
    assert (status, err.replace(HINT, "")) == (0, "")


HINT = "conntrack-aio: flows have no counters here: net.netfilter.nf_conntrack_acct is 0\n"


def test_a_failure_names_the_file_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        Path("/no/such/file").write_text("")

    assert guarded(fail) == 1
    assert capsys.readouterr().err == "conntrack-aio: /no/such/file: No such file or directory\n"


def test_a_failure_is_said_though_nobody_reads(lab: Lab) -> None:
    line = "set -o pipefail; $C count --netns no-such-thing | true"
    status, _, err = shell(lab, line)
    assert status == 1
    assert re.fullmatch(r"conntrack-aio: .*There is no such namespace\n", err)


# Interrupts


def wait_until_blocked(process: Process) -> None:
    """Until it can't write any more. A pipe is full when its pages are, though each may have
    room."""
    wait_until(lambda: waiting_bytes(process.stdout) > PIPE // 2)
    wait_until(lambda: "pipe" in Path(f"/proc/{process.pid}/wchan").read_text())


@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.parametrize("merged", [False, True])
def test_the_first_interrupt_ends_events_that_nobody_reads(
    lab: Lab, form: list[str], merged: bool
) -> None:
    lab.track()
    with Process(lab, *EVENTS, *form, merged=merged) as events:
        wait_until(lambda: subscribers(lab, NEW | UPDATE | DESTROY))
        make(lab, 3000)
        wait_until_blocked(events)
        events.signal(signal.SIGINT)
        assert events.end() == (130, "")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_the_first_interrupt_ends_a_list_that_nobody_reads(lab: Lab, form: list[str]) -> None:
    make(lab, 3000)
    with Process(lab, *COMMAND, "list", *form) as listing:
        wait_until_blocked(listing)
        listing.signal(signal.SIGINT)
        assert listing.end() == (130, "")


def test_the_first_interrupt_ends_what_is_blocked_on_standard_error(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNTRACK_AIO_DEBUG", "1")
    line = f"exec {' '.join(EVENTS)} 2>&1 >/dev/null"
    with Process(lab, "/bin/bash", "-c", line) as events:
        wait_until(lambda: subscribers(lab, NEW | UPDATE | DESTROY))
        monkeypatch.delenv("CONNTRACK_AIO_DEBUG")
        make(lab, 200)
        wait_until_blocked(events)
        events.signal(signal.SIGINT)
        assert events.end() == (130, "")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_an_interrupt_ends_the_demo(lab: Lab, form: list[str]) -> None:
    """A terminal sends it to both of its processes, here while the second one waits to write."""
    line = f"import os, sys; os.setsid(); os.execv(sys.executable, {[*COMMAND, 'demo', *form]!r})"
    with Process(lab, sys.executable, "-c", line) as demo:
        assert demo.line()
        os.killpg(demo.pid, signal.SIGINT)
        status, told = demo.end()
        assert (status, told) in [(130, ""), (0, "")]  # it may have been faster


def test_what_was_written_before_an_interrupt_is_whole(lab: Lab) -> None:
    lab.track()
    with Process(lab, *EVENTS, "--json") as events:
        wait_until(lambda: subscribers(lab, NEW | UPDATE | DESTROY))
        make(lab, 5)
        told = [json.loads(events.line()) for _ in range(5)]
        assert len(told) == 5
        events.signal(signal.SIGINT)
        assert events.end() == (130, "")
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
"""Python runs it before anything else: it sends an interrupt where a module begins to load."""

SCRIPT = """
import sys
from conntrack_aio.cli import main
if __name__ == "__main__":
    sys.exit(main())
"""


@pytest.fixture(params=["python -m", "script"])
def started(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    """How the command is started."""
    (tmp_path / "sitecustomize.py").write_text(SITE)
    if request.param == "python -m":
        return COMMAND
    script = tmp_path / "conntrack-aio"
    script.write_text(SCRIPT)
    return sys.executable, str(script)


def test_an_interrupt_while_modules_load_is_quiet(
    lab: Lab, started: tuple[str, ...], tmp_path: Path
) -> None:
    root = str(Path(__file__).parents[2])

    def run(**environment: str) -> tuple[int, str, str]:
        paths = os.pathsep.join([str(tmp_path), root])
        start = partial(
            subprocess.run,
            (*started, "count"),
            env=os.environ | {"PYTHONPATH": paths} | environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        done = lab.run(start)
        return done.returncode, done.stdout, done.stderr

    imports = tmp_path / "imports"
    assert run(IMPORTS=str(imports)) == (0, "0\n", "")
    names = list(dict.fromkeys(imports.read_text().split()))
    # Before that, the module loads which says what an interrupt is to do.
    names = names[names.index("conntrack_aio.cli.command") :]
    assert {"anyio", "argparse", "asyncio", "conntrack_aio.connection"} <= set(names)
    for name in names[:: len(names) // 7]:
        code, output, errors = run(INTERRUPT_AT=name)
        assert (code, errors) == (130, ""), name
        assert output in ("", "0\n"), name  # some load when all was printed


def test_who_ignores_interrupts_goes_on(lab: Lab) -> None:
    lab.track()
    with Process(lab, "/bin/bash", "-c", f"trap '' INT; exec {' '.join(EVENTS)}") as events:
        wait_until(lambda: subscribers(lab, NEW | UPDATE | DESTROY))
        events.signal(signal.SIGINT)
        make(lab, 1)
        assert events.line().startswith("NEW ")


@pytest.mark.parametrize("program", ["-c", "file"])
def test_to_import_the_library_changes_no_handler(tmp_path: Path, program: str) -> None:
    code = """
import signal, sys
numbers = [each for each in signal.Signals if each not in (signal.SIGKILL, signal.SIGSTOP)]
before = [signal.getsignal(each) for each in numbers], sys.stderr, sys.stdout
import conntrack_aio, conntrack_aio.cli.command, conntrack_aio.cli.demo
assert before == ([signal.getsignal(each) for each in numbers], sys.stderr, sys.stdout)
"""
    path = tmp_path / "server.py"
    path.write_text(code)
    arguments = ["-c", code] if program == "-c" else [str(path)]
    subprocess.run([sys.executable, *arguments], check=True, timeout=PATIENCE)


def test_a_program_that_calls_the_command_gets_its_streams_and_handlers_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGINT), sys.stderr, sys.stdout
    assert main(["count", ""]) == 2
    assert main(["--version"]) == 0
    assert (signal.getsignal(signal.SIGINT), sys.stderr, sys.stdout) == before
    out, err = capsys.readouterr()
    assert out.startswith("conntrack-aio ")
    assert "argument MATCH" in err
