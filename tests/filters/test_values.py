"""Arguments of any class become plain values, and wrong ones raise MatchError or TypeError."""

from __future__ import annotations

import enum
import linecache
import traceback
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from socket import AF_INET, AF_INET6
from typing import Any

import attrs
import pytest
from support import flows

from conntrack_aio import LabelNames, Match, MatchError, Status, TCPInfo, TCPState
from conntrack_aio.filters.conditions import Conditions
from conntrack_aio.filters.fields import FAMILY
from conntrack_aio.filters.nodes import Addresses, Bits, Numbers, Texts, atoms
from conntrack_aio.model.protocols import PROTOCOL_ALIASES, PROTOCOL_NAMES, PROTOCOL_NUMBERS

CODE = "(_ for _ in ()).throw(RuntimeError)"


class HostileInt(int):
    """A number that prints as code, and compares, calculates and hashes as something else."""

    def __str__(self) -> str:
        return CODE

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return CODE

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0

    def __index__(self) -> int:
        return 99

    def __int__(self) -> int:
        return 98

    def __and__(self, other: object) -> Any:
        raise RuntimeError

    __lt__ = __gt__ = __le__ = __ge__ = __add__ = __sub__ = __and__  # type: ignore[assignment]
    __rand__ = __radd__ = __rshift__ = __invert__ = __bool__ = __and__  # type: ignore[assignment]


