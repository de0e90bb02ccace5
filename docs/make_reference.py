"""Generate docs/attributes.md from the declarations: ``python docs/make_reference.py``.

- All text about classes and fields comes from the code: from the docstrings of the classes, the
  strings under their fields, the declared attributes, and the comments after the members of
  enumerations.
- A new attribute is on the page as soon as it is declared.
- A new class is on the page if a class on the page has a field of it. Otherwise add the new class
  to :data:`PARTS`.
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
from conntrack_aio.model.client_statistics import ClientStatistics, StreamStatistics
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
from conntrack_aio.model.statistics import CPUStatistics, ExpectCPUStatistics, TableStatistics
from conntrack_aio.model.table import Change, FlowTableStatistics, TableMode
from conntrack_aio.model.timeouts import TimeoutPolicy
from conntrack_aio.model.wire import (
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
    SequencePlaces,
    Text,
    Wire,
)

PAGE: Final = Path(__file__).with_name("attributes.md")

PARTS: Final[Mapping[str, tuple[type, ...]]] = {
    "Flows": (Flow, FlowEvent, NAT),
    "Expectations": (Expectation, ExpectEvent),
    "Timeout policies": (TimeoutPolicy,),
    "User-space helpers": (UserspaceHelper,),
    "Fields of requests only": (RequestOnly, ExpectRequestOnly),
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
"""The parts of the page and their classes. The classes of their fields are added automatically."""

ENUMERATIONS: Final = "States, flags and kinds"

INTRODUCTION: Final = """\
# Attributes

Every attribute of the kernel's messages that `conntrack_aio` knows, and the field that holds it.

This page is generated from the declarations in `conntrack_aio/model/` by
`python docs/make_reference.py`. Change the declarations, not the page.

- **`None` means that the attribute is absent; `0` means zero.** A field whose type does not allow
  `None` is never absent.
- **What messages contain.** Every message about a flow has the tuples, the id and the status, and
  the zone if it is not 0. Dumps and replies to `get` also have everything else that the entry has.
  Events have less: an update event has what changed, and a destroy event has little more than the
  counters and the last state. New and update events have no counters and no timestamps of the
  entry. Counters, timestamps and events also depend on settings: see
  [what the sysctls change](api/settings.md).
- **Attributes that are not on this page are kept.** If a newer kernel sends another attribute, or
  one that is longer than declared, its bytes are in `unknown` with its position. Encoding writes
  them at the same position.

The columns of the tables:

- **Field**: the name of the field, and its type as in the code. An `IPAddress` is an `IPv4Address`
  or an `IPv6Address` of Python's `ipaddress`.
- **Attribute**: the kernel's name and number of the attribute, after those of the nests that
  contain it. If a class is itself in a nest, its table begins inside that nest.
- **On the wire**: `u32` is an unsigned integer of 32 bits, `s32` a signed one.
- **Access**: the kernel sends attributes with `read`; a program can send attributes with `write`.
  Below is the first or the last Linux release that has the attribute. Without one, every release
  since 4.19 has it; this page does not cover older releases.
- **JSON**: the form of the value, under the name of the field. A state is its name, and flags are a
  list of their names; a state or flag without a name in the kernel is a number. If a field can hold
  objects of several classes, the object has a `kind`: the name of its attribute in lower case, such
  as `tcp`. Absent fields are left out. [JSON](api/json.md) has the full specification.
