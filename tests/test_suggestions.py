"""Test the hints of errors about mistyped names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conntrack_aio import Flow, LabelNames, Match, Tuple, connect, from_dict
from conntrack_aio.cli.command import build_parser
from conntrack_aio.suggestions import similar_names, suggestion


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dmup", "; did you mean 'dump'?"),
        ("DUMP", "; did you mean 'dump'?"),
        ("evnts", "; did you mean 'events' or 'event'?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_suggestion(name: str, expected: str) -> None:
    assert suggestion(name, ["dump", "event", "events"]) == expected


def test_up_to_two_names_are_suggested() -> None:
    names = similar_names("prots", ["ports", "prot", "sports", "prots1"])
    assert len(names) == 2
    assert suggestion("prots", ["ports", "prot", "sports"]).count("'") == 4


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("src", ["proto", "orig.src", "reply.src", "status"], ["orig.src", "reply.src"]),
        (
            "port",
            ["proto", "orig.sport", "orig.dport", "reply.sport"],
            ["orig.sport", "orig.dport"],
        ),
        ("nat", ["src_nat", "dst_nat", "assured"], ["src_nat", "dst_nat"]),
        ("ore", ["restore"], []),
        ("ip", ["orig.ip"], []),
    ],
)
def test_names_that_end_in_the_given_one_are_suggested(
    name: str, known: list[str], expected: list[str]
) -> None:
    assert similar_names(name, known) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lst", ["list"]),
        ("flsh", ["flush"]),
        ("stat", ["stats"]),
        ("upd", ["update"]),
        ("show", []),
    ],
)
def test_only_near_subcommands_are_suggested(name: str, expected: list[str]) -> None:
    assert similar_names(name, build_parser().subcommands) == expected


TUPLE = {"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 6}

MISTYPED: dict[str, tuple[Callable[[], object], str]] = {
    "a key of a flow": (lambda: from_dict(Flow, {"marc": 1}), "'mark'"),
    "a key of a nested object": (lambda: from_dict(Flow, {"orig": TUPLE | {"sprt": 1}}), "'sport'"),
    "a keyword of a match": (lambda: Match(orig_dprt=80), "'orig_dport'"),  # type: ignore[call-arg]
    "a field of a match": (lambda: Match("orig.dprt 80"), "'orig.dport'"),
    "a status bit": (lambda: Match(status="asured"), "'assured'"),
    "a state": (lambda: Match(state="establishd"), "'established'"),
    "a state of one protocol": (lambda: Match(state="tcp.closd"), "'tcp.close'"),
    "a protocol of a match": (lambda: Match(proto="tpc"), "'tcp'"),
    "a protocol of a tuple": (lambda: Tuple(src="10.0.0.1", dst="10.0.0.2", proto="tpc"), "'tcp'"),
    "a label": (lambda: LabelNames({"web": 1, "mail": 2}).bit("mial"), "'mail'"),
    "a method of a connection": (lambda: getattr(connect(), "evnts"), "'events'"),  # noqa: B009
}


@pytest.mark.parametrize("case", MISTYPED)
def test_errors_suggest_the_name_that_was_meant(case: str) -> None:
    use, expected = MISTYPED[case]
    with pytest.raises((ValueError, TypeError, AttributeError)) as raised:
        use()
    assert f"did you mean {expected}" in str(raised.value)


def test_a_key_that_resembles_no_field_has_no_suggestion() -> None:
    for key in ("zzzz", "_____"):
        with pytest.raises(ValueError, match=rf"unknown field '{key}' of Flow$"):
            from_dict(Flow, {key: 1})
