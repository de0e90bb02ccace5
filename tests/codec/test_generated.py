"""Generated sources have no values in them, and tracebacks show them."""

from __future__ import annotations

import ast
import gc
import linecache
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from support.attribute_encoding import attr, be32, nest, with_values
from support.codec_cases import BOTH_TUPLES
from support.decoders import without_layouts
from support.hostile_arguments import INTEGERS, OverriddenStr
from support.model_strategies import declared_classes as message_classes

from conntrack_aio import Flow, Helper, Status, Tuple, to_json
from conntrack_aio.codec import object_json, packers
from conntrack_aio.codec.decoder import Decoder
from conntrack_aio.codec.event_messages import decode_event
from conntrack_aio.codec.messages import decode_flow
from conntrack_aio.codec.requests import flows as requests
from conntrack_aio.function_builder import FunctionBuilder
from conntrack_aio.model import normalization
from conntrack_aio.netlink import messages

FIELDS = {field.name for cls in message_classes() for field in attrs.fields(cls)}
METHODS = {"get", "limit", "make_room"}
"""The methods of memos."""
ADDRESS_ATTRIBUTES = {"_ip", "_scope_id"}
"""The attributes of address objects."""
LAZY_ATTRIBUTES = {"_message", "_reader"}
"""The attributes of objects with lazy fields."""


class Sources:
    """The functions that are built while a test runs, and their sources."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: list[str] = []
        self.functions: list[Callable[..., Any]] = []
        build = FunctionBuilder.build

        def recorded(builder: FunctionBuilder) -> Callable[..., Any]:
            self.texts.append(builder.source)
            function = build(builder)
            self.functions.append(function)
            return function

        monkeypatch.setattr(FunctionBuilder, "build", recorded)


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Sources:
    return Sources(monkeypatch)


def read_all(decoder: Decoder[Any], messages_: list[bytes]) -> None:
    for data in messages_:
        decoder.one(data)


def message(attributes: bytes) -> bytes:
    return messages.pack(0x100, 0x600, 7, b"\2\0\0\0" + attributes)


MARK = 0x5A5A1234
"""A number that is in messages and must not be in any source."""
NAME = "some_text"
"""A text that is in messages and must not be in any source."""


def compile_everything(sources: Sources) -> None:
    """Have everything compile_everything that there is to compile."""
    for decoder in map(without_layouts, (decode_flow, decode_event)):
        read_all(
            decoder,
            [
                message(BOTH_TUPLES),
                message(BOTH_TUPLES + be32(8, MARK) + be32(3, 14) + nest(9, attr(5, b""))),
                message(BOTH_TUPLES + attr(MARK & 0x3FFF, b"x") + nest(5, attr(1, NAME.encode()))),
                message(BOTH_TUPLES + nest(4, nest(1, attr(1, b"\3")))),
            ],
        )
        for (layout,) in decoder._layouts.values():
            data = layout.head + layout.template.to_bytes(layout.size, "little")[8:]
            to_json(decoder.one(data))
            str(decoder.one(data))
    flow = Flow.tcp("10.0.0.1", 1, "10.0.0.2", 2, timeout=5, mark=MARK, zone=3)
    flow.helper, flow.status, flow.labels = Helper(name=NAME), Status.ASSURED, MARK
    six = Flow.icmp("2001:db8::1", "2001:db8::2", id=MARK & 0xFFFF, timeout=9)
    lying = [with_values(flow, mark=create(MARK)) for create in INTEGERS.values()]
    lying.append(with_values(flow, helper=with_values(Helper(), name=OverriddenStr(NAME))))
    for packers_ in (requests._CREATE, requests._DELETE, requests._GET):
        rest = (None, None) if packers_ is requests._CREATE else (None,)
        fresh_packers = packers.Packers(packers_._arguments, packers_._make, packers_._values)
        for each in (flow, six, *lying, flow):
            fresh_packers.pack(requests._shape_key(each), 1, each, *rest)
    for cls in message_classes():
        normalization._compile_maker(cls)
        normalization.compile_normalizing(cls)
        object_json._ObjectWriter(cls, None).compile()
    assert len(sources.texts) > 60


def constants(source: str) -> Iterator[object]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant):
            yield node.value


def test_sources_have_only_names_from_declarations(sources: Sources) -> None:
    compile_everything(sources)
    for source in sources.texts:
        for value in constants(source):
            assert value in (None, True, False)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute):
                assert node.attr in FIELDS | METHODS | ADDRESS_ATTRIBUTES | LAZY_ATTRIBUTES
        assert str(MARK) not in source
        assert str(MARK & 0x3FFF) not in source
        assert NAME not in source
        assert "import" not in source


def test_tracebacks_show_the_source(sources: Sources) -> None:
    compile_everything(sources)
    for function, source in zip(sources.functions, sources.texts, strict=True):
        assert linecache.getlines(function.__code__.co_filename) == source.splitlines(keepends=True)
    create = normalization.raw(Tuple)
    with pytest.raises(TypeError):
        create()
    normalize = normalization.compile_normalizing(Flow)
    try:
        normalize(object())
    except AttributeError as error:
        shown = "".join(traceback.format_exception(error))
        assert "value = self.status" in shown


def test_the_source_of_a_dropped_function_is_dropped(sources: Sources) -> None:
    compile_everything(sources)  # some functions are kept as long as the process
    sources.functions.clear()
    compile_everything(sources)
    names = [function.__code__.co_filename for function in sources.functions]
    sources.functions.clear()
    gc.collect()  # a reader has a function that refers to it, until it is compiled
    assert [name for name in names if name in linecache.cache] == []