"""


# Source text that Python does not keep at run time


class MemberSource(NamedTuple):
    """What the source says about a member of a class."""

    annotation: str
    text: str
    """The string under the member, or else the comment after it."""


@cache
def _classes_of(module: str) -> tuple[dict[str, ast.ClassDef], list[str]]:
    """Return the class definitions of a module by name, and its lines."""
    source = inspect.getsource(sys.modules[module])
    nodes = ast.parse(source).body
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}, source.split("\n")


def members_of(cls: type) -> dict[str, MemberSource]:
    """Return the members of a class of this package and of its bases, by name."""
    found: dict[str, MemberSource] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.split(".")[0] == conntrack_aio.__name__:
            classes, lines = _classes_of(base.__module__)
            found |= _members(classes[base.__name__].body, lines)
    return found


def _members(body: Sequence[ast.stmt], lines: Sequence[str]) -> Iterator[tuple[str, MemberSource]]:
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
        yield name, MemberSource(annotation, text)


def _string(node: ast.stmt | None) -> str | None:
    """Return the text of a statement that is only a string, or ``None`` for another statement."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        value = node.value.value
        return inspect.cleandoc(value) if isinstance(value, str) else None
    return None


def first_paragraph(thing: object) -> str:
    """Return the first paragraph of the docstring, in one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


# Markdown


def code(text: str) -> str:
    """Return the text as code."""
    return f"`{text}`"


def link(cls: type) -> str:
    """Return a link to the section of a class."""
    name = public_name(cls)
    return f"[{code(name)}](#{anchor(name)})"


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


_CODE = re.compile(r"``(?P<code>.+?)``|:\w+:`(?P<last>~[\w.]+\.)?(?P<name>[^`]+)`", re.DOTALL)


def prose(text: str) -> str:
    """Convert text from reStructuredText to Markdown, in one paragraph."""
    parts: list[str] = []
    end = 0
    for found in _CODE.finditer(text):
        parts += [_escaped(text[end : found.start()]), code(found["code"] or found["name"])]
        end = found.end()
    return " ".join("".join([*parts, _escaped(text[end:])]).split())


def _escaped(text: str) -> str:
    return re.sub(r"[\\<*\[\]]", r"\\\g<0>", text)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table without the columns that are empty in every row."""
    cells = [list(columns), *map(list, rows)]
    used = [n for n in range(len(columns)) if any(row[n] for row in cells[1:])]
    lines = [[row[n].replace("|", "\\|") for n in used] for row in cells]
    lines.insert(1, ["---"] * len(used))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def section(level: int, heading: str, *texts: str) -> str:
    """Return a section: a heading and the texts that are not empty."""
    return "\n\n".join([f"{'#' * level} {heading}", *(text.strip() for text in texts if text)])


# Declarations


def public_name(cls: type) -> str:
    """Return the name by which users import a class, or its own name if it is not public."""
    for name in conntrack_aio.__all__:
        if getattr(conntrack_aio, name) is cls:
            return name
    return cls.__name__


def fields_of(cls: type) -> tuple[attrs.Attribute[object], ...]:
    """Return the fields of a class, in their order."""
    fields: tuple[attrs.Attribute[object], ...] = attrs.fields(
        cast("type[attrs.AttrsInstance]", cls)
    )
    return fields


def items_of(field: attrs.Attribute[object]) -> SequencePlaces[object] | None:
    """Return the attributes of the items, if the field is a tuple with an attribute per item."""
    return cast("SequencePlaces[object] | None", field.metadata.get(SEQUENCE))


def places_of(field: attrs.Attribute[object]) -> tuple[At[object], ...]:
    """Return the attributes that can hold the value of a field."""
    items = items_of(field)
    if items is not None:
        return (*items.items, items.count)
    return cast("tuple[At[object], ...]", field.metadata.get(PLACES, ()))


def inlined_class(field: attrs.Attribute[object]) -> type | None:
    """Return the class whose attributes are beside those of the class of this field."""
    return cast("type | None", field.metadata.get(INLINE))


def wire_class(wire: Wire[object]) -> type | None:
    """Return the class or the enumeration of the value of an attribute, if it has one."""
    if isinstance(wire, Nest):
        return wire.cls
    if isinstance(wire, Integer | MaskedFlags):
        return cast("Integer[int]", wire).enum
    return None


