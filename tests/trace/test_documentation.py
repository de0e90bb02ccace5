"""Test that docs/debugging.md shows the trace as it is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from support.hexdumps import parse_hexdump

from conntrack_aio.trace.message import render
from conntrack_aio.trace.switch import LOGGER, VARIABLE
from conntrack_aio.uapi.netlink import NETLINK

PAGE = Path(__file__).parents[2] / "docs" / "debugging.md"


@pytest.mark.skipif(sys.byteorder == "big", reason="the sample on the page is little-endian")
def test_the_sample_is_the_trace_of_its_bytes() -> None:
    (sample,) = re.findall(r"^```\n(\d\d:.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    texts = re.split(r"^\d\d:\d\d:\d\d\.\d\d\d ", sample, flags=re.MULTILINE)[1:]
    assert [text.split()[0] for text in texts] == ["sent", "recv"]
    for text in texts:
        head = text[: text.index(" len=")]
        data = parse_hexdump(text.splitlines())
        rendered = render(head, data, NETLINK.NETFILTER, from_kernel=head.startswith("recv"))
        assert list(rendered) == [text.rstrip("\n")]


def test_the_page_names_the_variable_and_the_logger() -> None:
    text = PAGE.read_text()
    assert f"{VARIABLE}=1 " in text
    assert f'getLogger("{LOGGER}")' in text
