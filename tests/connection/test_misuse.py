"""Test that wrong use raises a clear error and leaves nothing open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
from support import flows
from support.attribute_encoding import with_values
from support.lab import Lab
from support.open_files import OpenFiles
from support.polling import wait_until
from support.scripted_kernel import ScriptedKernel

from conntrack_aio import (
    Connection,
    Dump,
    EncodeError,
    Flow,
    Match,
    NamespaceError,
    NATRange,
    NetNS,
    TCPState,
    TCPTimeouts,
    Tuple,
    connect,
)
from conntrack_aio.model.expectations import Expectation

pytestmark = pytest.mark.kernel

CALLS: dict[str, tuple[Callable[[Connection], Awaitable[object]], type[Exception]]] = {
    "create a tuple": (lambda conn: conn.create(flows.tcp().orig), TypeError),  # type: ignore[arg-type]
    "create text": (lambda conn: conn.create("x"), TypeError),  # type: ignore[arg-type]
    "a flow of text": (lambda conn: conn.create(Flow(orig="a", reply="b")), EncodeError),  # type: ignore[arg-type]
    "a tuple of text": (
        lambda conn: conn.get("tcp 10.0.0.1:1 -> 10.0.0.2:2"),  # type: ignore[arg-type]
        TypeError,
    ),
    "a range of text instead of addresses": (
        lambda conn: conn.create(
            flows.tcp(), nat_src=with_values(NATRange(), address_min="1.1.1.1")
        ),
        EncodeError,
    ),
    "a number instead of an address": (
        lambda conn: conn.create(flows.tcp(), nat_src=5),  # type: ignore[arg-type]
        TypeError,
    ),
    "expect a flow": (lambda conn: conn.expectations.create(flows.tcp()), TypeError),  # type: ignore[arg-type]
    "an expectation of text": (
        lambda conn: conn.expectations.create(Expectation(master="a", tuple="b", mask="c")),  # type: ignore[arg-type]
        EncodeError,
    ),
    "a function instead of a match": (lambda conn: conn.list(lambda flow: True), TypeError),  # type: ignore[arg-type]
    "None instead of a match": (lambda conn: conn.delete_matching(None), TypeError),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.anyio
async def test_a_wrong_argument_is_refused_and_creates_nothing(conn: Connection, name: str) -> None:
    call, error = CALLS[name]
    with pytest.raises(error):
        await call(conn)
    assert await conn.count() == 0


@pytest.mark.parametrize("event_type", ["new", 1, ["new"]])
@pytest.mark.anyio
async def test_events_accepts_only_event_types(conn: Connection, event_type: object) -> None:
    files = OpenFiles()
    with pytest.raises(TypeError, match="EventType"):
        conn.events(event_type)  # type: ignore[arg-type]
    assert not files.new()


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"receive_buffer": "8M"}, TypeError),
        ({"receive_buffer": 0}, ValueError),
        ({"receive_buffer": 1 << 40}, ValueError),
        ({"reply_timeout": 0}, ValueError),
        ({"reply_timeout": "5"}, TypeError),
    ],
)
@pytest.mark.anyio
async def test_connect_refuses_impossible_parameters(
    values: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        connect(**values)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_events_refuses_an_impossible_buffer_size(conn: Connection) -> None:
    with pytest.raises(ValueError, match="2\\^30"):
        conn.events(receive_buffer=1 << 40)


@pytest.mark.parametrize("descriptor", [2**40, 9999, -1])
@pytest.mark.anyio
async def test_a_descriptor_that_is_not_open_is_refused(descriptor: int) -> None:
    with pytest.raises(NamespaceError):
        await connect(netns=NetNS.from_fd(descriptor))


@pytest.mark.anyio
async def test_connect_cannot_be_entered_twice(lab: Lab) -> None:
    connecting = connect(netns=lab.netns)
    async with connecting:
        with pytest.raises(RuntimeError, match="entered before"):
            await connecting.__aenter__()


async def read_closed_dump(dump: Dump[Flow]) -> None:
    """Read a dump that is closed, or that ended before it was closed."""
    with pytest.raises((anyio.ClosedResourceError, StopAsyncIteration)):
        await anext(dump)


@pytest.mark.anyio
async def test_a_dump_closed_while_it_starts_stays_closed() -> None:
    kernel = ScriptedKernel()
    async with kernel.connect() as conn:
        for turns in range(6):
            dump = conn.dump()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read_closed_dump, dump)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                dump.close()
        assert conn.client_statistics().open_dumps == 0
        await wait_until(lambda: all(socket.closed for socket in kernel.sockets[1:]))


def test_a_number_is_not_accepted_as_an_address() -> None:
    for bad in (5, b"abcd"):
        with pytest.raises(EncodeError, match="must be an address"):
            Tuple.tcp(bad, 1, "10.0.0.1", 2)  # type: ignore[arg-type]
    with pytest.raises(EncodeError, match="must be of the family of src"):
        Tuple.tcp("::1", 1, "10.0.0.1", 2)


WRONG_VALUES: dict[str, tuple[Callable[[Connection], Awaitable[object]], str]] = {
    "a status of text": (
        lambda conn: conn.update(flows.tcp(), status="ASSURED"),  # type: ignore[arg-type]
        "status must be a Status",
    ),
    "a state for protoinfo": (
        lambda conn: conn.update(flows.tcp(), protoinfo=TCPState.CLOSE),  # type: ignore[arg-type]
        "has TCPInfo",
    ),
    "a range of the other family": (
        lambda conn: conn.create(flows.tcp(), nat_src=NATRange.of("2001:db8::1")),
        "not an address of the flow's family",
    ),
    "a class for timeouts": (
        lambda conn: conn.timeouts.set_defaults(TCPTimeouts),  # type: ignore[arg-type]
        "a class such as TCPTimeouts",
    ),
}


@pytest.mark.parametrize("name", WRONG_VALUES)
@pytest.mark.anyio
async def test_the_error_says_what_is_accepted(conn: Connection, name: str) -> None:
    call, text = WRONG_VALUES[name]
    with pytest.raises((EncodeError, TypeError), match=text):
        await call(conn)


@pytest.mark.parametrize(
    "construct",
    [
        lambda: Match(mark=7.0),  # type: ignore[arg-type]
        lambda: Match(zone=b"7"),
        lambda: NetNS.from_pid("1"),  # type: ignore[arg-type]
        lambda: connect(reply_timeout="5"),  # type: ignore[arg-type]
    ],
)
def test_other_types_are_not_accepted_as_numbers(construct: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="number"):
        construct()


@pytest.mark.anyio
async def test_label_names_accepts_only_label_names_objects(conn: Connection) -> None:
    with pytest.raises(TypeError, match="LabelNames"):
        conn.label_names = {"web": 3}  # type: ignore[assignment]


@pytest.mark.anyio
async def test_a_closed_connection_cannot_be_entered_again(lab: Lab) -> None:
    async with connect(netns=lab.netns) as conn:
        pass
    with pytest.raises(anyio.ClosedResourceError, match="the connection is closed"):
        async with conn:
            pass
