"""Read the names of labels, and convert names to bits and back."""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.hostile_arguments import INTEGERS, OverriddenStr, RaisingObject

from conntrack_aio import EncodeError, LabelNames, Match, MatchError
from conntrack_aio.model import labels

CONF = """\
# labels of this machine
0 zero

3\tweb server
0x7f last
3 http
  5   five
"""


def test_a_file_of_names_is_read(tmp_path: Path) -> None:
    path = tmp_path / "connlabel.conf"
    path.write_text(CONF)
    names = LabelNames.read(path)
    assert [names.bit(name) for name in ("zero", "web server", "last", "http", "five")] == [
        *(0, 3, 127, 3, 5)
    ]
    assert names.mask("zero", "last", 9) == 1 | 1 << 127 | 1 << 9
    assert names.names(1 << 3 | 1 << 4 | 1) == ["zero", "web server", 4]
    assert names.names(0) == names.names(None) == []


def test_the_first_file_that_exists_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setattr(labels, "PATHS", (str(first), str(second)))
    with pytest.raises(EncodeError, match=f"unknown label 'web' .neither {first} nor"):
        LabelNames.read().bit("web")
    second.write_text("2 web")
    assert LabelNames.read().bit("web") == 2
    first.write_text("1 web")
    assert LabelNames.read().bit("web") == 1


def test_a_given_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LabelNames.read(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 a\nx b", "line 2: 'x b'"),
        ("128 a", "line 1: .* from 0 to 127; got 128"),
        ("-1 a", "line 1: .* a number; got '-1'"),
        ("1_0 a", "line 1: .* a number; got '1_0'"),
        ("9999999999 a", "line 1: .* a number; got '9999999999'"),
        ("7", "name must be text without spaces around it"),
        ("0xg a", "line 1"),
        ("1 a\n2 a", "line 2: '2 a': label 'a' has two bits"),
    ],
)
def test_lines_that_are_not_valid_are_refused(text: str, message: str) -> None:
    with pytest.raises(EncodeError, match=message):
        LabelNames.parse(text)


def test_the_same_line_may_be_repeated() -> None:
    assert LabelNames.parse("1 a\n1 a").bit("a") == 1


@pytest.mark.parametrize("bits", [{"": 1}, {" a": 1}, {"a": 128}, {"a": -1}])
def test_names_that_are_not_valid_are_refused(bits: dict[str, int]) -> None:
    with pytest.raises(EncodeError, match="label"):
        LabelNames(bits)


@pytest.mark.parametrize("label", [128, -1, 1 << 70, 1.0, None, b"web", [1]])
def test_labels_that_are_not_valid_are_refused(label: object) -> None:
    with pytest.raises(EncodeError, match="from 0 to 127"):
        LabelNames({"web": 1}).mask(label)  # type: ignore[arg-type]


class Bit(enum.IntEnum):
    WEB = 3

    def __str__(self) -> str:
        return "no number"


