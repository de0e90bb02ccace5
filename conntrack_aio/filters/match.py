"""Define :class:`Match`, a condition on flows for dumps, events, deletes and tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn, Self, Unpack

import attrs

from ..model.flow import Flow
from ..model.labels import LabelNames
from ..plain import describe_value
from .compiled import CompiledMatch
from .conditions import Conditions, node_of
from .describe import describe
from .explain import Explanation, HasFeatures, explain
from .nodes import Node
from .parser import Parser
from .predicate import Predicate
from .tree import all_of, any_of, negate


@attrs.frozen(init=False, repr=False)
class Match:
    """A condition on flows: a flow matches if all parts of it hold. ``Match()`` matches every flow.

    A match is immutable and hashable. Combine matches with ``a & b``, ``a | b`` and ``~a``. Call a
    match to test a flow: ``match(flow)``. ``str(match)`` is text that :meth:`parse` reads.

    A flow may lack fields that a match has conditions on. An absent mark, status or labels have no
    bit set, and an absent zone is 0: the kernel leaves out a mark of 0 and labels if none is set.
    For any other absent field no condition holds, so its negation holds.
    """

    _node: Node
    """The tree of conditions. Internal."""
    _compiled: CompiledMatch = attrs.field(eq=False)
    """The cached results of compiling the match. Internal."""

    def __init__(self, *text: str, **conditions: Unpack[Conditions]) -> None:
        """Create a match of which every text and every condition has to hold.

        A condition with several values, in any iterable, holds if one of the values holds; only
        ``labels_all`` needs all of them, and a mask is one value. An empty iterable matches no
        flow, whatever the condition. ``None`` is no condition. Numbers and
        networks can be objects or text. Integers can also be members of enums, NumPy integers and
        ``bool``.

        :param text: text as :meth:`parse` reads it: ``Match("proto tcp and orig.dport 80")``.
        :param family: ``socket.AF_INET`` or ``socket.AF_INET6``; ``"ipv4"`` or ``"inet"``,
            ``"ipv6"`` or ``"inet6"``.
        :param proto: the number of the protocol, or its name as in ``/etc/protocols``: ``"tcp"``.
        :param orig_src: the source address of the original direction: an address, a network or a
            range, as text or an object of :mod:`ipaddress`. ``orig_dst``, ``reply_src`` and
            ``reply_dst`` are the other addresses. IPv4-mapped addresses, and networks and ranges in
            ``::ffff:0:0/96``, mean IPv4, because a socket of both families reports its IPv4 peers
            in that form. To match the kernel's entries that have such addresses as IPv6, use a
            wider network such as ``::/0``, or text with brackets: ``"[::ffff:10.0.0.1]"``.
        :param orig_sport: a port, ``range(1024, 65536)`` or ``"80-90"``. ``orig_dport``,
            ``reply_sport`` and ``reply_dport`` are the other ports. ``orig_icmp_type``,
            ``orig_icmp_code``, ``orig_icmp_id`` and those of the reply take numbers in the same
            way.
        :param zone: the zone of both directions; 0 is the default zone. If only one direction of a
            flow has a zone, this condition does not hold.
        :param orig_zone: the zone of the original direction: its own, or that of both directions.
            ``reply_zone`` is that of the reply direction.
        :param mark: the mark, compared in all bits. Text can have a mask: ``"0x3/0xff"``.
        :param mark_mask: the bits of the mark to compare, instead of all.
        :param status: bits that are all set: ``Status.ASSURED | Status.SEEN_REPLY``, or names as in
            ``"assured|seen_reply"``. Of several values, as in ``[Status.ASSURED,
            Status.SEEN_REPLY]``, one has to hold. ``"unreplied"`` means that SEEN_REPLY is not set.
        :param status_unset: bits none of which is set. Of several values, one has to hold.
        :param state: the state of TCP, SCTP or DCCP, or its name. ``"established"`` is the state of
            any of these protocols, ``"tcp.established"`` that of one.
        :param labels: a label that is set, by number or by name. Of several labels, one has to be
            set. Text can be a value with a mask: ``"0x3/0xff"``.
        :param labels_mask: compare the bits of all labels that are in the mask, instead: ``labels``
            is then one number of 128 bits.
        :param labels_all: labels that are all set.
        :param label_names: the names of labels, instead of the system's ``connlabel.conf``.
        :param helper: the name of the helper.
        :param timeout: the seconds until the entry expires.
        :param orig_packets: the packets of the original direction, if they are counted
            (``nf_conntrack_acct``). Events contain counters only when a flow has ended.
            ``orig_bytes``, ``reply_packets`` and ``reply_bytes`` are the other counters.
        :param snat: whether the source is translated (``SRC_NAT``), or the addresses that it is
            translated to.
        :param dnat: whether the destination is translated (``DST_NAT``), or the addresses that it
            is translated to.
        :param id: the id that the kernel gives the entry.

        :raises MatchError: when a value is out of bounds, a mark has bits outside its mask, a label
            is unknown, a status is 0, or conditions are found to exclude each other, such as a port
            of an ICMP flow or an IPv6 address of family IPv4. Also when text is not a match, when
            conditions are nested too deep, and when ``connlabel.conf`` cannot be read.
        :raises TypeError: when a value is of the wrong type, and when a condition is unknown.
        """
        names = conditions.get("label_names")
        parsed = [Parser(part, names).parse() for part in text]
        node = node_of(conditions)
        self._initialize(all_of([*parsed, node]) if parsed else node)

    def _initialize(self, node: Node) -> None:
        object.__setattr__(self, "_node", node)
        object.__setattr__(self, "_compiled", CompiledMatch(node))

    @classmethod
    def _from_node(cls, node: Node) -> Self:
        match = cls.__new__(cls)
        match._initialize(node)
        return match

    @classmethod
    def parse(cls, text: str, *, label_names: LabelNames | None = None) -> Self:
        """Parse the text of a match: ``proto tcp and not orig.dst in 10.0.0.0/8``.

        - Join conditions with ``and``, ``or``, ``not`` and parentheses. ``not`` binds tightest and
          ``or`` loosest. ``all`` matches every flow, ``none`` no flow.
        - A condition is the name of a field and a value, or several values in braces:
          ``orig.dport in {80, 443, 8000-8080}``. The empty set ``{}`` matches no flow. ``in``,
          ``=`` or ``==`` can precede the value, except for ``snat`` and ``dnat``. ``!=`` negates
          the condition.
        - Fields have the names of the parameters of :class:`Match`, with a dot after the direction:
          ``orig.src``. Only ``labels`` differs: it is ``label``.
        - Numbers are decimal, or hexadecimal as in ``0x1f``. They can be compared:
          ``timeout < 30``.
        - Status bits and labels have names: ``status assured``, ``label web``. A value of several
          bits means all of them: ``status assured|seen_reply``. Several values mean one of them:
          ``status in {assured, seen_reply}``. ``assured`` and ``unreplied``, and no other status,
          are conditions by themselves, also in brackets as flows are printed.
        - A mark is ``3``, or ``0x3/0xff`` with a mask. The bits of all labels can be compared in
          the same way: ``label 0x3/0xff``.
        - ``snat`` and ``dnat`` are conditions by themselves, or with an address:
          ``snat to 192.0.2.0/24``.

        :param text: the text to parse.
        :param label_names: the names of labels, instead of the system's ``connlabel.conf``.

        :raises MatchError: when the text is not a match or can never be true, with the column; and
            when ``connlabel.conf`` cannot be read.
        :raises TypeError: when the value is not text.
        """
        return cls._from_node(Parser(text, label_names).parse())

    @classmethod
    def all(cls, matches: Iterable[Match]) -> Match:
        """Return a match for the flows that match all of the given matches.

        :raises MatchError: when they are found to exclude each other, or are nested too deep.
        :raises TypeError: when an item is not a match.
        """
        return Match._from_node(all_of(_nodes_of("all", matches)))

    @classmethod
    def any(cls, matches: Iterable[Match]) -> Match:
        """Return a match for the flows that match any of the given matches.

        For thousands of matches this is faster than joining them with ``|``.

        :raises MatchError: when they are nested too deep.
        :raises TypeError: when an item is not a match.
        """
        return Match._from_node(any_of(_nodes_of("any", matches)))

    def __and__(self, other: Match) -> Match:
        """Return a match for the flows that match both.

        :raises MatchError: when they are found to exclude each other, or are nested too deep.
        """
        if not isinstance(other, Match):  # pyright: ignore[reportUnnecessaryIsInstance]
            return NotImplemented
        return Match._from_node(all_of((self._node, other._node)))

    def __or__(self, other: Match) -> Match:
        """Return a match for the flows that match either.

        :raises MatchError: when they are nested too deep.
        """
        if not isinstance(other, Match):  # pyright: ignore[reportUnnecessaryIsInstance]
            return NotImplemented
        return Match._from_node(any_of((self._node, other._node)))

    def __invert__(self) -> Match:
        """Return a match for the flows that do not match.

        :raises MatchError: when it is nested too deep.
        """
        return Match._from_node(negate(self._node))

    def __bool__(self) -> NoReturn:
        """Refuse a truth value: ``a and b`` would silently be ``b`` alone.

        :raises TypeError: when it is called.
        """
        raise TypeError(
            "a Match has no truth value: combine matches with &, | and ~ instead of and, or and "
            "not; call match(flow) to test a flow"
        )

    @property
    def always(self) -> bool:
        """Whether every flow matches, as for ``x or not x``.

        This is found by a bounded search for a flow that does not match. If the search ends without
        a result, as for thousands of intricate conditions, this is ``False``.
        """
        return self._compiled.always

    @property
    def predicate(self) -> Predicate:
        """The compiled predicate, which is compiled at first use."""
        return self._compiled.predicate

    def __call__(self, flow: Flow) -> bool:
        """Return whether a flow matches.

        :raises TypeError: when the argument is not a flow.
        """
        try:
            return self._compiled.predicate(flow)
        except AttributeError:
            if isinstance(flow, Flow):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise
        has_flow = isinstance(getattr(flow, "flow", None), Flow)
        hint = "; for an event, call match(event.flow)" if has_flow else ""
        raise TypeError(f"a Match must be called with a Flow; got {describe_value(flow)}{hint}")

    async def prepare(self) -> Self:
        """Compile the program that events are filtered by, and the predicate; return the match.

        Methods that are awaited do this by themselves: for a match of many conditions, on a worker
        thread. :meth:`Connection.events` is not awaited. With thousands of conditions it blocks the
        event loop for some 10 µs for each condition, and as long again at the first event, unless
        this method was awaited before. A match of up to 256 values does not need it. The results
        are cached with this object, and not with others that are equal.
        """
        compiled = self._compiled
        await compiled.compute(
            lambda: (compiled.always, compiled.constant, compiled.program(), compiled.predicate)
        )
        return self

    async def explain(self, conn: HasFeatures) -> Explanation:
        """Explain which part of the match the kernel applies, and which part the library.

        ``print`` the result.

        :param conn: a :class:`Connection` to the kernel in question. Its features are probed, so
            this also raises what :meth:`Connection.features` raises.

        :raises TypeError: when ``conn`` is not a connection.
        """
        if not callable(getattr(conn, "features", None)):
            raise TypeError(f"explain() takes a Connection; got {describe_value(conn)}")
        features = await conn.features()
        return await self._compiled.compute(lambda: explain(self._compiled, features))

    def __str__(self) -> str:
        return describe(self._node)

    def __repr__(self) -> str:
        return f"Match.parse({str(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return self._from_node, (self._node,)


def compiled_of(match: Match) -> CompiledMatch:
    """Return the compiled form of a match, for the other modules of the package."""
    return match._compiled  # pyright: ignore[reportPrivateUsage]


def _nodes_of(name: str, matches: Iterable[Match]) -> list[Node]:
    """Return the nodes of several matches.

    :param name: the name of the method that takes them, for error messages.
    :param matches: the argument of the method.

    :raises TypeError: when the value is not an iterable of matches.
    """
    accepted = f'Match.{name} takes a list of matches: [Match(proto="tcp"), Match("orig.dport 80")]'
    if isinstance(matches, str) or not isinstance(matches, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{accepted}; got {describe_value(matches)}")
    nodes: list[Node] = []
    for match in matches:
        if not isinstance(match, Match):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"{accepted}; got {describe_value(match)}; to convert text, call Match(text)"
            )
        nodes.append(match._node)  # pyright: ignore[reportPrivateUsage]
    return nodes