def field_classes(cls: type) -> Iterator[type]:
    """Yield the classes and enumerations of the fields of a class, in their order."""
    hints = get_type_hints(cls)
    for field in fields_of(cls):
        for place in places_of(field):
            if (value_class := wire_class(place.wire)) is not None:
                yield value_class
        if not places_of(field):
            yield from (each for each in _types_in(hints[field.name]) if _has_section(each))


def _types_in(hint: object) -> Iterator[type]:
    """Yield the types in a type hint."""
    if isinstance(hint, type) and not get_args(hint):
        yield hint
    for argument in get_args(hint):
        yield from _types_in(argument)


def _has_section(cls: type) -> bool:
    return attrs.has(cls) or issubclass(cls, enum.Enum)


def with_field_classes(classes: Iterable[type]) -> list[type]:
    """Return the classes and all classes and enumerations of their fields, each once.

    A class follows the first class that has a field of it.
    """
    found: dict[type, None] = {}

    def visit(cls: type) -> None:
        if cls not in found:
            found[cls] = None
            if attrs.has(cls):
                for field_class in field_classes(cls):
                    visit(field_class)

    for cls in classes:
        visit(cls)
    return list(found)


LISTED: Final = with_field_classes(cls for classes in PARTS.values() for cls in classes)
"""All classes and enumerations that have a section."""


# Cells


def wire_text(place: At[object]) -> str:
    """Return the format of an attribute, such as ``u32 big-endian``, and the class of its value."""
    text = _wire_format(place.wire)
    if (value_class := wire_class(place.wire)) is not None:
        text += f": {link(value_class)}"
    if place.when is not None:
        text += f", if {code(place.when[0])} is {place.when[1]}"
    return text


def _wire_format(wire: Wire[object]) -> str:
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
    raise TypeError(f"cannot describe the format of {wire!r}; extend _wire_format")


def json_form(wire: Wire[object]) -> str:
    """Return the form of a value in JSON."""
    if isinstance(wire, Nest):
        return "object"
    if isinstance(wire, Address | Text):
        return "text"
    if isinstance(wire, Bytes):
        return "hexadecimal text"
    if isinstance(wire, Bitmap):
        return "list of bits"
    return _json_form_of(wire_class(wire) or int)


def _json_form_of(cls: type) -> str:
    for base, form in (
        (enum.IntFlag, "list of names"),
        (enum.IntEnum, "name"),
        (enum.Enum, "value"),
        (bool, "true or false"),
        (int, "number"),
        (str | IPv4Address | IPv6Address, "text"),
        (bytes, "hexadecimal text"),
    ):
        if issubclass(cls, base):
            return form
    return "object"


def field_json_form(field: attrs.Attribute[object], place: At[object]) -> str:
    """Return the form of a field in JSON if this attribute holds its value."""
    items = items_of(field)
    if items is None:
        return json_form(place.wire)
    return "" if place is items.count else f"list of {json_form(place.wire)}s"


def _json_form_of_hint(hint: object) -> str:
    """Return the form in JSON of a field that has only a type hint."""
    forms = dict.fromkeys(_json_form_of(cls) for cls in _types_in(hint) if cls is not NoneType)
    text = " or ".join(forms)
    return f"list of {text}s" if get_origin(hint) is tuple else text


def attribute(place: At[object]) -> str:
    """Return the names and numbers of an attribute and of the nests that contain it."""
    return " / ".join(f"{code(kernel_name(number))} {int(number)}" for number in place.path)


def access(place: At[object]) -> str:
    """Return whether the kernel or a program sends an attribute, and in which kernels it exists."""
    return "<br>".join([place.access.value, *_versions(place.since, place.until)])


def _versions(since: str, until: str) -> list[str]:
    return [
        f"{word} {version}" for word, version in (("since", since), ("until", until)) if version
    ]


# Sections

FIELD_COLUMNS: Final = ("Field", "Description", "Attribute", "On the wire", "Access", "JSON")


