"""Convert objects to dicts for JSON, and back."""

from __future__ import annotations

import json
from ipaddress import IPv6Address
from socket import IPPROTO_TCP
from typing import Any

import attrs
import pytest
from support.attribute_encoding import with_values
from support.codec_cases import A6, CASES, TCP4, Case, flow
from support.hostile_arguments import INTEGERS, RaisingObject, case_name
from support.policy_cases import PER_PROTOCOL

from conntrack_aio import (
    NAT,
    Cause,
    Change,
    ChangeType,
    ClientStatistics,
    Counters,
    DCCPInfo,
    DCCPRole,
    DCCPState,
    DecodeError,
    EncodeError,
    EventType,
    Flow,
    FlowEvent,
    FlowTableStatistics,
    Helper,
    NetNS,
    SCTPInfo,
    Status,
    StreamStatistics,
    TCPFlags,
    TCPInfo,
    TCPState,
    Tuple,
    UnknownAttribute,
)
from conntrack_aio.codec.json import JSON, from_dict, to_dict
from conntrack_aio.model.helpers import ExpectPolicy, HelperStatus, UserspaceHelper
from conntrack_aio.model.timeouts import TimeoutPolicy

ORIG = {"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 6, "sport": 1024, "dport": 80}
REPLY = {"src": "10.0.0.2", "dst": "10.0.0.1", "proto": 6, "sport": 80, "dport": 1024}
BOTH = {"orig": ORIG, "reply": REPLY}


def test_absent_is_left_out_and_zero_is_not() -> None:
    assert to_dict(flow()) == BOTH
    assert to_dict(flow(mark=0, timeout=0)) == BOTH | {"mark": 0, "timeout": 0}


def test_values_of_any_type_are_written_as_the_field_declares() -> None:
    """A value may be a member of another enum, or the number of a name."""
    assert to_dict(attrs.evolve(TCP4, proto=IPPROTO_TCP)) == ORIG
    plain = flow(status=6, protoinfo=TCPInfo(state=3))
    assert to_dict(plain)["status"] == ["SEEN_REPLY", "ASSURED"]
    assert to_dict(plain)["protoinfo"] == {"kind": "tcp", "state": "ESTABLISHED"}


def test_a_tuple() -> None:
    assert to_dict(attrs.evolve(TCP4, src=A6, dst=A6, zone=0)) == ORIG | {
        "src": "2001:db8::1",
        "dst": "2001:db8::1",
        "zone": 0,
    }
    ping = Tuple.icmp("10.0.0.1", "10.0.0.2", id=7)
    assert to_dict(ping)["icmp_type"] == 8


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        ({"status": Status.ASSURED | Status.SEEN_REPLY}, {"status": ["SEEN_REPLY", "ASSURED"]}),
        ({"status": Status(0)}, {"status": []}),
        ({"status": Status(0x80010008)}, {"status": ["CONFIRMED", 0x80010000]}),
        ({"labels": 0}, {"labels": []}),
        ({"labels": 1 << 127 | 5}, {"labels": [0, 2, 127]}),
        (
            {"protoinfo": TCPInfo(state=TCPState.CLOSE)},
            {"protoinfo": {"kind": "tcp", "state": "CLOSE"}},
        ),
        ({"protoinfo": TCPInfo(state=99)}, {"protoinfo": {"kind": "tcp", "state": 99}}),
        ({"protoinfo": TCPInfo()}, {"protoinfo": {"kind": "tcp"}}),
        ({"protoinfo": SCTPInfo(vtag_orig=0)}, {"protoinfo": {"kind": "sctp", "vtag_orig": 0}}),
        (
            {"protoinfo": DCCPInfo(role=DCCPRole.CLIENT)},
            {"protoinfo": {"kind": "dccp", "role": "CLIENT"}},
        ),
        (
            {"protoinfo": TCPInfo(flags_orig=TCPFlags.BE_LIBERAL)},
            {"protoinfo": {"kind": "tcp", "flags_orig": ["BE_LIBERAL"]}},
        ),
        ({"helper": Helper(name="", info=b"\x00\xff")}, {"helper": {"name": "", "info": "00ff"}}),
        ({"helper": Helper(name="\udcff")}, {"helper": {"name": "\udcff"}}),
        ({"counters_orig": Counters(packets=0)}, {"counters_orig": {"packets": 0}}),
        ({"master": TCP4}, {"master": ORIG}),
        (
            {"unknown": (UnknownAttribute((1, 9), b"\x01"),)},
            {"unknown": [{"path": [1, 9], "payload": "01", "nested": False}]},
        ),
    ],
)
def test_fields_are_written_and_read(fields: dict[str, object], written: dict[str, object]) -> None:
    written = to_dict(flow(**fields))
    assert written == BOTH | written
    assert from_dict(Flow, json.loads(json.dumps(written))) == flow(**fields)


