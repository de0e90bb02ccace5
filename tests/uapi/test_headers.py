"""Test that the constants equal those of the kernel headers installed on this machine.

- The docstring of a module names its headers.
- The docstring of a class names what it is compared with: ``enum name`` is that enum, ``PREFIX_*``
  is the anonymous enum or the macros with that prefix.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from enum import IntEnum
from pathlib import Path
from types import ModuleType

import pytest
import support.uapi

import conntrack_aio.uapi

INCLUDE = Path("/usr/include")

FROM_OTHER_HEADERS = {
    "AF_NETLINK",  # linux/socket.h, which is not installed
    "SOL_NETLINK",
    "SK_MEMINFO_RMEM_ALLOC",  # linux/sock_diag.h
    "SK_MEMINFO_RCVBUF",
    "SK_MEMINFO_DROPS",
}
"""Constants outside of classes that are not in the header which their module names."""

NOT_INCLUDED = INCLUDE / "linux/netlink.h"
"""linux/netfilter/nfnetlink.h uses its macros without including it."""

OTHER_NAMES = {
    "IP_CT_TCP_FLAG_EXP_CHALLENGE_ACK": "IP_CT_EXP_CHALLENGE_ACK",
    "IP_CT_TCP_FLAG_SIMULTANEOUS_OPEN": "IP_CT_TCP_SIMULTANEOUS_OPEN",
}
"""The kernel's names of members whose names do not consist of prefix and member."""


# Reading a header


