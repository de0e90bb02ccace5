"""Writes docs/attributes.md from the declarations: ``python docs/make_reference.py``.

What the page says is what the code says: the docstrings of the classes, the strings under their
fields, the attributes that hold them, the comments behind the members of an enumeration. A new
attribute is on the page by being declared; a new class either stands in one that is there, or
gets a place in :data:`PARTS`.
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import NoneType
from typing import Final, NamedTuple, cast, get_args, get_origin, get_type_hints

import attrs

import conntrack_aio
from conntrack_aio.codec.schema import kernel_name
from conntrack_aio.model.declare import (
    INLINE,
    PLACES,
    SEQUENCE,
    Address,
    At,
    Bitmap,
    Bytes,
    Integer,
    MaskedFlags,
    Nest,
    Text,
    Wire,
)
from conntrack_aio.model.declare import Sequence as Row
from conntrack_aio.model.events import FlowEvent
from conntrack_aio.model.expectations import Expectation, ExpectEvent
from conntrack_aio.model.features import Features
from conntrack_aio.model.flow import Flow
from conntrack_aio.model.helpers import UserspaceHelper
from conntrack_aio.model.nat import NAT
from conntrack_aio.model.requests import ExpectRequestOnly, RequestOnly
from conntrack_aio.model.settings import (
    SETTINGS,
    BlindSpot,
    ConntrackSysctls,
    SettableSysctls,
    sysctl_of,
)
from conntrack_aio.model.statistics import (
    ClientStatistics,
    CPUStatistics,
    ExpectCPUStatistics,
    StreamStatistics,
    TableStatistics,
)
from conntrack_aio.model.table import Change, FlowTableStatistics, TableMode
from conntrack_aio.model.timeouts import TimeoutPolicy

PAGE: Final = Path(__file__).with_name("attributes.md")

PARTS: Final[Mapping[str, tuple[type, ...]]] = {
    "Flows": (Flow, FlowEvent, NAT),
    "Expectations": (Expectation, ExpectEvent),
    "Timeout policies": (TimeoutPolicy,),
    "User-space helpers": (UserspaceHelper,),
    "What only a request has": (RequestOnly, ExpectRequestOnly),
    "The live table": (Change, TableMode, FlowTableStatistics),
    "What a kernel supports": (Features,),
    "Settings": (ConntrackSysctls, BlindSpot),
    "Statistics": (
        TableStatistics,
        CPUStatistics,
        ExpectCPUStatistics,
        ClientStatistics,
        StreamStatistics,
    ),
}
"""The page's parts, and the classes in them. What a class holds follows it by itself."""

ENUMERATIONS: Final = "States, flags and kinds"

INTRODUCTION: Final = """\
# Attributes

Every attribute of the kernel's messages that `conntrack_aio` knows, and the field that holds it.

This page is made from the declarations in `conntrack_aio/model/`, by
`python docs/make_reference.py`: change them, not the page.

- **`None` is absent, `0` is zero.** A field whose type has no `None` is never absent.
- **What the kernel leaves out**: every message of a flow has the tuples, the id and the status,
  and the zone where it is not 0. Dumps and answers to `get` have the rest as far as the entry has
  it. Events have less: an update tells what changed, a destroy event hardly more than the counters
  and the last state, and neither a new nor an update event has counters or times of the entry.
  Counters and times also depend on settings, and so do events as a whole:
  [what the sysctls change](api/settings.md).
- **What is not on this page is kept.** An attribute that a newer kernel sends, or that is larger
  than what is known, is in `unknown`, wherever it stood, and is encoded again in that place.

The columns of the tables:

- **Field**: its name, and its type as the code has it. An `IPAddress` is an `IPv4Address` or an
  `IPv6Address` of Python's `ipaddress`.
- **Attribute**: the kernel's name and number, after those of the nests that it stands in. Where a
  class is itself in a nest, its table begins inside of that.
- **On the wire**: `u32` is an integer of 32 bits without a sign, `s32` one with a sign.
- **Access**: `read` is what the kernel tells, `write` what a program sends. Under it stands the
  first or the last Linux that has the attribute; without one, every Linux from 4.19 on has it,
  which is as far back as this page looks.
- **JSON**: the shape of the value, under the name of the field. Of a state it is the name, of
  flags the list of their names, each a number where the kernel has no name for it. An object that
  stands where there could be one of another class says which it is by its `kind`, the attribute's
  name in small letters: `tcp`. What is absent is left out.
  [JSON](api/json.md) has the full specification.
"""


