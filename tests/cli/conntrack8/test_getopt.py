"""Test that options are read as ``getopt_long`` reads them."""

from __future__ import annotations

import pytest

from conntrack_aio.cli.conntrack8.getopt import (
    Argument,
    Found,
    LongOption,
    MissingArgument,
    OptionReader,
    UnknownOption,
)

SHORT = {"a": Argument.NONE, "b": Argument.REQUIRED, "c": Argument.OPTIONAL}
LONG = (
    LongOption("all", Argument.NONE, "a"),
    LongOption("both", Argument.REQUIRED, "b"),
    LongOption("bothersome", Argument.REQUIRED, "x"),
    LongOption("choice", Argument.OPTIONAL, "c"),
    LongOption("chosen", Argument.OPTIONAL, "c"),
)


def reader_of(*arguments: str) -> OptionReader:
    return OptionReader(["program", *arguments], SHORT, LONG)


def read(*arguments: str) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Return the options, and the words that remain."""
    reader = reader_of(*arguments)
    options: list[tuple[str, str | None]] = []
    while (found := reader.next()) is not None:
        options.append(tuple(found))
    return options, reader.arguments[reader.index :]


def read_all(reader: OptionReader) -> None:
    while reader.next() is not None:
        pass


def test_words_and_options_may_be_in_any_order() -> None:
    assert read("w1", "-a", "w2", "-b", "1", "w3") == (
        [("a", None), ("b", "1")],
        ["w1", "w2", "w3"],
    )


def test_short_options_may_be_joined() -> None:
    assert read("-ab1", "-aab", "2") == (
        [("a", None), ("b", "1"), ("a", None), ("a", None), ("b", "2")],
        [],
    )


def test_an_optional_argument_is_joined_to_its_option() -> None:
    assert read("-c", "1", "-c2", "--choice", "3", "--choice=4") == (
        [("c", None), ("c", "2"), ("c", None), ("c", "4")],
        ["1", "3"],
    )


def test_a_joined_argument_may_be_read_as_options() -> None:
    reader = reader_of("word", "-cab1", "-a")
    assert reader.next() == ("c", "ab1")
    reader.read_as_options("ab1")
    assert [reader.next(), reader.next(), reader.next()] == [("a", None), ("b", "1"), ("a", None)]
    assert reader.next() is None
    assert reader.arguments[reader.index :] == ["word"]


def test_long_options_may_be_shortened() -> None:
    assert read("--al", "--both", "1", "--bothe=2") == (
        [("a", None), ("b", "1"), ("x", "2")],
        [],
    )


def test_an_abbreviation_of_two_names_of_one_option_is_not_ambiguous() -> None:
    assert read("--cho") == ([("c", None)], [])


def test_everything_after_two_dashes_is_words() -> None:
    assert read("w", "-a", "--", "-b", "--both") == ([("a", None)], ["w", "-b", "--both"])


def test_a_single_dash_is_a_word() -> None:
    assert read("-", "-a") == ([("a", None)], ["-"])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("-x",), "-x"),
        (("-ax",), "-ax"),
        (("-a", "-xa"), "-a"),
        (("w", "-xa"), "w"),
        (("-xa",), "program"),
        (("w", "-a", "-xa"), "w"),
        (("--b=1",), "--b=1"),
        (("--=1",), "--=1"),
        (("--all=1",), "--all=1"),
        (("--nothing",), "--nothing"),
    ],
)
def test_an_unknown_option_is_the_argument_before_the_index(
    arguments: tuple[str, ...], named: str
) -> None:
    reader = reader_of(*arguments)
    with pytest.raises(UnknownOption):
        read_all(reader)
    assert reader.arguments[reader.index - 1] == named


@pytest.mark.parametrize("arguments", [("-b",), ("-ab",), ("--both",)])
def test_a_missing_argument_is_an_error(arguments: tuple[str, ...]) -> None:
    reader = reader_of(*arguments)
    with pytest.raises(MissingArgument):
        read_all(reader)
    assert reader.arguments[reader.index - 1] == arguments[-1]


def test_a_word_can_be_taken_as_an_argument() -> None:
    reader = reader_of("-c", "word", "-a", "-c", "-a")
    assert reader.next() == Found("c", None)
    assert reader.take_word() == "word"
    assert reader.next() == Found("a", None)
    assert reader.next() == Found("c", None)
    assert reader.take_word() is None
    assert reader.next() == Found("a", None)
    assert reader.next() is None
    assert reader.take_word() is None