class Name(str):
    """A string that is not equal to any other."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return False


def test_enum_members_and_subclasses_are_read_by_their_values() -> None:
    names = LabelNames({Name("web"): Bit.WEB})
    assert names.bit("web") == names.bit(Name("web")) == names.bit(Bit.WEB) == 3
    assert type(names.bit("web")) is int
    assert (names.bit(True), names.bit(False)) == (1, 0)
    assert names.names(8) == ["web"]


def test_leading_zeros_are_ignored() -> None:
    assert LabelNames.parse("007 web\n0x07 www").mask("web", "www") == 1 << 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"oops web\n", "line 1: 'oops web'"),
        (b"1 web\n\n2 w\xff\n", "line 3: must be UTF-8"),
        (b"1 web\n2 a\n3 web\n", "line 3: '3 web': label 'web' has two bits"),
        (None, "cannot be read: Is a directory"),
    ],
)
def test_errors_in_a_file_name_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, message: str
) -> None:
    """The error names the file, whichever function reads it."""
    path = tmp_path / "connlabel.conf"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(EncodeError, match=f"{path}.*{message}"):
        LabelNames.read(path)
    monkeypatch.setattr(labels, "PATHS", (str(path),))
    with pytest.raises(EncodeError, match=f"{path}.*{message}"):
        LabelNames.read()
    for create in (lambda: Match("label web"), lambda: Match(labels="web")):
        with pytest.raises(MatchError, match=f"{path}.*{message}"):
            create()


def test_a_file_that_cannot_be_read_is_an_encode_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(path: Path, mode: str) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(labels, "open", deny, raising=False)
    with pytest.raises(EncodeError, match="cannot be read: Permission denied"):
        LabelNames.read(tmp_path / "connlabel.conf")


@pytest.mark.parametrize("make", INTEGERS.values(), ids=INTEGERS)
def test_integers_of_any_type_are_accepted(make: Callable[[int], Any]) -> None:
    names = LabelNames({"web": make(3)})
    assert names.bit(OverriddenStr("web")) == names.bit(make(3)) == names.bit("3") == 3
    assert names.names(make(8)) == ["web"]


def test_text_that_is_a_number_is_a_bit() -> None:
    """A Match reads it in the same way."""
    names = LabelNames({"5": 3, "web": 4})
    assert [names.bit(text) for text in ("5", "05", "0x5", "0X05")] == [5] * 4
    assert Match(labels="5", label_names=names) == Match(labels=5)
    assert names.names(1 << 3 | 1 << 4) == [3, "web"]
    with pytest.raises(EncodeError, match="from 0 to 127"):
        names.bit("128")


def test_any_number_of_leading_zeros_is_ignored() -> None:
    zeros = "0" * 6000
    names = LabelNames.parse(f"{zeros}7 a\n0x{zeros}7f b\n{zeros} c")
    assert [names.bit(name) for name in "abc"] == [7, 127, 0]
    assert names.bit(zeros + "9") == 9


@pytest.mark.parametrize(
    "wrong",
    ["x", 5, [1], object(), RaisingObject(KeyError)],
    ids=lambda value: type(value).__name__,
)
def test_names_must_be_a_mapping(wrong: Any) -> None:
    with pytest.raises(TypeError, match="mapping of names to bits"):
        LabelNames(wrong)


@pytest.mark.parametrize(
    "wrong",
    [None, 5, b"1 a", object(), RaisingObject(KeyError)],
    ids=lambda value: type(value).__name__,
)
def test_parse_refuses_other_types_than_text(wrong: Any) -> None:
    with pytest.raises(TypeError, match="must be text"):
        LabelNames.parse(wrong)
    with pytest.raises(TypeError, match="must be text"):
        LabelNames({}, wrong)


def test_names_must_be_text() -> None:
    for wrong in (None, 5, b"a"):
        with pytest.raises(TypeError, match="must be text"):
            LabelNames({wrong: 1})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "wrong",
    ["x", 1.5, [1], object(), RaisingObject(KeyError)],
    ids=lambda value: type(value).__name__,
)
def test_a_bitmap_must_be_an_integer(wrong: Any) -> None:
    with pytest.raises(TypeError, match="must be an integer or None"):
        LabelNames().names(wrong)
    with pytest.raises(TypeError, match="must be an integer"):
        LabelNames({"a": wrong})


@pytest.mark.parametrize("wrong", [-1, 1 << 128, 10**5000], ids=["below", "above", "huge"])
def test_a_bitmap_has_128_bits(wrong: int) -> None:
    with pytest.raises(EncodeError, match="128 bits"):
        LabelNames().names(wrong)
    with pytest.raises(EncodeError, match="0 to 127"):
        LabelNames({"a": wrong})


def test_a_path_below_a_file_counts_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xtables").write_text("")
    second = tmp_path / "second"
    second.write_text("2 web")
    first = tmp_path / "xtables" / "connlabel.conf"
    monkeypatch.setattr(labels, "PATHS", (str(first), str(second)))
    assert LabelNames.read().bit("web") == 2
    with pytest.raises(EncodeError, match="cannot be read: Not a directory"):
        LabelNames.read(first)
