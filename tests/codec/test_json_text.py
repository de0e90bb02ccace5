"""Convert objects to JSON text and back; test_json.py tests the dicts."""

from __future__ import annotations

import json

import pytest

from conntrack_aio import DecodeError, Flow, Status, from_json, to_dict, to_json

FLOW = Flow.tcp("10.0.0.1", 1, "10.0.0.2", 80, timeout=9, status=Status.ASSURED)


def test_the_text_is_the_dict_on_one_line() -> None:
    text = to_json(FLOW)
    assert json.loads(text) == to_dict(FLOW)
    assert text.isascii()
    assert "\n" not in text


def test_the_text_can_be_indented() -> None:
    assert to_json(FLOW, indent=2) == json.dumps(to_dict(FLOW), indent=2)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_text_and_bytes_are_read(encoding: str) -> None:
    assert from_json(Flow, to_json(FLOW)) == FLOW
    assert from_json(Flow, to_json(FLOW).encode(encoding)) == FLOW


@pytest.mark.parametrize("text", ["", "{", "nothing", b"\xff\xfe\xff", "[" * 100_000])
def test_invalid_json_is_a_decode_error(text: str | bytes) -> None:
    with pytest.raises(DecodeError, match="this is not JSON"):
        from_json(Flow, text)


def test_json_that_is_not_a_flow_names_the_path() -> None:
    data = to_dict(FLOW) | {"mark": "seven"}
    with pytest.raises(DecodeError) as raised:
        from_json(Flow, json.dumps(data))
    assert raised.value.path == ("mark",)


@pytest.mark.parametrize("wrong", [None, 5, ["{}"]])
def test_other_types_than_text_are_a_type_error(wrong: object) -> None:
    with pytest.raises(TypeError, match="JSON must be text or bytes"):
        from_json(Flow, wrong)  # type: ignore[arg-type]