# The sources: what Python itself forgets


class Told(NamedTuple):
    """What the source says of a member of a class."""

    annotation: str
    text: str
    """The string under it, or else the comment behind it."""


@cache
def _classes_of(module: str) -> tuple[dict[str, ast.ClassDef], list[str]]:
    source = inspect.getsource(sys.modules[module])
    nodes = ast.parse(source).body
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}, source.split("\n")


def told(cls: type) -> dict[str, Told]:
    """The members of one of our classes, with those of its bases."""
    found: dict[str, Told] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.split(".")[0] == conntrack_aio.__name__:
            classes, lines = _classes_of(base.__module__)
            found |= _members(classes[base.__name__].body, lines)
    return found


def _members(body: Sequence[ast.stmt], lines: Sequence[str]) -> Iterator[tuple[str, Told]]:
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            name, annotation = ast.unparse(node.target), ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign):
            name, annotation = ast.unparse(node.targets[0]), ""
        else:
            continue
        text = _string(after)
        if text is None:
            assert node.end_lineno is not None
            text = lines[node.end_lineno - 1][node.end_col_offset :].partition("#")[2].strip()
        yield name, Told(annotation, text)


def _string(node: ast.stmt | None) -> str | None:
    """What a statement says that is only a string."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        value = node.value.value
        return inspect.cleandoc(value) if isinstance(value, str) else None
    return None


def first_paragraph(thing: object) -> str:
    """Of the docstring, in one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


# Markdown


def code(text: str) -> str:
    return f"`{text}`"


def link(cls: type) -> str:
    name = public_name(cls)
    return f"[{code(name)}](#{anchor(name)})"


def anchor(heading: str) -> str:
    """How GitHub names a heading in an address."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


_CODE = re.compile(r"``(?P<code>.+?)``|:\w+:`(?P<last>~[\w.]+\.)?(?P<name>[^`]+)`", re.DOTALL)


def prose(text: str) -> str:
    """A docstring's text, of reStructuredText, in one paragraph."""
    parts: list[str] = []
    end = 0
    for found in _CODE.finditer(text):
        parts += [_escaped(text[end : found.start()]), code(found["code"] or found["name"])]
        end = found.end()
    return " ".join("".join([*parts, _escaped(text[end:])]).split())


def _escaped(text: str) -> str:
    return re.sub(r"[\\<*\[\]]", r"\\\g<0>", text)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, without the columns that are empty in every row."""
    cells = [list(columns), *map(list, rows)]
    used = [n for n in range(len(columns)) if any(row[n] for row in cells[1:])]
    lines = [[row[n].replace("|", "\\|") for n in used] for row in cells]
    lines.insert(1, ["---"] * len(used))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def section(level: int, heading: str, *texts: str) -> str:
    """A heading and what stands under it; empty texts are left out."""
    return "\n\n".join([f"{'#' * level} {heading}", *(text.strip() for text in texts if text)])


# What is declared


def public_name(cls: type) -> str:
    """The name by which users import it, or else its own."""
    for name in conntrack_aio.__all__:
        if getattr(conntrack_aio, name) is cls:
            return name
    return cls.__name__


def fields_of(cls: type) -> tuple[attrs.Attribute[object], ...]:
    fields: tuple[attrs.Attribute[object], ...] = attrs.fields(
        cast("type[attrs.AttrsInstance]", cls)
    )
    return fields


def row_of(field: attrs.Attribute[object]) -> Row[object] | None:
    """The places of a tuple's items."""
    return cast("Row[object] | None", field.metadata.get(SEQUENCE))


def places_of(field: attrs.Attribute[object]) -> tuple[At[object], ...]:
    row = row_of(field)
    if row is not None:
        return (*row.items, row.count)
    return cast("tuple[At[object], ...]", field.metadata.get(PLACES, ()))


def inlined_in(field: attrs.Attribute[object]) -> type | None:
    return cast("type | None", field.metadata.get(INLINE))


def wire_class(wire: Wire[object]) -> type | None:
    """The class of the object, or the enumeration, that stands there."""
    if isinstance(wire, Nest):
        return wire.cls
    if isinstance(wire, Integer | MaskedFlags):
        return cast("Integer[int]", wire).enum
    return None


def held_by(cls: type) -> Iterator[type]:
    """The classes and enumerations of the fields, in their order."""
    hints = get_type_hints(cls)
    for field in fields_of(cls):
        for place in places_of(field):
            if (held := wire_class(place.wire)) is not None:
                yield held
        if not places_of(field):
            yield from (each for each in _flat(hints[field.name]) if _is_ours(each))


