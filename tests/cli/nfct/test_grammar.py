"""Test the command and the subsystem: their order, abbreviations and errors."""

from __future__ import annotations

import pytest
from support.nfct8 import run_own

from conntrack_aio.cli.nfct.grammar import USAGE, Order, UsageError, parse
from conntrack_aio.cli.nfct.refusal import Refused


@pytest.mark.parametrize(
    ("words", "order"),
    [
        ("list timeout", Order("list", "timeout", [])),
        ("timeout list", Order("list", "timeout", [])),
        ("l t x y", Order("list", "timeout", ["x", "y"])),
        ("h f", Order("flush", "helper", [])),
        ("d timeout a", Order("delete", "timeout", ["a"])),
        ("di helper", Order("disable", "helper", [])),
        ("def t", Order("default-set", "timeout", [])),
        ("default-g t", Order("default-get", "timeout", [])),
        ("add help", Order("add", "helper", [])),
        ("version list x", Order("list", "version", ["x"])),
    ],
)
def test_words_in_either_order_and_abbreviated(words: str, order: Order) -> None:
    assert parse(words.split(" ")) == order


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ("foo timeout", ["Unknown subsystem: foo", USAGE]),
        ("list foo", ["Unknown subsystem: list", USAGE]),
        ("list timeoutx", ["Unknown subsystem: list", USAGE]),
        ("timeout foo", ["Unknown command: timeout", USAGE]),
        ("LIST timeout", ["Unknown subsystem: LIST", USAGE]),
        (
            "default-set helper",
            [
                "Unknown command: helper",
                "VERSION: Missing command",
                "nfct helper list|add|delete|disable|get|flush [parameters...]",
            ],
        ),
        (
            "disable timeout",
            [
                "Missing command",
                "nfct <list|add|delete|get|default-set|default-get|flush> timeout "
                "[<parameters>, ...]",
            ],
        ),
    ],
)
def test_errors(words: str, lines: list[str]) -> None:
    stderr = "\n".join([f"VERSION: {lines[0]}", *lines[1:], ""])
    assert run_own(words.split(" ")) == (1, "", stderr)


@pytest.mark.parametrize("words", [[], ["list"], ["version"], ["help"], ["--help"]])
def test_one_word_prints_the_usage(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(words)
    assert run_own(words) == (1, "", f"{USAGE}\n")


@pytest.mark.parametrize("words", [["flush", ""], ["", "timeout"], ["timeout", ""], ["", ""]])
def test_an_empty_word_is_no_abbreviation(words: list[str]) -> None:
    with pytest.raises(Refused, match="Unknown"):
        parse(words)
