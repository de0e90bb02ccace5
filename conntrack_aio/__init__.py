"""The Linux kernel's connection tracking, from asyncio and trio, in pure Python.

::

    async with conntrack_aio.connect() as conn:
        async with conn.events() as stream:
            async for event in stream:
                print(event.type.name, event.flow.orig)
"""

from . import interrupts as interrupts  # isort: skip  # first, as it says itself
from .bulk.new_flow import NewFlow, masters_first
from .bulk.outcomes import BulkOperation, Outcome
from .codec.json import from_dict, from_json, to_dict, to_json
from .codec.json_values import JSON
from .codec.requests.expectations import ExpectTarget
from .codec.requests.targets import Target
from .connection import Connection, connect
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
from .model.declare import UnknownAttribute
from .model.enums import (
    DCCPRole,
    DCCPState,
    Direction,
    EventType,
    ExpectFlags,
    HelperStatus,
    SCTPState,
    Status,
    TCPFlags,
    TCPState,
)
from .model.events import FlowEvent
from .model.expectations import Expectation, ExpectEvent, ExpectNAT
from .model.features import Features
from .model.flow import Counters, Flow, Helper, SeqAdj, SynProxy, Timestamp
from .model.helpers import ExpectPolicy, UserspaceHelper
from .model.labels import Label, LabelNames
from .model.nat import NAT, Endpoint, NATRange, Translation
from .model.protoinfo import DCCPInfo, ProtoInfo, SCTPInfo, TCPInfo
from .model.settings import BlindSpot, ConntrackSysctls, EventMode
from .model.statistics import (
    ClientStatistics,
    CPUStatistics,
    ExpectCPUStatistics,
    StreamStatistics,
    TableStatistics,
)
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
from .model.tuples import IPAddress, Tuple
from .netlink.namespaces import NetNS
from .streams.dump import Dump
from .streams.events import EventStream
from .table.changes import Changes
from .table.table import FlowTable
from .trace.switch import arm as _arm_trace
from .verbs.expectations import Expectations
from .verbs.helpers import Helpers
from .verbs.sysctls import Sysctls
from .verbs.timeouts import Timeouts

__version__ = "0.1.0"

__all__ = [
    # connecting
    "connect",
    "Connection",
    "NetNS",
    "Dump",
    "EventStream",
    "EventFilter",
    "Explanation",
    "BulkOperation",
    "Outcome",
    "Match",
    "Features",
    "ClientStatistics",
    "CPUStatistics",
    "TableStatistics",
    "StreamStatistics",
    # flows
    "Flow",
    "Tuple",
    "Target",
    "IPAddress",
    "ProtoInfo",
    "Status",
    "TCPInfo",
    "TCPState",
    "TCPFlags",
    "SCTPInfo",
    "SCTPState",
    "DCCPInfo",
    "DCCPState",
    "DCCPRole",
    "Counters",
    "Timestamp",
    "Helper",
    "SeqAdj",
    "SynProxy",
    "UnknownAttribute",
    "FlowEvent",
    "EventType",
    "NewFlow",
    "masters_first",
    "NATRange",
    "NAT",
    "Translation",
    "Endpoint",
    "Label",
    "LabelNames",
    # the live table
    "FlowTable",
    "Changes",
    "Change",
    "ChangeType",
    "Cause",
    "TableMode",
    "FlowTableStatistics",
    # expectations
    "Expectations",
    "Expectation",
    "ExpectTarget",
    "ExpectFlags",
    "ExpectNAT",
    "Direction",
    "ExpectEvent",
    "ExpectCPUStatistics",
    # timeout policies
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
    # helpers in user space
    "Helpers",
    "UserspaceHelper",
    "ExpectPolicy",
    "HelperStatus",
    # settings
    "Sysctls",
    "ConntrackSysctls",
    "EventMode",
    "BlindSpot",
    # as JSON
    "to_dict",
    "from_dict",
    "to_json",
    "from_json",
    "JSON",
    # errors
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

_arm_trace()