def _flat(hint: object) -> Iterator[type]:
    if isinstance(hint, type) and not get_args(hint):
        yield hint
    for argument in get_args(hint):
        yield from _flat(argument)


def _is_ours(cls: type) -> bool:
    return attrs.has(cls) or issubclass(cls, enum.Enum)


def with_what_they_hold(classes: Iterable[type]) -> list[type]:
    """Every class after the first that holds it, once; enumerations too."""
    found: dict[type, None] = {}

    def visit(cls: type) -> None:
        if cls not in found:
            found[cls] = None
            if attrs.has(cls):
                for held in held_by(cls):
                    visit(held)

    for cls in classes:
        visit(cls)
    return list(found)


LISTED: Final = with_what_they_hold(cls for classes in PARTS.values() for cls in classes)
"""Everything that has a section."""


# Cells


def wire_text(place: At[object]) -> str:
    """``u32 big-endian``, and what the number is."""
    text = _form(place.wire)
    if (held := wire_class(place.wire)) is not None:
        text += f": {link(held)}"
    if place.when is not None:
        text += f", if {code(place.when[0])} is {place.when[1]}"
    return text


def _form(wire: Wire[object]) -> str:
    if isinstance(wire, Integer):
        integer = cast("Integer[int]", wire)
        name = f"{'s' if integer.signed else 'u'}{8 * integer.size}"
        order = "host order" if integer.host_order else "big-endian"
        return name if integer.size == 1 else f"{name} {order}"
    if isinstance(wire, Address):
        return f"IPv{4 if wire.size == 4 else 6} address, {wire.size} bytes"
    if isinstance(wire, Text):
        return f"NUL-terminated text, at most {wire.maximum - 1} bytes"
    if isinstance(wire, Bytes):
        return f"at most {wire.maximum} bytes"
    if isinstance(wire, Bitmap):
        return f"bitmap of {8 * wire.size} bits, words in host order"
    if isinstance(wire, MaskedFlags):
        return "u8 of flags, u8 of their mask"
    if isinstance(wire, Nest):
        return "nest"
    raise TypeError(f"the page has no words for {wire!r}")


def json_shape(wire: Wire[object]) -> str:
    """What a value is in JSON."""
    if isinstance(wire, Nest):
        return "object"
    if isinstance(wire, Address | Text):
        return "text"
    if isinstance(wire, Bytes):
        return "hexadecimal text"
    if isinstance(wire, Bitmap):
        return "list of bits"
    return _json_of(wire_class(wire) or int)


def _json_of(cls: type) -> str:
    for known, shape in (
        (enum.IntFlag, "list of names"),
        (enum.IntEnum, "name"),
        (enum.Enum, "value"),
        (bool, "true or false"),
        (int, "number"),
        (str | IPv4Address | IPv6Address, "text"),
        (bytes, "hexadecimal text"),
    ):
        if issubclass(cls, known):
            return shape
    return "object"


def shape_of(field: attrs.Attribute[object], place: At[object]) -> str:
    """What the field is in JSON, with its value at this place."""
    row = row_of(field)
    if row is None:
        return json_shape(place.wire)
    return "" if place is row.count else f"list of {json_shape(place.wire)}s"


def _plain_json(hint: object) -> str:
    shapes = dict.fromkeys(_json_of(cls) for cls in _flat(hint) if cls is not NoneType)
    text = " or ".join(shapes)
    return f"list of {text}s" if get_origin(hint) is tuple else text


def attribute(place: At[object]) -> str:
    """The names and numbers that lead there."""
    return " / ".join(f"{code(kernel_name(number))} {int(number)}" for number in place.path)


def access(place: At[object]) -> str:
    """Who tells it, and in which kernels."""
    return "<br>".join([place.access.value, *_versions(place.since, place.until)])


def _versions(since: str, until: str) -> list[str]:
    return [
        f"{word} {version}" for word, version in (("since", since), ("until", until)) if version
    ]


# Sections

FIELD_COLUMNS: Final = ("Field", "What it is", "Attribute", "On the wire", "Access", "JSON")


def field_rows(cls: type) -> Iterator[tuple[str, ...]]:
    """The fields, a row for each place where the value can stand."""
    texts = told(cls)
    hints = get_type_hints(cls)
    for field in fields_of(cls):
        said = texts[field.name]
        head = (f"{code(field.name)}<br>{code(said.annotation)}", prose(said.text))
        inner = inlined_in(field)
        for place in places_of(field):
            shape = shape_of(field, place)
            yield (*head, attribute(place), wire_text(place), access(place), shape)
            head = ("", "")
        if inner is not None:
            yield (*head, f"those of {link(inner)}", "", "", "object")
        elif not places_of(field):
            yield (*head, "", "", "", _plain_json(hints[field.name]))


