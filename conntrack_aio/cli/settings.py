"""Print and set the settings of connection tracking, for ``sysctl``."""

from __future__ import annotations

import json as json_module
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ..codec.json_values import JSON
from ..connection import Connection
from ..model.settings import SETTINGS, ConntrackSysctls, EventMode, SettableSysctls, sysctl_of
from ..quantities import NotANumber, parse_duration, parse_size
from ..suggestions import suggestion
from .failures import CommandError
from .field_descriptions import field_descriptions
from .output import write_line

_SWITCHES: Final = {"0": False, "off": False, "false": False, "1": True, "on": True, "true": True}
_UNITS: Final[Mapping[str, tuple[Callable[[str], int], str]]] = {
    "seconds": (parse_duration, ", or a duration such as 1h30m"),
    "bytes": (parse_size, ", which may end in K, M, G or T"),
}
"""What reads the values of a unit, and what the error for a wrong one adds."""
_MODES: Final = {text: mode for mode in EventMode for text in (str(mode.value), mode.name.lower())}


def parse_settings(arguments: Sequence[str]) -> tuple[list[str], dict[str, int]]:
    """Return the settings that arguments name, and the values of those that are to be set.

    :param arguments: ``NAME`` or ``NAME=VALUE`` each, with spaces around the sign at will. The sign
        may be an argument of its own, or be separate from the name or the value.
    :raises ValueError: when there is no such setting, when it cannot be set, when the value is not
        valid, or when a setting is named twice.
    """
    names: list[str] = []
    changes: dict[str, int] = {}
    for argument in _joined(arguments):
        given, sign, value = argument.partition("=")
        name = _setting_named(given.strip())
        if name in names:
            raise ValueError(f"{name} is given twice")
        names.append(name)
        if sign:
            changes[name] = _parse_value(name, value.strip())
    return names, changes


def _joined(arguments: Sequence[str]) -> list[str]:
    """Join what belongs to one setting: ``acct``, ``=`` and ``1`` are ``acct=1``."""
    joined: list[str] = []
    for argument in arguments:
        last = joined[-1].rstrip() if joined else ""
        follows_name = argument.startswith("=") and "=" not in last
        follows_sign = last.endswith("=") and "=" not in argument
        if last and (follows_name or follows_sign):
            joined[-1] += argument
        else:
            joined.append(argument)
    return joined


def _setting_named(given: str) -> str:
    """Return the setting of a name with or without its prefix."""
    path = given.replace("/", ".")
    for name in SETTINGS:
        full = sysctl_of(name)
        if path in (name, full, full.removeprefix("net.netfilter.")):
            return name
    short = path.removeprefix("net.").removeprefix("netfilter.").removeprefix("nf_conntrack_")
    hint = suggestion(short, SETTINGS) or "; `conntrack-aio sysctl` prints all names"
    raise ValueError(f"unknown setting {given[:60]!r}{hint}")


def _parse_value(name: str, text: str) -> int:
    if not hasattr(SettableSysctls, name):
        raise ValueError(f"{name} cannot be set: only the kernel writes it")
    kind = SETTINGS[name].value_type.type
    if kind is bool or kind is EventMode:
        known: dict[str, Any] = _SWITCHES if kind is bool else _MODES
        if text.lower() not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}; got {text[:40]!r}")
        value: int = known[text.lower()]
        return value
    unit = SETTINGS[name].value_type.unit
    parse, forms = _UNITS.get(unit, (_parse_number, ""))
    try:
        return SETTINGS[name].check(name, parse(text[:40]))
    except NotANumber:
        wanted = f"a number{unit and f' of {unit}'}{forms}"
        raise ValueError(f"{name} must be {wanted}; got {text[:40]!r}") from None


def _parse_number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise NotANumber(text)
    return int(text)


async def set_settings(conn: Connection, changes: dict[str, int]) -> None:
    """Set settings, and raise what :meth:`Sysctls.set` raises."""
    await conn.sysctls.set(**changes)  # type: ignore[arg-type]


async def check_settings(conn: Connection, changes: dict[str, int]) -> None:
    """Check that settings could be set, and raise what :meth:`Sysctls.check` raises."""
    await conn.sysctls.check(**changes)  # type: ignore[arg-type]


async def print_settings(
    conn: Connection,
    names: Sequence[str],
    planned: Mapping[str, int],
    *,
    json: bool,
    explain: bool,
) -> None:
    """Print settings as they are now, or as they would be.

    :param conn: the connection.
    :param names: the settings; all that the kernel has, if there are none.
    :param planned: the values that some of them would get.
    :param json: whether to print JSON Lines.
    :param explain: whether to print what each setting means; JSON always has that.
    :raises CommandError: when this kernel does not have one that is named.
    """
    settings = await conn.sysctls.read()
    texts = field_descriptions(ConntrackSysctls) if json or explain else {}
    missing: list[str] = []
    for name in names or SETTINGS:
        value: int | None = getattr(settings, name)
        if value is not None:
            value = planned.get(name, value)
        text = texts.get(name, "")
        if value is None:
            if names:
                missing.append(name)
        elif json:
            write_line(json_module.dumps(_to_dict(name, value, text)))
        else:
            if explain:
                unit = SETTINGS[name].value_type.unit
                text += f" Unit: {unit}." if unit else ""
                for line in textwrap.wrap(text, 78):
                    write_line(f"# {line}")
            write_line(f"{sysctl_of(name)} = {int(value)}")
    if missing:
        raise CommandError(f"this kernel does not have, at least not here: {', '.join(missing)}")


def _to_dict(name: str, value: int, text: str) -> dict[str, JSON]:
    declared = SETTINGS[name]
    shown: JSON = value.name.lower() if isinstance(value, EventMode) else value
    found: dict[str, JSON] = {"name": name, "sysctl": sysctl_of(name), "value": shown}
    if declared.value_type.unit:
        found["unit"] = declared.value_type.unit
    return {
        **found,
        "settable": hasattr(SettableSysctls, name),
        "whole_machine": declared.machine,
        "description": text,
    }
