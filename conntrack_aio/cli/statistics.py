"""Print the statistics of the kernel's table, for ``stats``."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from typing import cast

import attrs

from ..codec.json_values import JSON
from ..connection import Connection
from ..errors import NotSupported
from ..model.statistics import CPUStatistics, ExpectCPUStatistics, TableStatistics
from .aligned import AlignedRows
from .described import write_described
from .field_descriptions import field_descriptions
from .output import write_line

Counters = dict[str, int]
"""Counters by name. Those that this kernel does not have are left out."""


async def print_statistics(conn: Connection, *, each_cpu: bool, json: bool) -> None:
    """Print the statistics of the table, of its processors and of expectations.

    :param conn: the connection.
    :param each_cpu: whether to print the counters of each processor instead of their sums.
    :param json: whether to print an object of JSON.
    """
    table = await _table(conn)
    cpus = [_counters(each) for each in await conn.cpu_statistics()]
    try:
        expecting = [_counters(each) for each in await conn.expectations.cpu_statistics()]
    except NotSupported:
        expecting = []
    if json:
        counters: list[JSON] = [{**each} for each in cpus]
        expectations: list[JSON] = [{**each} for each in expecting]
        value: dict[str, JSON] = {"table": {**table}}
        value["counters"] = counters if each_cpu else {**_sum(cpus)}
        value["expectations"] = expectations if each_cpu else {**_sum(expecting)}
        write_line(json_module.dumps(value))
        return
    write_described(
        [(name, str(number), _table_texts().get(name, "")) for name, number in table.items()]
    )
    for title, cls, counted in (
        ("Counters of the table", CPUStatistics, cpus),
        ("Counters of expectations", ExpectCPUStatistics, expecting),
    ):
        if not counted:
            continue
        write_line(f"\n{title}{'' if each_cpu else f', of {len(counted)} processors'}:\n")
        if each_cpu:
            _write_each(counted)
        else:
            texts = field_descriptions(cls)
            sums = _sum(counted).items()
            write_described([(name, str(number), texts.get(name, "")) for name, number in sums])


async def _table(conn: Connection) -> Counters:
    """Return the sizes of the table, with those that the settings have."""
    found = _counters(await conn.table_statistics())
    settings = await conn.sysctls.read()
    if "max_entries" not in found and settings.max is not None:  # before Linux 5.8
        found["max_entries"] = settings.max
    if settings.buckets is not None:
        found["buckets"] = settings.buckets
    if settings.expect_max is not None:
        found["max_expectations"] = settings.expect_max
    return found


def _table_texts() -> dict[str, str]:
    return {
        **field_descriptions(TableStatistics),
        "buckets": "The size of the hash table, which all network namespaces share.",
        "max_expectations": "The limit of expectations.",
    }


def _counters(statistics: TableStatistics | CPUStatistics | ExpectCPUStatistics) -> Counters:
    """Return the numbers of an object of statistics that are present."""
    fields = attrs.fields(cast("type[attrs.AttrsInstance]", type(statistics)))
    numbers = {field.name: getattr(statistics, field.name) for field in fields}
    return {name: number for name, number in numbers.items() if isinstance(number, int)}


def _sum(counted: Sequence[Counters]) -> Counters:
    """Return the sums of counters over all processors."""
    total: Counters = {}
    for each in counted:
        for name, number in each.items():
            if name != "cpu":
                total[name] = total.get(name, 0) + number
    return total


def _write_each(counted: Sequence[Counters]) -> None:
    """Print a row for each processor."""
    names = list(counted[0])
    table = AlignedRows(names, [True] * len(names))
    table.add([str(each.get(name, "-")) for name in names] for each in counted)
    table.finish()
