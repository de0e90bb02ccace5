"""Test queries and files of columns, as processes in a network namespace."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import polars
import pyarrow
import pytest
from support import flows
from support.lab import Lab
from support.processes import TIMEOUT, Process, wait_until

from conntrack_aio import Connection, Flow, connect
from conntrack_aio.cli.arrow_files import write_arrow, write_parquet
from conntrack_aio.cli.sql_queries import _scanned
from conntrack_aio.codec.columns import ColumnBatch

pytestmark = pytest.mark.kernel

COMMAND = (sys.executable, "-W", "error::ResourceWarning", "-m", "conntrack_aio")
WEB = Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 443, timeout=600, mark=0x50)
DNS = Flow.udp("fd00::1", 1000, "fd00::2", 53, timeout=600, zone=7)
PING = Flow.icmp("10.0.0.1", "10.0.0.2", id=9, timeout=600)


def run(lab: Lab, *arguments: str, command: tuple[str, ...] = COMMAND) -> tuple[int, str, str]:
    """Run the command, and return its exit status, standard output and standard error."""
    start = partial(subprocess.run, (*command, *arguments), capture_output=True, text=True)
    done = lab.run(partial(start, timeout=TIMEOUT, check=False))
    return done.returncode, done.stdout, done.stderr


def do(lab: Lab, action: Callable[[Connection], Awaitable[object]]) -> None:
    async def main() -> None:
        async with connect(netns=lab.netns) as conn:
            await action(conn)

    anyio.run(main)


@pytest.fixture
def three(lab: Lab) -> Lab:
    """A namespace with three flows."""

    async def create(conn: Connection) -> None:
        for flow in (WEB, DNS, PING):
            await conn.create(flow)

    do(lab, create)
    return lab


def without(module: str) -> tuple[str, ...]:
    """Return the command as it is where a package is not installed."""
    code = f"import sys; sys.modules[{module!r}] = None; import conntrack_aio.cli as c; "
    return sys.executable, "-c", code + "sys.exit(c.main())"


# sql


def test_a_result_is_aligned(three: Lab) -> None:
    query = "select protocol, orig_src, orig_dport as port, mark from flows order by mark desc, 1"
    assert run(three, "sql", query) == (
        0,
        "protocol  orig_src  port  mark\n"
        "tcp       10.0.0.1   443    80\n"
        "icmp      10.0.0.1  NULL     0\n"
        "udp       fd00::1     53     0\n",
        "",
    )


def test_a_result_of_many_rows_is_printed_completely(lab: Lab) -> None:
    do(lab, lambda conn: flows.fill(conn, map(flows.tcp, range(2500))))
    status, out, err = run(lab, "sql", "select orig_src, orig_sport from flows")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert len(set(lines)) == 2501
    assert {len(line.split()) for line in lines} == {2}


def test_a_result_as_json(three: Lab) -> None:
    query = "select * from flows where zone is null order by mark"
    status, out, err = run(three, "sql", "--json", query)
    assert (status, err) == (0, "")
    ping, web = map(json.loads, out.splitlines())
    assert (web["orig_src"], web["state"], web["mark"]) == ("10.0.0.1", "ESTABLISHED", 0x50)
    assert (ping["protocol"], ping["orig_icmp_id"], ping["orig_dport"]) == ("icmp", 9, None)
    query = "select sum(mark) as s, {'a': [1.5::decimal(3,1)]} as d, '\\xff'::blob as b from flows"
    assert json.loads(run(three, "sql", "--json", query)[1]) == {
        "s": 0x50,
        "d": {"a": [1.5]},
        "b": r"\xFF",
    }


@pytest.mark.parametrize(
    ("query", "result"),
    [
        ("select count(*) as n from flows", "3"),
        ("select count(*) as n from flows f join flows g on f.reply_dst = g.orig_src", "5"),
        ("with a as (from flows) select max(orig_sport) as n from a", "1000"),
        ("select (select mark from flows where protocol = 'tcp') as n", "80"),
        ("select count(columns('.*_dport')) as n from (from flows where mark = 80)", None),
        ("select 5 as n", "5"),
    ],
)
def test_any_query_reads_the_columns_that_it_needs(
    three: Lab, query: str, result: str | None
) -> None:
    status, out, err = run(three, "sql", query)
    assert (status, err) == (0, "")
    if result is not None:
        assert out.split() == ["n", result]


NANOSECONDS = "2020-01-01 00:00:00.123456789"


@pytest.mark.parametrize(
    ("query", "text", "row"),
    [
        (
            "select 1 as a, 2 as a, 3 as A",
            "a  a_1  A_2\n1    2    3\n",
            {"a": 1, "a_1": 2, "A_2": 3},
        ),
        ("select 'nan'::float as n", "  n\nnan\n", {"n": None}),
        ("select {'x': ['-inf'::float]} as s", "s\n{'x': [-inf]}\n", {"s": {"x": [None]}}),
        (
            f"select timestamp_ns '{NANOSECONDS}' as t",
            f"t\n{NANOSECONDS}\n",
            {"t": NANOSECONDS},
        ),
        (
            f"select [timestamp_ns '{NANOSECONDS}'] as t",
            f"t\n['{NANOSECONDS}']\n",
            {"t": [NANOSECONDS]},
        ),
        ("select date 'infinity' as d", "d\ninfinity\n", {"d": "infinity"}),
        ("select interval '1 month' as i", "i\n1 month\n", {"i": "1 month"}),
        ("select 1.50 as num, [1] as l", " num  l\n1.50  [1]\n", {"num": 1.5, "l": [1]}),
        ('select 1 as "a""b"', 'a"b\n  1\n', {'a"b': 1}),
        ("select 'é' as e; -- é;", "e\né\n", {"e": "é"}),
        ("select ';' as e /* ; */ ;;", "e\n;\n", {"e": ";"}),
        ("select 1 as a -- the last line", "a\n1\n", {"a": 1}),
        ("show tables", "name\nflows\n", {"name": "flows"}),
    ],
)
def test_results_keep_their_values(lab: Lab, query: str, text: str, row: dict[str, Any]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert run(lab, "sql", query) == (0, text, "")
    status, out, err = run(lab, "sql", "--json", query)
    assert (status, err) == (0, "")
    assert json.loads(out, parse_constant=refuse) == row


def test_aligned_values_have_no_control_characters(lab: Lab) -> None:
    values = "chr(27) || '[2J' as a, e'x\\ny\\tz' as b, chr(155) as c, '' as d, null as \"e\nf\""
    assert run(lab, "sql", f"select {values}") == (
        0,
        "a        b        c     d  e\\nf\n\\x1b[2J  x\\ny\\tz  \\x9b     NULL\n",
        "",
    )


def seconds_of_threads(pid: int) -> float:
    """Return the processor time that a process has used in threads other than the main thread."""

    def ticks(path: str) -> int:
        user, system = Path(path).read_text().rpartition(")")[2].split()[11:13]
        return int(user) + int(system)

    others = ticks(f"/proc/{pid}/stat") - ticks(f"/proc/{pid}/task/{pid}/stat")
    return others / os.sysconf("SC_CLK_TCK")


LONG_QUERIES = {
    "one row": "select count(*) from range(100000000000000)",
    "a join": "select count(*) from range(10000000) a, range(10000000) b where a.range < -b.range",
    "rows after many": "select a from range(100000000000000) t(a) where a < 1500 or a = -1",
    "a single call": "select jaro_similarity(repeat('a', 3000000), repeat('b', 3000000))",
}


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)]
)
@pytest.mark.parametrize("query", LONG_QUERIES.values(), ids=LONG_QUERIES)
def test_a_signal_ends_a_query(lab: Lab, query: str, number: signal.Signals, status: int) -> None:
    with Process(lab, *COMMAND, "sql", query) as process:
        wait_until(lambda: seconds_of_threads(process.pid) > 0.3)
        process.signal(number)
        assert process.wait() == (status, "")


def test_a_query_on_matching_flows(three: Lab) -> None:
    query = "select protocol from flows order by 1"
    out = run(three, "sql", query, "--match", "mark 0x50 or orig.dport 53")[1]
    assert out.split() == ["protocol", "tcp", "udp"]


def test_columns_that_the_plan_does_not_show_are_read_after_all(
    three: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from conntrack_aio.cli import main, sql_queries

    monkeypatch.setattr(sql_queries, "_scanned", lambda plan: iter(["mark"]))
    assert three.run(main, ["sql", "select max(orig_dport) from flows"]) == 0
    assert capsys.readouterr().out.split() == ["max(orig_dport)", "443"]


def test_the_columns_of_a_plan() -> None:
    scan = {"name": "ARROW_SCAN", "extra_info": {"Projections": ["a", "b"]}}
    other = {"name": "SEQ_SCAN", "extra_info": {"Projections": "c"}, "children": []}
    plan = [{"name": "JOIN", "extra_info": {"Projections": "x"}, "children": [scan, other]}]
    assert list(_scanned(plan)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("selec", "Parser Error"),
        ("select orig_scr from flows", 'Candidate bindings: "orig_src"'),
        ("", "the query must be one statement that reads: SELECT,"),
        ("select 1; select 2", "the query must be one statement that reads: SELECT,"),
        ("set lock_configuration = false", "the query must be one statement that reads: SELECT,"),
        ("attach '/tmp/x.db'", "the query must be one statement that reads: SELECT,"),
        ("install httpfs", "the query must be one statement that reads: SELECT,"),
        ("explain select 1", "the query must be one statement that reads: SELECT,"),
        ("delete from flows", "the query must be one statement that reads: SELECT,"),
        ("copy flows to '/tmp/x.csv'", "the query must be one statement that reads: SELECT,"),
        ("select * from read_text('/etc/passwd')", "Permission Error"),
        ("select * from '/etc/passwd.csv'", "Error"),
        ("select * from options", "Table with name options does not exist"),
        ("select * from loaded", "Table with name loaded does not exist"),
        ("select protocol::int from flows", "Conversion Error"),
    ],
)
def test_queries_that_are_refused(three: Lab, query: str, error: str) -> None:
    status, out, err = run(three, "sql", query)
    assert (status, out) == (1, "")
    assert err.startswith("conntrack-aio: ")
    assert error in err
    assert "Traceback" not in err


def test_an_error_names_the_line_of_the_query(three: Lab) -> None:
    status, _, error = run(three, "sql", "select cast(orig_src as int) from flows")
    assert status == 1
    assert "LINE 2" not in error


@pytest.mark.parametrize("module", ["duckdb", "nanoarrow"])
def test_a_query_without_its_packages(lab: Lab, module: str) -> None:
    assert run(lab, "sql", "from flows", command=without(module)) == (
        1,
        "",
        f"conntrack-aio: this needs the package {module}: pip install duckdb nanoarrow\n",
    )


# Files


def test_list_writes_an_arrow_stream(three: Lab, tmp_path: Path) -> None:
    path = tmp_path / "flows.arrows"
    assert run(three, "list", "--arrow", str(path)) == (0, "", "")
    table = pyarrow.ipc.open_stream(path).read_all()
    assert sorted(table.column("orig_src").to_pylist()) == ["10.0.0.1", "10.0.0.1", "fd00::1"]
    assert run(three, "list", "--arrow", str(path), "mark 0x50") == (0, "", "")
    table = pyarrow.ipc.open_stream(path).read_all()
    assert table.column("state").to_pylist() == ["ESTABLISHED"]


def test_list_writes_an_arrow_stream_to_standard_output(three: Lab) -> None:
    start = partial(subprocess.run, (*COMMAND, "list", "--arrow", "-"), capture_output=True)
    done = three.run(partial(start, timeout=TIMEOUT, check=True))
    assert pyarrow.ipc.open_stream(done.stdout).read_all().num_rows == 3


def test_list_writes_a_parquet_file(three: Lab, tmp_path: Path) -> None:
    path = tmp_path / "flows.parquet"
    assert run(three, "list", "--parquet", str(path)) == (0, "", "")
    frame = polars.read_parquet(path).sort("protocol")
    assert frame["protocol"].to_list() == ["icmp", "tcp", "udp"]
    assert frame["zone"].to_list() == [None, None, 7]


def test_files_of_an_empty_table_have_the_columns(lab: Lab, tmp_path: Path) -> None:
    arrows, parquet = tmp_path / "a", tmp_path / "b"
    assert run(lab, "list", "--arrow", str(arrows))[0] == 0
    assert run(lab, "list", "--parquet", str(parquet))[0] == 0
    assert "orig_src" in pyarrow.ipc.open_stream(arrows).read_all().column_names
    assert "orig_src" in polars.read_parquet(parquet).columns


def test_a_file_of_many_flows(lab: Lab, tmp_path: Path) -> None:
    do(lab, lambda conn: flows.fill(conn, map(flows.tcp, range(5000))))
    path = tmp_path / "flows.arrows"
    assert run(lab, "list", "--arrow", str(path)) == (0, "", "")
    sources = pyarrow.ipc.open_stream(path).read_all().column("orig_src").to_pylist()
    assert sorted(sources) == sorted(str(flows.tcp(number).orig.src) for number in range(5000))


@pytest.mark.parametrize(
    ("option", "path", "error"),
    [
        ("--arrow", "/nonexistent/x", "/nonexistent/x: No such file or directory"),
        ("--parquet", "/nonexistent/x", "/nonexistent/x: No such file or directory"),
        ("--arrow", "/dev/full", "/dev/full: No space left on device"),
        ("--parquet", "/dev/full", "/dev/full: No space left on device"),
        ("--arrow", "/proc/version", "/proc/version: Input/output error"),
        ("--parquet", "/proc/version", "/proc/version: Input/output error"),
        ("--arrow", "/proc", "/proc: Is a directory"),
        ("--parquet", "-", "a Parquet file cannot be written to standard output; name a file"),
    ],
)
def test_files_that_cannot_be_written(three: Lab, option: str, path: str, error: str) -> None:
    assert run(three, "list", option, path) == (1, "", f"conntrack-aio: {error}\n")


@pytest.mark.parametrize("option", ["--arrow", "--parquet"])
def test_a_file_needs_a_name(lab: Lab, option: str) -> None:
    status, _, error = run(lab, "list", option, "")
    assert status == 2
    assert "the name of the file is empty" in error


@pytest.mark.parametrize("write", [write_arrow, write_parquet])
def test_an_interrupted_file_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., Any]
) -> None:
    """Nothing is printed either, by an object that would be closed after its file."""
    ignored: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: ignored.append(raised.exc_value))

    async def interrupted() -> AsyncIterator[ColumnBatch]:
        raise KeyboardInterrupt
        yield

    path = tmp_path / "flows"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        anyio.run(write, interrupted(), str(path))
    gc.collect()
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["flows"]
    assert not ignored


@pytest.mark.parametrize("option", ["--arrow", "--parquet"])
def test_a_file_that_becomes_full_is_named(lab: Lab, option: str) -> None:
    do(lab, lambda conn: flows.fill(conn, map(flows.tcp, range(2500))))
    error = "conntrack-aio: /dev/full: No space left on device\n"
    assert run(lab, "list", option, "/dev/full") == (1, "", error)


@pytest.mark.parametrize(
    ("option", "module", "install"),
    [
        ("--arrow", "nanoarrow", "nanoarrow"),
        ("--parquet", "nanoarrow", "nanoarrow"),
        ("--parquet", "pyarrow", "pyarrow nanoarrow"),
    ],
)
def test_files_without_their_packages(
    lab: Lab, tmp_path: Path, option: str, module: str, install: str
) -> None:
    path = tmp_path / "file"
    assert run(lab, "list", option, str(path), command=without(module)) == (
        1,
        "",
        f"conntrack-aio: this needs the package {module}: pip install {install}\n",
    )
    assert not path.exists()
