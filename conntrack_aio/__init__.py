"""The Linux kernel's connection tracking, from asyncio and trio, in pure Python.

::

    import anyio
    import conntrack_aio

    async def main():
        async with conntrack_aio.connect() as conn:
            async with conn.events() as stream:
                async for event in stream:
                    print(event)

    anyio.run(main)

The kernel tracks connections in a network namespace only while a firewall rule there needs it: any
nftables rule with ``ct``, any iptables rule with ``-m conntrack``, any NAT. Reading needs
CAP_NET_ADMIN, too. Linux 4.19 and newer are supported.

An **entry** is a row of the kernel's table, and a :class:`Flow` the object for it. What there is,
by area; for details call ``help()``, as in ``help(conntrack_aio.Connection.events)``. ``help()``
shows no descriptions of fields: they stand below each field in the source and in the documentation.

- **Connect**: :func:`connect` opens a :class:`Connection`, in this network namespace or another
  (:class:`NetNS`). Its methods read, follow and write flows.
- **Read**: :meth:`Connection.dump`, ``list``, ``get`` and ``count`` return :class:`Flow` objects,
  which have two :class:`Tuple` objects, a :class:`Status`, a :class:`NAT` and more. A
  :class:`Match` selects flows: ``Match(proto="tcp", orig_dport=443)``.
- **Follow**: :meth:`Connection.events` is an :class:`EventStream` of :class:`FlowEvent` objects;
  lost events are an :exc:`EventsLost` in their place. :meth:`Connection.table` is a
  :class:`FlowTable`, a live mirror of the kernel's table, with :class:`Change` objects.
- **Write**: :meth:`Connection.create`, ``update``, ``delete``, ``set_labels`` and ``flush``; for
  many flows ``create_many``, ``update_many``, ``delete_many``, ``update_matching`` and
  ``delete_matching``, with an :class:`Outcome` for each item.
- **Beside flows**: ``conn.expectations`` (:class:`Expectations`), ``conn.timeouts``
  (:class:`Timeouts`), ``conn.helpers`` (:class:`Helpers`) and ``conn.sysctls``
  (:class:`Sysctls`).
- **Count**: :meth:`Connection.table_statistics` and ``cpu_statistics`` are the kernel's counters,
  ``client_statistics`` is what the connection has done.
- **Analyze**: :meth:`Dump.columns` and :meth:`EventStream.columns` yield a :class:`ColumnBatch` for
  thousands of rows, without an object for each. :meth:`Connection.arrow` is an :class:`ArrowTable`
  for Polars, DuckDB and others.
- **JSON**: :func:`to_json`, :func:`to_dict` and their inverses, for every object;
  :func:`json_lines` and :func:`text_lines` for many.
- **Errors**: those that the library defines derive from :exc:`ConntrackError`; what the kernel
  refuses is a :exc:`KernelError`, which is an :exc:`OSError`. Using a closed object raises
  ``anyio.ClosedResourceError``, and using one that is busy ``anyio.BusyResourceError``.
- **Test**: :mod:`conntrack_aio.testing` has a kernel that runs inside a test, without root.
- **Debug**: ``CONNTRACK_AIO_DEBUG=1`` in the environment prints every netlink message.
"""

from typing import TYPE_CHECKING

from . import interrupts as interrupts  # first: it makes an early Ctrl-C end the command quietly

