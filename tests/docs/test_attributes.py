"""docs/attributes.md agrees with the declarations, is complete, and is readable on GitHub."""

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
from conntrack_aio.model.declare import attribute, message
from conntrack_aio.model.tuples import parse_address
from conntrack_aio.model.wire import At, Wire

TEXT = page()


def test_the_page_is_up_to_date() -> None:
    if PAGE.read_text(encoding="utf-8") != TEXT:
        pytest.fail(f"{PAGE.name} is out of date: run python docs/make_reference.py", False)


# Completeness


def test_every_class_with_attributes_has_a_section() -> None:
    missing = [cls.__name__ for cls in declared_classes() if cls not in make_reference.LISTED]
    assert not missing, f"add {missing} to PARTS in docs/make_reference.py"


def test_every_public_class_of_the_model_has_a_section() -> None:
    objects = [getattr(conntrack_aio, name) for name in conntrack_aio.__all__]
    missing = [
        object_.__name__
        for object_ in objects
        if inspect.isclass(object_)
        and (attrs.has(object_) or issubclass(object_, enum.Enum))
        and object_.__module__.startswith("conntrack_aio.model.")
        and object_ not in make_reference.LISTED
    ]
    assert not missing, f"add {missing} to PARTS in docs/make_reference.py"


def test_every_listed_class_has_one_section() -> None:
    headings = Counter(re.findall(r"^### (.+)$", TEXT, re.MULTILINE))
    assert headings == Counter(public_name(cls) for cls in make_reference.LISTED)


def test_the_class_of_a_field_is_listed_automatically() -> None:
    @message
    class Novel:
        tuple_: Tuple = attribute(1, make_reference.Nest(Tuple))

    assert make_reference.with_field_classes([Novel]) == [Novel, Tuple]


@pytest.mark.parametrize("cls", declared_classes(), ids=lambda cls: cls.__name__)
def test_every_attribute_has_a_row(cls: type) -> None:
    rows = list(rows_of(public_name(cls)))
    found = {(row["Attribute"], row.get("Access")) for row in rows}
    fields = {row["Field"].partition("<br>")[0] for row in rows}
    for field in attrs.fields(cls):
        assert f"`{field.name}`" in fields
        for place in places_of(field):
            path = " / ".join(f"`{kernel_name(number)}` {number:d}" for number in place.path)
            access = place.access.value
            access += f"<br>since {place.since}" * bool(place.since)
            access += f"<br>until {place.until}" * bool(place.until)
            assert (path, access) in found


