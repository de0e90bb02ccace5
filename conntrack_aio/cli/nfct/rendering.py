"""Print timeout policies and helpers as ``nfct`` does."""

from __future__ import annotations

from ...model.helpers import HelperStatus, UserspaceHelper
from ...model.timeouts import ProtocolTimeouts, TimeoutPolicy
from .states import state_names


def render_policy(policy: TimeoutPolicy) -> str:
    """Return the lines for a timeout policy."""
    body = render_timeouts(policy.family, policy.proto, policy.timeouts)
    return f".{policy.name} = {{\n{body}"


def render_timeouts(family: int, proto: int, timeouts: ProtocolTimeouts | None) -> str:
    """Return the lines for the timeouts of a protocol, without the line for a name."""
    lines = [f"\t.l3proto = {family},", f"\t.l4proto = {proto},", "\t.policy = {"]
    if timeouts is not None:
        for name, field in state_names(type(timeouts)).items():
            if (value := getattr(timeouts, field)) is not None:
                lines.append(f"\t\t.{name} = {value},")
    return "\n".join([*lines, "\t},", "};", ""])


def render_helper(helper: UserspaceHelper) -> str:
    """Return the lines for a user-space helper."""
    status = "enabled" if helper.status == HelperStatus.ENABLED else "disabled"
    return (
        "{\n"
        f"\t.name = {helper.name},\n"
        f"\t.queuenum = {helper.queue or 0},\n"
        f"\t.l3protonum = {helper.family},\n"
        f"\t.l4protonum = {helper.proto},\n"
        f"\t.priv_data_len = {helper.private_data_length or 0},\n"
        f"\t.status = {status},\n"
        "};\n"
    )