if TYPE_CHECKING:
    from .bulk.new_flow import NewFlow, masters_first
    from .bulk.outcomes import BulkOperation, Outcome
    from .codec.arrow_table import ArrowTable
    from .codec.column import Column
    from .codec.columns import ColumnBatch
    from .codec.json import from_dict, from_json, to_dict
    from .codec.json_lines import json_lines, text_lines, to_json
    from .codec.json_values import JSON
    from .codec.requests.expectations import ExpectTarget
    from .codec.requests.targets import Target
    from .connecting import connect
    from .connection import Connection
    from .errors import (
        AlreadyExists,
        ConntrackError,
        DecodeError,
        DumpInterrupted,
        EncodeError,
        EventsLost,
        InvalidRequest,
        KernelError,
        MatchError,
        NamespaceError,
        NoReply,
        NotFound,
        NotSupported,
        PermissionDenied,
        ResourceBusy,
        ResourceExhausted,
        UnsafeRequest,
        UnsupportedPlatform,
        UsedElsewhere,
    )
    from .filters.explain import Explanation
    from .filters.match import Match
    from .filters.program import EventFilter
    from .model.client_statistics import ClientStatistics, StreamStatistics
    from .model.declare import UnknownAttribute
    from .model.enums import (
        DCCPRole,
        DCCPState,
        Direction,
        EventType,
        ExpectFlags,
        SCTPState,
        Status,
        TCPFlags,
        TCPState,
    )
    from .model.events import FlowEvent
    from .model.expectations import Expectation, ExpectEvent, ExpectNAT
    from .model.features import Features
    from .model.flow import Counters, Flow, Helper, SeqAdj, SynProxy, Timestamp
    from .model.helpers import ExpectPolicy, HelperStatus, UserspaceHelper
    from .model.labels import Label, LabelNames
    from .model.nat import NAT, Endpoint, NATRange, Translation
    from .model.protoinfo import DCCPInfo, ProtoInfo, SCTPInfo, TCPInfo
    from .model.settings import BlindSpot, ConntrackSysctls, EventMode
    from .model.statistics import CPUStatistics, ExpectCPUStatistics, TableStatistics
    from .model.table import Cause, Change, ChangeType, FlowTableStatistics, TableMode
    from .model.timeouts import (
        DCCPTimeouts,
        GenericTimeouts,
        GRETimeouts,
        ICMPTimeouts,
        ICMPv6Timeouts,
        ProtocolTimeouts,
        SCTPTimeouts,
        TCPTimeouts,
        TimeoutPolicy,
        UDPTimeouts,
    )
    from .model.tuples import Tuple
    from .model.update import FlowUpdate
    from .netlink.netns import NetNS
    from .operations.expectations import Expectations
    from .operations.helpers import Helpers
    from .operations.sysctls import Sysctls
    from .operations.timeouts import Timeouts
    from .streams.column_batches import ColumnBatches
    from .streams.dump import Dump
    from .streams.events import EventStream
    from .table.changes import Changes
    from .table.flow_table import FlowTable

__version__ = "0.1.0.dev0"

__all__ = [
    # Connecting
    "connect",
    "Connection",
    "NetNS",
    # Flows
    "Flow",
    "Tuple",
    "Target",
    "Counters",
    "Timestamp",
    "Helper",
    "SeqAdj",
    "SynProxy",
    "NAT",
    "Translation",
    "Endpoint",
    "UnknownAttribute",
    # States and bits
    "Status",
    "ProtoInfo",
    "TCPInfo",
    "TCPState",
    "TCPFlags",
    "SCTPInfo",
    "SCTPState",
    "DCCPInfo",
    "DCCPState",
    "DCCPRole",
    # Reading
    "Match",
    "Explanation",
    "Dump",
    "Features",
    "ColumnBatches",
    "ColumnBatch",
    "Column",
    "ArrowTable",
    # Events
    "EventStream",
    "FlowEvent",
    "EventType",
    "EventFilter",
    "BlindSpot",
    # Writing
    "FlowUpdate",
    "NATRange",
    "NewFlow",
    "masters_first",
    "BulkOperation",
    "Outcome",
    "Label",
    "LabelNames",
    # Live table
    "FlowTable",
    "Changes",
    "Change",
    "ChangeType",
    "Cause",
    "TableMode",
    # Expectations
    "Expectations",
    "Expectation",
    "ExpectTarget",
    "ExpectFlags",
    "ExpectNAT",
    "Direction",
    "ExpectEvent",
    # Timeouts
    "Timeouts",
    "TimeoutPolicy",
    "ProtocolTimeouts",
    "TCPTimeouts",
    "UDPTimeouts",
    "SCTPTimeouts",
    "ICMPTimeouts",
    "ICMPv6Timeouts",
    "GRETimeouts",
    "GenericTimeouts",
    "DCCPTimeouts",
    # User-space helpers
    "Helpers",
    "UserspaceHelper",
    "ExpectPolicy",
    "HelperStatus",
    # Settings
    "Sysctls",
    "ConntrackSysctls",
    "EventMode",
    # Statistics
    "ClientStatistics",
    "StreamStatistics",
    "FlowTableStatistics",
    "TableStatistics",
    "CPUStatistics",
    "ExpectCPUStatistics",
    # JSON
    "to_dict",
    "from_dict",
    "to_json",
    "json_lines",
    "text_lines",
    "from_json",
    "JSON",
    # Errors
    "ConntrackError",
    "DecodeError",
    "EncodeError",
    "UnsafeRequest",
    "MatchError",
    "KernelError",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "NotSupported",
    "InvalidRequest",
    "ResourceBusy",
    "ResourceExhausted",
    "NamespaceError",
    "NoReply",
    "EventsLost",
    "DumpInterrupted",
    "UsedElsewhere",
    "UnsupportedPlatform",
]