class Header:
    """The constants of a header: its enums in order, and its macros."""

    def __init__(self, text: str) -> None:
        text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL).replace("\\\n", " ")
        self.macros = dict(re.findall(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+(.+)$", text, re.M))
        text = re.sub(r"^[ \t]*#.*$", "", text, flags=re.MULTILINE)
        self.numbers: dict[str, int] = {}
        self.named: dict[str, list[str]] = {}
        self.anonymous: list[list[str]] = []
        for name, body in re.findall(r"\benum\s*(\w*)\s*\{(.*?)\}", text, re.DOTALL):
            enumerators = self._read_enum(body)
            if name:
                self.named[name] = enumerators
            else:
                self.anonymous.append(enumerators)

    def _read_enum(self, body: str) -> list[str]:
        value = -1
        enumerators: list[str] = []
        sentinels: set[str] = set()
        for item in filter(None, map(str.strip, body.split(","))):
            name, _, expression = map(str.strip, item.partition("="))
            value = self._evaluate(expression) if expression else value + 1
            self.numbers[name] = value
            enumerators.append(name)
            if name.startswith("__") or re.fullmatch(r"__\w+ - 1", expression):
                sentinels.add(name)
        if enumerators[-1].endswith("_MAX"):
            sentinels.add(enumerators[-1])
        return [n for n in enumerators if n not in sentinels and not n.endswith("_BIT")]

    def _evaluate(self, expression: str) -> int:
        expression = re.sub(r"\b(0[xX][0-9a-fA-F]+|\d+)[uUlL]+\b", r"\1", expression)
        names = {n: self.number(n) for n in re.findall(r"\b[A-Za-z_]\w*", expression)}
        if not re.fullmatch(r"[\w\s()|&~<>+-]+", expression) or None in names.values():
            raise ValueError(expression)
        return int(eval(expression, {"__builtins__": {}}, names))

    def number(self, name: str) -> int | None:
        """Return the value of an enumerator or macro, or ``None`` if it is not a number."""
        if name in self.numbers:
            return self.numbers[name]
        try:
            return self._evaluate(self.macros[name])
        except (KeyError, ValueError, SyntaxError):
            return None


# Comparing


def differences(ours: type[IntEnum], header: Header, *, complete: bool) -> list[str]:
    """Return the differences between a class and the header, as texts.

    :param ours: the class.
    :param header: the header.
    :param complete: whether the class must have every constant of the header, because the header is
        not newer than the module.
    """
    (documented,) = re.findall(r"\A``(enum \w+|\w+\*)``", ours.__doc__ or "")
    kind, _, name = documented.partition(" ")
    if name:
        if name not in header.named:
            return [f"the header has no {documented}"]
        return _compare_enum(ours, header, header.named[name], complete)
    prefix = kind.removesuffix("*")
    first = prefix + next(iter(ours.__members__))
    for enumerators in header.anonymous:
        if first in enumerators:
            return _compare_enum(ours, header, enumerators, complete)
    return _compare_macros(ours, header, prefix)


def _compare_enum(
    ours: type[IntEnum], header: Header, enumerators: list[str], complete: bool
) -> list[str]:
    wrong: list[str] = []
    members = list(ours.__members__)
    found: list[str] = []
    for enumerator in enumerators:
        candidates = [m for m in members if enumerator == m or enumerator.endswith(f"_{m}")]
        if not candidates:
            if complete:
                wrong.append(f"{enumerator} is missing")
            continue
        member = max(candidates, key=len)
        found.append(member)
        if ours[member] != header.numbers[enumerator]:
            wrong.append(f"{member} is {ours[member]:d}, {enumerator} {header.numbers[enumerator]}")
    if found != [m for m in members if m in found]:
        wrong.append(f"the header's order is {found}")
    last = max(header.numbers[e] for e in enumerators)
    for member in members:
        # A class may have constants of newer kernels, and macros that are aliases.
        if member not in found and ours[member] <= last and not _is_macro(header, ours, member):
            wrong.append(f"{member} is not in the header")
    return wrong


def _is_macro(header: Header, ours: type[IntEnum], member: str) -> bool:
    return any(
        header.number(macro) == ours[member]
        for macro in header.macros
        if macro.endswith(f"_{member}")
    )


def _compare_macros(ours: type[IntEnum], header: Header, prefix: str) -> list[str]:
    wrong: list[str] = []
    for member, value in ours.__members__.items():
        name = OTHER_NAMES.get(prefix + member, prefix + member)
        number = header.number(name)
        if number != value:
            wrong.append(f"{member} is {value:d}, {name} {number}")
    return wrong


# The modules, classes and constants


def _modules() -> list[ModuleType]:
    return [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for package in (conntrack_aio.uapi, support.uapi)
        for module in pkgutil.iter_modules(package.__path__)
    ]


def _header(module: ModuleType) -> Header | None:
    """Return the headers of a module as one, or ``None`` if they are not installed."""
    first_line = (module.__doc__ or "").splitlines()[0]
    paths = [INCLUDE / name for name in re.findall(r"[\w/-]+\.h\b", first_line)]
    assert paths, f"{module.__name__} names no header"
    if all(path.exists() for path in paths):
        return Header("\n".join(path.read_text() for path in [*paths, NOT_INCLUDED]))
    return None


def _is_complete(module: ModuleType) -> bool:
    """Return whether the module is as new as the headers, or names no kernel version."""
    version = re.search(r"to Linux (\d+)\.(\d+)", module.__doc__ or "")
    if version is None:
        return True
    code = Header((INCLUDE / "linux/version.h").read_text()).number("LINUX_VERSION_CODE") or 0
    return (code >> 16, code >> 8 & 0xFF) <= (int(version[1]), int(version[2]))


MODULES = _modules()
HEADERS = {module.__name__: header for module in MODULES if (header := _header(module))}
PRESENT = [module for module in MODULES if module.__name__ in HEADERS]
CLASSES = [
    pytest.param(module, value, id=f"{module.__name__.rsplit('.', 1)[1]}.{name}")
    for module in PRESENT
    for name, value in vars(module).items()
    if isinstance(value, type) and value.__module__ == module.__name__
]
NUMBERS = [
    pytest.param(module, name, id=name)
    for module in PRESENT
    for name, value in vars(module).items()
    if type(value) is int and name not in FROM_OTHER_HEADERS
]


@pytest.mark.parametrize(("module", "ours"), CLASSES)
def test_a_class_equals_the_header(module: ModuleType, ours: type[IntEnum]) -> None:
    assert not differences(ours, HEADERS[module.__name__], complete=_is_complete(module))


@pytest.mark.parametrize(("module", "name"), NUMBERS)
def test_a_constant_equals_the_header(module: ModuleType, name: str) -> None:
    number, ours = HEADERS[module.__name__].number(name), vars(module)[name]
    assert number is not None
    # NLA_TYPE_MASK is the complement of another macro, and here limited to 16 bits.
    assert ours == number or (number < 0 < ours == number & 0xFFFF)


def test_all_modules_are_compared_except_those_without_an_uapi_header() -> None:
    """On a machine without the kernel headers, no module is compared."""
    missing = {module.__name__.rsplit(".", 1)[1] for module in MODULES if module not in PRESENT}
    assert missing <= {"nf_internals", "nf_conntrack_dccp"} or not PRESENT


# The test of the comparison itself

SAMPLE = Header(
    """
    #define FOO_BIG 0x10 /* a macro */
    #define FOO_BOTH (FOO_BIG|1U)
    enum foo_attr { /* , */
        FOO_UNSPEC,
        FOO_ONE,
    #define FOO_UNO FOO_ONE
        FOO_SEVEN_BIT = 7,
        FOO_SEVEN = (1 << FOO_SEVEN_BIT),
        FOO_LAST_MAX,
        __FOO_MAX
    };
    #define FOO_MAX (__FOO_MAX - 1)
    enum { BAR_A, BAR_B, BAR_MAX };
    """
)


def test_enums_and_macros_are_parsed() -> None:
    assert SAMPLE.named == {"foo_attr": ["FOO_UNSPEC", "FOO_ONE", "FOO_SEVEN", "FOO_LAST_MAX"]}
    assert SAMPLE.anonymous == [["BAR_A", "BAR_B"]]
    assert [SAMPLE.number(f"FOO_{n}") for n in ("SEVEN", "LAST_MAX", "BOTH", "UNO", "MAX")] == [
        128,
        129,
        17,
        1,
        129,
    ]
    assert SAMPLE.number("FOO_NO") is None


@pytest.mark.parametrize(
    ("doc", "members", "expected"),
    [
        ("enum foo_attr", "UNSPEC=0 UNO=1 ONE=1 SEVEN=128 LAST_MAX=129 NEWER=130", None),
        ("enum foo_attr", "UNSPEC=0 ONE=1 SEVEN=128", "FOO_LAST_MAX is missing"),
        ("enum foo_attr", "UNSPEC=0 ONE=2 SEVEN=128 LAST_MAX=129", "ONE is 2, FOO_ONE 1"),
        ("enum foo_attr", "ONE=1 UNSPEC=0 SEVEN=128 LAST_MAX=129", "the header's order is"),
        ("enum foo_attr", "UNSPEC=0 ONE=1 TOW=2 SEVEN=128 LAST_MAX=129", "TOW is not in"),
        ("enum foo", "UNSPEC=0", "the header has no enum foo"),
        ("BAR_*", "A=0 B=1 C=2", None),
        ("BAR_*", "A=0 B=2", "B is 2, BAR_B 1"),
        ("FOO_*", "BIG=16 BOTH=17", None),
        ("FOO_*", "BIG=16 BOTH=18", "BOTH is 18, FOO_BOTH 17"),
        ("FOO_*", "BIG=16 SMALL=1", "SMALL is 1, FOO_SMALL None"),
    ],
)
def test_the_comparison_finds_differences(doc: str, members: str, expected: str | None) -> None:
    pairs = [(name, int(value)) for name, value in (m.split("=") for m in members.split())]
    ours = IntEnum("Ours", pairs)  # type: ignore[misc]
    ours.__doc__ = f"``{doc}``: a sample."
    found = differences(ours, SAMPLE, complete=True)
    assert [re.match(re.escape(expected), text) for text in found] if expected else not found
