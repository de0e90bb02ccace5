"""docs/attributes.md: what the declarations say, complete, and readable where it is read."""

from __future__ import annotations

import enum
import inspect
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs
import make_reference
import pytest
from make_reference import (
    PAGE,
    anchor,
    field_rows,
    page,
    places_of,
    prose,
    public_name,
    table,
)
from support.codec_cases import CASES
from support.model_strategies import declared_classes

import conntrack_aio
from conntrack_aio import (
    NAT,
    ClientStatistics,
    Endpoint,
    Flow,
    FlowEvent,
    Translation,
    Tuple,
)
from conntrack_aio.codec.json import to_dict
from conntrack_aio.codec.schema import kernel_name
from conntrack_aio.model.declare import At, Wire, attribute, message
from conntrack_aio.model.tuples import parse_address

TEXT = page()


def test_the_page_is_what_the_declarations_say() -> None:
    if PAGE.read_text(encoding="utf-8") != TEXT:
        pytest.fail(f"{PAGE.name} is behind the code: run python docs/make_reference.py", False)


# Complete


def test_every_class_with_attributes_has_a_section() -> None:
    missing = [cls.__name__ for cls in declared_classes() if cls not in make_reference.LISTED]
    assert not missing, f"give {missing} a place in PARTS, in docs/make_reference.py"


def test_every_public_class_of_the_model_has_a_section() -> None:
    things = [getattr(conntrack_aio, name) for name in conntrack_aio.__all__]
    missing = [
        thing.__name__
        for thing in things
        if inspect.isclass(thing)
        and (attrs.has(thing) or issubclass(thing, enum.Enum))
        and thing.__module__.startswith("conntrack_aio.model.")
        and thing not in make_reference.LISTED
    ]
    assert not missing, f"give {missing} a place in PARTS, in docs/make_reference.py"


def test_what_is_listed_is_on_the_page_once() -> None:
    headings = Counter(re.findall(r"^### (.+)$", TEXT, re.MULTILINE))
    assert headings == Counter(public_name(cls) for cls in make_reference.LISTED)


def test_a_class_that_another_holds_needs_no_place() -> None:
    @message
    class Tomorrow:
        tuple_: Tuple = attribute(1, make_reference.Nest(Tuple))

    assert make_reference.with_what_they_hold([Tomorrow]) == [Tomorrow, Tuple]


@pytest.mark.parametrize("cls", declared_classes(), ids=lambda cls: cls.__name__)
def test_every_attribute_has_a_row(cls: type) -> None:
    rows = list(rows_of(public_name(cls)))
    told = {(row["Attribute"], row.get("Access")) for row in rows}
    fields = {row["Field"].partition("<br>")[0] for row in rows}
    for field in attrs.fields(cls):
        assert f"`{field.name}`" in fields
        for place in places_of(field):
            path = " / ".join(f"`{kernel_name(number)}` {number:d}" for number in place.path)
            access = place.access.value
            access += f"<br>since {place.since}" * bool(place.since)
            access += f"<br>until {place.until}" * bool(place.until)
            assert (path, access) in told


