"""What an update of a flow can change, as keyword arguments."""

from __future__ import annotations

from typing import TypedDict

from .enums import Status
from .flow import Helper, SeqAdj, SynProxy
from .protoinfo import ProtoInfo


class FlowUpdate(TypedDict, total=False):
    """The keyword arguments of :meth:`Connection.update` that say what to change.

    ``None`` leaves a field as it is, and 0 is zero.
    """

    mark: int | None
    """The mark, 32 bits."""
    mark_mask: int | None
    """Change only these bits of the mark, and leave the others as they are.

    Before Linux 5.8 the mark is read first, so a change that another program makes to the other
    bits at the same time is lost."""
    timeout: int | None
    """Seconds from now until the entry expires."""
    status: Status | None
    """Bits to set: SEEN_REPLY, ASSURED, FIXED_TIMEOUT or HELPER.

    The kernel cannot clear a bit. Bits that are set already may be named."""
    labels: int | None
    """The labels, 128 bits."""
    labels_mask: int | None
    """Change only these bits of the labels, and leave the others as they are."""
    protoinfo: ProtoInfo | None
    """The state of the entry's own protocol."""
    helper: Helper | str | None
    """The name of the helper that the entry already has, to send it ``Helper.info``; an empty name
    detaches the helper."""
    seqadj_orig: SeqAdj | None
    """All three numbers. The entry needs room for them: a program created it, or it has a helper or
    SYNPROXY."""
    seqadj_reply: SeqAdj | None
    """The same for the reply direction."""
    synproxy: SynProxy | None
    """All three numbers. The entry needs room for them: a program created it, or SYNPROXY did."""