def field_rows(cls: type) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the fields of a class: one for each attribute that can hold the value."""
    members = members_of(cls)
    hints = get_type_hints(cls)
    for field in fields_of(cls):
        source = members[field.name]
        head = (f"{code(field.name)}<br>{code(source.annotation)}", prose(source.text))
        inner = inlined_class(field)
        for place in places_of(field):
            form = field_json_form(field, place)
            yield (*head, attribute(place), wire_text(place), access(place), form)
            head = ("", "")
        if inner is not None:
            yield (*head, f"those of {link(inner)}", "", "", "object")
        elif not places_of(field):
            yield (*head, "", "", "", _json_form_of_hint(hints[field.name]))


SETTING_COLUMNS: Final = ("Field", "Description", "Setting", "Unit", "Access", "JSON")


def setting_rows() -> Iterator[tuple[str, ...]]:
    """Yield the rows of the kernel's settings, in the order of their fields."""
    settable = members_of(SettableSysctls)
    members = {**settable, **members_of(ConntrackSysctls)}
    hints = get_type_hints(ConntrackSysctls)
    for field in fields_of(ConntrackSysctls):
        source, setting = members[field.name], SETTINGS[field.name]
        rights = "read, write" if field.name in settable else "read"
        if setting.machine:
            rights = "read; write in the initial network namespace"
        yield (
            f"{code(field.name)}<br>{code(source.annotation)}",
            prose(source.text),
            code(sysctl_of(field.name)),
            setting.value_type.unit,
            "<br>".join([rights, *_versions(setting.since, setting.until)]),
            _json_form_of_hint(hints[field.name]),
        )


def property_lines(cls: type) -> Iterator[str]:
    """Yield the public properties of a class as list items."""
    for name, member in vars(cls).items():
        if isinstance(member, property) and not name.startswith("_"):
            yield f"- {code(name)}: {prose(first_paragraph(member))}"


def nests_of(cls: type) -> Iterator[str]:
    """Yield the fields of listed classes that hold objects of this class."""
    for owner in LISTED:
        for field in fields_of(owner) if attrs.has(owner) else ():
            for place in places_of(field):
                if wire_class(place.wire) is cls:
                    path = " / ".join(kernel_name(number) for number in place.path)
                    yield f"{code(f'{public_name(owner)}.{field.name}')} ({code(path)})"


def publicity(cls: type) -> str:
    """Return a note if users cannot import the class."""
    public = public_name(cls) in conntrack_aio.__all__
    return "" if public else "Internal to the library; not a public name."


def class_section(cls: type) -> str:
    """Return the section of a class."""
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
    """Yield the rows of the members of an enumeration, also of combined flags and aliases."""
    members = members_of(cls)
    for name, member in cls.__members__.items():
        value: object = member.value
        if issubclass(cls, enum.IntFlag) and isinstance(value, int):
            value = f"{value:#x}"
        yield code(name), str(value), prose(members[name].text)


def enum_section(cls: type[enum.Enum]) -> str:
    """Return the section of an enumeration."""
    number = "Number" if issubclass(cls, int) else "Value"
    uses = list(nests_of(cls))
    return section(
        3,
        public_name(cls),
        prose(first_paragraph(cls)),
        publicity(cls),
        f"In {', '.join(uses)}." if uses else "",
        table(("Name", number, "Description"), member_rows(cls)),
    )


def contents(parts: Mapping[str, Iterable[type]]) -> str:
    """Return links to all sections."""
    return "\n".join(
        f"- [{part}](#{anchor(part)}): {', '.join(map(link, classes))}"
        for part, classes in parts.items()
    )


def page() -> str:
    """Return the text of the page."""
    parts: dict[str, list[type]] = {part: [] for part in PARTS}
    done: set[type] = set()
    for part, roots in PARTS.items():
        found = with_field_classes(roots)
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
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
