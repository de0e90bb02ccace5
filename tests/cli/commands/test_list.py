"""Test ``list``: columns, sorting, limits, and the table at a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import anyio
import attrs
import pytest
from support import flows as many_flows
from support.command import create, do, run_process
from support.lab import Lab
from support.terminal import run_at_terminal

from conntrack_aio import (
    Connection,
    Counters,
    Flow,
    Helper,
    NATRange,
    Status,
    TCPState,
    Tuple,
    connect,
    to_dict,
)
from conntrack_aio.cli.column_values import Value
from conntrack_aio.cli.command import parse
from conntrack_aio.cli.flow_columns import (
    COLUMNS,
    DEFAULT_COLUMNS,
    FlowTexts,
    column_named,
    json_row,
    needed_fields,
    parse_columns,
    rows_of_batch,
    value_reader,
)
from conntrack_aio.filters.fields import FIELDS

REPLIED = Status.SEEN_REPLY | Status.ASSURED

WEB = Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 80, timeout=600, mark=0x50)
SSH = Flow.tcp(
    "9.0.0.1", 22222, "10.0.0.2", 22, timeout=700, state=TCPState.TIME_WAIT, status=REPLIED
)
DNS6 = Flow.udp("fd00::1", 1000, "fd00::2", 53, timeout=500, zone=7)
PING = Flow.icmp("10.0.0.3", "10.0.0.2", id=9, timeout=400)


@pytest.fixture
def four(lab: Lab) -> Lab:
    """Return a namespace with four flows, which have counters."""
    lab.sysctl("nf_conntrack_acct", 1)
    create(lab, WEB, SSH, DNS6, PING)
    return lab


def translate(lab: Lab) -> None:
    """Create flows with a translated source, a translated destination, and both."""

    async def action(conn: Connection) -> None:
        for flow, source, target in (
            (Flow.tcp("10.0.0.5", 40, "198.51.100.9", 443, timeout=9, status=REPLIED), 61000, None),
            (Flow.tcp("203.0.113.7", 50, "192.0.2.1", 443, timeout=9, status=REPLIED), None, 8443),
            (Flow.tcp("203.0.113.7", 51, "192.0.2.1", 443, timeout=9, status=REPLIED), 62000, 8443),
        ):
            await conn.create(
                flow,
                nat_src=NATRange.of("192.0.2.1", source) if source else None,
                nat_dst=NATRange.of("10.0.0.80", target) if target else None,
            )

    do(lab, action)


# Columns


def test_columns_are_aligned_below_a_header(four: Lab) -> None:
    columns = "proto,orig.src,orig.dport,mark,zone,state"
    assert run_process(four, "list", "--columns", columns, "--sort", "orig.src") == (
        0,
        "proto  orig.src  orig.dport  mark  zone  state\n"
        "tcp    9.0.0.1           22   0x0     -  TIME_WAIT\n"
        "tcp    10.0.0.1          80  0x50     -  ESTABLISHED\n"
        "icmp   10.0.0.3           -   0x0     -  -\n"
        "udp    fd00::1           53   0x0     7  -\n",
        "",
    )


def test_the_header_can_be_omitted(four: Lab) -> None:
    status, out, err = run_process(
        four, "list", "proto tcp", "--columns", "orig.sport", "--no-header"
    )
    assert (status, sorted(out.split()), err) == (0, ["1000", "22222"], "")
    assert run_process(four, "list", "none", "--columns", "orig.sport", "--no-header")[:2] == (
        0,
        "",
    )
    assert run_process(four, "list", "none", "--columns", "orig.sport")[:2] == (0, "orig.sport\n")


def test_columns_as_json_are_objects_of_these_fields(four: Lab) -> None:
    arguments = (
        "--columns",
        "source,orig.dport,status,bytes,state",
        "--json",
        "--sort",
        "-timeout",
    )
    status, out, err = run_process(four, "list", *arguments)
    assert (status, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()][:3] == [
        {
            "source": "9.0.0.1:22222",
            "orig.dport": 22,
            "status": ["SEEN_REPLY", "ASSURED", "CONFIRMED"],
            "bytes": 0,
            "state": "TIME_WAIT",
        },
        {
            "source": "10.0.0.1:1000",
            "orig.dport": 80,
            "status": ["CONFIRMED"],
            "bytes": 0,
            "state": "ESTABLISHED",
        },
        {
            "source": "[fd00::1]:1000",
            "orig.dport": 53,
            "status": ["CONFIRMED"],
            "bytes": 0,
            "state": None,
        },
    ]


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        ([], ()),
        (["--columns", "mark"], ()),
        (["--columns", "bytes"], ("acct",)),
        (["--columns", "age,start"], ("timestamp",)),
        (["--columns", "start,reply.packets"], ("acct", "timestamp")),
        (["--columns", "mark", "--sort", "age"], ("timestamp",)),
        (["--sort", "mark,-bytes"], ("acct",)),
        (["--sort", "-start", "--limit", "1"], ("timestamp",)),
        (["--columns", "start", "--quiet"], ()),
        (["--columns", "start", "--json"], ()),
        (["--verbose"], ("events", "acct", "timestamp")),
        (["--verbose", "--json"], ("events", "acct", "timestamp")),
    ],
)
def test_the_settings_that_hide_what_is_asked_for_are_reported(
    lab: Lab, arguments: list[str], reported: tuple[str, ...]
) -> None:
    lab.sysctl("nf_conntrack_events", 2)
    create(lab, WEB)
    lines = run_process(lab, "list", *arguments)[2].splitlines()
    assert [line.split("nf_conntrack_")[1].split()[0] for line in lines] == [*reported]
    lab.sysctl("nf_conntrack_acct", 1)
    lab.sysctl("nf_conntrack_timestamp", 1)
    lines = run_process(lab, "list", *arguments)[2].splitlines()
    assert len(lines) == ("events" in reported)


def test_at_a_terminal_the_columns_shown_are_reported(lab: Lab) -> None:
    create(lab, attrs.evolve(WEB, orig=Tuple.tcp("10.100.100.1", 10000, "10.100.100.2", 10000)))
    for columns, reported in ((200, True), (60, False)):
        text = run_at_terminal(lab, "list", columns=columns)[1]
        assert ("nf_conntrack_acct is 0" in text) is reported
        assert ("bytes" in text) is reported
    text = run_at_terminal(lab, "list", "--sort", "bytes", columns=60)[1]
    assert "nf_conntrack_acct is 0" in text


def test_all_columns_of_many_flows_are_printed(lab: Lab) -> None:
    do(lab, lambda conn: many_flows.fill(conn, map(many_flows.tcp, range(2500))))
    status, out, _ = run_process(lab, "list", "--columns", ",".join(COLUMNS), "--quiet")
    assert status == 0
    heading, *lines = out.splitlines()
    assert heading.split() == list(COLUMNS)
    ids = {line.split()[-4] for line in lines}
    assert len(lines) == 2500
    assert len(ids) > 2400  # few have the same one


def test_every_field_of_a_match_is_a_column() -> None:
    names = {"labels" if name == "label" else name for name in FIELDS}
    assert names <= set(COLUMNS)


def test_a_column_has_the_same_value_in_a_flow_and_in_a_batch(lab: Lab) -> None:
    lab.sysctl("nf_conntrack_acct", 1)
    lab.sysctl("nf_conntrack_timestamp", 1)
    create(lab, WEB, SSH, DNS6, PING)
    translate(lab)
    columns = [column for name, column in COLUMNS.items() if name not in ("age", "timeout", "use")]

    def as_json(row: Sequence[Value]) -> str:
        return json.dumps(json_row(columns, row))

    async def main() -> None:
        async with connect(netns=lab.netns) as conn:
            names = needed_fields(columns)
            rows = [
                row
                async for batch in conn.dump().columns(*names, addresses="text")
                for row in rows_of_batch(columns, batch)
            ]
            found = [[value_reader(c)(flow) for c in columns] for flow in await conn.list()]
        assert len(rows) == 7
        assert sorted(map(as_json, rows)) == sorted(map(as_json, found))

    anyio.run(main)


# Sorting and limits


@pytest.mark.parametrize(
    ("arguments", "ports"),
    [
        (["--sort", "timeout"], ["9", "1000", "1000", "22222"]),
        (["--sort", "-timeout"], ["22222", "1000", "1000", "9"]),
        (["--sort=-timeout", "--limit", "1"], ["22222"]),
        (["--sort", "-timeout", "--reverse"], ["9", "1000", "1000", "22222"]),
        (["--sort", "timeout", "--reverse"], ["22222", "1000", "1000", "9"]),
        (["--sort", "zone", "--limit", "1"], ["1000"]),
        (["--sort", "-zone", "--limit", "1"], ["1000"]),
        (["--sort", "orig.dport"], ["22222", "1000", "1000", "9"]),
        (["--sort", "-orig.dport"], ["1000", "1000", "22222", "9"]),
        (["--sort", "proto,timeout"], ["9", "1000", "22222", "1000"]),
        (["--sort", "proto,-timeout"], ["9", "22222", "1000", "1000"]),
        (["--sort", "-proto,orig.dport,mark"], ["1000", "22222", "1000", "9"]),
        (["--sort", "proto,-timeout", "--reverse"], ["1000", "1000", "22222", "9"]),
        (["--sort", "proto,-timeout", "--limit", "2"], ["9", "22222"]),
    ],
)
@pytest.mark.parametrize("form", ["text", "json", "columns"])
def test_flows_are_sorted(four: Lab, arguments: list[str], ports: list[str], form: str) -> None:
    options = {
        "text": [],
        "json": ["--json"],
        "columns": ["--columns", "orig.sport,orig.icmp_id", "--no-header"],
    }
    status, out, err = run_process(four, "list", *arguments, *options[form])
    assert (status, err) == (0, "")
    patterns = {
        "text": r":(\d+) ->|id=(\d+)",
        "json": r'"orig": {[^}]*"(?:sport|icmp_id)": (\d+)()',
        "columns": r"(\d+)()",
    }
    assert ["".join(found) for found in re.findall(patterns[form], out)] == ports


def test_lines_that_are_sorted_are_the_usual_ones(four: Lab) -> None:
    for form in ([], ["--json"]):
        sorted_lines = run_process(four, "list", *form, "--sort", "id")[1].splitlines()
        lines = run_process(four, "list", *form)[1].splitlines()
        timeouts = re.compile(r'timeout"?[=:] ?\d+')
        assert sorted(timeouts.sub("", line) for line in sorted_lines) == sorted(
            timeouts.sub("", line) for line in lines
        )


@pytest.mark.parametrize("form", [[], ["--json"], ["--columns", "id", "--no-header"]])
def test_a_limit_ends_the_list(lab: Lab, form: list[str]) -> None:
    do(lab, lambda conn: many_flows.fill(conn, map(many_flows.tcp, range(200))))
    for limit in (1, 199, 200, 1000):
        status, out, _ = run_process(lab, "list", *form, "--limit", str(limit))
        assert (status, len(out.splitlines())) == (0, min(limit, 200))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--columns", "orig_src"],
            r"--columns: unknown column 'orig_src'; did you mean 'orig\.src'",
        ),
        (["--columns", "label"], "did you mean 'labels'"),
        (["--columns", "mark,,id"], "unknown column ''; expected one of proto, "),
        (["--columns", "mark,mark"], "column 'mark' is named twice"),
        (["--sort", "byte"], "--sort: unknown column 'byte'; did you mean 'bytes'"),
        (["--sort", "-byte"], "--sort: unknown column 'byte'; did you mean 'bytes'"),
        (["--sort", "mark,-byte"], "--sort: unknown column 'byte'; did you mean 'bytes'"),
        (["--sort", "mark,-mark"], "--sort: column 'mark' is named twice"),
        (["--limit", "0"], "--limit: invalid number '0'; expected 1 or more"),
        (["--limit", "-1"], "--limit"),
        (["--limit", "٣"], "--limit: invalid number"),
    ],
)
def test_wrong_arguments_are_errors(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["list", *arguments])
    assert caught.value.code == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reverse"], "--reverse: needs --sort"),
        (["--arrow", "x", "--columns", "mark"], "--columns: not allowed with --arrow"),
        (["--parquet", "x", "--sort", "mark"], "--sort: not allowed with --arrow"),
        (["--parquet", "x", "--limit", "1"], "--limit: not allowed with --arrow"),
        (["--json", "--no-header"], "--no-header: not allowed with --json"),
        (["--json", "-n", "--columns", "mark"], "--numeric: not allowed with --json"),
        (["--arrow", "x", "-n"], "--numeric: not allowed with --arrow"),
    ],
)
def test_arguments_that_exclude_each_other(lab: Lab, arguments: list[str], message: str) -> None:
    status, out, err = run_process(lab, "list", *arguments)
    assert (status, out) == (2, "")
    assert message in err


# At a terminal


def test_at_a_terminal_flows_are_a_table(four: Lab) -> None:
    status, text = run_at_terminal(
        four, "list", "--sort", "-timeout", "--quiet", columns=130, NO_COLOR="1"
    )
    assert status == 0
    details = ["[ASSURED]", "[UNREPLIED] mark=0x50", "[UNREPLIED] zone=7"]
    assert [re.sub(r" \d{3} ", "  N  ", line) for line in text.splitlines()] == [
        "proto  state        source          destination       nat  timeout  bytes  details",
        f"tcp    TIME_WAIT    9.0.0.1:22222   10.0.0.2:ssh      -         N       0  {details[0]}",
        f"tcp    ESTABLISHED  10.0.0.1:1000   10.0.0.2:http     -         N       0  {details[1]}",
        f"udp    -            [fd00::1]:1000  [fd00::2]:domain  -         N       0  {details[2]}",
        "icmp   -            10.0.0.3        10.0.0.2          -         N       0  "
        "[UNREPLIED] type=8 code=0 id=9",
    ]


def test_translations_have_their_own_column(lab: Lab) -> None:
    translate(lab)
    _, text = run_at_terminal(lab, "list", "--sort", "orig.sport", "--quiet", columns=200)
    found = re.findall(r"\S*nat=\S*", text)
    assert found == [
        "snat=192.0.2.1:61000",
        "dnat=10.0.0.80:8443",
        "snat=192.0.2.1:62000,dnat=10.0.0.80:8443",
    ]
    assert "192.0.2.1:https" in text


def test_numeric_output_has_ports_and_full_numbers(four: Lab) -> None:
    _, text = run_at_terminal(four, "list", "--numeric")
    assert "10.0.0.2:80" in text
    assert "http" not in text


def test_colors(four: Lab) -> None:
    _, text = run_at_terminal(four, "list", "--quiet")
    assert "\x1b[1mproto" in text
    assert "\x1b[32mESTABLISHED" in text
    assert "\x1b[33m[UNREPLIED]" in text
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in run_at_terminal(four, "list", "--quiet", **environment)[1]
    assert "\x1b" not in run_process(four, "list", "--columns", "state")[1]


LONG6 = ("2001:db8:1234:5678:9abc:def0:1:1", "2001:db8:1234:5678:9abc:def0:1:2")


def test_lines_fit_the_terminal(lab: Lab) -> None:
    create(lab, WEB, SSH, PING, DNS6, attrs.evolve(WEB, mark=7, zone=3, timeout=1000))
    create(lab, Flow.udp(LONG6[0], 1000, LONG6[1], 5353, timeout=600))
    create(lab, Flow.udp("2001:db8::1:1", 1000, "2001:db8::1:2", 5353, timeout=600))
    translate(lab)
    addresses = f"[{LONG6[0]}]:1000  [{LONG6[1]}]:5353"
    for columns in (80, 90, 100, 120, 150, 200):
        _, text = run_at_terminal(lab, "list", "--quiet", columns=columns, NO_COLOR="1")
        heading, *lines = text.splitlines()
        assert len(lines) == 10
        at = heading.index("destination")
        for line in (heading, *lines):
            if "2001:db8:1234" in line:
                assert len(line) <= max(columns, len(f"udp  -  {addresses}"))
                assert addresses.split() == line.split()[2:4]
            else:
                assert len(line) <= columns
                assert line[at - 2 : at] == "  "
                assert line[at] != " "
        assert ("…" not in text) is (columns == 200)
    assert heading.split() == [column.name for column in DEFAULT_COLUMNS]
    assert "[UNREPLIED] type=8 code=0 id=9" in text


def test_columns_that_are_asked_for_are_not_left_out(lab: Lab) -> None:
    create(lab, WEB)
    columns = "orig.src,orig.dst,reply.src,reply.dst,timeout,status,id,use,mark,details"
    _, text = run_at_terminal(lab, "list", "--columns", columns, NO_COLOR="1")
    assert text.split()[:10] == columns.split(",")


def test_text_of_the_kernel_has_no_control_characters() -> None:
    flow = attrs.evolve(WEB, helper=Helper(name="a\x1b[2J\nb\x9b"), secctx="\x07")
    columns = parse_columns("helper,secctx,details")
    for short in (False, True):
        row = [value_reader(column)(flow) for column in columns]
        cells = FlowTexts(columns, short=short, colors=True).cells(row)
        assert cells[0] == r"a\x1b[2J\nb\x9b"
        assert all(cell.isprintable() for cell in cells)


def test_numbers_are_rounded_for_people() -> None:
    flow = attrs.evolve(
        WEB, counters_orig=Counters(packets=5, bytes=1_250_000), counters_reply=Counters(bytes=1)
    )
    value = value_reader(column_named("bytes"))(flow)
    columns = [column_named("bytes")]
    assert FlowTexts(columns, short=True, colors=False).cells([value]) == ["1.2M"]
    assert FlowTexts(columns, short=False, colors=False).cells([value]) == ["1250001"]


def test_status_bits_without_a_name_are_a_number() -> None:
    flow = attrs.evolve(WEB, status=Status(int(Status.ASSURED | Status.CONFIRMED) | 1 << 20))
    column = column_named("status")
    row = json_row([column], [value_reader(column)(flow)])
    assert row == {"status": ["ASSURED", "CONFIRMED", 1 << 20]}
    assert row["status"] == to_dict(flow)["status"]


def test_columns_of_zones(lab: Lab) -> None:
    plain = Tuple.udp("10.0.0.1", 1000, "10.0.0.2", 53)
    other = attrs.evolve(plain, sport=1001)
    create(
        lab,
        Flow(orig=attrs.evolve(plain, zone=1), reply=plain.inverse, timeout=600),
        Flow(orig=other, reply=other.inverse, timeout=600, zone=5),
    )
    columns = "orig.zone,reply.zone,zone,details"
    status, out, _ = run_process(
        lab, "list", "--columns", columns, "--sort", "orig.zone", "--no-header"
    )
    assert (status, out.split("\n")) == (
        0,
        ["1  0  -  [UNREPLIED] orig.zone=1", "5  5  5  [UNREPLIED] zone=5", ""],
    )