SETTING_COLUMNS: Final = ("Field", "What it is", "Setting", "Unit", "Access", "JSON")


def setting_rows() -> Iterator[tuple[str, ...]]:
    """The settings of the kernel, in the order of their fields."""
    settable = told(SettableSysctls)
    texts = {**settable, **told(ConntrackSysctls)}
    hints = get_type_hints(ConntrackSysctls)
    for field in fields_of(ConntrackSysctls):
        said, setting = texts[field.name], SETTINGS[field.name]
        who = "read, write" if field.name in settable else "read"
        if setting.machine:
            who = "read; write in the initial network namespace"
        yield (
            f"{code(field.name)}<br>{code(said.annotation)}",
            prose(said.text),
            code(sysctl_of(field.name)),
            setting.value_type.unit,
            "<br>".join([who, *_versions(setting.since, setting.until)]),
            _plain_json(hints[field.name]),
        )


def property_lines(cls: type) -> Iterator[str]:
    """What is made of the fields."""
    for name, member in vars(cls).items():
        if isinstance(member, property) and not name.startswith("_"):
            yield f"- {code(name)}: {prose(first_paragraph(member))}"


def nests_of(cls: type) -> Iterator[str]:
    """Where in the listed classes the class stands."""
    for owner in LISTED:
        for field in fields_of(owner) if attrs.has(owner) else ():
            for place in places_of(field):
                if wire_class(place.wire) is cls:
                    path = " / ".join(kernel_name(number) for number in place.path)
                    yield f"{code(f'{public_name(owner)}.{field.name}')} ({code(path)})"


def publicity(cls: type) -> str:
    """A word about what users can't import."""
    public = public_name(cls) in conntrack_aio.__all__
    return "" if public else "The library's own; not a public name."


def class_section(cls: type) -> str:
    """A class of the model."""
    nests = list(dict.fromkeys(nests_of(cls)))
    properties = "\n".join(property_lines(cls))
    return section(
        3,
        public_name(cls),
        prose(first_paragraph(cls)),
        publicity(cls),
        f"In {', '.join(nests)}." if nests else "",
        table(SETTING_COLUMNS, setting_rows())
        if cls is ConntrackSysctls
        else table(FIELD_COLUMNS, field_rows(cls)),
        f"Properties:\n\n{properties}" if properties else "",
    )


def member_rows(cls: type[enum.Enum]) -> Iterator[tuple[str, str, str]]:
    """The members of an enumeration, the combined and the second names too."""
    texts = told(cls)
    for name, member in cls.__members__.items():
        value: object = member.value
        if issubclass(cls, enum.IntFlag) and isinstance(value, int):
            value = f"{value:#x}"
        yield code(name), str(value), prose(texts[name].text)


def enum_section(cls: type[enum.Enum]) -> str:
    """An enumeration."""
    number = "Number" if issubclass(cls, int) else "Value"
    uses = list(nests_of(cls))
    return section(
        3,
        public_name(cls),
        prose(first_paragraph(cls)),
        publicity(cls),
        f"In {', '.join(uses)}." if uses else "",
        table(("Name", number, "What it is"), member_rows(cls)),
    )


def contents(parts: Mapping[str, Iterable[type]]) -> str:
    """The links to all sections."""
    return "\n".join(
        f"- [{part}](#{anchor(part)}): {', '.join(map(link, classes))}"
        for part, classes in parts.items()
    )


def page() -> str:
    """The whole text."""
    parts: dict[str, list[type]] = {part: [] for part in PARTS}
    done: set[type] = set()
    for part, roots in PARTS.items():
        found = with_what_they_hold(roots)
        parts[part] = [cls for cls in found if attrs.has(cls) and cls not in done]
        done.update(parts[part])
    enums = [cls for cls in LISTED if issubclass(cls, enum.Enum)]
    listed = contents({**parts, ENUMERATIONS: enums})
    sections = [INTRODUCTION.strip(), section(2, "Contents", listed)]
    for part, classes in parts.items():
        sections += [section(2, part), *map(class_section, classes)]
    sections += [section(2, ENUMERATIONS), *map(enum_section, enums)]
    return "\n\n".join(sections) + "\n"


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