@pytest.mark.parametrize(
    ("proto", "kind"),
    [
        *((1, "icmp"), (6, "tcp"), (17, "udp"), (33, "dccp"), (47, "gre"), (58, "icmpv6")),
        *((132, "sctp"), (136, "udp"), (255, "generic")),
    ],
)
def test_timeouts_have_the_kind_of_their_protocol(proto: int, kind: str) -> None:
    (timeouts,) = (timeouts for number, timeouts, _ in PER_PROTOCOL if number == proto)
    policy = TimeoutPolicy(name="a", family=2, proto=proto, timeouts=timeouts)
    written = to_dict(policy)
    assert written.pop("timeouts") == {"kind": kind} | to_dict(timeouts)
    assert written == {"name": "a", "family": 2, "proto": proto}
    assert from_dict(TimeoutPolicy, to_dict(policy)) == policy


def test_a_user_space_helper() -> None:
    policies = (ExpectPolicy(name="b", expect_max=1, expect_timeout=2),)
    helper = UserspaceHelper(
        name="a", family=2, proto=6, policies=policies, queue=0, status=HelperStatus.ENABLED
    )
    written = to_dict(helper)
    assert written == {
        "name": "a",
        "family": 2,
        "proto": 6,
        "policies": [{"name": "b", "expect_max": 1, "expect_timeout": 2}],
        "queue": 0,
        "status": "ENABLED",
    }
    assert from_dict(UserspaceHelper, written) == helper


def test_an_event() -> None:
    event = FlowEvent(type=EventType.DESTROY, flow=flow(mark=1), timestamp=5)
    written = to_dict(event)
    assert written == {
        "type": "destroy",
        "flow": BOTH | {"mark": 1},
        "port_id": 0,
        "timestamp": 5,
    }
    assert from_dict(FlowEvent, written) == event


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_survives_json(case: Case) -> None:
    written = to_dict(case.object)
    assert json.loads(json.dumps(written)) == written
    assert from_dict(type(case.object), written) == case.object
    present = [
        field.name
        for field in attrs.fields(type(case.object))  # type: ignore[arg-type]
        if getattr(case.object, field.name) not in (None, ())
    ]
    assert [name for name in written if name != "kind"] == present


# Reading


def test_states_and_flags_are_read_as_members() -> None:
    read = from_dict(
        Flow, BOTH | {"status": ["ASSURED", 8], "protoinfo": {"kind": "tcp", "state": 3}}
    )
    assert repr(read.status) == "<Status.ASSURED|CONFIRMED: 12>"
    assert isinstance(read.protoinfo, TCPInfo)
    assert read.protoinfo.state is TCPState.ESTABLISHED


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"mark": None, "protoinfo": None, "helper": {"name": None}}, {"helper": Helper()}),
        ({"status": []}, {"status": Status(0)}),
        ({"status": ["ASSURED", "ASSURED", 4]}, {"status": Status.ASSURED}),
        ({"status": ["NAT_MASK"]}, {"status": Status.SRC_NAT | Status.DST_NAT}),
        ({"labels": [5, 0, 5]}, {"labels": 33}),
        ({"helper": {"info": "00FF"}}, {"helper": Helper(info=b"\x00\xff")}),
        ({"unknown": []}, {}),
        (
            {"protoinfo": {"state": "OPEN", "kind": "dccp"}},
            {"protoinfo": DCCPInfo(state=DCCPState.OPEN)},
        ),
    ],
)
def test_other_spellings_are_read(written: dict[str, JSON], read: dict[str, object]) -> None:
    assert from_dict(Flow, BOTH | written) == flow(**read)


def test_protoinfo_of_another_protocol_is_read() -> None:
    unusual = flow(protoinfo=SCTPInfo(vtag_orig=1))
    assert unusual.orig.proto == 6
    assert from_dict(Flow, to_dict(unusual)) == unusual


