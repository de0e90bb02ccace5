"""Print expectations, timeout policies, helpers and counters, one per line."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterable, Sequence
from json import dumps
from typing import Final, cast

import attrs

from ..codec.json import to_dict
from ..codec.json_lines import json_lines, text_lines
from ..model.helpers import HelperStatus, UserspaceHelper
from ..model.protocols import PROTOCOL_NAMES
from ..model.statistics import ExpectCPUStatistics
from ..model.timeouts import GENERIC, ProtocolTimeouts, TimeoutPolicy
from .output import write_lines
from .summaries import count_of, report_summary

_FAMILIES: Final = {int(socket.AF_INET): "ipv4", int(socket.AF_INET6): "ipv6"}


def print_objects(options: argparse.Namespace, objects: Iterable[object]) -> None:
    """Print objects of the model: as JSON Lines if the options say so, otherwise as text."""
    if options.json:
        write_lines(json_lines(objects))
    else:
        write_lines(text_lines(map(_with_text, objects)))


def print_one(options: argparse.Namespace, obj: object, noun: str, participle: str) -> None:
    """Print an object, and report what was done with it; see :func:`print_all`."""
    print_all(options, [obj], noun, participle)


def print_all(
    options: argparse.Namespace, objects: Sequence[object], noun: str, participle: str
) -> None:
    """Print objects, and report what was done with them, or would be with ``--dry-run``.

    :param options: the options of the subcommand.
    :param objects: the objects.
    :param noun: what one of them is called, such as ``expectation``.
    :param participle: what was done with them, such as ``deleted``.
    """
    print_objects(options, objects)
    would_be = "would be " if options.dry_run else ""
    report_summary(options, f"{count_of(len(objects), noun)} {would_be}{participle}")


def _with_text(obj: object) -> object:
    """Return the text of an object whose class has none for people; otherwise the object."""
    if isinstance(obj, TimeoutPolicy):
        timeouts = "" if obj.timeouts is None else f" {values_text(obj.timeouts)}"
        rules = "" if obj.use is None else f" rules={obj.use - 1}"
        return f"{_text_of_key(obj.name, obj.family, obj.proto)}{timeouts}{rules}"
    if isinstance(obj, UserspaceHelper):
        return _helper_text(obj)
    if isinstance(obj, ExpectCPUStatistics):
        return values_text(obj)
    return obj


def values_text(obj: ProtocolTimeouts | ExpectCPUStatistics) -> str:
    """Return the fields of an object that are present: ``established=60 close=10``."""
    values = {name: getattr(obj, name) for name in field_names(type(obj))}
    return " ".join(f"{name}={value}" for name, value in values.items() if value is not None)


def field_names(cls: type[ProtocolTimeouts] | type[ExpectCPUStatistics]) -> list[str]:
    """Return the names of the fields of a class, in their order."""
    return [field.name for field in attrs.fields(cast("type[attrs.AttrsInstance]", cls))]


def default_timeouts_line(timeouts: ProtocolTimeouts, proto: int, *, json: bool) -> str:
    """Return the line for the default timeouts of a protocol.

    :param json: whether it is JSON: an object with the ``proto`` and ``timeouts`` of a policy.
    """
    if not json:
        return f"{protocol_text(proto)} {values_text(timeouts)}"
    policy = TimeoutPolicy(name="", family=0, proto=proto, timeouts=timeouts)
    fields = to_dict(policy)
    return dumps({"proto": proto, "timeouts": fields["timeouts"]})


def protocol_text(proto: int) -> str:
    """Return the name of a protocol as this command takes it, or its number."""
    return "generic" if proto == GENERIC else PROTOCOL_NAMES.get(proto, str(proto))


def _text_of_key(name: str, family: int, proto: int) -> str:
    return f"{name} {_FAMILIES.get(family, family)} {protocol_text(proto)}"


def _helper_text(helper: UserspaceHelper) -> str:
    words = [_text_of_key(*helper.key)]
    if helper.status is not None:
        words.append("enabled" if helper.status == HelperStatus.ENABLED else "disabled")
    if helper.queue is not None:
        words.append(f"queue={helper.queue}")
    if helper.private_data_length is not None:
        words.append(f"private-data-length={helper.private_data_length}")
    words += [
        f"policy={policy.name}:{policy.expect_max}:{policy.expect_timeout}"
        for policy in helper.policies
    ]
    return " ".join(words)