@pytest.mark.parametrize(
    ("section", "row"),
    [
        (
            "Flow",
            {
                "Field": "`mark`<br>`int \\| None`",
                "What it is": "The mark of the connection. Events of an entry whose mark is 0 may "
                "omit it.",
                "Attribute": "`CTA_MARK` 8",
                "On the wire": "u32 big-endian",
                "Access": "read, write",
                "JSON": "number",
            },
        ),
        (
            "Flow",
            {
                "Field": "",
                "What it is": "",
                "Attribute": "`CTA_PROTOINFO` 4 / `CTA_PROTOINFO_DCCP` 2",
                "On the wire": "nest: [`DCCPInfo`](#dccpinfo)",
                "Access": "read, write<br>until 6.16",
                "JSON": "object",
            },
        ),
        (
            "FlowEvent",
            {
                "Field": "`flow`<br>`Flow`",
                "What it is": "The flow, with the fields that the event has.",
                "Attribute": "those of [`Flow`](#flow)",
                "On the wire": "",
                "Access": "",
                "JSON": "object",
            },
        ),
        (
            "Tuple",
            {
                "Field": "",
                "What it is": "",
                "Attribute": "`CTA_TUPLE_PROTO` 2 / `CTA_PROTO_ICMPV6_ID` 7",
                "On the wire": "u16 big-endian, if `proto` is 58",
                "Access": "read, write",
                "JSON": "number",
            },
        ),
        (
            "FilterFlags",
            {
                "Field": "`orig_flags`<br>`int \\| None`",
                "What it is": "The compared parts of the original tuple.",
                "Attribute": "`CTA_FILTER_ORIG_FLAGS` 1",
                "On the wire": "u32 host order",
                "Access": "write<br>since 5.8",
                "JSON": "number",
            },
        ),
        (
            "UnknownAttribute",
            {
                "Field": "`path`<br>`tuple[int, ...]`",
                "What it is": "The numbers of its nests, from the message inward, and its own "
                "number.",
                "JSON": "list of numbers",
            },
        ),
        (
            "TimeoutPolicy",
            {
                "Field": "",
                "What it is": "",
                "Attribute": "`CTA_TIMEOUT_DATA` 4",
                "On the wire": "nest: [`DCCPTimeouts`](#dccptimeouts), if `proto` is 33",
                "Access": "read, write<br>until 6.16",
                "JSON": "object",
            },
        ),
        (
            "UserspaceHelper",
            {
                "Field": "`policies`<br>`tuple[ExpectPolicy, ...]`",
                "What it is": "The policies of its classes of expectations, one to four, in the "
                "order of their numbers.",
                "Attribute": "`NFCTH_POLICY` 4 / `NFCTH_POLICY_SET` 2",
                "On the wire": "nest: [`ExpectPolicy`](#expectpolicy)",
                "Access": "read, write",
                "JSON": "list of objects",
            },
        ),
        (
            "Status",
            {"Name": "`DYING`", "Number": "0x200", "What it is": "The entry has left the table."},
        ),
        ("DCCPRole", {"Name": "`SERVER`", "Number": "1"}),
        (
            "EventType",
            {
                "Name": "`DESTROY`",
                "Value": "destroy",
                "What it is": "The entry is gone: deleted, expired or flushed.",
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_row(section: str, row: dict[str, str]) -> None:
    assert row in list(rows_of(section))


def test_where_a_class_stands_is_said() -> None:
    assert "\nIn `RequestOnly.nat_src` (`CTA_NAT_SRC`), `RequestOnly.nat_dst`" in TEXT
    assert "\nIn `TimeoutPolicy.timeouts` (`CTA_TIMEOUT_DATA`).\n" in section_of("UDPTimeouts")
    assert "\nIn `Flow.protoinfo` (`CTA_PROTOINFO / CTA_PROTOINFO_TCP`).\n" in TEXT


def test_properties_are_listed() -> None:
    assert "\n- `key`: Return name, family and protocol, which the verbs take.\n" in section_of(
        "UserspaceHelper"
    )
    assert "Properties" not in section_of("Helper")


def test_what_users_cannot_import_is_said() -> None:
    for cls in make_reference.LISTED:
        private = "not a public name" in section_of(public_name(cls))
        assert private == (public_name(cls) not in conntrack_aio.__all__)


SOURCE = Translation(
    Endpoint(parse_address("10.0.0.1"), 1), Endpoint(parse_address("2001:db8::1"), 2)
)
FORMS: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "number": int,
    "name": (str, int),
    "list of names": list,
    "list of bits": list,
    "list of objects": list,
    "list of numbers": list,
    "text": str,
    "value": str,
    "hexadecimal text": str,
    "true or false": bool,
}


NAMELESS = [ClientStatistics(), NAT(src=SOURCE), SOURCE, SOURCE.before]
"""Objects whose fields no attribute holds."""


@pytest.mark.parametrize(
    "value",
    [pytest.param(case.object, id=case.name) for case in CASES] + NAMELESS,
    ids=lambda value: type(value).__name__,
)
def test_json_has_the_shape_that_is_said(value: object) -> None:
    rows = field_rows(type(value))
    shapes = {row[0].partition("<br>")[0].strip("`"): row[-1] for row in rows if row[0]}
    for name, written in to_dict(value).items():
        assert isinstance(written, FORMS[shapes[name]]), name
        if shapes[name] == "hexadecimal text":
            bytes.fromhex(str(written))


def test_a_kind_of_value_that_is_not_told_is_an_error() -> None:
    class Novel(Wire[int]):
        pass

    with pytest.raises(TypeError, match="no words for"):
        make_reference.wire_text(At((1,), Novel()))


# Readable on GitHub


def test_tables_are_whole() -> None:
    for block in TEXT.split("\n\n"):
        lines = block.strip("\n").split("\n")
        if not block.startswith("|"):
            assert not any(line.startswith("|") for line in lines), block
            continue
        assert set(lines[1]) == set("| -")
        assert len({len(cells(line)) for line in lines}) == 1, block
        assert all(line.startswith("| ") and line.endswith(" |") for line in lines)


def test_links_lead_somewhere() -> None:
    links = re.findall(r"(?<!\\)\]\(([^)]*)\)", TEXT)
    assert links
    for path, _, fragment in (link.partition("#") for link in links):
        target = (PAGE.parent / path).resolve() if path else PAGE
        assert target.exists(), path
        assert not fragment or fragment in anchors(target), f"{path}#{fragment}"


def test_headings_differ() -> None:
    """GitHub numbers equal ones, and a link would lead to the first."""
    assert max(Counter(anchors(PAGE)).values()) == 1


def anchors(path: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def section_of(heading: str) -> str:
    found = re.search(rf"^### {heading}\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"no section {heading}"
    return found[1]


def rows_of(heading: str) -> Iterator[dict[str, str]]:
    head, _, *rows = [
        cells(line) for line in section_of(heading).split("\n") if line.startswith("|")
    ]
    for row in rows:
        yield dict(zip(head, row, strict=True))


# The small functions


@pytest.mark.parametrize(
    ("docstring", "text"),
    [
        ("``a | b`` and\n    more", "`a | b` and more"),
        ("see :attr:`orig`, :class:`~conntrack_aio.Flow`", "see `orig`, `Flow`"),
        (":attr:`Flow.zone`.", "`Flow.zone`."),
        ("a * b < c [d]\\", "a \\* b \\< c \\[d\\]\\\\"),
        ("``[*]``", "`[*]`"),
    ],
)
def test_prose(docstring: str, text: str) -> None:
    assert prose(docstring) == text


def test_table_escapes_pipes_and_leaves_out_empty_columns() -> None:
    assert table(("A", "B", "C"), [("a|b", "", ""), ("", "", "c")]) == (
        "| A | C |\n| --- | --- |\n| a\\|b |  |\n|  | c |\n"
    )


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("Flow", "flow"),
        ("What only a request has", "what-only-a-request-has"),
        ("States, flags and kinds", "states-flags-and-kinds"),
        ("`nf_conntrack_max`: how many", "nf_conntrack_max-how-many"),
    ],
)
def test_anchor(heading: str, name: str) -> None:
    assert anchor(heading) == name


def test_what_the_source_says() -> None:
    told = make_reference.told(FlowEvent)
    assert told["type"].annotation == "EventType"
    assert told["type"].text == "The type of the event."
    assert told["port_id"].text.startswith("The port id of the program")
    states = make_reference.told(conntrack_aio.SCTPState)
    assert states["HEARTBEAT_ACKED"].text == "Not used since Linux 6.6."
    assert states["CLOSED"].text == ""


def test_what_a_base_says_is_said() -> None:
    class Ours(Flow):
        pass

    assert make_reference.told(Ours)["mark"] == make_reference.told(Flow)["mark"]
