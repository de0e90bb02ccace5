"""A condition on flows: one value, for dumps, events, deletes and tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn, Self, Unpack

import attrs

from ..model.flow import Flow
from ..model.labels import LabelNames
from ..plain import describe_value
from .compiled import Compiled
from .conditions import Conditions, node_of
from .explain import Explanation, Kernel, explain
from .nodes import Node
from .parser import Parser
from .predicate import Predicate
from .tree import every, negate, some
from .words import describe


@attrs.frozen(init=False, repr=False)
class Match:
    """Flows that meet all of some conditions; ``Match()`` is every flow.

    An immutable, hashable value, of which others are made: ``a & b``, ``a | b``, ``~a``. It is a
    predicate too: ``match(flow)``. Its text, ``str(match)``, is what :meth:`parse` reads.

    What a flow does not tell: a mark, status and labels then have no bit set, and a zone is 0; of
    anything else no condition holds, and so its opposite does. (A mark of 0, and labels of which
    none is set, are what the kernel leaves out.)
    """

    node: Node
    """Its conditions, for what is made of them."""
    compiled: Compiled = attrs.field(eq=False)
    """What was worked out of them so far."""

    def __init__(self, *text: str, **conditions: Unpack[Conditions]) -> None:
        """Each text and each condition that is given has to hold; of several values, one. ``None``
        is no condition. Numbers and networks are objects or text, as they are and in any iterable.
        An empty iterable matches no flow, whatever the condition. Integers are members of enums
        and NumPy's, too, and ``bool``.

        :param text: as :meth:`parse` reads it: ``Match("proto tcp and orig.dport 80")``.
        :param family: ``socket.AF_INET`` or ``socket.AF_INET6``; ``"ipv4"`` or ``"inet"``,
            ``"ipv6"`` or ``"inet6"``.
        :param proto: the protocol's number, or its name as in ``/etc/protocols``: ``"tcp"``.
        :param orig_src: the original direction's source: an address, a network or a range, an
            object of :mod:`ipaddress` or text; or several. So ``orig_dst``, ``reply_src`` and
            ``reply_dst``. IPv4-mapped addresses, and networks and ranges in ``::ffff:0:0/96``, are
            meant as IPv4: a socket of both families names its IPv4 peers so. Entries of the kernel
            that have such addresses as IPv6 are covered by wider networks, as ``::/0``, and by
            text with the address in brackets: ``"[::ffff:10.0.0.1]"``.
        :param orig_sport: a port, ``range(1024, 65536)``, ``"80-90"``; or several. So
            ``orig_dport``, ``reply_sport``, ``reply_dport``; and ``orig_icmp_type``,
            ``orig_icmp_code``, ``orig_icmp_id`` and those of the reply.
        :param zone: the zone of both directions; 0 is the default zone. A flow of which one
            direction has a zone of its own has none.
        :param orig_zone: the zone of the original direction, be it its own or that of both. So
            ``reply_zone``.
        :param mark: those bits of the mark that ``mark_mask`` has: all, without one. Text may have
            the mask, too: ``"0x3/0xff"``.
        :param status: bits of which all are set: ``Status.ASSURED | Status.SEEN_REPLY``, or their
            names as in ``"assured|seen_reply"``; of several values, as in
            ``[Status.ASSURED, Status.SEEN_REPLY]``, one. ``"unreplied"`` is that SEEN_REPLY is not
            set.
        :param status_unset: bits of which none is set; of several values, one.
        :param state: the state of TCP, SCTP or DCCP, or its name. ``"established"`` is that of
            whatever protocol, ``"tcp.established"`` that of one.
        :param labels: a label that is set, by number or by name; or several, of which one is set.
            With ``labels_mask``, a number of 128 bits: those bits of the labels that the mask has
            equal it. Text may have the mask, too: ``"0x3/0xff"``.
        :param labels_all: labels of which all are set.
        :param label_names: what the names of labels mean, instead of the system's connlabel.conf.
        :param helper: the name of the helper.
        :param timeout: seconds until it expires.
        :param orig_packets: packets of the original direction, where they are counted
            (``nf_conntrack_acct``); events tell counters only when a flow has ended. So
            ``orig_bytes``, ``reply_packets`` and ``reply_bytes``.
        :param snat: whether its source is translated (``SRC_NAT``), or what to.
        :param dnat: whether its destination is translated (``DST_NAT``), or what to.
        :param id: the kernel's id of the flow.

        Raises :exc:`MatchError` for what can never be true: a value out of bounds, conditions that
        exclude each other (a port of an ICMP flow, an IPv6 address of an IPv4 family), a mark
        outside its mask, a label without a name; for a text that is no match, and a status of 0;
        and :exc:`TypeError` for a value of another type, and a condition that there is not.
        """
        names = conditions.get("label_names")
        read = [Parser(each, names).parse() for each in text]
        made = node_of(conditions)
        self._begin(every([*read, made]) if read else made)

    def _begin(self, node: Node) -> None:
        object.__setattr__(self, "node", node)
        object.__setattr__(self, "compiled", Compiled(node))

    @classmethod
    def _of(cls, node: Node) -> Self:
        made = cls.__new__(cls)
        made._begin(node)
        return made

    @classmethod
    def parse(cls, text: str, *, label_names: LabelNames | None = None) -> Self:
        """The match that a text says, as ``proto tcp and not orig.dst in 10.0.0.0/8``.

        Conditions are joined by ``and``, ``or``, ``not`` and parentheses; ``not`` binds most and
        ``or`` least. A condition is the name of a field and a value, or several as in
        ``orig.dport in {80, 443, 8000-8080}``; ``in``, ``=`` and ``==`` may stand between, and
        ``!=`` denies it; of the empty set ``{}`` none holds. Numbers can be compared:
        ``timeout < 30``; they are decimal, or hexadecimal as in ``0x1f``. The fields are named as
        the parameters of :class:`Match`, with a point after the direction: ``orig.src``. Bits are
        named, ``status assured``, ``label web``; all of ``status assured|seen_reply`` have to be
        set, and one of ``status in {assured, seen_reply}``. A mark is ``3``, or ``0x3/0xff`` under
        a mask, and so are the bits of all labels: ``label 0x3/0xff``. ``snat`` and ``dnat`` stand
        alone, or before ``to 192.0.2.0/24``; ``assured`` and ``unreplied`` stand alone, in brackets
        as flows print them, too. ``all`` is every flow, ``none`` no flow.

        Raises :exc:`MatchError`, which says the column, for a text that is no match or can never
        be true, and for a connlabel.conf that can't be read; :exc:`TypeError` for what is no text.
        """
        return cls._of(Parser(text, label_names).parse())

    @classmethod
    def all(cls, matches: Iterable[Match]) -> Match:
        """Flows that match all of them. Raises :exc:`MatchError` where none can, and
        :exc:`TypeError` for what is no match."""
        return Match._of(every(_nodes("all", matches)))

    @classmethod
    def any(cls, matches: Iterable[Match]) -> Match:
        """Flows that match any of them: of thousands, sooner made than by ``|``.

        Raises :exc:`TypeError` for what is no match.
        """
        return Match._of(some(_nodes("any", matches)))

    def __and__(self, other: Match) -> Match:
        """Flows that match both. Raises :exc:`MatchError` where none can."""
        if not isinstance(other, Match):  # pyright: ignore[reportUnnecessaryIsInstance]
            return NotImplemented
        return Match._of(every((self.node, other.node)))

    def __or__(self, other: Match) -> Match:
        """Flows that match either."""
        if not isinstance(other, Match):  # pyright: ignore[reportUnnecessaryIsInstance]
            return NotImplemented
        return Match._of(some((self.node, other.node)))

    def __invert__(self) -> Match:
        """Flows that do not match."""
        return Match._of(negate(self.node))

    def __bool__(self) -> NoReturn:
        """Raises :exc:`TypeError`: ``a and b`` would be ``b`` alone, silently."""
        raise TypeError(
            "a Match has no truth value: join matches by &, | and ~ instead of and, or and not; "
            "match(flow) says whether a flow matches"
        )

    @property
    def always(self) -> bool:
        """Whether every flow matches, as those of ``x or not x`` do.

        A bounded search for a flow that does not match finds that out. Where the search ends
        without a result, as for thousands of intricate conditions, this is ``False``.
        """
        return self.compiled.always

    @property
    def predicate(self) -> Predicate:
        """Return the compiled predicate; compile it on first use."""
        return self.compiled.predicate

    def __call__(self, flow: Flow) -> bool:
        """Whether a flow matches. Raises :exc:`TypeError` for what is no flow."""
        try:
            return self.compiled.predicate(flow)
        except AttributeError:
            if isinstance(flow, Flow):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise
        has_flow = isinstance(getattr(flow, "flow", None), Flow)
        hint = "; of an event, call match(event.flow)" if has_flow else ""
        raise TypeError(f"a Match is called with a Flow, not with {describe_value(flow)}{hint}")

    async def prepare(self) -> Self:
        """Work out what events are filtered by, and the predicate, and return the match.

        Whatever is awaited does so by itself, and of a match of many conditions on a worker thread.
        :meth:`Connection.events` can't wait: a match of thousands of conditions holds the event
        loop for some 10 µs a condition, and as long again at the first event, unless this was
        awaited before. What is worked out is kept with this very object. A match of up to 256
        values needs none of this.
        """
        compiled = self.compiled
        await compiled.ready(
            lambda: (compiled.always, compiled.constant, compiled.program(), compiled.predicate)
        )
        return self

    async def explain(self, conn: Kernel) -> Explanation:
        """What is done of it where, with this connection's kernel: ``print`` it.

        Raises what :meth:`Connection.features` does: it asks the kernel what it can do; and
        :exc:`TypeError` for what is no connection.
        """
        if not callable(getattr(conn, "features", None)):
            raise TypeError(f"explain takes a Connection, not {describe_value(conn)}")
        features = await conn.features()
        return await self.compiled.ready(lambda: explain(self.compiled, features))

    def __str__(self) -> str:
        return describe(self.node)

    def __repr__(self) -> str:
        return f"Match.parse({str(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return self._of, (self.node,)


def _nodes(name: str, matches: Iterable[Match]) -> list[Node]:
    """The conditions of each match. Raises :exc:`TypeError`."""
    accepted = f'Match.{name} takes matches, as [Match(proto="tcp"), Match("orig.dport 80")]'
    if isinstance(matches, str) or not isinstance(matches, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{accepted}; got {describe_value(matches)}")
    nodes: list[Node] = []
    for match in matches:
        if not isinstance(match, Match):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"{accepted}; got {describe_value(match)}; Match(text) reads a text")
        nodes.append(match.node)
    return nodes
