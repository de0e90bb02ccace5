"""A condition on flows: one value, for dumps, events, deletes and tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self, Unpack

import attrs

from ..model.flow import Flow
from ..model.labels import LabelNames
from .conditions import Conditions, node_of
from .explain import Explanation, Kernel, explain
from .nodes import Node
from .parser import Parser
from .predicate import Predicate, compile_predicate
from .tree import every, is_always, negate, some
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
    _predicate: Predicate | None = attrs.field(eq=False)

    def __init__(self, **conditions: Unpack[Conditions]) -> None:
        """Each condition that is given has to hold; of several values, one. ``None`` is no
        condition. Numbers and networks are objects or text, as they are and in any iterable.

        :param family: ``socket.AF_INET`` or ``socket.AF_INET6``.
        :param proto: the protocol's number, or its name: ``"tcp"``.
        :param orig_src: the original direction's source: an address, a network or a range, an
            object of :mod:`ipaddress` or text; or several. So ``orig_dst``, ``reply_src`` and
            ``reply_dst``.
        :param orig_sport: a port, ``range(1024, 65536)``, ``"80-90"``; or several. So
            ``orig_dport``, ``reply_sport``, ``reply_dport``; and ``orig_icmp_type``,
            ``orig_icmp_code``, ``orig_icmp_id`` and those of the reply.
        :param zone: the zone of both directions; 0 is the default zone. A flow of which one
            direction has a zone of its own has none.
        :param orig_zone: the zone of the original direction, be it its own or that of both. So
            ``reply_zone``.
        :param mark: those bits of the mark that ``mark_mask`` has: all, without one.
        :param status: bits that are all set.
        :param status_unset: bits of which none is set.
        :param state: the state of TCP, SCTP or DCCP, or its name. ``"established"`` is that of
            whatever protocol, ``"tcp.established"`` that of one.
        :param labels: labels that are all set, by number or by name.
        :param label_names: what the names of labels mean, instead of the system's connlabel.conf.
        :param helper: the name of the helper.
        :param timeout: seconds until it expires.
        :param orig_packets: packets of the original direction, where they are counted
            (``nf_conntrack_acct``); events tell counters only when a flow has ended. So
            ``orig_bytes``, ``reply_packets`` and ``reply_bytes``.
        :param snat: whether its source is translated (``SRC_NAT``), or what to.
        :param dnat: whether its destination is translated (``DST_NAT``), or what to.
        :param id: the kernel's id of the flow.

        Raises :exc:`MatchError` for what can never be true: a value out of bounds, an empty set,
        conditions that exclude each other (a port of an ICMP flow, an IPv6 address of an IPv4
        family), a mark outside its mask, a label without a name; and :exc:`TypeError` for a value
        of another type.
        """
        self._begin(node_of(conditions))

    def _begin(self, node: Node) -> None:
        object.__setattr__(self, "node", node)
        object.__setattr__(self, "_predicate", None)

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
        ``!=`` denies it. Numbers can be compared: ``timeout < 30``. The fields are named as the
        parameters of :class:`Match`, with a point after the direction: ``orig.src``. Bits are
        named one by one, ``status assured``, ``label web``; a mark is ``3``, or ``0x3/0xff`` under
        a mask. ``snat`` and ``dnat`` stand alone, or before ``to 192.0.2.0/24``. ``all`` is every
        flow, ``none`` no flow.

        Raises :exc:`MatchError`, which says the column, for a text that is no match or can never
        be true.
        """
        return cls._of(Parser(text, label_names).parse())

    @classmethod
    def all(cls, matches: Iterable[Match]) -> Match:
        """Flows that match all of them. Raises :exc:`MatchError` where none can."""
        return Match._of(every(match.node for match in matches))

    @classmethod
    def any(cls, matches: Iterable[Match]) -> Match:
        """Flows that match any of them: of thousands, sooner made than by ``|``."""
        return Match._of(some(match.node for match in matches))

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

    @property
    def always(self) -> bool:
        """Whether every flow matches, as far as its form tells: so do those of ``x or not x``."""
        return is_always(self.node)

    @property
    def predicate(self) -> Predicate:
        """The function that calling it calls."""
        predicate = self._predicate
        if predicate is None:
            predicate = compile_predicate(self.node)
            object.__setattr__(self, "_predicate", predicate)
        return predicate

    def __call__(self, flow: Flow) -> bool:
        """Whether a flow matches."""
        return self.predicate(flow)

    async def explain(self, conn: Kernel) -> Explanation:
        """What is done of it where, with this connection's kernel: ``print`` it.

        Raises what :meth:`Connection.features` does: it asks the kernel what it can do.
        """
        return explain(self.node, await conn.features())

    def __str__(self) -> str:
        return describe(self.node)

    def __repr__(self) -> str:
        return f"Match.parse({str(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return self._of, (self.node,)