@pytest.mark.parametrize(
    ("section", "row"),
    [
        (
            "Flow",
            {
                "Field": "`mark`<br>`int \\| None`",
                "Description": "The mark of the connection. Events of an entry whose mark is 0 may "
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
                "Description": "",
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
                "Description": "The flow, with the fields that the event has.",
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
                "Description": "",
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
                "Description": "The compared parts of the original tuple.",
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
                "Description": "The numbers of its nests, from the message inward, and its own "
                "number.",
                "JSON": "list of numbers",
            },
        ),
        (
            "TimeoutPolicy",
            {
                "Field": "",
                "Description": "",
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
                "Description": "The policies of its classes of expectations, one to four, in the "
                "order of their numbers.",
                "Attribute": "`NFCTH_POLICY` 4 / `NFCTH_POLICY_SET` 2",
                "On the wire": "nest: [`ExpectPolicy`](#expectpolicy)",
                "Access": "read, write",
                "JSON": "list of objects",
            },
        ),
        (
            "Status",
            {"Name": "`DYING`", "Number": "0x200", "Description": "The entry has left the table."},
        ),
        ("DCCPRole", {"Name": "`SERVER`", "Number": "1"}),
        (
            "EventType",
            {
                "Name": "`DESTROY`",
                "Value": "destroy",
                "Description": "The entry is gone: deleted, expired or flushed.",
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_row(section: str, row: dict[str, str]) -> None:
    assert row in list(rows_of(section))


def test_sections_name_the_fields_that_hold_the_class() -> None:
    assert "\nIn `RequestOnly.nat_src` (`CTA_NAT_SRC`), `RequestOnly.nat_dst`" in TEXT
    assert "\nIn `TimeoutPolicy.timeouts` (`CTA_TIMEOUT_DATA`).\n" in section_of("UDPTimeouts")
    assert "\nIn `Flow.protoinfo` (`CTA_PROTOINFO / CTA_PROTOINFO_TCP`).\n" in TEXT


def test_properties_are_listed() -> None:
    assert (
        "\n- `key`: The name, family and protocol, which the methods of Helpers take.\n"
        in section_of("UserspaceHelper")
    )
    assert "Properties" not in section_of("Helper")


def test_sections_say_which_classes_are_not_public() -> None:
    for cls in make_reference.LISTED:
        private = "not a public name" in section_of(public_name(cls))
        assert private == (public_name(cls) not in conntrack_aio.__all__)


SOURCE = Translation(
    Endpoint(parse_address("10.0.0.1"), 1), Endpoint(parse_address("2001:db8::1"), 2)
)
JSON_TYPES: dict[str, type | tuple[type, ...]] = {
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


WITHOUT_ATTRIBUTES = [ClientStatistics(), NAT(src=SOURCE), SOURCE, SOURCE.before]
"""Objects whose fields no attribute of a message holds."""


@pytest.mark.parametrize(
    "value",
    [pytest.param(case.object, id=case.name) for case in CASES] + WITHOUT_ATTRIBUTES,
    ids=lambda value: type(value).__name__,
)
def test_json_has_the_form_that_the_page_says(value: object) -> None:
    rows = field_rows(type(value))
    forms = {row[0].partition("<br>")[0].strip("`"): row[-1] for row in rows if row[0]}
    for name, json_value in to_dict(value).items():
        assert isinstance(json_value, JSON_TYPES[forms[name]]), name
        if forms[name] == "hexadecimal text":
            bytes.fromhex(str(json_value))


def test_a_format_without_a_description_is_an_error() -> None:
    class NovelWire(Wire[int]):
        pass

    with pytest.raises(TypeError, match="cannot describe the format of"):
        make_reference.wire_text(At((1,), NovelWire()))


# Readability on GitHub


def test_all_rows_of_a_table_have_the_same_number_of_cells() -> None:
    for block in TEXT.split("\n\n"):
        lines = block.strip("\n").split("\n")
        if not block.startswith("|"):
            assert not any(line.startswith("|") for line in lines), block
            continue
        assert set(lines[1]) == set("| -")
        assert len({len(cells(line)) for line in lines}) == 1, block
        assert all(line.startswith("| ") and line.endswith(" |") for line in lines)


def test_links_have_targets() -> None:
    links = re.findall(r"(?<!\\)\]\(([^)]*)\)", TEXT)
    assert links
    for path, _, fragment in (link.partition("#") for link in links):
        target = (PAGE.parent / path).resolve() if path else PAGE
        assert target.exists(), path
        assert not fragment or fragment in anchors(target), f"{path}#{fragment}"


def test_no_two_headings_are_equal() -> None:
    """GitHub numbers the anchors of equal headings, so that a link leads to the first of them."""
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


# Helper functions


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
        ("Fields of requests only", "fields-of-requests-only"),
        ("States, flags and kinds", "states-flags-and-kinds"),
        ("`nf_conntrack_max`: how many", "nf_conntrack_max-how-many"),
    ],
)
def test_anchor(heading: str, name: str) -> None:
    assert anchor(heading) == name


def test_annotations_and_texts_come_from_the_source() -> None:
    members = make_reference.members_of(FlowEvent)
    assert members["type"].annotation == "EventType"
    assert members["type"].text == "The type of the event."
    assert members["port_id"].text.startswith("The port id of the program")
    states = make_reference.members_of(conntrack_aio.SCTPState)
    assert states["HEARTBEAT_ACKED"].text == "Not used since Linux 6.6."
    assert states["CLOSED"].text == ""


def test_members_of_base_classes_are_included() -> None:
    class Derived(Flow):
        pass

    assert make_reference.members_of(Derived)["mark"] == make_reference.members_of(Flow)["mark"]
