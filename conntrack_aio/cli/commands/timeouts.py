"""``timeouts``: read and change timeout policies, and the default timeouts."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Final

from ..durations import EVERY_KERNEL_KEEPS, duration
from ..failures import CommandError
from ..parsing import Commands, Parser
from ..running import connected
from ..value_arguments import parse_family, unknown_name

if TYPE_CHECKING:
    from ...connection import Connection
    from ...model.timeouts import ProtocolTimeouts, TimeoutPolicy

_NOUN = "timeout policy"
_parse_seconds: Final = duration(0, 0xFFFFFFFF)
_CLASSES: Final = {
    "tcp": "TCPTimeouts",
    "udp": "UDPTimeouts",
    "udplite": "UDPTimeouts",
    "sctp": "SCTPTimeouts",
    "icmp": "ICMPTimeouts",
    "icmpv6": "ICMPv6Timeouts",
    "gre": "GRETimeouts",
    "dccp": "DCCPTimeouts",
    "generic": "GenericTimeouts",
}
"""The class of the timeouts of each protocol."""

_EPILOG: Final = """\
A TIMEOUT is the name of a state and a number of seconds, such as
established=600, or a duration such as 90s, 10m, 1h30m or 2d. At most it is
2147483 seconds, which every kernel can count. `conntrack-aio timeouts defaults`
prints the names that each protocol has. The protocol generic is every one
without a tracker of its own."""

_SYSCTLS: Final = {
    "unreplied": "",
    "timeout": "",
    "replied": "_stream",
    "retrans": "_max_retrans",
    "unack": "_unacknowledged",
}
"""How the sysctl of a default timeout ends, where it is not the name of the timeout."""


def add(commands: Commands) -> None:
    """Add the subcommand."""
    group = commands.add_group(
        "timeouts",
        help="read and change timeout policies, and the default timeouts",
        description="Read and change the timeout policies of the network namespace, which rules "
        "of iptables assign to flows (-j CT --timeout NAME), and its default timeouts. All "
        "timeouts are in seconds.",
    )
    _add_reading(group)
    _add_changing(group)
    _add_defaults(group)


def _add_reading(group: Commands) -> None:
    group.add(
        "list",
        connected(_list),
        group.netns,
        group.json,
        help="print the policies",
        description="Print the policies, one per line, each with the number of rules that use it.",
    )
    get = group.add(
        "get",
        connected(_get),
        group.netns,
        group.json,
        help="print one policy",
        description="Print the policy of this name. Fail if there is none.",
    )
    get.add_argument("name", metavar="NAME", help="the name of the policy")


def _add_changing(group: Commands) -> None:
    shared = (group.netns, group.json)
    for verb, action, description in (
        (
            "create",
            _create,
            "Create a policy, and print it as the kernel then has it. Timeouts that are not given "
            "get the current defaults. Fail if there is a policy of this name.",
        ),
        (
            "replace",
            _replace,
            "Create a policy, or replace the one of this name, and print it as the kernel then "
            "has it. Timeouts that are not given get the current defaults, whatever they were. "
            "The family and the protocol of a policy cannot change.",
        ),
    ):
        command = group.add(
            verb,
            connected(action, _check_policy),
            *shared,
            group.dry_run,
            help=f"{verb} a policy",
            description=description,
            epilog=_EPILOG,
        )
        command.add_argument("name", metavar="NAME", help="the name, up to 31 bytes")
        command.add_argument(
            "family", type=parse_family, metavar="FAMILY", help="the address family: ipv4 or ipv6"
        )
        _add_protocol(command)
        _add_timeouts(command, "*")
    update = group.add(
        "update",
        connected(_update),
        *shared,
        group.dry_run,
        help="change some timeouts of a policy",
        description="Change the given timeouts of a policy, keep its others, and print it as the "
        "kernel then has it. Fail if there is no policy of this name.",
        epilog=_EPILOG,
    )
    update.add_argument("name", metavar="NAME", help="the name of the policy")
    _add_timeouts(update, "+")
    delete = group.add(
        "delete",
        connected(_delete, _check_deletion),
        *shared,
        group.changes,
        help="delete policies",
        description="Delete the policy of this name, and print it as it was. Fail if there is "
        "none, or if a rule uses it. With --unused, delete those that no rule uses.",
    )
    delete.add_argument("name", nargs="?", metavar="NAME", help="the name of the policy")
    delete.add_argument(
        "--unused", action="store_true", help="delete the policies that no rule uses"
    )


def _add_defaults(group: Commands) -> None:
    defaults = group.add(
        "defaults",
        connected(_defaults),
        group.netns,
        group.json,
        help="print the default timeouts",
        description="Print the default timeouts of each protocol, or of one, which apply to the "
        "flows that have no policy.",
    )
    _add_protocol(defaults, nargs="?")
    setting = group.add(
        "set-defaults",
        connected(_set_defaults, _check_defaults),
        group.netns,
        group.json,
        group.dry_run,
        help="change default timeouts",
        description="Change the given default timeouts of a protocol, keep the others, and print "
        "all of them. Policies keep their timeouts.",
        epilog=_EPILOG,
    )
    _add_protocol(setting)
    _add_timeouts(setting, "+")


def _add_protocol(command: Parser, nargs: str | None = None) -> None:
    command.add_argument(
        "proto",
        nargs=nargs,
        type=_parse_protocol,
        metavar="PROTO",
        help=f"the protocol: {', '.join(_CLASSES)}",
    )


def _add_timeouts(command: Parser, nargs: str) -> None:
    command.add_argument(
        "timeouts",
        nargs=nargs,
        type=_parse_timeout,
        metavar="TIMEOUT",
        help="a timeout, such as established=600 or established=1h30m",
    )


def _parse_protocol(value: str) -> str:
    if value.lower() not in _CLASSES:
        raise argparse.ArgumentTypeError(unknown_name("protocol", value, _CLASSES))
    return value.lower()


def _parse_timeout(value: str) -> tuple[str, int]:
    name, sign, seconds = value.partition("=")
    if not sign or not re.fullmatch(r"\w+", name):
        raise argparse.ArgumentTypeError(f"{value[:40]!r} is not a timeout such as established=600")
    return name.lower(), _parse_seconds(seconds)


def _why_too_long(options: argparse.Namespace, proto: str, name: str, seconds: int) -> str:
    """Return the error for a timeout that some kernel cannot count, with what to do instead."""
    from ...model.settings import SETTINGS

    text = (
        f"argument TIMEOUT: {name}={seconds} is above {EVERY_KERNEL_KEEPS} seconds, the most that "
        "a kernel with 1000 ticks per second can count"
    )
    setting = f"{proto}_timeout{_SYSCTLS.get(name, f'_{name}')}"
    if options.verb == "set-defaults" and setting in SETTINGS and not SETTINGS[setting].until:
        text += (
            "; the setting takes more where the kernel has fewer: "
            f"conntrack-aio sysctl {setting}={seconds}"
        )
    return text


def _timeouts_of(
    options: argparse.Namespace, cls: type[ProtocolTimeouts], proto: str
) -> ProtocolTimeouts:
    """Return the timeouts that the options give. An unknown or a repeated name is an error."""
    from ..object_lines import field_names

    known = field_names(cls)
    values: dict[str, int] = {}
    for name, seconds in options.timeouts:
        if name not in known:
            options.parser.error(
                f"argument TIMEOUT: {unknown_name(f'timeout of {proto}', name, known)}"
            )
        if name in values:
            options.parser.error(f"argument TIMEOUT: {name} is given twice")
        if seconds > EVERY_KERNEL_KEEPS:
            options.parser.error(_why_too_long(options, proto, name, seconds))
        values[name] = seconds
    return cls(**values)


def _class_of(proto: str) -> type[ProtocolTimeouts]:
    from ...model import timeouts

    if proto not in _CLASSES:
        raise CommandError(f"the timeouts of protocol {proto} are unknown")
    found: type[ProtocolTimeouts] = getattr(timeouts, _CLASSES[proto])
    return found


def _number_of(proto: str) -> int:
    from ...model.timeouts import GENERIC
    from ...model.tuples import proto_number

    return GENERIC if proto == "generic" else proto_number(proto)


def _check_policy(options: argparse.Namespace) -> None:
    """Set the option ``policy`` to what the other options describe."""
    from ...model.timeouts import TimeoutPolicy

    options.policy = TimeoutPolicy.of(
        options.name,
        _timeouts_of(options, _class_of(options.proto), options.proto),
        family=options.family,
        proto=_number_of(options.proto),
    )


def _check_defaults(options: argparse.Namespace) -> None:
    options.values = _timeouts_of(options, _class_of(options.proto), options.proto)


def _check_deletion(options: argparse.Namespace) -> None:
    if (options.name is not None) == options.unused:
        options.parser.error("pass either a NAME or --unused")


async def _list(conn: Connection, options: argparse.Namespace) -> None:
    from ..object_lines import print_objects

    async with conn.timeouts.dump() as dump:
        async for policies in dump.batches():
            print_objects(options, policies)


async def _get(conn: Connection, options: argparse.Namespace) -> None:
    from ..object_lines import print_objects

    print_objects(options, [await conn.timeouts.get(options.name)])


async def _create(conn: Connection, options: argparse.Namespace) -> None:
    from ...errors import AlreadyExists
    from ..object_lines import print_one

    try:
        if options.dry_run:
            from ..planned_changes import policy_to_create

            created = await policy_to_create(conn, options.policy)
        else:
            created = await conn.timeouts.create(options.policy)
    except AlreadyExists as error:
        raise CommandError(
            f"{error.request}: there is one of this name; `timeouts update` changes some of its "
            "timeouts, and `timeouts replace` all of them"
        ) from error
    print_one(options, created, _NOUN, "created")


async def _replace(conn: Connection, options: argparse.Namespace) -> None:
    from ..object_lines import print_one

    if options.dry_run:
        from ..planned_changes import policy_to_replace

        replaced = await policy_to_replace(conn, options.policy)
    else:
        replaced = await conn.timeouts.replace(options.policy)
    print_one(options, replaced, _NOUN, "replaced")


async def _update(conn: Connection, options: argparse.Namespace) -> None:
    from ..object_lines import print_one, protocol_text

    policy = await conn.timeouts.get(options.name)
    proto = protocol_text(policy.proto)
    timeouts = _timeouts_of(options, _class_of(proto), proto)
    if options.dry_run:
        from ..planned_changes import policy_to_update

        updated = policy_to_update(policy, timeouts)
    else:
        updated = await conn.timeouts.update(policy.name, timeouts)
    print_one(options, updated, _NOUN, "updated")


async def _delete(conn: Connection, options: argparse.Namespace) -> None:
    from ...errors import NotFound, ResourceBusy
    from ..object_lines import print_all
    from ..output import report_after_interrupt
    from ..summaries import count_of

    if options.unused:
        found = [policy for policy in await conn.timeouts.list() if not policy.in_use]
    else:
        found = [await conn.timeouts.get(options.name)]
    if options.dry_run:
        print_all(options, found, _NOUN, "deleted")
        return
    deleted: list[TimeoutPolicy] = []
    try:
        for policy in found:
            try:
                await conn.timeouts.delete(policy.name)
            except (NotFound, ResourceBusy):
                if not options.unused:
                    raise
            else:  # otherwise it is gone, or a rule uses it by now
                deleted.append(policy)
    except BaseException:
        if deleted:
            report_after_interrupt(f"not finished: {count_of(len(deleted), _NOUN)} deleted")
        raise
    print_all(options, deleted, _NOUN, "deleted")


async def _defaults(conn: Connection, options: argparse.Namespace) -> None:
    from ...errors import NotSupported

    for proto in (options.proto,) if options.proto else _CLASSES:
        try:
            await _print_defaults(conn, options, proto)
        except NotSupported:  # this kernel does not track the protocol
            if options.proto:
                raise


async def _set_defaults(conn: Connection, options: argparse.Namespace) -> None:
    number = _number_of(options.proto)
    if not options.dry_run:
        await conn.timeouts.set_defaults(options.values, proto=number)
        await _print_defaults(conn, options, options.proto)
        return
    from ..planned_changes import defaults_to_set
    from ..summaries import report_summary

    _write_defaults(options, await defaults_to_set(conn, options.values, number), number)
    report_summary(options, f"default timeouts of {options.proto} would be changed")


async def _print_defaults(conn: Connection, options: argparse.Namespace, proto: str) -> None:
    number = _number_of(proto)
    timeouts = await conn.timeouts.get_defaults(_class_of(proto), proto=number)
    _write_defaults(options, timeouts, number)


def _write_defaults(options: argparse.Namespace, timeouts: ProtocolTimeouts, proto: int) -> None:
    from ..object_lines import default_timeouts_line
    from ..output import write_line

    write_line(default_timeouts_line(timeouts, proto, json=options.json))
