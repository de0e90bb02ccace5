"""The values of a tuple that a command line gives: some or all of them."""

# Annotations are evaluated here: a NamedTuple compiles each one that is a text, which would take a
# quarter of this module's import.

from typing import TYPE_CHECKING, NamedTuple, Self

from ...errors import EncodeError
from .protocols import ICMP
from .values import IPAddress

if TYPE_CHECKING:
    from ...model.tuples import Tuple


class TupleValues(NamedTuple):
    """The values of one direction that were given; ``None`` for others."""

    src: IPAddress | None = None
    dst: IPAddress | None = None
    proto: int | None = None
    sport: int | None = None
    dport: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    icmp_id: int | None = None
    zone: int | None = None

    @property
    def has_address(self) -> bool:
        """Whether an address was given."""
        return self.src is not None or self.dst is not None

    @property
    def inverse(self) -> Self:
        """The values of the other direction, if nothing is translated. They have no zone."""
        return self._replace(
            src=self.dst,
            dst=self.src,
            sport=self.dport,
            dport=self.sport,
            icmp_type=inverse_icmp_type(self.proto, self.icmp_type),
            zone=None,
        )

    def to_tuple(self, proto: int) -> "Tuple":
        """Return a tuple with these values. An address that was not given is zero.

        :param proto: the protocol.
        :raises EncodeError: when no address was given, or when values do not fit the protocol.
        """
        from ...model.tuples import Tuple

        given = self.src if self.src is not None else self.dst
        if given is None:
            raise EncodeError("must have an address")
        zero = type(given)(0)
        src = zero if self.src is None else self.src
        dst = zero if self.dst is None else self.dst
        # The constructor would convert two IPv4-mapped addresses to IPv4.
        result = Tuple(**self._replace(src=zero, dst=zero, proto=proto)._asdict())
        result.src, result.dst = src, dst
        return result


def inverse_icmp_type(proto: int | None, icmp_type: int | None) -> int | None:
    """Return the ICMP type of replies; ``None`` if there are none."""
    if icmp_type is None:
        return None
    from ...model.tuples import ICMP_INVERSE, ICMPV6_INVERSE

    return (ICMP_INVERSE if proto == ICMP else ICMPV6_INVERSE).get(icmp_type)
