"""What verbs say of arguments: of the wrong kind a TypeError, with a wrong value an EncodeError."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from socket import AF_INET
from typing import Any

import attrs
import pytest
from support import expectations as some
from support import flows
from support.attribute_encoding import with_values
from support.hostile_arguments import INTEGERS, OverriddenStr, RaisingObject

from conntrack_aio import (
    Connection,
    ConntrackError,
    EncodeError,
    Expectation,
    Expectations,
    ExpectNAT,
    ExpectPolicy,
    Flow,
    Helpers,
    LabelNames,
    Match,
    NATRange,
    NetNS,
    NewFlow,
    NotFound,
    Status,
    TCPTimeouts,
    TimeoutPolicy,
    Timeouts,
    Timestamp,
    Tuple,
    UDPTimeouts,
    UserspaceHelper,
    connect,
    from_dict,
    to_dict,
)
from conntrack_aio.model import labels
from conntrack_aio.plain import describe_value
from conntrack_aio.testing import FakeKernel
from conntrack_aio.verbs.writer import Writer

pytestmark = pytest.mark.anyio

FLOW = flows.tcp(1)
POLICY = TimeoutPolicy.of("a", UDPTimeouts(replied=5), family=AF_INET)
HELPER = UserspaceHelper(
    name="mine",
    family=AF_INET,
    proto=6,
    policies=(ExpectPolicy(name="a", expect_max=1, expect_timeout=5),),
)


@pytest.fixture
async def conn() -> AsyncIterator[Connection]:
    async with FakeKernel("6.18").connect() as connection:
        await connection.create(FLOW)
        await connection.timeouts.create(POLICY)
        yield connection


GOOD: dict[str, Any] = {
    "target": FLOW,
    "targets": [FLOW],
    "flow": flows.tcp(2),
    "flows": [flows.tcp(3)],
    "match": Match(mark=1),
    "packet": some.EXPECTED,
    "expectation": some.data_connection(some.ftp()),
    "policy": POLICY,
    "timeouts": UDPTimeouts(replied=1),
    "kind": TCPTimeouts,
    "helper": HELPER,
    "name": "a",
    "family": AF_INET,
    "proto": 6,
    "master": FLOW,
    "timeout": 5,
    "mark": 1,
}
"""A right value for each parameter that needs one."""

OBJECTS = {
    "target",
    "targets",
    "flow",
    "flows",
    "match",
    "packet",
    "expectation",
    "policy",
    "timeouts",
    "kind",
    "helper",
    "name",
    "master",
}
"""Parameters that take an object, or a name, of one kind."""

HINTS = {
    "target": r"Flow|Expectation",
    "targets": "iterable",
    "flow": "Flow",
    "flows": "iterable",
    "match": "Match",
    "packet": "Tuple",
    "expectation": "Expectation",
    "policy": "TimeoutPolicy",
    "timeouts": "TCPTimeouts",
    "kind": "TCPTimeouts",
    "helper": "UserspaceHelper",
    "name": "text",
    "master": "Flow",
}


def kind_of(value: object) -> str:
    return type(value).__name__


def verbs() -> list[Any]:
    """Each parameter of each verb that takes an object."""
    found: list[Any] = []
    for holder, cls in (
        ("", Connection),
        ("expectations", Expectations),
        ("timeouts", Timeouts),
        ("helpers", Helpers),
    ):
        for name, verb in inspect.getmembers(cls, inspect.isfunction):
            if name.startswith("_"):
                continue
            for parameter in inspect.signature(verb).parameters:
                if parameter in OBJECTS and not takes_a_value(cls, name, parameter):
                    shown = f"{holder}.{name}({parameter})"
                    found.append(pytest.param(holder, name, parameter, id=shown))
    return found


def takes_a_value(cls: type, verb: str, parameter: str) -> bool:
    """A value of an attribute under the same name, and what is only compared."""
    return (parameter == "helper" and not (cls is Helpers and verb == "create")) or (
        cls is Helpers and verb in ("dump", "list")
    )


async def call(conn: Connection, holder: str, name: str, arguments: dict[str, Any]) -> object:
    verb = getattr(getattr(conn, holder) if holder else conn, name)
    given: dict[str, Any] = {}
    for parameter in inspect.signature(verb).parameters.values():
        required = parameter.default is inspect.Parameter.empty
        positional = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.name in arguments:
            given[parameter.name] = arguments[parameter.name]
        elif required and not positional:
            given[parameter.name] = GOOD[parameter.name]
    if name.startswith("update") and "changes" in inspect.signature(verb).parameters:
        given.setdefault("mark", 1)
    result = verb(**given)
    if inspect.isawaitable(result):
        return await result
    async with result as entered:
        if hasattr(entered, "__anext__"):
            entered.close()
    return None


UPDATES: list[Callable[[Connection, dict[str, Any]], Any]] = [
    lambda conn, given: conn.update(FLOW, **given),
    lambda conn, given: conn.update_many([FLOW], **given),
    lambda conn, given: conn.update_matching(Match(mark=1), **given),
]


def test_every_verb_is_tried() -> None:
    assert len(verbs()) > 30


@pytest.mark.parametrize(("holder", "name", "parameter"), verbs())
@pytest.mark.parametrize("wrong", ["x", 5, b"x", object(), RaisingObject(KeyError)], ids=kind_of)
async def test_an_argument_of_the_wrong_kind(
    conn: Connection, holder: str, name: str, parameter: str, wrong: object
) -> None:
    if parameter == "name" and isinstance(wrong, str):
        return  # it is a name, which may be of nothing
    if parameter in ("targets", "flows") and isinstance(wrong, (str, bytes, RaisingObject)):
        return  # iterables, of what is no target, or that raise what is theirs to raise
    before = conn.client_statistics().requests
    with pytest.raises(TypeError, match=HINTS[parameter]):
        await call(conn, holder, name, {parameter: wrong})
    assert conn.client_statistics().requests == before


@pytest.mark.parametrize("holder", ["", "expectations", "helpers"])
async def test_flush_says_what_deletes_some(conn: Connection, holder: str) -> None:
    flush = (getattr(conn, holder) if holder else conn).flush
    for arguments in ((Match(mark=1),), ("x",)):
        with pytest.raises(TypeError, match="delete"):
            await flush(*arguments)
    with pytest.raises(TypeError, match="delete"):
        await flush(match=Match(mark=1))
    assert await conn.count() == 1


@pytest.mark.parametrize(
    "name", [name for name in vars(Connection) | {"list": 0, "get": 0, "dump": 0} if name[0] != "_"]
)
def test_what_is_not_connected_yet_says_how(name: str) -> None:
    connecting = connect()
    if hasattr(type(connecting), name):
        return
    with pytest.raises(AttributeError, match=r"await connect\(\)"):
        getattr(connecting, name)
    assert not hasattr(connecting, "no_verb_at_all")


# Values


NUMBERS = ("mark", "mark_mask", "timeout", "status", "labels", "labels_mask", "zone")


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("parameter", NUMBERS)
async def test_a_number_may_be_of_any_kind(conn: Connection, kind: str, parameter: str) -> None:
    make = INTEGERS[kind]
    number = make(int(Status.ASSURED) if parameter == "status" else 7)
    with_mask = {"mark_mask": {"mark": 7}, "labels_mask": {"labels": 7}, "zone": {"mark": 7}}
    given = {**with_mask.get(parameter, {}), parameter: number}
    if parameter == "zone":
        await conn.create(attrs.evolve(FLOW, zone=7))
    if parameter in ("labels", "labels_mask"):
        return  # no room for them in the fake kernel; the codec's tests write them
    await conn.update(FLOW, **given)
    (outcome,) = await conn.update_many([FLOW], **given)
    assert outcome.ok
    found = await conn.get(FLOW, zone=number if parameter == "zone" else None)
    assert found.timeout == 7 if parameter == "timeout" else found.timeout
    assert found.mark == (7 if "mark" in given else 0)


@pytest.mark.parametrize("parameter", NUMBERS)
@pytest.mark.parametrize(
    "wrong", ["0x7", 1.5, b"7", object(), RaisingObject(RecursionError)], ids=kind_of
)
async def test_what_is_no_number(conn: Connection, parameter: str, wrong: Any) -> None:
    given = {"mark": 1, parameter: wrong}
    for ask in (
        lambda: conn.update(FLOW, **given),
        lambda: conn.update_matching(Match(mark=0), **given),
    ):
        if parameter == "zone" and ask.__code__.co_names[0] == "update_matching":
            continue
        with pytest.raises(EncodeError) as caught:
            await ask()
        assert caught.value.path == (parameter,)
    with pytest.raises(EncodeError):
        await conn.update_many([FLOW], **given)


async def test_zones_that_are_none(conn: Connection) -> None:
    for wrong in ("1", 1 << 16, -1, RaisingObject(OSError)):
        for verb in (conn.get, conn.delete):
            with pytest.raises(EncodeError):
                await verb(FLOW, zone=wrong)  # type: ignore[arg-type]
        (outcome,) = await conn.delete_many([FLOW], zone=wrong)  # type: ignore[arg-type]
        assert isinstance(outcome.error, EncodeError)
    assert await conn.count() == 1


async def test_translations_of_any_kind(conn: Connection) -> None:
    for number, to in enumerate(
        ["192.0.2.1", OverriddenStr("192.0.2.1"), "::ffff:192.0.2.1", NATRange.of("192.0.2.1")]
    ):
        created = await conn.create(flows.tcp(100 + number), nat_src=to)
        assert str(created.reply.dst) == "192.0.2.1"
    for wrong in (5, RaisingObject(KeyError), object()):
        with pytest.raises(TypeError, match="must be an address"):
            await conn.create(flows.tcp(200), nat_src=wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="must be an address"):
            conn.create_many([flows.tcp(200)], nat_dst=wrong)  # type: ignore[arg-type]
    with pytest.raises(EncodeError):
        await conn.create(flows.tcp(200), nat_src=NATRange(port_min="x"))  # type: ignore[arg-type]


# Bulks


def nasty() -> list[Any]:
    errors = (RuntimeError, KeyError, RecursionError, OverflowError, UnicodeError, OSError)
    flow = flows.tcp(50)
    itself = flows.tcp(51)
    itself.master = itself  # type: ignore[assignment]

    class Odd(Flow):
        @property
        def orig(self) -> Any:  # type: ignore[override]
            raise KeyError("odd")

    return [
        *(None, 5, "x", b"", object(), [], {}, Match(mark=1), Tuple, Flow),
        *map(RaisingObject, errors),
        *[
            with_values(flow, orig=with_values(flow.orig, sport=RaisingObject(error)))
            for error in errors
        ],
        *[with_values(flow, zone=RaisingObject(error)) for error in errors],
        with_values(flow, orig=with_values(flow.orig, src="10.0.0.1")),
        with_values(flow, orig=with_values(flow.orig, sport=70000)),
        with_values(flow, orig=None),
        with_values(flow, mark="x" * 10**6, zone=10**5000),
        NewFlow(RaisingObject(KeyError)),  # type: ignore[arg-type]
        NewFlow(with_values(flow, orig=5)),
        with_values(itself, orig=[]),
        object.__new__(Flow),
        object.__new__(Tuple),
        object.__new__(Odd),
    ]


BULKS: dict[str, Callable[[Connection, list[Any]], Any]] = {
    "create_many": lambda conn, items: conn.create_many(items),
    "update_many": lambda conn, items: conn.update_many(items, mark=1),
    "update_many, the status": lambda conn, items: conn.update_many(items, status=Status.ASSURED),
    "delete_many": lambda conn, items: conn.delete_many(items),
}


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("name", BULKS)
async def test_no_item_makes_a_bulk_raise(conn: Connection, name: str, start: bool) -> None:
    """Whatever is in it: its outcome says so, and those around it are done."""
    around = [flows.tcp(1000 + number) for number in range(40)]
    if name != "create_many":
        assert all(outcome.ok for outcome in await conn.create_many(around))
    items: list[Any] = []
    for flow, each in zip(around, nasty(), strict=False):
        items += [flow, each]
    if start and name != "create_many":  # it is looked up first, and so are the others then
        items.append(attrs.evolve(await conn.get(FLOW), timestamp=Timestamp(start=5)))
    outcomes = await BULKS[name](conn, items)
    assert len(outcomes) == len(items)
    bad = [outcome for outcome in outcomes if not outcome.ok]
    assert len(bad) == len(nasty())
    assert all(isinstance(outcome.error, EncodeError) for outcome in bad)
    for outcome in bad:
        assert str(outcome.error)


async def test_expectations_of_any_kind_of_number(conn: Connection) -> None:
    for make in INTEGERS.values():
        made = Expectation.of(
            some.ftp().orig, some.EXPECTED, timeout=make(60), expect_class=make(0)
        )
        assert (made.timeout, made.expect_class) == (60, 0)
        assert type(made.timeout) is int
    assert await conn.count() == 1


async def test_policies_and_helpers_of_any_kind_of_value(conn: Connection) -> None:
    for number, make in enumerate(INTEGERS.values()):
        name = OverriddenStr(f"p{number}")
        policy = TimeoutPolicy(
            name=name, family=make(2), proto=make(17), timeouts=UDPTimeouts(replied=make(5))
        )
        created = await conn.timeouts.create(policy)
        assert (created.name, created.timeouts) == (
            f"p{number}",
            attrs.evolve(created.timeouts, replied=5),
        )
        assert (await conn.timeouts.get(name)).name == f"p{number}"
        updated = await conn.timeouts.update(name, UDPTimeouts(replied=make(6)))
        assert updated.timeouts == attrs.evolve(created.timeouts, replied=6)
        await conn.timeouts.delete(name)
        helper = attrs.evolve(
            HELPER, name=OverriddenStr(f"h{number}"), family=make(2), queue=make(1)
        )
        made = await conn.helpers.create(helper)
        assert made.key == (f"h{number}", 2, 6)
        assert (await conn.helpers.get(helper.name, make(2), make(6))).queue == 1
        await conn.helpers.update(helper.name, make(2), make(6), queue=make(9))
        await conn.helpers.delete(helper.name, make(2), make(6))


def test_buffers_and_processes_of_any_kind_of_number() -> None:
    for make in INTEGERS.values():
        connect(receive_buffer=make(4096), receive_buffer_max=make(8192), reply_timeout=make(3))
    for wrong in ("4096", 1.5, RaisingObject(KeyError)):
        with pytest.raises(TypeError, match="receive_buffer"):
            connect(receive_buffer=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="reply_timeout"):
        connect(reply_timeout=RaisingObject(KeyError))  # type: ignore[arg-type]


# Identities


def wrong_ids() -> list[Any]:
    return ["x", -1, 1 << 40, 10**5000, 1.5, b"\1", object(), RaisingObject(KeyError)]


IDENTIFIED: dict[str, Callable[[Connection, Flow], Any]] = {
    "get": lambda conn, flow: conn.get(flow),
    "get and reset": lambda conn, flow: conn.get(flow, reset_counters=True),
    "update": lambda conn, flow: conn.update(flow, mark=1),
    "update, the status": lambda conn, flow: conn.update(flow, status=Status.ASSURED),
    "set_labels": lambda conn, flow: conn.set_labels(flow, 1),
    "add_labels": lambda conn, flow: conn.add_labels(flow, 1),
    "add no labels": lambda conn, flow: conn.add_labels(flow),
    "remove_labels": lambda conn, flow: conn.remove_labels(flow, 1),
    "delete": lambda conn, flow: conn.delete(flow),
}


@pytest.mark.parametrize("verb", IDENTIFIED)
@pytest.mark.parametrize("wrong", wrong_ids(), ids=kind_of)
async def test_what_can_be_no_id(conn: Connection, verb: str, wrong: Any) -> None:
    before = conn.client_statistics().requests
    with pytest.raises(EncodeError) as caught:
        await IDENTIFIED[verb](conn, with_values(FLOW, id=wrong))
    assert caught.value.path == ("id",)
    assert conn.client_statistics().requests == before


@pytest.mark.parametrize("wrong", ["x", 1.5, object(), RaisingObject(KeyError)], ids=kind_of)
async def test_what_can_be_no_start(conn: Connection, wrong: Any) -> None:
    flow = with_values(FLOW, timestamp=with_values(Timestamp(), start=wrong))
    for name, verb in IDENTIFIED.items():
        with pytest.raises(EncodeError) as caught:
            await verb(conn, flow)
        assert caught.value.path == ("timestamp", "start"), name
    for bulk in (conn.update_many([flow], mark=1), conn.delete_many([flow])):
        (outcome,) = await bulk
        assert isinstance(outcome.error, EncodeError)
    assert await conn.count() == 1


async def test_no_id_of_an_expectation(conn: Connection) -> None:
    expected = some.data_connection(some.ftp())
    for wrong in wrong_ids():
        target = with_values(expected, id=wrong)
        for ask in (
            lambda: conn.expectations.get(target),  # noqa: B023
            lambda: conn.expectations.update(target, timeout=5),  # noqa: B023
            lambda: conn.expectations.delete(target),  # noqa: B023
        ):
            with pytest.raises(EncodeError) as caught:
                await ask()
            assert caught.value.path == ("id",)


@pytest.mark.parametrize("kind", INTEGERS)
async def test_an_id_of_any_kind_of_integer(conn: Connection, kind: str) -> None:
    found = await conn.get(FLOW)
    assert found.id is not None
    same, other = (with_values(found, id=INTEGERS[kind](id)) for id in (found.id, found.id ^ 1))
    await conn.update(same, mark=3)
    assert (await conn.get(same)).mark == 3
    for verb in (conn.get, conn.delete):
        with pytest.raises(NotFound):
            await verb(other)
    await conn.delete(same)


# Values of new entries


@pytest.mark.parametrize("wrong", [-1, 1 << 32, 1 << 40, 10**5000, "x"], ids=describe_value)
async def test_a_status_that_can_not_be(conn: Connection, wrong: Any) -> None:
    for _ in range(2):  # what requests remember does not let it through
        await conn.create(flow := with_values(flows.tcp(7), status=Status.ASSURED))
        await conn.delete(flow)
        with pytest.raises(EncodeError) as caught:
            await conn.create(with_values(flows.tcp(7), status=wrong))
        assert caught.value.path == ("status",)
    (outcome,) = await conn.create_many([with_values(flows.tcp(7), status=wrong)])
    assert isinstance(outcome.error, EncodeError)


async def test_an_address_that_is_none_is_an_encode_error(conn: Connection) -> None:
    for name in ("nat_src", "nat_dst"):
        with pytest.raises(EncodeError) as caught:
            await conn.create(flows.tcp(7), **{name: "x"})
        assert caught.value.path[0] == name
    for make in (lambda: NATRange.of("x"), lambda: ExpectNAT.of("x", 5)):
        with pytest.raises(EncodeError, match="'x' does not appear to be"):
            make()
        assert issubclass(EncodeError, ValueError)
    for wrong in (5, None, RaisingObject(KeyError)):
        with pytest.raises(TypeError, match="must be an address"):
            ExpectNAT.of(wrong, 5)  # type: ignore[arg-type]


# Updates


@pytest.mark.parametrize("ask", UPDATES, ids=["update", "update_many", "update_matching"])
async def test_an_unknown_keyword_of_an_update(conn: Connection, ask: Callable[..., Any]) -> None:
    before = conn.client_statistics().requests
    for name, hint in (("marc", "did you mean mark?"), ("nothing_like_it", "")):
        with pytest.raises(TypeError, match=f"no keyword argument '{name}'.*{hint}"):
            await ask(conn, {name: 1})
    assert conn.client_statistics().requests == before


# Labels


async def test_labels_by_number_need_no_file(
    conn: Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "connlabel.conf"
    broken.write_text("oops web")
    monkeypatch.setattr(labels, "PATHS", (str(broken),))
    written: list[Any] = []

    async def update(
        writer: Writer, target: object, update: dict[str, Any], *, zone: int | None
    ) -> None:
        written.append(update.get("labels_mask") or update.get("labels"))

    monkeypatch.setattr(Writer, "update", update)
    for verb in (conn.set_labels, conn.add_labels, conn.remove_labels):
        await verb(
            FLOW, 5, "5", "0x5", OverriddenStr("05"), *[make(5) for make in INTEGERS.values()]
        )
        await verb(FLOW)
        with pytest.raises(EncodeError, match="oops"):
            await verb(FLOW, 5, "web")
        with pytest.raises(EncodeError, match="0 to 127"):
            await verb(FLOW, "128")
    assert [each for each in written if each] == [1 << 5] * 3


# Whatever is passed in, the message shows it


SHOWN: dict[str, Callable[[Connection, Any], Any]] = {
    "connect(receive_buffer=)": lambda conn, value: connect(receive_buffer=value),
    "connect(receive_buffer_max=)": lambda conn, value: connect(receive_buffer_max=value),
    "connect(netns=)": lambda conn, value: connect(netns=value),
    "connect(reply_timeout=)": lambda conn, value: connect(reply_timeout=value),
    "NetNS.from_pid": lambda conn, value: NetNS.from_pid(value),
    "NetNS.from_name": lambda conn, value: NetNS.from_name(value),
    "events(receive_buffer=)": lambda conn, value: conn.events(receive_buffer=value),
    "events(on_loss=)": lambda conn, value: conn.events(on_loss=value),
    "events()": lambda conn, value: conn.events(value),
    "table(reconcile=)": lambda conn, value: conn.table(reconcile=value),
    "table(match=)": lambda conn, value: conn.table(value),
    "sysctls.set(max=)": lambda conn, value: conn.sysctls.set(max=value),
    "sysctls.set(acct=)": lambda conn, value: conn.sysctls.set(acct=value),
    "LabelNames": lambda conn, value: LabelNames({"a": value}),
    "label_names": lambda conn, value: setattr(conn, "label_names", value),
    "from_dict(x, {})": lambda conn, value: from_dict(value, {}),
    "from_dict(Flow, x)": lambda conn, value: from_dict(Flow, value),
    "from_dict of a mark": lambda conn, value: from_dict(Flow, {**to_dict(FLOW), "mark": value}),
    "to_dict": lambda conn, value: to_dict(value),
    "timeouts.get_defaults": lambda conn, value: conn.timeouts.get_defaults(value),
    "get(zone=)": lambda conn, value: conn.get(FLOW, zone=value),
}


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("it has no text")

    __str__ = __repr__


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize(
    "value", [10**5000, -(10**5000), Unprintable(), RaisingObject(OSError)], ids=kind_of
)
async def test_no_message_raises_what_a_value_raises(
    conn: Connection, name: str, value: Any
) -> None:
    async def ask() -> None:
        result = SHOWN[name](conn, value)
        if inspect.isawaitable(result):
            await result

    with pytest.raises((TypeError, ValueError, ConntrackError)) as caught:
        await ask()
    assert "4300 digits" not in str(caught.value)
    assert str(caught.value)


async def test_what_loss_does_is_the_plain_text(conn: Connection) -> None:
    class Agreeable(str):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = str.__hash__

    for subscribe in (conn.events, conn.expectations.events):
        with pytest.raises(ValueError, match="on_loss"):
            subscribe(on_loss=Agreeable("zzz"))  # type: ignore[call-overload]
        subscribe(on_loss=OverriddenStr("item")).close()  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="reconcile"):
        conn.table(reconcile=Agreeable("zzz"))  # type: ignore[arg-type]
    conn.table(reconcile=OverriddenStr("auto"))  # type: ignore[arg-type]


async def test_the_kind_of_defaults(conn: Connection) -> None:
    with pytest.raises(TypeError) as caught:
        await conn.timeouts.get_defaults(5)  # type: ignore[type-var]
    assert str(caught.value) == "kind must be a timeout class such as TCPTimeouts; got 5"
