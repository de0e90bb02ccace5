"""The text of a match: parsing, printing, and errors that point at the mistake."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import match_strategies
from support.effort import examples

from conntrack_aio import LabelNames, Match, MatchError
from conntrack_aio.filters.fields import FIELDS

CANONICAL = [
    "all",
    "none",
    "family ipv6",
    "proto tcp",
    "proto in {6-17, sctp}",
    "proto in 6-17",
    "orig.src 10.0.0.1",
    "orig.src in 10.0.0.0/8",
    "orig.src in {10.0.0.0/8, 192.0.2.1-192.0.2.9, 2001:db8::/32}",
    "reply.dst 2001:db8::1",
    "orig.dport 86",
    "orig.dport in {80, 443, 8000-8080}",
    "orig.dport >= 1024",
    "timeout <= 29",
    "orig.icmp_type 8 and orig.icmp_code 0 and reply.icmp_id 77",
    "mark 3",
    "mark 0x3/0xff",
    "zone 7 and orig.zone 7",
    "status assured and not status dying",
    "status 0x100000",
    "label 5 and label 7",
    "label 3",
    "state established",
    "state tcp.established",
    "state in {tcp.14, closed}",
    "helper ftp",
    'helper in {"a b", "and", netbios-ns}',
    "orig.bytes >= 1000000",
    "id 4294967295",
    "proto tcp and orig.dst in 10.0.0.0/8 and not status assured and orig.dport in {80, 443}",
    "not (proto tcp or mark 1) or (zone 1 and timeout <= 9)",
]


@pytest.mark.parametrize("text", CANONICAL)
def test_canonical_text_is_printed_unchanged(text: str) -> None:
    match = Match.parse(text)
    assert str(match) == text
    assert eval(repr(match)) == match


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("orig.src in {10.0.0.0/9, 10.128.0.0/9}", "orig.src in 10.0.0.0/8"),
        ("orig.dport in {80-90, 91, 85}", "orig.dport in 80-91"),
        ("proto = TCP or proto == udp", "proto in {tcp, udp}"),
        ("proto != tcp", "not proto tcp"),
        ("timeout < 30", "timeout <= 29"),
        ("timeout > 29", "timeout >= 30"),
        ("mark 3/0xff", "mark 0x3/0xff"),
        ("mark 0x10", "mark 16"),
        ("mark in {1, 2/2}", "mark 1 or mark 0x2/0x2"),
        ("status in {assured, dying}", "status assured or status dying"),
        ("snat", "status src_nat"),
        ("dnat to 192.0.2.1", "status dst_nat and reply.src 192.0.2.1"),
        ("snat to in {192.0.2.1, ::1}", "status src_nat and reply.dst in {192.0.2.1, ::1}"),
        ("dnat to 192.0.2.1:80", "status dst_nat and reply.src 192.0.2.1 and reply.sport 80"),
        (
            "snat to 192.0.2.1:80-90",
            "status src_nat and reply.dst 192.0.2.1 and reply.dport in 80-90",
        ),
        ("dnat to [::1]:80", "status dst_nat and reply.src ::1 and reply.sport 80"),
        (
            "dnat to 10.0.0.0/8:80",
            "status dst_nat and reply.src in 10.0.0.0/8 and reply.sport 80",
        ),
        (
            "dnat to {192.0.2.1:80, 192.0.2.2}",
            "status dst_nat and ((reply.src 192.0.2.1 and reply.sport 80) or reply.src 192.0.2.2)",
        ),
        ("timeout < 1h30m", "timeout <= 5399"),
        ("timeout in {1m, 1h-2h}", "timeout in {60, 3600-7200}"),
        ("timeout 0x10", "timeout 16"),
        ("orig.bytes > 1M", "orig.bytes >= 1048577"),
        ("reply.bytes 1K-2K", "reply.bytes in 1024-2048"),
        ("((proto tcp))", "proto tcp"),
        ("not not proto tcp", "proto tcp"),
        ("proto tcp and (mark 1 and zone 2)", "proto tcp and mark 1 and zone 2"),
        ("proto tcp or proto udp and zone 1", "proto tcp or (proto udp and zone 1)"),
        ("proto tcp\n  and zone 1", "proto tcp and zone 1"),
        ("mark 0/0", "all"),
        ("family ipv4 or family ipv6", "all"),
        ("orig.src in {0.0.0.0/0, ::/0}", "all"),
        ("orig.dport in {80, 80}", "orig.dport 80"),
        ("state close and state in {close, closed}", "state close"),
    ],
)
def test_other_text_is_printed_as_canonical_text(text: str, same: str) -> None:
    assert str(Match.parse(text)) == same


def test_labels_are_read_by_name() -> None:
    names = LabelNames({"web": 3, "3x": 4})
    assert Match.parse("label web", label_names=names) == Match(labels=3)
    assert Match.parse("label in {web, 3x}", label_names=names) == Match(labels=3) | Match(labels=4)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "empty"),
        ("   ", 1, "empty"),
        ("orig.prt 80", 1, "did you mean 'orig.sport'"),
        ("proto tcp and orig.dport 70000", 26, "orig.dport must be between 0 and 65535; got 70000"),
        ("proto tcp and", 14, "expected a condition; got the end of the text"),
        ("proto tcp or or mark 1", 14, "expected a condition; got 'or'"),
        ("proto tcp zone 1", 11, "expected 'and', 'or' or the end of the text; got 'zone'"),
        ("(proto tcp", 11, "expected ')'"),
        ("proto tcp)", 10, "or the end of the text; got ')'"),
        ("proto", 6, "expected a value of proto"),
        ("proto foo", 7, "unknown protocol 'foo'; expected a number or a name such as tcp"),
        ("orig.dport in {80 443}", 19, "expected ',' or '}'"),
        ("orig.dport in {,}", 16, "expected a value of orig.dport"),
        ("orig.dport 90-80", 12, "ends before it begins"),
        ("orig.src 300.1.1.1", 10, "300.1.1.1"),
        ("orig.src in {10.0.0.1, 10.0.0.1/8}", 24, "host bits"),
        ("orig.src fe80::1%eth0", 10, "has a scope, but addresses in packets have none"),
        ("orig.src 10.0.0.9-10.0.0.1", 10, "ends before"),
        ("orig.src 10.0.0.9-::1", 10, "mixes IPv4 and IPv6 addresses"),
        ("mark 5/3", 6, "outside its mask"),
        ("mark x", 6, "mark must be a number, or a number and a mask"),
        ("status up", 8, "unknown status bit"),
        ("state up", 7, "unknown state 'up'"),
        ("label 128", 7, "0 to 127"),
        ("label nosuch", 7, "unknown label 'nosuch'"),
        ('helper "sixteen letters!"', 8, "helper must be a printable name of 1 to 15 bytes"),
        ('helper "ftp', 8, "the closing quotation mark is missing"),
        ("timeout < 0", 11, "never true"),
        ("timeout >= 1-2", 12, "takes one number"),
        ("zone 1 and proto icmp and orig.dport 80", 1, "no protocol has both"),
        ("mark 1 or (family ipv4 and orig.src ::1)", 12, "a flow has one family"),
        ("proto tcp and proto udp", 1, "a flow has one proto"),
        ("zone 1 and not zone 1", 1, "cannot be both true and false"),
        ("proto tcp and\norig.dport x", 26, "orig.dport must be a number"),
        ("orig.src not in 10.0.0.0/8", 10, "'not' must precede the whole condition: not orig.src"),
        ("orig.dport in (80, 443)", 15, "write several values of orig.dport in braces"),
        ("orig.dport in [80, 443]", 15, "write several values of orig.dport in braces"),
        ("PROTO tcp", 1, "unknown field 'PROTO'; did you mean 'proto'"),
        ("tcp", 1, "unknown field 'tcp'; did you mean 'proto tcp'?"),
        ("mark 1 and not UDP", 16, "unknown field 'UDP'; did you mean 'proto UDP'?"),
        ("10.9.0.1", 1, "unknown field '10.9.0.1'; did you mean 'orig.src 10.9.0.1'?"),
        ("mark 1 or 10.0.0.0/8", 11, "did you mean 'orig.src 10.0.0.0/8'?"),
        ("fd00::/8 and mark 1", 1, "unknown field 'fd00::/8'; did you mean 'orig.src fd00::/8'?"),
        ("10.0.0.1/8", 1, "unknown field '10.0.0.1/8'; expected one of family"),
        ("zzzz 1", 1, "unknown field 'zzzz'; expected one of family, proto"),
        ("z" * 5000, 1, "zz…; expected one of family"),
        ("orig.dport 0b11", 12, "orig.dport must be a number"),
        ("state >= 3", 7, "a value of state"),
        ("family > 2", 8, "a value of family"),
        ("mark 1 ; mark 2", 8, "expected 'and', 'or' or the end"),
        ("mark 1 ! mark 2", 8, "unexpected character '!'"),
        ("dnat to 10.0.0.2:x", 9, "reply.sport must be a number or a range"),
        ("dnat to web", 9, "dnat to: 'web' does not appear to be an IPv4 or IPv6 address"),
        ("dnat to 10.0.0.300:80", 9, "dnat to: '10.0.0.300' does not appear to be"),
        ("dnat to {10.0.0.1, ::1:80:x}", 20, "dnat to: "),
        ("timeout < 1w", 11, "timeout must be a number of seconds, a duration such as 1h30m"),
        ("orig.bytes > 1k", 14, "orig.bytes must be a number of bytes, which may end in K"),
        ("orig.packets > 1K", 16, "orig.packets must be a number or a range"),
        ("timeout < 99999d", 11, "timeout must be between 0 and 4294967295"),
    ],
)
def test_an_error_has_the_column_of_the_mistake(text: str, column: int, message: str) -> None:
    with pytest.raises(MatchError) as raised:
        Match.parse(text)
    assert (raised.value.text, raised.value.column) == (text, column)
    assert message in str(raised.value)


@pytest.mark.parametrize("text", [None, b"proto tcp", 5])
def test_an_argument_that_is_not_text_is_refused(text: object) -> None:
    with pytest.raises(TypeError, match="the text of a match must be a str; got"):
        Match.parse(text)  # type: ignore[arg-type]


def test_an_error_shows_the_line_and_points_at_the_column() -> None:
    with pytest.raises(MatchError) as raised:
        Match.parse("proto tcp and\n  orig.dport x or zone 1")
    assert str(raised.value).splitlines() == [
        "orig.dport must be a number or a range such as 80-90, or the name of a service; got 'x', "
        "at line 2, column 14:",
        "    orig.dport x or zone 1",
        "               ^",
    ]


def test_an_error_shows_part_of_a_long_text() -> None:
    text = " or ".join(["proto tcp"] * 500) + " or proto foo"
    with pytest.raises(MatchError) as raised:
        Match.parse(text)
    _first, shown, pointer = str(raised.value).splitlines()
    assert len(shown) < 90
    assert shown[pointer.index("^") :].startswith("foo")


@pytest.mark.parametrize(
    "text", ["(" * 5000, "not " * 5000 + "proto tcp", "not (" * 60 + "mark 1" + ")" * 60]
)
def test_the_depth_of_nesting_is_bounded(text: str) -> None:
    with pytest.raises(MatchError, match="nested at most 40 levels deep"):
        Match.parse(text)


def test_the_number_of_alternatives_is_not_bounded() -> None:
    text = " or ".join(
        f"(orig.src 10.0.{n >> 8}.{n & 255} and orig.dport {n})" for n in range(3000)
    )
    assert str(Match.parse(text)).count(" or ") == 2999


@settings(max_examples=examples(120), deadline=None)
@given(match_strategies.matches())
def test_the_text_of_any_match_is_parsed_as_the_same_match(match: Match) -> None:
    assert Match.parse(str(match)) == match


TOKENS = [
    *FIELDS,
    "and",
    "or",
    "not",
    "in",
    "(",
    ")",
    "{",
    "}",
    ",",
    ">=",
    "80",
    "tcp",
    "10.0.0.0/8",
    "3/0xff",
    '"',
    "all",
]


@settings(max_examples=examples(120), deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=12).map(" ".join) | st.text(max_size=40))
def test_any_text_is_a_match_or_raises_an_error_with_a_column(text: str) -> None:
    try:
        match = Match.parse(text)
    except MatchError as error:
        column = error.column
    else:
        assert Match.parse(str(match)) == match
        return
    assert column is not None
    assert 1 <= column <= len(text) + 1


def test_status_keywords_are_conditions_by_themselves() -> None:
    for keyword, same in (
        *(("unreplied", "not status seen_reply"), ("[UNREPLIED]", "not status seen_reply")),
        *(("assured", "status assured"), ("[ASSURED]", "status assured")),
    ):
        assert Match.parse(keyword) == Match.parse(same)
        assert Match.parse(f"not {keyword}") == ~Match.parse(same)
        assert Match.parse(f"proto udp and {keyword}") == Match(proto="udp") & Match.parse(same)
        assert Match.parse(f"({keyword} or {keyword})") == Match.parse(same)
    assert str(
        Match.parse("helper assured or label unreplied", label_names=LabelNames({"unreplied": 5}))
    )
    for text in ("unreplied 5", "unreplied and", "[assured", "Assured", "assured in {}"):
        with pytest.raises(MatchError):
            Match.parse(text)
    with pytest.raises(MatchError, match="did you mean 'unreplied'"):
        Match.parse("unreplid")