_MODULES = """
bulk.new_flow: NewFlow masters_first
bulk.outcomes: BulkOperation Outcome
codec.arrow_table: ArrowTable
codec.column: Column
codec.columns: ColumnBatch
codec.json: from_dict from_json to_dict
codec.json_lines: json_lines text_lines to_json
codec.json_values: JSON
codec.requests.expectations: ExpectTarget
codec.requests.targets: Target
connecting: connect
connection: Connection
errors: AlreadyExists ConntrackError DecodeError DumpInterrupted EncodeError EventsLost
    InvalidRequest KernelError MatchError NamespaceError NoReply NotFound NotSupported
    PermissionDenied ResourceBusy ResourceExhausted UnsafeRequest UnsupportedPlatform
    UsedElsewhere
filters.explain: Explanation
filters.match: Match
filters.program: EventFilter
model.client_statistics: ClientStatistics StreamStatistics
model.declare: UnknownAttribute
model.enums: DCCPRole DCCPState Direction EventType ExpectFlags SCTPState Status TCPFlags
    TCPState
model.events: FlowEvent
model.expectations: ExpectEvent ExpectNAT Expectation
model.features: Features
model.flow: Counters Flow Helper SeqAdj SynProxy Timestamp
model.helpers: ExpectPolicy HelperStatus UserspaceHelper
model.labels: Label LabelNames
model.nat: Endpoint NAT NATRange Translation
model.protoinfo: DCCPInfo ProtoInfo SCTPInfo TCPInfo
model.settings: BlindSpot ConntrackSysctls EventMode
model.statistics: CPUStatistics ExpectCPUStatistics TableStatistics
model.table: Cause Change ChangeType FlowTableStatistics TableMode
model.timeouts: DCCPTimeouts GRETimeouts GenericTimeouts ICMPTimeouts ICMPv6Timeouts
    ProtocolTimeouts SCTPTimeouts TCPTimeouts TimeoutPolicy UDPTimeouts
model.tuples: Tuple
model.update: FlowUpdate
netlink.netns: NetNS
streams.column_batches: ColumnBatches
streams.dump: Dump
streams.events: EventStream
table.changes: Changes
table.flow_table: FlowTable
operations.expectations: Expectations
operations.helpers: Helpers
operations.sysctls: Sysctls
operations.timeouts: Timeouts
"""
"""The module of each name, for imports at first use."""


def __getattr__(name: str) -> object:
    """Import a public name at its first use (PEP 562), so that small programs start fast.

    :raises AttributeError: when the name is not public.
    """
    module = ""
    for word in _MODULES.split() if name in __all__ else ():
        if word.endswith(":"):
            module = word[:-1]
        elif word == name:
            from importlib import import_module

            value: object = getattr(import_module(f".{module}", __name__), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
