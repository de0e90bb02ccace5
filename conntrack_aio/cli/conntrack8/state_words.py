"""The words for status bits, states and roles, and their numbers.

Few command lines have such words, and the enums take long to import.
"""

from __future__ import annotations

from typing import Final

from ...model.enums import DCCPRole, DCCPState, SCTPState, Status, TCPState
from .protocols import DCCP, SCTP, TCP

SEEN_REPLY: Final = int(Status.SEEN_REPLY)

STATUS_WORDS: Final = {
    "ASSURED": int(Status.ASSURED),
    "SEEN_REPLY": int(Status.SEEN_REPLY),
    "UNSET": 0,
    "FIXED_TIMEOUT": int(Status.FIXED_TIMEOUT),
    "EXPECTED": int(Status.EXPECTED),
    "OFFLOAD": int(Status.OFFLOAD),
    "HW_OFFLOAD": int(Status.HW_OFFLOAD),
}
"""The bits of the words of ``-u``. A shortened word means the first that begins so."""

STATES: Final = {
    TCP: ("TCP", {state.name: int(state) for state in TCPState} | {"LISTEN": int(TCPState.LISTEN)}),
    SCTP: ("SCTP", {state.name: int(state) for state in SCTPState if state < 8}),
    DCCP: ("DCCP", {state.name: int(state) for state in DCCPState if state < 8}),
}
"""The name of each protocol with states in messages, and its states by name."""

ROLES: Final = {role.name.lower(): int(role) for role in DCCPRole}
