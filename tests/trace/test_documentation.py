"""The sample in docs/debugging.md is what the trace says of the bytes in it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from support.hexdumps import bytes_of

from conntrack_aio.trace.message import render
from conntrack_aio.trace.switch import LOGGER, VARIABLE
from conntrack_aio.uapi.netlink import NETLINK

PAGE = Path(__file__).parents[2] / "docs" / "debugging.md"


@pytest.mark.skipif(sys.byteorder == "big", reason="the page's sample is of another byte order")
def test_the_sample_is_real() -> None:
    (sample,) = re.findall(r"^```\n(\d\d:.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    texts = re.split(r"^\d\d:\d\d:\d\d\.\d\d\d ", sample, flags=re.MULTILINE)[1:]
    assert [text.split()[0] for text in texts] == ["sent", "recv"]
    for text in texts:
        head = text[: text.index(" len=")]
        data = bytes_of(text.splitlines())
        told = render(head, data, NETLINK.NETFILTER, answer=head.startswith("recv"))
        assert list(told) == [text.rstrip("\n")]


def test_the_names_are_right() -> None:
    text = PAGE.read_text()
    assert f"{VARIABLE}=1 " in text
    assert f'getLogger("{LOGGER}")' in text
