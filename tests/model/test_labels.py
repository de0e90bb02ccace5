"""The names of labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from conntrack_aio import EncodeError, LabelNames
from conntrack_aio.model import labels

CONF = """\
# labels of this machine
0 zero

3\tweb server
0x7f last
3 http
  5   five
"""


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "connlabel.conf"
    path.write_text(CONF)
    names = LabelNames.read(path)
    assert [names.bit(name) for name in ("zero", "web server", "last", "http", "five")] == [
        *(0, 3, 127, 3, 5)
    ]
    assert names.mask("zero", "last", 9) == 1 | 1 << 127 | 1 << 9
    assert names.of(1 << 3 | 1 << 4 | 1) == ["zero", "web server", 4]
    assert names.of(0) == names.of(None) == []


def test_the_first_of_the_usual_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setattr(labels, "PATHS", (str(first), str(second)))
    with pytest.raises(EncodeError, match=f"no label named 'web' .there is neither {first} nor"):
        LabelNames.read().bit("web")
    second.write_text("2 web")
    assert LabelNames.read().bit("web") == 2
    first.write_text("1 web")
    assert LabelNames.read().bit("web") == 1


def test_a_file_that_was_named_is_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LabelNames.read(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 a\nx b", "line 2: 'x b'"),
        ("128 a", "line 1: .* not one of 0 to 127"),
        ("-1 a", "not one of 0 to 127"),
        ("7", "is not the name of a label"),
        ("0xg a", "line 1"),
        ("1 a\n2 a", "line 2: 'a' has two bits"),
    ],
)
def test_a_bad_file(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LabelNames.parse(text)


def test_the_same_line_twice_is_no_matter() -> None:
    assert LabelNames.parse("1 a\n1 a").bit("a") == 1


@pytest.mark.parametrize("bits", [{"": 1}, {" a": 1}, {"a": 128}, {"a": -1}])
def test_bad_names(bits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="label"):
        LabelNames(bits)


@pytest.mark.parametrize("label", [128, -1, True, 1.0, None, b"web"])
def test_what_is_no_label(label: object) -> None:
    with pytest.raises(EncodeError, match="from 0 to 127"):
        LabelNames({"web": 1}).mask(label)  # type: ignore[arg-type]
