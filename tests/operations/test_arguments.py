"""Test that arguments of a wrong type raise TypeError, with a message for any value."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from socket import AF_INET
from typing import Any

import pytest
from support import expectations, flows
from support.hostile_arguments import OverriddenStr, RaisingObject

from conntrack_aio import (
    Connection,
    ConntrackError,
    Expectations,
    ExpectPolicy,
    Flow,
    Helpers,
    LabelNames,
    Match,
    NetNS,
    TCPTimeouts,
    TimeoutPolicy,
    Timeouts,
    UDPTimeouts,
    UserspaceHelper,
    connect,
    from_dict,
    to_dict,
)
from conntrack_aio.testing import FakeKernel

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


VALID: dict[str, Any] = {
    "target": FLOW,
    "targets": [FLOW],
    "flow": flows.tcp(2),
    "flows": [flows.tcp(3)],
    "match": Match(mark=1),
    "packet": expectations.EXPECTED,
    "expectation": expectations.data_connection(expectations.ftp()),
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
"""A valid value for each parameter that needs one."""

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
"""Parameters that accept only objects of certain types, or a name."""

MESSAGES = {
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


def type_name(value: object) -> str:
    return type(value).__name__


def object_parameters() -> list[Any]:
    """Return, for each method, the parameters that accept only objects of certain types."""
    found: list[Any] = []
    for owner, cls in (
        ("", Connection),
        ("expectations", Expectations),
        ("timeouts", Timeouts),
        ("helpers", Helpers),
    ):
        for method, function in inspect.getmembers(cls, inspect.isfunction):
            if method.startswith("_"):
                continue
            for parameter in inspect.signature(function).parameters:
                if parameter in OBJECTS and not takes_a_value(cls, method, parameter):
                    id_ = f"{owner}.{method}({parameter})"
                    found.append(pytest.param(owner, method, parameter, id=id_))
    return found


def takes_a_value(cls: type, method: str, parameter: str) -> bool:
    """Return whether a parameter of this name is a plain value, or is only compared."""
    return (parameter == "helper" and not (cls is Helpers and method == "create")) or (
        cls is Helpers and method in ("dump", "list")
    )


async def call(conn: Connection, owner: str, name: str, arguments: dict[str, Any]) -> object:
    method = getattr(getattr(conn, owner) if owner else conn, name)
    given: dict[str, Any] = {}
    for parameter in inspect.signature(method).parameters.values():
        required = parameter.default is inspect.Parameter.empty
        positional = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.name in arguments:
            given[parameter.name] = arguments[parameter.name]
        elif required and not positional:
            given[parameter.name] = VALID[parameter.name]
    if name.startswith("update") and "changes" in inspect.signature(method).parameters:
        given.setdefault("mark", 1)
    result = method(**given)
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


def test_object_parameters_are_found() -> None:
    assert len(object_parameters()) > 30


@pytest.mark.parametrize(("owner", "name", "parameter"), object_parameters())
@pytest.mark.parametrize("wrong", ["x", 5, b"x", object(), RaisingObject(KeyError)], ids=type_name)
async def test_an_argument_of_a_wrong_type_is_refused_before_any_request(
    conn: Connection, owner: str, name: str, parameter: str, wrong: object
) -> None:
    if parameter == "name" and isinstance(wrong, str):
        return  # text is a valid name, even if nothing has it
    if parameter in ("targets", "flows") and isinstance(wrong, (str, bytes, RaisingObject)):
        return  # these are iterables: of wrong targets, or raising an error of their own
    before = conn.client_statistics().requests
    with pytest.raises(TypeError, match=MESSAGES[parameter]):
        await call(conn, owner, name, {parameter: wrong})
    assert conn.client_statistics().requests == before


@pytest.mark.parametrize("owner", ["", "expectations", "helpers"])
async def test_flush_names_the_methods_that_delete_some(conn: Connection, owner: str) -> None:
    flush = (getattr(conn, owner) if owner else conn).flush
    for arguments in ((Match(mark=1),), ("x",)):
        with pytest.raises(TypeError, match="delete"):
            await flush(*arguments)
    with pytest.raises(TypeError, match="delete"):
        await flush(match=Match(mark=1))
    assert await conn.count() == 1


@pytest.mark.parametrize(
    "name", [name for name in vars(Connection) | {"list": 0, "get": 0, "dump": 0} if name[0] != "_"]
)
def test_methods_of_an_unawaited_connect_say_to_await_it(name: str) -> None:
    connecting = connect()
    if hasattr(type(connecting), name):
        return
    with pytest.raises(AttributeError, match=r"await connect\(\)"):
        getattr(connecting, name)
    assert not hasattr(connecting, "no_verb_at_all")


# Updates


@pytest.mark.parametrize("update", UPDATES, ids=["update", "update_many", "update_matching"])
async def test_an_unknown_keyword_of_an_update_is_refused(
    conn: Connection, update: Callable[..., Any]
) -> None:
    before = conn.client_statistics().requests
    for name, hint in (("marc", "did you mean 'mark'"), ("nothing_like_it", "")):
        with pytest.raises(TypeError, match=f"no keyword argument '{name}'.*{hint}"):
            await update(conn, {name: 1})
    assert conn.client_statistics().requests == before


# Messages show the value that was passed


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
        raise RuntimeError("this object has no text")

    __str__ = __repr__


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize(
    "value", [10**5000, -(10**5000), Unprintable(), RaisingObject(OSError)], ids=type_name
)
async def test_messages_show_any_value_without_raising_its_errors(
    conn: Connection, name: str, value: Any
) -> None:
    async def call() -> None:
        result = SHOWN[name](conn, value)
        if inspect.isawaitable(result):
            await result

    with pytest.raises((TypeError, ValueError, ConntrackError)) as caught:
        await call()
    assert "4300 digits" not in str(caught.value)
    assert str(caught.value)


async def test_text_arguments_are_compared_as_plain_text(conn: Connection) -> None:
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


async def test_get_defaults_needs_a_timeout_class(conn: Connection) -> None:
    with pytest.raises(TypeError) as caught:
        await conn.timeouts.get_defaults(5)  # type: ignore[type-var]
    assert str(caught.value) == "kind must be a timeout class such as TCPTimeouts; got 5"
