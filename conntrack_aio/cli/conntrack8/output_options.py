"""The output options of conntrack(8): the words that its option ``-o`` accepts."""

from __future__ import annotations

import enum


class OutputOptions(enum.Flag):
    """A set of output options."""

    NONE = 0
    EXTENDED = enum.auto()
    """Begin each line with the name and number of the address family."""
    ID = enum.auto()
    """Add the id of the entry."""
    TIMESTAMP = enum.auto()
    """Add the time at which this program received an event."""
    KTIMESTAMP = enum.auto()
    """Add the times at which the kernel created and ended the entry."""
    LABELS = enum.auto()
    """Add the names of the labels."""
    USERSPACE = enum.auto()
    """No effect: conntrack(8) always adds the program that caused an event of a flow."""
    XML = enum.auto()
    """Write elements of XML instead of lines of text."""
    SAVE = enum.auto()
    """Write options that ``conntrack -R`` accepts instead of lines of text."""
