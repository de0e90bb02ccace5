"""``python -m benchmarks`` and its companions run, with tables too small to measure anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import describe_python

ROOT = Path(__file__).parents[2]
FIGURES = [
    *("dump", "mixed", "events", "create", "selected", "filtered"),
    *("table", "scaling", "memory", "gaps", "processes", "output", "pythons"),
]
COMPARED = FIGURES[:4]

pytestmark = pytest.mark.kernel


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "benchmarks", "--quick", *arguments)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def report() -> Any:
    done = run("--json", "-")
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_every_figure_is_measured_or_says_why_not(report: Any) -> None:
    assert [figure["name"] for figure in report["figures"]] == FIGURES
    for figure in report["figures"]:
        assert not figure["failed"]
        assert figure["lines"] or figure["notes"][0].startswith("Left out: "), figure


@pytest.mark.parametrize("name", COMPARED)
def test_all_contenders_are_measured(report: Any, name: str) -> None:
    (figure,) = (each for each in report["figures"] if each["name"] == name)
    floor, *others = figure["lines"]
    assert floor["name"] == "floor"
    assert floor["ratio"] is None
    assert all(line["ratio"]["median"] > 0 and line["cpu"]["median"] > 0 for line in others)
    names = [line["name"] for line in others]
    assert names[0] == "conntrack_aio"
    left_out = any(text.startswith("libnetfilter_conntrack") for text in report["missing"])
    assert ("libnetfilter_conntrack" in names) is not left_out
    assert (others[0]["c_ratio"] is None) is left_out
    assert floor["c_ratio"] is None


@pytest.mark.parametrize(
    ("name", "contenders"),
    [
        (
            "selected",
            [
                *("floor, only flows that match", "checked by the kernel", "floor, all flows"),
                *("all checked in Python", "conntrack -L"),
            ],
        ),
        (
            "filtered",
            ["listen, checked by the kernel", "conntrack -E", "create a flow, no listener"],
        ),
    ],
)
def test_filters_are_measured(report: Any, name: str, contenders: list[str]) -> None:
    (figure,) = (each for each in report["figures"] if each["name"] == name)
    if figure["lines"]:
        assert {line["name"] for line in figure["lines"]} >= set(contenders)
    else:
        assert figure["notes"][0].startswith("Left out: ")


def test_the_lengths_of_filter_programs_are_reported(report: Any) -> None:
    (figure,) = (each for each in report["figures"] if each["name"] == "filtered")
    if figure["lines"]:
        assert [note.split(" the kernel ")[0] for note in figure["notes"]] == [
            "For the port",
            "For 3,000 networks",
        ]


@pytest.mark.parametrize("sizes", [("150", "1"), ("1000", "7")])
def test_the_number_of_events_need_not_be_a_multiple_of_a_hundred(sizes: tuple[str, str]) -> None:
    events, per_client = sizes
    done = run("--only", "filtered", "--events", events, "--per-client", per_client)
    assert done.returncode == 0, done.stderr + done.stdout


def test_the_mixed_table_has_flows_of_all_kinds(report: Any) -> None:
    (figure,) = (each for each in report["figures"] if each["name"] == "mixed")
    size = report["sizes"]["mixed"]
    kinds = {
        kind: int(number.replace(",", ""))
        for kind, number in (part.split(": ") for part in figure["notes"][-1].split(", "))
    }
    assert kinds["IPv4"] + kinds["IPv6"] == size
    assert kinds["tcp"] + kinds["udp"] + kinds["icmp"] + kinds["icmpv6"] == size
    assert kinds["with counters"] == kinds["with times"] == size
    assert 0 < kinds["translated"] < size
    assert 0 < kinds["with labels"] < size


def test_options_set_sizes_and_choose_figures(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    done = run("--only", "dump", "--flows", "300", "--json", str(file), "--markdown")
    assert done.returncode == 0, done.stderr
    assert "**stream 300 IPv4 TCP flows**" in done.stdout
    assert "| floor | " in done.stdout
    (figure,) = json.loads(file.read_text())["figures"]
    assert figure["title"] == "stream 300 IPv4 TCP flows"


def test_a_program_of_the_user_is_compared(tmp_path: Path) -> None:
    program = tmp_path / "dumper"
    program.write_text("#!/bin/sh\necho 300 flows: 5.25 µs\n")
    program.chmod(0o755)
    done = run("--only", "mixed", "--mixed", "300", "--json", "-", "--go", str(program))
    assert done.returncode == 0, done.stderr
    (figure,) = json.loads(done.stdout)["figures"]
    (line,) = (each for each in figure["lines"] if each["name"] == "dumper (--go)")
    assert line["value"]["median"] == pytest.approx(5.25)
    assert line["ratio"]["median"] > 0


@pytest.mark.parametrize(
    ("script", "message"),
    [("echo broken >&2; exit 3", "dumper failed: broken"), ("echo done", "printed no number")],
)
def test_a_program_of_the_user_that_fails_is_reported(
    tmp_path: Path, script: str, message: str
) -> None:
    program = tmp_path / "dumper"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    done = run("--only", "mixed", "--mixed", "300", "--go", str(program))
    assert done.returncode == 1
    assert message in done.stdout


def test_several_pythons_are_compared() -> None:
    done = run("--only", "pythons", "--python", sys.executable, "--python", "/bin/false")
    assert done.returncode == 0, done.stderr
    assert "dump: conntrack_aio, Python 1" in done.stdout
    assert f"Python 1 is {describe_python()}." in done.stdout
    assert "Python 2 is left out: /bin/false" in done.stdout


def test_a_figure_whose_table_is_too_large_is_left_out() -> None:
    """Not even root can have a table of this size: ``nf_conntrack_max`` has 31 bits."""
    done = run("--only", "gaps", "--large", str(1 << 40))
    assert done.returncode == 0, done.stderr
    assert "Left out: 1,099,511,627,776 flows are more than" in done.stdout


@pytest.mark.parametrize("kind", [(), ("--mixed",)], ids=["tcp", "mixed"])
def test_the_workload_dumps_its_table_repeatedly(kind: tuple[str, ...]) -> None:
    module = (sys.executable, "-m", "benchmarks.workload", "--flows", "100", "--rounds", "2")
    done = subprocess.run([*module, *kind], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1:] for line in done.stdout.splitlines()] == [["µs", "per", "flow"]] * 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_short_soak_finds_no_problems(backend: str) -> None:
    module = (sys.executable, "-m", "benchmarks.soak", "--minutes", "0.02", "--backend", backend)
    done = subprocess.run(module, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "No problems: all tables agree with the kernel, and nothing is left open." in done.stdout


def test_an_invalid_number_is_refused() -> None:
    done = run("--runs", "0")
    assert done.returncode == 2
    assert "must be at least 1; got 0" in done.stderr
