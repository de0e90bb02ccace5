"""The manual page about the command line of conntrack(8) lists all that it accepts."""

from __future__ import annotations

import manual_pages
import roff

from conntrack_aio.cli.conntrack8.options import LONG_OPTIONS, SHORT_OPTIONS
from conntrack_aio.cli.conntrack8.protocols import PROTOCOLS

PAGE = manual_pages.manual_pages()["conntrack-aio-conntrack.1"]


def test_every_option_is_listed() -> None:
    # Some short options are no letters, and nobody writes them.
    options = [f"-{letter}" for letter in SHORT_OPTIONS if letter.isalpha()]
    options += [f"--{option.name}" for option in LONG_OPTIONS]
    assert [option for option in options if roff.bold(option) not in PAGE] == []


def test_every_option_of_a_protocol_is_listed() -> None:
    names = [name for each in PROTOCOLS for option in each.options for name in option.long_names]
    assert [name for name in names if roff.bold(f"--{name}") not in PAGE] == []