INVALID = [
    ([], "", "must be an object; got a list"),
    (None, "", "must be an object; got null"),
    ("{}", "", "must be an object; got '{}'"),
    ({}, "orig", "Flow requires this field"),
    (BOTH | {"orig": None}, "orig", "must be an object; got null"),
    (BOTH | {"orig": {}}, "orig/src", "Tuple requires this field"),
    (BOTH | {"marc": 1}, "", "unknown field 'marc' of Flow; did you mean 'mark'?"),
    (BOTH | {1: 1}, "", "unknown field 1 of Flow"),
    (BOTH | {"x" * 50: 1}, "", f"unknown field '{'x' * 40}'… of Flow"),
    (
        BOTH | {"orig": ORIG | {"protocol": 6}},
        "orig",
        "unknown field 'protocol' of Tuple; did you mean 'proto'?",
    ),
    (BOTH | {"orig": ORIG | {"src": "10.0.0"}}, "orig/src", "must be an address; got '10.0.0'"),
    (BOTH | {"orig": ORIG | {"src": 167772161}}, "orig/src", "must be an address; got 167772161"),
    (
        BOTH | {"orig": ORIG | {"src": "fe80::1%eth0"}},
        "orig/src",
        "must be an address without a scope; got 'fe80::1%eth0'",
    ),
    (BOTH | {"orig": ORIG | {"proto": None}}, "orig/proto", "must be an integer; got null"),
    (BOTH | {"mark": True}, "mark", "must be an integer; got true"),
    (BOTH | {"mark": 1.0}, "mark", "must be an integer; got 1.0"),
    (BOTH | {"mark": float("nan")}, "mark", "must be an integer; got nan"),
    (BOTH | {"mark": "1"}, "mark", "must be an integer; got '1'"),
    (BOTH | {"mark": -1}, "mark", "must be from 0 to 4294967295; got -1"),
    (
        BOTH | {"mark": 10**5000},
        "mark",
        "must be from 0 to 4294967295; got a number of 16610 bits",
    ),
    (BOTH | {"zone": 65536}, "zone", "must be from 0 to 65535; got 65536"),
    (
        BOTH | {"seqadj_orig": {"offset_after": 1 << 31}},
        "seqadj_orig/offset_after",
        "must be from -2147483648 to 2147483647; got 2147483648",
    ),
    (BOTH | {"status": "ASSURED"}, "status", "must be a list; got 'ASSURED'"),
    (BOTH | {"status": 4}, "status", "must be a list; got 4"),
    (BOTH | {"status": [1 << 32]}, "status", "must be from 0 to 4294967295; got 4294967296"),
    (BOTH | {"status": [None]}, "status", "must be an integer; got null"),
    (BOTH | {"labels": [128]}, "labels", "must be from 0 to 127; got 128"),
    (BOTH | {"labels": [False]}, "labels", "must be an integer; got false"),
    (BOTH | {"labels": 1}, "labels", "must be a list; got 1"),
    (BOTH | {"protoinfo": 3}, "protoinfo", "must be an object; got 3"),
    (BOTH | {"protoinfo": {}}, "protoinfo/kind", "must be one of tcp, dccp, sctp; got null"),
    (
        BOTH | {"protoinfo": {"kind": "TCP"}},
        "protoinfo/kind",
        "must be one of tcp, dccp, sctp; got 'TCP'",
    ),
    (
        BOTH | {"protoinfo": {"kind": []}},
        "protoinfo/kind",
        "must be one of tcp, dccp, sctp; got a list",
    ),
    (
        BOTH | {"protoinfo": {"kind": "sctp", "wscale_orig": 1}},
        "protoinfo",
        "unknown field 'wscale_orig' of SCTPInfo",
    ),
    (
        BOTH | {"protoinfo": {"kind": "dccp", "role": "BOSS"}},
        "protoinfo/role",
        "must be one of CLIENT, SERVER; got 'BOSS'",
    ),
    (
        BOTH | {"protoinfo": {"kind": "tcp", "state": 256}},
        "protoinfo/state",
        "must be from 0 to 255; got 256",
    ),
    (
        BOTH | {"protoinfo": {"kind": "tcp", "kin": 1}},
        "protoinfo",
        "unknown field 'kin' of TCPInfo",
    ),
    (
        BOTH | {"counters_orig": {"kind": "tcp"}},
        "counters_orig",
        "unknown field 'kind' of Counters",
    ),
    (BOTH | {"helper": {"name": 1}}, "helper/name", "must be text; got 1"),
    (BOTH | {"helper": {"name": "a\0"}}, "helper/name", "must not contain a NUL; got 'a\\x00'"),
    (BOTH | {"helper": {"name": "\ud800"}}, "helper/name", "'\\ud800' cannot be encoded as UTF-8"),
    (
        BOTH | {"helper": {"name": "é" * 9}},
        "helper/name",
        "must be at most 16 bytes; got 'ééééééééé'",
    ),
    (BOTH | {"helper": {"info": "0"}}, "helper/info", "must be hexadecimal digits; got '0'"),
    (
        BOTH | {"helper": {"info": "00 ff"}},
        "helper/info",
        "must be hexadecimal digits; got '00 ff'",
    ),
    (BOTH | {"helper": {"info": {}}}, "helper/info", "must be hexadecimal digits; got an object"),
    (BOTH | {"helper": {"info": "00" * 33}}, "helper/info", "must be at most 32 bytes; got 33"),
    (BOTH | {"unknown": None}, "unknown", "must be a list; got null"),
    (BOTH | {"unknown": {}}, "unknown", "must be a list; got an object"),
    (BOTH | {"unknown": [1]}, "unknown/0", "must be an object; got 1"),
    (BOTH | {"unknown": [{"path": 5}]}, "unknown/0/path", "must be a list; got 5"),
    (
        BOTH | {"unknown": [{"path": [9, "x"], "payload": ""}]},
        "unknown/0/path/1",
        "must be an integer; got 'x'",
    ),
    (
        BOTH | {"unknown": [{"path": [9]}]},
        "unknown/0/payload",
        "UnknownAttribute requires this field",
    ),
    (
        BOTH | {"unknown": [{"path": [9], "payload": "", "nested": 0}]},
        "unknown/0/nested",
        "must be true or false; got 0",
    ),
]


