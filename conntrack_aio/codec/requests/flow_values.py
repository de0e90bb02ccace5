"""Values of entries that programs send, in a new entry or in an update: what the kernel requires.

Rules of the kernel that this module deals with (``ctnetlink_change_protoinfo``,
``ctnetlink_change_seq_adj``):

- It ignores the state of another protocol than the entry's.
- It refuses the state of SCTP, and an adjustment of sequence numbers, unless they are complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...errors import EncodeError
from ...model.enums import Status
from ...model.flow import SeqAdj
from ...model.protocols import PROTOCOL_NAMES
from ...model.protoinfo import PROTOINFO_TYPES, SCTPInfo
from ...model.values import describe_value

SETTABLE: Final = Status.SEEN_REPLY | Status.ASSURED | Status.FIXED_TIMEOUT | Status.HELPER
"""The status bits that a request may set. It can clear none."""


def check_protoinfo(info: object, proto: int) -> None:
    """Check the state of an entry's own protocol.

    The kernel ignores the state of another protocol, and needs all three values of SCTP.

    :raises EncodeError: when the kernel would ignore or refuse the state.
    """
    if info is None:
        return
    if not isinstance(info, PROTOINFO_TYPES.get(proto, ())):
        name = PROTOCOL_NAMES.get(proto, f"protocol {proto}")
        wanted = PROTOINFO_TYPES[proto].__name__ if proto in PROTOINFO_TYPES else "none"
        shown = describe_value(info)
        raise EncodeError(f"a flow of {name} has {wanted}; got {shown}", ("protoinfo",))
    if isinstance(info, SCTPInfo) and None in (info.state, info.vtag_orig, info.vtag_reply):
        raise EncodeError("state, vtag_orig and vtag_reply must be given together", ("protoinfo",))


def check_seqadj(values: Mapping[str, object]) -> None:
    """Check that all three numbers of an adjustment are given, as the kernel requires.

    :raises EncodeError: when one is absent.
    """
    for name in ("seqadj_orig", "seqadj_reply"):
        seqadj = values.get(name)
        if isinstance(seqadj, SeqAdj) and None in (
            seqadj.correction_pos,
            seqadj.offset_before,
            seqadj.offset_after,
        ):
            raise EncodeError(
                "correction_pos, offset_before and offset_after must be given together", (name,)
            )