class IndexOnly:
    """An integer that is no ``int``, as those of NumPy."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number


class HostileText(str):
    """A text that prints, compares and hashes as something else."""

    def __str__(self) -> str:
        return CODE

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return CODE

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0

    def __len__(self) -> int:
        return 1

    def lower(self) -> str:
        return CODE

    def partition(self, sep: str) -> Any:
        raise RuntimeError

    def encode(self, *args: object, **kwargs: object) -> bytes:
        return b""


class Address4(IPv4Address):
    def __int__(self) -> int:
        return 1

    def __str__(self) -> str:
        return CODE

    def __hash__(self) -> int:
        return 0


class Address6(IPv6Address):
    def __int__(self) -> int:
        return 1

    def __str__(self) -> str:
        return CODE


class Network4(IPv4Network):
    def __str__(self) -> str:
        return CODE

    @property
    def broadcast_address(self) -> IPv4Address:
        return Address4("1.2.3.4")


class Network6(IPv6Network):
    def __str__(self) -> str:
        return CODE


def member(number: int) -> object:
    return enum.Enum("Number", {"IT": number}, type=int).IT  # type: ignore[attr-defined]


NUMBERS = {
    "family": AF_INET.value,
    "proto": 6,
    **{f"{side}_{port}": 80 for side in ("orig", "reply") for port in ("sport", "dport")},
    **{f"{side}_icmp_{name}": 8 for side in ("orig", "reply") for name in ("type", "code", "id")},
    **dict.fromkeys(("zone", "orig_zone", "reply_zone", "timeout", "id"), 3),
    **{f"{side}_{name}": 10 for side in ("orig", "reply") for name in ("packets", "bytes")},
    "mark": 5,
    "labels": 3,
    "status": 4,
    "status_unset": 4,
}
RANGED = NUMBERS.keys() - {"mark", "labels", "status", "status_unset"}
INTEGERS: list[Callable[[int], object]] = [
    HostileInt,
    IndexOnly,
    member,
    lambda number: enum.IntEnum("Number", {"IT": number}).IT,  # type: ignore[attr-defined]
    lambda number: enum.IntFlag("Number", {"IT": number}).IT,  # type: ignore[attr-defined]
    lambda number: [HostileInt(number)],
    lambda number: (HostileInt(number) for _ in range(2)),
    lambda number: {IndexOnly(number)},
]
ADDRESSES = [f"{side}_{end}" for side in ("orig", "reply") for end in ("src", "dst")]


def assert_plain(match: Match) -> None:
    for each in atoms(match._node):
        if isinstance(each, Numbers):
            found: list[object] = [number for ends in each.values for number in ends]
        elif isinstance(each, Addresses):
            found = [number for ends in (*each.v4, *each.v6) for number in ends]
        else:
            found = [*each.values] if isinstance(each, Texts) else [each.mask, each.value]
        assert {type(one) for one in found} <= {int, str}


def assert_same(match: Match, expected: Match) -> None:
    """Assert that a match has plain values and equals another one in every respect."""
    assert_plain(match)
    assert match == expected
    assert hash(match) == hash(expected)
    assert str(match) == str(expected)
    assert Match.parse(str(match)) == expected
    flow = attrs.evolve(flows.tcp(mark=5), status=Status.ASSURED, labels=8, zone=3)
    assert match(flow) is expected(flow)


@pytest.mark.parametrize("make", INTEGERS)
@pytest.mark.parametrize("name", NUMBERS)
def test_integers_of_any_class(name: str, make: Callable[[int], object]) -> None:
    number = NUMBERS[name]
    assert_same(Match(**{name: make(number)}), Match(**{name: number}))  # type: ignore[misc]


@pytest.mark.parametrize("name", sorted(RANGED))
def test_ranges_and_text_of_numbers(name: str) -> None:
    number = NUMBERS[name]
    expected = Match(**{name: number})  # type: ignore[misc]
    forms: list[object] = [
        range(HostileInt(number), HostileInt(number + 1)),
        HostileText(number),
        [f"00{number}"],
    ]
    for form in [*forms, f"0x{number:X}", {str(number): None}, iter([range(number, number + 1)])]:
        assert_same(Match(**{name: form}), expected)  # type: ignore[misc]


def test_bool_is_a_number() -> None:
    assert_same(Match(mark=True, mark_mask=True), Match(mark=1, mark_mask=1))
    assert_same(Match(proto=True, labels=False), Match(proto=1, labels=0))
    assert Match(snat=True) != Match(snat=False)


@pytest.mark.parametrize("make", INTEGERS[:5])
def test_masks_of_any_class(make: Callable[[int], object]) -> None:
    for name in ("mark", "labels"):
        values = {name: make(5), f"{name}_mask": make(7)}
        assert_same(Match(**values), Match(**{name: 5, f"{name}_mask": 7}))  # type: ignore[misc]
        texts = {name: HostileText("0x5"), f"{name}_mask": HostileText("07")}
        assert_same(Match(**texts), Match(**{name: 5, f"{name}_mask": 7}))  # type: ignore[misc]
        assert_same(Match(**{name: HostileText("5/0x7")}), Match(**{name: 5, f"{name}_mask": 7}))  # type: ignore[misc]


@pytest.mark.parametrize("name", [*ADDRESSES, "snat", "dnat"])
def test_addresses_of_any_class(name: str) -> None:
    for given, expected in (
        (Address4("10.0.0.7"), "10.0.0.7"),
        (Address6("2001:db8::7"), "2001:db8::7"),
        (Network4("10.0.0.0/30"), "10.0.0.0/30"),
        (Network6("2001:db8::/32"), "2001:db8::/32"),
        (HostileText("10.0.0.1-10.0.0.9"), "10.0.0.1-10.0.0.9"),
        ((each for each in (Address4("10.0.0.7"), HostileText("::1"))), ["10.0.0.7", "::1"]),
    ):
        assert_same(Match(**{name: given}), Match(**{name: expected}))  # type: ignore[misc]


def test_text_of_any_class() -> None:
    member = enum.Enum("Name", {"FTP": "ftp"}, type=str).FTP  # type: ignore[attr-defined]
    for form in (HostileText("ftp"), member, {HostileText("ftp")}, iter(["ftp"])):
        assert_same(Match(helper=form), Match(helper="ftp"))
    assert_same(
        Match(state=[HostileText("Established"), TCPState.CLOSE]),
        Match(state=["established", "close"]),
    )
    assert_same(
        Match(proto=HostileText("TCP"), family=HostileText("INET")), Match(proto=6, family=AF_INET)
    )
    assert_same(Match(status=HostileText("Assured")), Match(status=4))
    names = LabelNames({"web": 3})
    assert_same(Match(labels=HostileText("web"), label_names=names), Match(labels=3))
    assert_same(Match(HostileText("proto tcp")), Match(proto=6))
    assert_same(Match.parse(HostileText("proto tcp")), Match(proto=6))


def test_marks_as_text_with_masks() -> None:
    for form, text in (
        ({"mark": "0x7"}, "mark 7"),
        ({"mark": "0x3/0xff"}, "mark 0x3/0xff"),
        ({"mark": 3, "mark_mask": "0xff"}, "mark 0x3/0xff"),
        ({"mark": [1, "2/3"]}, "mark 1 or mark 0x2/0x3"),
    ):
        assert str(Match(**form)) == text  # type: ignore[arg-type]
    for bad in (
        {"mark": "x"},
        {"mark": "1/"},
        {"mark": "1/1", "mark_mask": 1},
        {"mark": "0x100000000"},
    ):
        with pytest.raises(MatchError, match="mark"):
            Match(**bad)  # type: ignore[arg-type]


def test_the_bits_of_one_status_are_all_set_and_one_of_several_statuses_holds() -> None:
    assert str(Match(status="assured")) == "status assured"
    both = "status seen_reply and status assured"
    for form in (Status.SEEN_REPLY | Status.ASSURED, "seen_reply | assured", 6, "0x6", "6"):
        assert str(Match(status=form)) == str(Match(f'status "{form:}"')) == both
    assert Match(status=str(Status.SEEN_REPLY | Status.ASSURED)) == Match(status=6)
    assert Match(status="unreplied") == ~Match(status="seen_reply") == Match("status unreplied")
    assert Match(status_unset="unreplied") == Match(status="seen_reply")
    either = "status seen_reply or status assured"
    for several in (
        [Status.SEEN_REPLY, Status.ASSURED],
        ("seen_reply", 4),
        dict.fromkeys(["0x2", "assured"]),
    ):
        assert Match(status=several) == Match("status in {seen_reply, assured}") == Match(either)
    assert Match(status_unset=6) == ~Match(status=2) & ~Match(status=4)
    assert Match(status_unset=[2, 4]) == ~Match(status=2) | ~Match(status=4)
    assert Match(status="assured|unreplied") == Match(status=4, status_unset=2)
    assert str(Match("status in {assured, unreplied}")) == "status assured or not status seen_reply"
    assert Match("status != unreplied") == Match(status="seen_reply")
    for bad in ("", "up", "assured||dying", "assured,dying", ["up"]):
        with pytest.raises(MatchError, match="unknown status bit"):
            Match(status=bad)


def test_one_of_labels_and_all_of_labels_all_are_set() -> None:
    names = LabelNames({"web": 5, "a|b": 6})
    either = Match("label 5 or label 7")
    assert Match(labels=["web", 7], label_names=names) == either
    assert Match.parse("label in {web, 7}", label_names=names) == either
    both = Match("label 5 and label 7")
    assert Match(labels_all=["web", 7], label_names=names) == both
    assert Match.parse("label web|7", label_names=names) == both
    assert Match(labels="a|b", label_names=names) == Match(labels=6)
    assert Match.parse('label "a|b"', label_names=names) == Match(labels_all=6)
    assert str(Match(labels_all=[])) == str(Match(labels=[])) == "none"


def test_labels_are_compared_as_a_value() -> None:
    mac = 0x0A580A800102
    match = Match(labels=mac, labels_mask=(1 << 48) - 1)
    assert str(match) == "label 0xa580a800102/0xffffffffffff"
    assert Match.parse(str(match)) == match
    assert Match("label 0x8/0x8") == Match(labels=3)
    assert Match(labels=0, labels_mask=0).always
    flow = flows.tcp()
    for labels, matched in ((mac, True), (mac | 1 << 48, True), (mac | 1, False), (None, False)):
        assert match(attrs.evolve(flow, labels=labels)) is matched
    assert Match(labels=0, labels_mask=1)(flow)
    for values, words in (
        ({"labels": 3, "labels_mask": 1}, "outside its mask"),
        ({"labels": 0, "labels_mask": 1 << 128}, "unsigned number of 128 bits"),
        ({"labels": [1, 2], "labels_mask": 3}, "labels must be one number of 128 bits"),
        ({"labels": "web", "labels_mask": 3}, "labels must be a number, or a number and a mask"),
        ({"labels": 1 << 64}, "to compare the value of all labels, add a mask: 0x1"),
    ):
        with pytest.raises(MatchError, match=words):
            Match(**values)  # type: ignore[arg-type]
    with pytest.raises(MatchError, match="a flow has one label"):
        match & Match(labels=mac ^ 1, labels_mask=(1 << 48) - 1)


def test_names_of_protocols_and_families() -> None:
    for name, number in (*PROTOCOL_NUMBERS.items(), *PROTOCOL_ALIASES.items()):
        match = Match(proto=number)
        assert Match(proto=name) == Match(proto=name.upper()) == Match(f"proto {name}") == match
        assert Match.parse(str(match)) == match
    assert not PROTOCOL_NUMBERS.keys() & PROTOCOL_ALIASES.keys()
    assert PROTOCOL_NAMES.items() <= {(n, name) for name, n in PROTOCOL_NUMBERS.items()}
    assert str(Match(proto="ipv6-icmp")) == "proto icmpv6"
    assert str(Match("proto in {OSPF, vrrp}")) == "proto in {ospf, vrrp}"
    assert Match("family inet") == Match(family=AF_INET)
    assert str(Match(family="INET6")) == "family ipv6"
    assert FAMILY.names.keys() == {"ipv4", "ipv6"}


def test_text_and_conditions_are_combined() -> None:
    assert Match("proto tcp") == Match.parse("proto tcp")
    assert Match("proto tcp", orig_dport=80) == Match("proto tcp and orig.dport 80")
    assert Match("proto tcp", "zone 1") == Match(proto="tcp", zone=1)
    assert Match("label web", label_names=LabelNames({"web": 3})) == Match(labels=3)
    for bad in (None, 5, b"proto tcp", Match()):
        with pytest.raises(TypeError, match="the text of a match must be a str; got"):
            Match(bad)  # type: ignore[arg-type]
    for text in ("", " "):
        with pytest.raises(MatchError, match="empty"):
            Match(text)


# -- IPv4-mapped addresses ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("::ffff:10.0.0.1", "10.0.0.1"),
        (IPv6Address("::ffff:10.0.0.1"), "10.0.0.1"),
        ("::ffff:10.0.0.0/104", "in 10.0.0.0/8"),
        (IPv6Network("::ffff:10.0.0.0/104"), "in 10.0.0.0/8"),
        ("::ffff:0:0/96", "in 0.0.0.0/0"),
        ("::ffff:10.0.0.1-::ffff:10.0.0.9", "in 10.0.0.1-10.0.0.9"),
        ("::/0", "in ::/0"),
        ("::/64", "in ::/64"),
        ("::fffe:0:0/95", "in ::fffe:0:0/95"),
        ("::-::ffff:10.0.0.1", None),
        ("[::ffff:10.0.0.1]", "[::ffff:a00:1]"),
        ("[::ffff:10.0.0.0]/104", "in [::ffff:a00:0]/104"),
        ("[2001:db8::1]", "2001:db8::1"),
    ],
)
@pytest.mark.parametrize("name", ADDRESSES)
def test_mapped_addresses_mean_ipv4(name: str, given: object, text: str | None) -> None:
    match = Match(**{name: given})  # type: ignore[misc]
    field = name.replace("_", ".")
    if text is not None:
        text = text.replace("::ffff:a00:1", str(IPv6Address("::ffff:10.0.0.1")))
        text = text.replace("::ffff:a00:0", str(IPv6Address("::ffff:10.0.0.0")))
        assert str(match) == f"{field} {text}"
    assert Match.parse(str(match)) == match
    if isinstance(given, str):
        assert Match(f"{field} {given}") == Match(f"{field} in {{{given}}}") == match
    translation = {"reply_dst": "snat", "reply_src": "dnat"}.get(name)
    if translation is not None:
        assert Match(**{translation: given}) == Match(**{translation: True}) & match  # type: ignore[misc]


def test_brackets_match_entries_with_mapped_addresses() -> None:
    """A program can create such an entry. Its family is IPv6."""
    flow = attrs.evolve(
        flows.udp6(),
        orig=attrs.evolve(flows.udp6().orig, src=IPv6Address("::ffff:10.0.0.1")),
    )
    for given in ("::/0", "::/64", "[::ffff:10.0.0.1]", "[::ffff:0:0]/96"):
        assert Match(orig_src=given)(flow)
    for given in ("10.0.0.1", "::ffff:10.0.0.1", "::ffff:0:0/96"):
        assert not Match(orig_src=given)(flow)


@pytest.mark.parametrize("text", ["[10.0.0.1]", "[::1", "::1]", "[[::1]]", "[::1]-10.0.0.1", "[]"])
def test_other_text_in_brackets_is_refused(text: str) -> None:
    with pytest.raises(MatchError):
        Match(f"orig.src {text}")
    with pytest.raises(MatchError):
        Match(orig_src=text)


# -- errors -------------------------------------------------------------------------------------

ODD: list[object] = [
    *(5, -1, 1.5, float("nan"), 10**5000, -(10**5000), 1 << 64, "", "x", "\0", "\ud800", "1/2/3"),
    *(b"x", bytearray(b"80"), [None], [[]], {}, {1: 2}, object(), Ellipsis, [object()], "{", "-"),
    *(range(0), range(5, 1), range(-1, 3), range(0, 9, 3), range(1 << 70), memoryview(b"5")),
    *(IPv4Address(1), IPv6Address("fe80::1%x"), IPv4Network("10.0.0.0/8"), Status(0), TCPInfo()),
    *(Match(), Match, print, "9" * 5000, "0x", "0x" + "f" * 40, "-5", "1-", "1-2-3", "/", "5/"),
]


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError

    def __index__(self) -> int:
        raise RuntimeError


@pytest.mark.parametrize("name", Conditions.__annotations__)
def test_a_wrong_value_raises_match_error_or_type_error(name: str) -> None:
    for value in (*ODD, *([each] for each in ODD), Broken(), [Broken()]):
        given: dict[str, object] = {name: value}
        if name.endswith("_mask"):
            given[name.removesuffix("_mask")] = 0
        message = ""
        try:
            match = Match(**given)  # type: ignore[arg-type]
        except (MatchError, TypeError) as error:
            message = str(error)
        else:
            assert_plain(match)
            assert Match.parse(str(match)) == match
        assert len(message) < 1000


@pytest.mark.parametrize("name", ["colour", "dport", "x" * 9000, "\ud800", ""])
def test_an_unknown_condition_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match="unknown condition") as raised:
        Match(**{name: 1})  # type: ignore[misc]
    assert len(str(raised.value)) < 300


def test_a_match_has_no_truth_value() -> None:
    one, other = Match(zone=3), Match(proto="udp")
    operations: list[Callable[[], object]] = [
        lambda: one and other,
        lambda: one or other,
        lambda: not one,
        lambda: bool(one),
        lambda: any([one]),
        lambda: 1 if one else 0,
        lambda: all([other, one]),
    ]
    for operation in operations:
        with pytest.raises(TypeError, match=r"combine matches with &, \| and ~"):
            operation()


def test_a_traceback_shows_the_source_of_predicates() -> None:
    """It shows the predicate and the functions that it calls. The source contains no values."""
    services = Match.any(
        Match(proto="udp", orig_dport=n) & ~Match(reply_src="10.0.0.1", timeout=n) for n in range(9)
    )
    flow = attrs.evolve(flows.udp6(), reply=None)  # type: ignore[arg-type]
    flow.orig.dport = 5
    with pytest.raises(AttributeError) as raised:
        services(flow)
    shown = "".join(traceback.format_exception(raised.value))
    assert "address(flow.reply.src)" in shown
    assert "<conntrack_aio match" in shown
    files = {frame.filename for frame in traceback.extract_tb(raised.value.__traceback__)}
    sources = ["".join(linecache.getlines(file)) for file in files if file.startswith("<conn")]
    assert len(sources) == 2
    assert not any("10.0.0.1" in source or "17" in source for source in sources)


def test_two_bits_are_one_condition() -> None:
    assert isinstance(Match(labels=1, labels_mask=3)._node, Bits)


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
def test_families_of_any_class(family: int) -> None:
    assert Match(family=family) == Match(family=HostileInt(family))


def test_a_range_can_have_one_mapped_end() -> None:
    expected = Match(orig_src="10.0.0.1-10.0.0.9")
    for text in ("::ffff:10.0.0.1-10.0.0.9", "10.0.0.1-::ffff:10.0.0.9"):
        assert Match(orig_src=text) == Match.parse(f"orig.src in {text}") == expected
    for text in ("[::ffff:10.0.0.1]-10.0.0.9", "::1-10.0.0.9", "10.0.0.1-::"):
        with pytest.raises(MatchError, match="mixes IPv4 and IPv6 addresses"):
            Match(orig_src=text)


def test_address_objects_with_impossible_values_are_refused() -> None:
    for prefix in (-1, 33, 200, 4):
        net = IPv4Network("10.0.0.0/8")
        net._prefixlen = prefix  # type: ignore[attr-defined]
        with pytest.raises(MatchError, match="is not a network"):
            Match(orig_src=net)
    for kind, number in ((IPv4Address, 1 << 32), (IPv4Address, -1), (IPv6Address, 1 << 128)):
        address = kind("::1" if kind is IPv6Address else "10.0.0.1")
        address._ip = number  # type: ignore[union-attr]
        with pytest.raises(MatchError, match="is not an address"):
            Match(orig_src=address)


class Scalar:
    """An iterable type whose objects cannot be iterated, as NumPy arrays without dimensions."""

    def __iter__(self) -> Iterator[int]:
        raise TypeError("iteration over a 0-d array")

    def __len__(self) -> int:
        raise TypeError("len() of unsized object")


class Number(Scalar):
    def __index__(self) -> int:
        return 80


def test_arrays_without_dimensions() -> None:
    for name in sorted(Conditions.__annotations__.keys() - {"label_names"}):
        if not name.endswith("_mask"):
            with pytest.raises(TypeError, match="must be "):
                Match(**{name: Scalar()})  # type: ignore[misc]
    assert Match(orig_dport=Number(), mark=Number()) == Match(orig_dport=80, mark=80)