@pytest.mark.parametrize(("data", "path", "reason"), INVALID, ids=[case[2] for case in INVALID])
def test_errors_name_the_problem_and_the_path(data: JSON, path: str, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        from_dict(Flow, data)
    assert ("/".join(caught.value.path), caught.value.reason) == (path, reason)


@pytest.mark.parametrize(
    ("fields", "path", "reason"),
    [
        ({"type": "NEW"}, "type", "must be one of new, update, destroy; got 'NEW'"),
        ({"type": 1}, "type", "must be one of new, update, destroy; got 1"),
        ({"flow": {"orig": ORIG}}, "flow/reply", "Flow requires this field"),
        ({"port_id": None}, "port_id", "must be an integer; got null"),
        (
            {"port_id": 1 << 64},
            "port_id",
            "must be from -9223372036854775808 to 18446744073709551615; got 18446744073709551616",
        ),
    ],
)
def test_errors_of_an_event_name_the_problem_and_the_path(
    fields: dict[str, JSON], path: str, reason: str
) -> None:
    event: dict[str, JSON] = {"type": "new", "flow": BOTH}
    assert from_dict(FlowEvent, event) == FlowEvent(type=EventType.NEW, flow=flow())
    with pytest.raises(DecodeError) as caught:
        from_dict(FlowEvent, event | fields)
    assert ("/".join(caught.value.path), caught.value.reason) == (path, reason)


def test_very_deep_json_is_refused() -> None:
    deep: JSON = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(DecodeError, match="mark: must be an integer; got a list"):
        from_dict(Flow, BOTH | {"mark": deep})
    with pytest.raises(DecodeError, match="unknown/0: must be an object; got a list"):
        from_dict(Flow, BOTH | {"unknown": deep})


# Values that cannot be converted


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"mark": "1"}, "mark"),
        ({"mark": 1 << 32}, "mark"),
        ({"orig": None}, "orig"),
        ({"orig": ORIG}, "orig"),
        ({"orig": with_values(TCP4, src="10.0.0.1")}, "orig/src"),
        ({"orig": with_values(TCP4, src=IPv6Address("fe80::1%lo"))}, "orig/src"),
        ({"status": "ASSURED"}, "status"),
        ({"labels": -1}, "labels"),
        ({"protoinfo": Counters()}, "protoinfo"),
        ({"helper": Helper(name=b"ftp")}, "helper/name"),  # type: ignore[arg-type]
        ({"helper": Helper(info="00")}, "helper/info"),  # type: ignore[arg-type]
        ({"unknown": [1]}, "unknown"),
        ({"unknown": (1,)}, "unknown/0"),
    ],
)
def test_values_that_a_field_cannot_hold_are_refused(fields: dict[str, object], path: str) -> None:
    with pytest.raises(EncodeError) as caught:
        to_dict(attrs.evolve(flow(), **fields))
    assert "/".join(caught.value.path) == path


@pytest.mark.parametrize("cls", [int, dict, EventType, NetNS, DecodeError, "Flow", None, TCP4])
def test_from_dict_refuses_other_classes(cls: type) -> None:
    with pytest.raises(TypeError, match=r"expected a class of the model|private fields"):
        from_dict(cls, {})


