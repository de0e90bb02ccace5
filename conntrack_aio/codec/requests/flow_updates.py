"""What a request contains that changes an entry.

Rules of the kernel that this module deals with (``ctnetlink_change_status``,
``ctnetlink_change_mark``, ``ctnetlink_attach_labels``):

- A status must repeat the bits that must not change.
- A mark with bits outside its mask toggles bits of the entry's mark.
- Labels that are shorter than the kernel's bitmap clear the rest of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import EncodeError
from ...model.enums import Status
from ...model.flow import Flow
from ...model.requests import RequestOnly
from ...model.values import describe_value, plain_number
from ..reference import encode_fields
from .flow_values import SETTABLE, check_protoinfo, check_seqadj
from .targets import EntryKey


def encode_update(key: EntryKey, values: Mapping[str, object]) -> bytes:
    """Return the attributes of a request that changes fields of the entry with a key.

    :param key: what the kernel finds the entry by.
    :param values: the new values, by the names of :class:`Flow` and :class:`RequestOnly`.
    :raises EncodeError: when a value is not valid.
    """
    check_protoinfo(values.get("protoinfo"), key.tuple.proto)
    check_seqadj(values)
    for field, full in (("mark", 0xFFFFFFFF), ("labels", (1 << 128) - 1)):
        value, mask = values.get(field), values.get(f"{field}_mask")
        if mask is None:
            continue
        if value is None:
            raise EncodeError(
                f"a mask needs {field}, the new value of its bits",
                (f"{field}_mask",),
            )
        value, mask = plain_number(value, field), plain_number(mask, f"{field}_mask")
        if value & ~mask & full:
            raise EncodeError(
                f"{value:#x} has bits outside {field}_mask {mask:#x}; the kernel would toggle them",
                (field,),
            )
    flow_values = {k: v for k, v in values.items() if not k.endswith("_mask")}
    mask_values = {k: v for k, v in values.items() if k.endswith("_mask")}
    attributes = encode_fields(Flow, key.values() | flow_values)
    return attributes + encode_fields(RequestOnly, mask_values)


def merged_mark(current: int, values: Mapping[str, object]) -> dict[str, object]:
    """Return values without ``mark_mask`` that have the same effect.

    Their mark is the present one with the masked bits replaced.
    """
    mark, mask = values["mark"], values["mark_mask"]
    assert isinstance(mark, int) and isinstance(mask, int)  # noqa: PT018 - update() checked both
    return {"mark": current & ~int(mask) | mark, "mark_mask": None}


def updated_status(current: Status, wanted: Status) -> Status:
    """Return the status to send in order to set bits.

    The kernel requires the bits that must not change to be as they are, and refuses to clear
    SEEN_REPLY and ASSURED.

    :raises EncodeError: when no program can set one of the bits.
    """
    refused = int(wanted) & ~int(current) & ~int(SETTABLE)
    if refused:
        shown = describe_value(Status(refused) if 0 < refused < 1 << 32 else refused)
        raise EncodeError(f"{shown} cannot be set by a program", ("status",))
    return Status(int(current) | int(wanted))
