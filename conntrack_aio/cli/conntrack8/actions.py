"""What a command line asks for: one action on one table."""

from __future__ import annotations

import enum
from typing import Final


class Action(enum.Enum):
    """An action on a table. The value is the name that messages use."""

    NONE = "unknown"
    LIST = "-L"
    CREATE = "-I"
    UPDATE = "-U"
    DELETE = "-D"
    GET = "-G"
    FLUSH = "-F"
    EVENT = "-E"
    VERSION = "-V"
    HELP = "-h"
    COUNT = "-C"
    STATISTICS = "-S"
    ADD = "-A"
    EXPECT_LIST = "-L expect"
    EXPECT_CREATE = "-I expect"
    EXPECT_DELETE = "-D expect"
    EXPECT_GET = "-G expect"
    EXPECT_FLUSH = "-F expect"
    EXPECT_EVENT = "-E expect"
    EXPECT_COUNT = "-C expect"
    EXPECT_STATISTICS = "-S expect"


class Table(enum.Enum):
    """A table. The value is the name, which may be shortened."""

    CONNTRACK = "conntrack"
    EXPECT = "expect"
    DYING = "dying"
    UNCONFIRMED = "unconfirmed"


ON_EXPECTATIONS: Final = {
    action: Action(f"{action.value} expect")
    for action in Action
    if f"{action.value} expect" in {each.value for each in Action}
}
"""The action on the table ``expect``, by the action with the same letter on ``conntrack``."""
