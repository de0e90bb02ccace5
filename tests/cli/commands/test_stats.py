"""Test ``stats``: the table's sizes and the counters of the processors."""

from __future__ import annotations

import json
import re

import attrs
import pytest
from support.command import create, run_process
from support.lab import Lab

from conntrack_aio import CPUStatistics, Flow

pytestmark = pytest.mark.kernel


@pytest.fixture
def three(lab: Lab) -> Lab:
    create(lab, *[Flow.udp("10.0.0.1", port, "10.0.0.2", 53, timeout=600) for port in range(3)])
    return lab


def test_sums_are_printed_with_their_meaning(three: Lab) -> None:
    status, out, err = run_process(three, "stats")
    assert (status, err) == (0, "")
    assert re.search(r"(?m)^entries +3 +The number of entries in this network namespace", out)
    assert re.search(r"(?m)^buckets +\d+ ", out)
    assert re.search(r"(?m)^insert +3 +The entries that programs inserted", out)
    assert re.search(r"(?m)^create +0 +The expectations that were created", out)
    assert "None" not in out


def test_each_processor_has_a_row(three: Lab) -> None:
    cpus = json.loads(run_process(three, "stats", "--json", "--cpu")[1])["counters"]
    status, out, err = run_process(three, "stats", "--cpu")
    assert (status, err) == (0, "")
    table = out.split("Counters of the table:\n\n")[1].split("\n\n")[0].splitlines()
    heading, *rows = [line.split() for line in table]
    assert heading[:3] == ["cpu", "found", "invalid"]
    assert [row[0] for row in rows] == [str(each["cpu"]) for each in cpus]
    assert sum(int(row[heading.index("insert")]) for row in rows) == 3


def test_json_has_everything(three: Lab) -> None:
    status, out, err = run_process(three, "stats", "--json")
    assert (status, err) == (0, "")
    sums = json.loads(out)
    assert (sums["table"]["entries"], sums["counters"]["insert"]) == (3, 3)
    assert sums["table"]["buckets"] > 0
    assert sums["expectations"] == {"new": 0, "create": 0, "delete": 0}
    assert "cpu" not in sums["counters"]
    each = json.loads(run_process(three, "stats", "--json", "--cpu")[1])
    assert sum(counters["insert"] for counters in each["counters"]) == 3
    fields = {field.name for field in attrs.fields(CPUStatistics)}
    assert set(each["counters"][0]) <= fields
