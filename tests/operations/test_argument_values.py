"""Test that values of any suitable type are accepted, and others raise EncodeError."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from socket import AF_INET
from typing import Any

import attrs
import pytest
from support import expectations, flows
from support.attribute_encoding import with_values
from support.hostile_arguments import INTEGERS, OverriddenStr, RaisingObject

from conntrack_aio import (
    Connection,
    EncodeError,
    Expectation,
    ExpectNAT,
    ExpectPolicy,
    Flow,
    Match,
    NATRange,
    NewFlow,
    NotFound,
    Status,
    TimeoutPolicy,
    Timestamp,
    Tuple,
    UDPTimeouts,
    UserspaceHelper,
    connect,
)
from conntrack_aio.model import labels
from conntrack_aio.operations.single_flows import SingleFlows
from conntrack_aio.plain import describe_value
from conntrack_aio.testing import FakeKernel

pytestmark = pytest.mark.anyio

FLOW = flows.tcp(1)
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
        yield connection


def type_name(value: object) -> str:
    return type(value).__name__


# Values


NUMBERS = ("mark", "mark_mask", "timeout", "status", "labels", "labels_mask", "zone")


@pytest.mark.parametrize("type_", INTEGERS)
@pytest.mark.parametrize("parameter", NUMBERS)
async def test_integers_of_any_type_are_accepted(
    conn: Connection, type_: str, parameter: str
) -> None:
    convert = INTEGERS[type_]
    number = convert(int(Status.ASSURED) if parameter == "status" else 7)
    companions = {"mark_mask": {"mark": 7}, "labels_mask": {"labels": 7}, "zone": {"mark": 7}}
    arguments = {**companions.get(parameter, {}), parameter: number}
    if parameter == "zone":
        await conn.create(attrs.evolve(FLOW, zone=7))
    if parameter in ("labels", "labels_mask"):
        return  # entries of the fake kernel have no room; the tests of the codec write labels
    await conn.update(FLOW, **arguments)
    (outcome,) = await conn.update_many([FLOW], **arguments)
    assert outcome.ok
    found = await conn.get(FLOW, zone=number if parameter == "zone" else None)
    assert found.timeout == 7 if parameter == "timeout" else found.timeout
    assert found.mark == (7 if "mark" in arguments else 0)


@pytest.mark.parametrize("parameter", NUMBERS)
@pytest.mark.parametrize(
    "wrong", ["0x7", 1.5, b"7", object(), RaisingObject(RecursionError)], ids=type_name
)
async def test_other_types_are_not_accepted_as_integers(
    conn: Connection, parameter: str, wrong: Any
) -> None:
    arguments = {"mark": 1, parameter: wrong}
    for update in (
        lambda: conn.update(FLOW, **arguments),
        lambda: conn.update_matching(Match(mark=0), **arguments),
    ):
        if parameter == "zone" and update.__code__.co_names[0] == "update_matching":
            continue
        with pytest.raises(EncodeError) as caught:
            await update()
        assert caught.value.path == (parameter,)
    with pytest.raises(EncodeError):
        await conn.update_many([FLOW], **arguments)


async def test_invalid_zones_are_refused(conn: Connection) -> None:
    for wrong in ("1", 1 << 16, -1, RaisingObject(OSError)):
        for method in (conn.get, conn.delete):
            with pytest.raises(EncodeError):
                await method(FLOW, zone=wrong)  # type: ignore[arg-type]
        (outcome,) = await conn.delete_many([FLOW], zone=wrong)  # type: ignore[arg-type]
        assert isinstance(outcome.error, EncodeError)
    assert await conn.count() == 1


async def test_translations_are_addresses_or_ranges(conn: Connection) -> None:
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


def bad_items() -> list[Any]:
    errors = (RuntimeError, KeyError, RecursionError, OverflowError, UnicodeError, OSError)
    flow = flows.tcp(50)
    own_master = flows.tcp(51)
    own_master.master = own_master  # type: ignore[assignment]

    class RaisingFlow(Flow):
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
        with_values(own_master, orig=[]),
        object.__new__(Flow),
        object.__new__(Tuple),
        object.__new__(RaisingFlow),
    ]


BULK_OPERATIONS: dict[str, Callable[[Connection, list[Any]], Any]] = {
    "create_many": lambda conn, items: conn.create_many(items),
    "update_many": lambda conn, items: conn.update_many(items, mark=1),
    "update_many, the status": lambda conn, items: conn.update_many(items, status=Status.ASSURED),
    "delete_many": lambda conn, items: conn.delete_many(items),
}


@pytest.mark.parametrize("with_start_time", [False, True])
@pytest.mark.parametrize("name", BULK_OPERATIONS)
async def test_a_bad_item_fails_alone(conn: Connection, name: str, with_start_time: bool) -> None:
    """Its outcome has the error, and the items around it succeed."""
    good_items = [flows.tcp(1000 + number) for number in range(40)]
    if name != "create_many":
        assert all(outcome.ok for outcome in await conn.create_many(good_items))
    items: list[Any] = []
    for flow, bad_item in zip(good_items, bad_items(), strict=False):
        items += [flow, bad_item]
    # An item with a start time makes the operation look up all items first.
    if with_start_time and name != "create_many":
        items.append(attrs.evolve(await conn.get(FLOW), timestamp=Timestamp(start=5)))
    outcomes = await BULK_OPERATIONS[name](conn, items)
    assert len(outcomes) == len(items)
    bad = [outcome for outcome in outcomes if not outcome.ok]
    assert len(bad) == len(bad_items())
    assert all(isinstance(outcome.error, EncodeError) for outcome in bad)
    for outcome in bad:
        assert str(outcome.error)


async def test_expectations_accept_integers_of_any_type(conn: Connection) -> None:
    for convert in INTEGERS.values():
        created = Expectation.of(
            expectations.ftp().orig,
            expectations.EXPECTED,
            timeout=convert(60),
            expect_class=convert(0),
        )
        assert (created.timeout, created.expect_class) == (60, 0)
        assert type(created.timeout) is int
    assert await conn.count() == 1


async def test_policies_and_helpers_accept_values_of_any_type(conn: Connection) -> None:
    for number, convert in enumerate(INTEGERS.values()):
        name = OverriddenStr(f"p{number}")
        policy = TimeoutPolicy(
            name=name,
            family=convert(2),
            proto=convert(17),
            timeouts=UDPTimeouts(replied=convert(5)),
        )
        created = await conn.timeouts.create(policy)
        assert (created.name, created.timeouts) == (
            f"p{number}",
            attrs.evolve(created.timeouts, replied=5),
        )
        assert (await conn.timeouts.get(name)).name == f"p{number}"
        updated = await conn.timeouts.update(name, UDPTimeouts(replied=convert(6)))
        assert updated.timeouts == attrs.evolve(created.timeouts, replied=6)
        await conn.timeouts.delete(name)
        helper = attrs.evolve(
            HELPER, name=OverriddenStr(f"h{number}"), family=convert(2), queue=convert(1)
        )
        created_helper = await conn.helpers.create(helper)
        assert created_helper.key == (f"h{number}", 2, 6)
        assert (await conn.helpers.get(helper.name, convert(2), convert(6))).queue == 1
        await conn.helpers.update(helper.name, convert(2), convert(6), queue=convert(9))
        await conn.helpers.delete(helper.name, convert(2), convert(6))


def test_connect_accepts_integers_of_any_type() -> None:
    for convert in INTEGERS.values():
        connect(
            receive_buffer=convert(4096), receive_buffer_max=convert(8192), reply_timeout=convert(3)
        )
    for wrong in ("4096", 1.5, RaisingObject(KeyError)):
        with pytest.raises(TypeError, match="receive_buffer"):
            connect(receive_buffer=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="reply_timeout"):
        connect(reply_timeout=RaisingObject(KeyError))  # type: ignore[arg-type]


# Identities


def wrong_ids() -> list[Any]:
    return ["x", -1, 1 << 40, 10**5000, 1.5, b"\1", object(), RaisingObject(KeyError)]


FLOW_METHODS: dict[str, Callable[[Connection, Flow], Any]] = {
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


@pytest.mark.parametrize("method", FLOW_METHODS)
@pytest.mark.parametrize("wrong", wrong_ids(), ids=type_name)
async def test_an_invalid_id_is_refused_before_any_request(
    conn: Connection, method: str, wrong: Any
) -> None:
    before = conn.client_statistics().requests
    with pytest.raises(EncodeError) as caught:
        await FLOW_METHODS[method](conn, with_values(FLOW, id=wrong))
    assert caught.value.path == ("id",)
    assert conn.client_statistics().requests == before


@pytest.mark.parametrize("wrong", ["x", 1.5, object(), RaisingObject(KeyError)], ids=type_name)
async def test_an_invalid_start_time_is_refused(conn: Connection, wrong: Any) -> None:
    flow = with_values(FLOW, timestamp=with_values(Timestamp(), start=wrong))
    for name, method in FLOW_METHODS.items():
        with pytest.raises(EncodeError) as caught:
            await method(conn, flow)
        assert caught.value.path == ("timestamp", "start"), name
    for bulk in (conn.update_many([flow], mark=1), conn.delete_many([flow])):
        (outcome,) = await bulk
        assert isinstance(outcome.error, EncodeError)
    assert await conn.count() == 1


async def test_an_invalid_id_of_an_expectation_is_refused(conn: Connection) -> None:
    expectation = expectations.data_connection(expectations.ftp())
    for wrong in wrong_ids():
        target = with_values(expectation, id=wrong)
        for call in (
            lambda: conn.expectations.get(target),  # noqa: B023
            lambda: conn.expectations.update(target, timeout=5),  # noqa: B023
            lambda: conn.expectations.delete(target),  # noqa: B023
        ):
            with pytest.raises(EncodeError) as caught:
                await call()
            assert caught.value.path == ("id",)


@pytest.mark.parametrize("type_", INTEGERS)
async def test_an_id_may_be_an_integer_of_any_type(conn: Connection, type_: str) -> None:
    found = await conn.get(FLOW)
    assert found.id is not None
    same, other = (with_values(found, id=INTEGERS[type_](id)) for id in (found.id, found.id ^ 1))
    await conn.update(same, mark=3)
    assert (await conn.get(same)).mark == 3
    for method in (conn.get, conn.delete):
        with pytest.raises(NotFound):
            await method(other)
    await conn.delete(same)


# Values of new entries


@pytest.mark.parametrize("wrong", [-1, 1 << 32, 1 << 40, 10**5000, "x"], ids=describe_value)
async def test_an_invalid_status_is_refused(conn: Connection, wrong: Any) -> None:
    for _ in range(2):  # a cached request must not let it through
        await conn.create(flow := with_values(flows.tcp(7), status=Status.ASSURED))
        await conn.delete(flow)
        with pytest.raises(EncodeError) as caught:
            await conn.create(with_values(flows.tcp(7), status=wrong))
        assert caught.value.path == ("status",)
    (outcome,) = await conn.create_many([with_values(flows.tcp(7), status=wrong)])
    assert isinstance(outcome.error, EncodeError)


async def test_text_that_is_not_an_address_raises_encode_error(conn: Connection) -> None:
    for name in ("nat_src", "nat_dst"):
        with pytest.raises(EncodeError) as caught:
            await conn.create(flows.tcp(7), **{name: "x"})
        assert caught.value.path[0] == name
    for construct in (lambda: NATRange.of("x"), lambda: ExpectNAT.of("x", 5)):
        with pytest.raises(EncodeError, match="'x' does not appear to be"):
            construct()
        assert issubclass(EncodeError, ValueError)
    for wrong in (5, None, RaisingObject(KeyError)):
        with pytest.raises(TypeError, match="must be an address"):
            ExpectNAT.of(wrong, 5)  # type: ignore[arg-type]


# Labels


async def test_labels_by_number_need_no_connlabel_conf(
    conn: Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "connlabel.conf"
    broken.write_text("oops web")
    monkeypatch.setattr(labels, "PATHS", (str(broken),))
    written: list[Any] = []

    async def update(
        flows: SingleFlows, target: object, update: dict[str, Any], *, zone: int | None
    ) -> None:
        written.append(update.get("labels_mask") or update.get("labels"))

    monkeypatch.setattr(SingleFlows, "update", update)
    for method in (conn.set_labels, conn.add_labels, conn.remove_labels):
        await method(
            FLOW, 5, "5", "0x5", OverriddenStr("05"), *[convert(5) for convert in INTEGERS.values()]
        )
        await method(FLOW)
        with pytest.raises(EncodeError, match="oops"):
            await method(FLOW, 5, "web")
        with pytest.raises(EncodeError, match="0 to 127"):
            await method(FLOW, "128")
    assert [mask for mask in written if mask] == [1 << 5] * 3
