"""A parsed command line."""

# Annotations are evaluated here: a NamedTuple compiles each one that is a text, which would take a
# quarter of this module's import.

from typing import NamedTuple

from .actions import Action, Table
from .output_options import OutputOptions
from .tuple_values import TupleValues
from .values import IPAddress, Masked


class GivenNAT(NamedTuple):
    """What ``-n``, ``-g`` or ``-j`` gives: that there is a translation, and perhaps to what."""

    address: IPAddress | None = None
    port: int | None = None


class GivenStatus(NamedTuple):
    """The status bits of ``-u``."""

    bits: int
    """The bits that were named."""
    cleared: int
    """The bits that were named with ``!``, and that of ``UNREPLIED``."""


class Command(NamedTuple):
    """An action, and the values of its options; ``None`` for those that were not given."""

    action: Action = Action.NONE
    table: Table = Table.CONNTRACK
    given: frozenset[str] = frozenset()
    """The names of the options that were given."""
    output: OutputOptions = OutputOptions.NONE
    label_names: dict[str, int] | None = None
    """The bits of labels by name, if an option needed them and they could be read."""

    # Selecting and describing entries
    family: int = 0
    proto: int | None = None
    orig: TupleValues = TupleValues()
    reply: TupleValues = TupleValues()
    expected: TupleValues = TupleValues()
    """The tuple of an expectation."""
    mask: TupleValues = TupleValues()
    """The masks of an expectation, or those of the original direction's addresses."""
    src_nat: GivenNAT | None = None
    dst_nat: GivenNAT | None = None
    any_nat: GivenNAT | None = None
    zone: int | None = None
    mark: Masked | None = None
    status: GivenStatus | None = None
    timeout: int | None = None
    secmark: int | None = None
    id: int | None = None
    state: int | None = None
    """The state of TCP, SCTP or DCCP."""
    orig_vtag: int | None = None
    reply_vtag: int | None = None
    role: int | None = None
    labels: int = 0
    """The labels that have to be set."""
    labels_added: int | None = None
    """The labels to set."""
    labels_removed: int | None = None
    """The labels to clear."""

    # Events
    events: frozenset[str] = frozenset()
    """The words of the event mask."""
    buffer_size: int | None = None

    @property
    def networks(self) -> tuple[tuple[str, IPAddress, IPAddress], ...]:
        """The addresses of the original direction that are compared under a mask.

        Each has the name of its field, the address and the mask.
        """
        found: list[tuple[str, IPAddress, IPAddress]] = []
        for name, address, mask in (
            ("src", self.orig.src, self.mask.src),
            ("dst", self.orig.dst, self.mask.dst),
        ):
            if address is not None and mask is not None:
                found.append((name, address, mask))
        return tuple(found)