@pytest.mark.parametrize("obj", [1, {}, None, Flow, EventType.NEW, NetNS.from_name("blue")])
def test_to_dict_refuses_other_objects(obj: object) -> None:
    with pytest.raises(TypeError, match=r"expected a class of the model|private fields"):
        to_dict(obj)


def test_a_field_of_another_type_is_refused() -> None:
    @attrs.frozen
    class WithFloat:
        number: int
        fraction: float = 0.5

    with pytest.raises(TypeError, match="float"):
        to_dict(WithFloat(1))


def test_statistics_survive_json() -> None:
    statistics = ClientStatistics(requests=3)
    assert to_dict(statistics)["requests"] == 3
    assert from_dict(ClientStatistics, to_dict(statistics)) == statistics
    table = FlowTableStatistics(entries=3, stream=StreamStatistics(forged=1))
    assert from_dict(FlowTableStatistics, to_dict(table)) == table


def test_a_change_of_a_live_table() -> None:
    flow = Flow.udp("10.0.0.1", 1, "10.0.0.2", 2, timeout=3)
    change = Change(ChangeType.CHANGED, flow, Cause.EVENT, flow, ("mark",))
    written = to_dict(change)
    assert (written["type"], written["cause"], written["fields"]) == ("changed", "event", ["mark"])
    assert from_dict(Change, written) == change


def test_the_translation_of_a_flow() -> None:
    translated = attrs.evolve(flow(), reply=attrs.evolve(flow().reply, dst="10.0.0.3", dport=9))
    assert translated.nat is not None
    written = to_dict(translated.nat)
    assert written == {
        "src": {
            "before": {"address": "10.0.0.1", "port": 1024},
            "after": {"address": "10.0.0.3", "port": 9},
        }
    }
    assert from_dict(NAT, written) == translated.nat


class MisleadingText(str):
    """A string whose methods return the values of another string."""

    def __str__(self) -> str:
        return "other"

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("other")

    def encode(self, *arguments: object, **options: object) -> bytes:
        return b"other"


class MisleadingList(list[Any]):
    def __iter__(self) -> Any:
        return iter([1])


class MisleadingDict(dict[str, Any]):
    def items(self) -> Any:
        return [("mark", 1)]


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_of_any_type_are_read(kind: str) -> None:
    make = INTEGERS[kind]
    written: Any = BOTH | {"mark": make(5), "timeout": make(6), "labels": [make(3)]}
    written["status"] = ["ASSURED", make(2)]
    written["protoinfo"] = {"kind": "tcp", "state": make(3)}
    read = from_dict(Flow, written)
    assert (read.mark, read.timeout, read.labels) == (5, 6, 8)
    assert type(read.mark) is type(read.timeout) is type(read.labels) is int
    assert read.status is Status.ASSURED | Status.SEEN_REPLY
    assert read.protoinfo == TCPInfo(state=TCPState.ESTABLISHED)


def test_strings_of_subclasses_are_read_by_their_values() -> None:
    written: Any = BOTH | {
        "status": MisleadingList([MisleadingText("ASSURED")]),
        "labels": MisleadingList([5]),
    }
    written["helper"] = MisleadingDict(
        {MisleadingText("name"): MisleadingText("ftp"), "info": MisleadingText("00ff")}
    )
    written["protoinfo"] = {"kind": MisleadingText("tcp"), "state": MisleadingText("ESTABLISHED")}
    written["orig"] = MisleadingDict(ORIG | {"src": MisleadingText("10.0.0.1")})
    read = from_dict(Flow, written)
    assert read.helper == Helper(name="ftp", info=b"\0\xff")
    assert read.helper is not None
    assert type(read.helper.name) is str
    assert (read.status, read.labels, read.mark) == (Status.ASSURED, 32, None)
    assert read.protoinfo == TCPInfo(state=TCPState.ESTABLISHED)
    assert read.orig == from_dict(Tuple, ORIG)
    with pytest.raises(DecodeError, match="unknown field 'nonsense'"):
        from_dict(Flow, BOTH | {MisleadingText("nonsense"): 1})


@pytest.mark.parametrize(
    "wrong", [True, 1.0, "1", RaisingObject(KeyError), object()], ids=case_name
)
def test_other_types_than_integers_are_refused(wrong: Any) -> None:
    with pytest.raises(DecodeError, match="must be an integer"):
        from_dict(Flow, BOTH | {"mark": wrong})
