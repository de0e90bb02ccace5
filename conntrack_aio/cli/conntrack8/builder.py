"""Collect the values of the options of one command line."""

from __future__ import annotations

from ipaddress import IPv4Address
from socket import AF_INET, AF_INET6
from typing import Final

from . import values
from .commands import Command, GivenNAT, GivenStatus
from .label_names import ALL_LABELS
from .messages import CommandFailure, invalid
from .output_options import OutputOptions
from .protocols import BY_NUMBER, Protocol
from .tuple_values import TupleValues, inverse_icmp_type
from .values import IPAddress

_UNREPLIED: Final = "UNREPLIED"
"""A word of ``-u`` that cannot be shortened or negated."""

OUTPUT_WORDS: Final = {
    "XML": OutputOptions.XML,
    "EXTENDED": OutputOptions.EXTENDED,
    "TIMESTAMP": OutputOptions.TIMESTAMP,
    "ID": OutputOptions.ID,
    "KTIMESTAMP": OutputOptions.KTIMESTAMP,
    "LABELS": OutputOptions.LABELS,
    "USERSPACE": OutputOptions.USERSPACE,
    "SAVE": OutputOptions.SAVE,
}

EVENT_WORDS: Final = ("ALL", "NEW", "UPDATES", "DESTROY")

_DIRECTIONS: Final = {"reply": "reply", "tuple": "expected", "mask": "mask"}
"""The field of a command for the first word of an option's name."""


class CommandBuilder:
    """The values of the options that were read so far."""

    def __init__(self) -> None:
        self.command = Command()
        self.protocol: Protocol | None = None

    def set(self, **changes: object) -> None:
        """Set fields of the command."""
        self.command = self.command._replace(**changes)  # type: ignore[arg-type]

    def _set_in(self, direction: str, **changes: object) -> None:
        """Set fields of one of the command's tuples."""
        before: TupleValues = getattr(self.command, direction)
        self.set(**{direction: before._replace(**changes)})  # type: ignore[arg-type]

    # -- addresses ----------------------------------------------------------------------------

    def set_family(self, family: int) -> None:
        """Set the address family.

        :raises CommandFailure: when another one was given.
        """
        if self.command.family not in (0, family):
            raise invalid("mismatched address family")
        self.set(family=family)

    def set_address(self, option: str, text: str) -> None:
        """Set an address of the original direction or of an expectation, perhaps with a mask.

        :param option: ``src``, ``dst``, ``tuple-src`` or ``tuple-dst``.
        """
        first, _, end = option.rpartition("-")
        address, bits = self._split_address(text)
        self._set_in(_DIRECTIONS.get(first, "orig"), **{end: address})
        mask = None if bits is None else values.parse_prefix(bits, address)
        if mask is not None:
            self.set(given=self.command.given | {f"mask-{end}"})
            self._set_in("mask", **{end: mask})

    def set_plain_address(self, option: str, text: str) -> None:
        """Set an address of the reply direction, or a mask."""
        first, _, end = option.rpartition("-")
        self._set_in(_DIRECTIONS[first], **{end: self._plain_address(option, text)})

    def set_nat(self, option: str, text: str | None) -> None:
        """Set a translation.

        :param option: ``src-nat``, ``dst-nat`` or ``any-nat``.
        :param text: the address and port; ``None`` for any.
        """
        field = option.replace("-", "_")
        if text is None:
            before: GivenNAT | None = getattr(self.command, field)
            self.set(**{field: before or GivenNAT()})
            return
        name, port = values.split_endpoint(text)
        address = self._plain_address(option, name)
        self.set(**{field: GivenNAT(address, port)})
        if option == "any-nat" and address.version == 4:
            # In the program the address takes the place of that of `-s`, and the number of its
            # family that of its first byte. So with most other options nothing matches.
            self._set_in("orig", src=IPv4Address(bytes([AF_INET]) + address.packed[1:]))

    def _plain_address(self, option: str, text: str) -> IPAddress:
        """Parse an address for an option that takes no mask.

        :raises CommandFailure: when the text is not valid.
        """
        address, bits = self._split_address(text)
        if bits is not None:
            raise invalid(f"CIDR notation unavailable for `--{option}'")
        return address

    def _split_address(self, text: str) -> tuple[IPAddress, str | None]:
        """Parse an address that must be of the command's family.

        :returns: the address, and the text that follows a ``/`` behind it.
        :raises CommandFailure: when the text is not an address, or the family is another.
        """
        address, bits = values.split_address(text)
        self.set_family(AF_INET if address.version == 4 else AF_INET6)
        return address, bits

    def set_zone(self, option: str, text: str) -> None:
        """Set a zone: of both directions, or of one."""
        zone = values.parse_unsigned(text, 16)
        if option == "zone":
            self.set(zone=zone)
        else:
            self._set_in(option.removesuffix("-zone"), zone=zone)

    # -- values of entries --------------------------------------------------------------------

    def set_protocol(self, text: str) -> None:
        """Set the protocol, whose options become known."""
        number = values.parse_protocol(text)
        self.protocol = BY_NUMBER.get(number)
        self.set(proto=number)
        self._set_in("orig", proto=number)

    def set_status(self, text: str) -> None:
        """Set status bits, and those to compare."""
        from .state_words import SEEN_REPLY, STATUS_WORDS

        bits = cleared = 0
        for word, negated in values.parse_words(text, STATUS_WORDS, _UNREPLIED, negatable=True):
            if word == _UNREPLIED:
                cleared |= SEEN_REPLY
            elif negated:
                cleared |= STATUS_WORDS[word]
            else:
                bits |= STATUS_WORDS[word]
        before = self.command.status or GivenStatus(0, 0)
        self.set(status=GivenStatus(before.bits | bits, before.cleared | cleared))

    def set_label_filter(self, text: str) -> None:
        """Add labels that have to be set."""
        self.set(labels=self.command.labels | self._labels(text))

    def add_labels(self, text: str) -> None:
        """Add labels to set."""
        self.set(labels_added=(self.command.labels_added or 0) | self._labels(text))
        self._check_label_changes()

    def remove_labels(self, text: str | None) -> None:
        """Add labels to clear, or all labels."""
        removed = ALL_LABELS
        if text is None:
            self._read_label_names()
        else:
            removed = self._labels(text)
        self.set(labels_removed=(self.command.labels_removed or 0) | removed)
        self._check_label_changes()

    def _check_label_changes(self) -> None:
        if self.command.labels_added is not None and self.command.labels_removed is not None:
            raise CommandFailure("cannot use --label-add and --label-del at the same time")

    def _labels(self, text: str) -> int:
        """Return the labels of names with commas between them.

        :raises CommandFailure: when a name is unknown.
        """
        names = self._read_label_names()
        labels = 0
        for name in text.split(","):
            bit = names.get(name)
            if bit is None:
                raise invalid(f"unknown label '{name}'")
            labels |= 1 << bit
        return labels

    def _read_label_names(self) -> dict[str, int]:
        """Return the bits of labels by name. A file that cannot be read is reported each time."""
        if self.command.label_names is None:
            from .label_names import read_label_names

            self.set(label_names=read_label_names())
        return self.command.label_names or {}

    # -- output and events --------------------------------------------------------------------

    def set_output(self, text: str) -> None:
        """Add output options."""
        output = self.command.output
        for word, _ in values.parse_words(text, OUTPUT_WORDS):
            output |= OUTPUT_WORDS[word]
            if word == "LABELS":
                self._read_label_names()
        if OutputOptions.SAVE in output and output != OutputOptions.SAVE:
            raise CommandFailure(
                "cannot combine save output with any other output type, use -o save only"
            )
        self.set(output=output)

    def set_events(self, text: str) -> None:
        """Add types of events."""
        words = {word for word, _ in values.parse_words(text, EVENT_WORDS)}
        self.set(events=self.command.events | words)

    # -- options of protocols -----------------------------------------------------------------

    def set_protocol_value(self, option: str, text: str) -> None:
        """Set the value of an option of a protocol.

        :param option: the name of the option in messages.
        """
        assert self.protocol is not None
        if option == "state":
            from .state_words import STATES

            name, states = STATES[self.protocol.number]
            self.set(state=values.parse_state(text, name, states))
        elif option == "role":
            from .state_words import ROLES

            if text not in ROLES:
                raise invalid(f"Unknown DCCP role `{text}'")
            self.set(role=ROLES[text])
        elif option.endswith("-vtag"):
            self.set(**{option.replace("-", "_"): values.parse_decimal(text, 32)})
        elif option.startswith("icmp"):
            self._set_icmp_value(option.partition("-")[2], text)
        else:
            self._set_port(option, text)

    def _set_icmp_value(self, field: str, text: str) -> None:
        number = values.parse_decimal(text, 16 if field == "id" else 8)
        inverse = inverse_icmp_type(self.command.proto, number) if field == "type" else number
        self._set_in("orig", **{f"icmp_{field}": number})
        self._set_in("reply", **{f"icmp_{field}": inverse, "proto": self.command.proto})

    def _set_port(self, option: str, text: str) -> None:
        """Set a port or key: of ``sport``, ``srckey``, ``reply-port-src``, ``mask-key-dst`` …"""
        if "key" in option:
            number = values.parse_unsigned(text, 16)
        else:
            number = values.parse_decimal(text, 16)
        direction = _DIRECTIONS.get(option.partition("-")[0], "orig")
        field = "sport" if option in ("sport", "srckey") or option.endswith("-src") else "dport"
        self._set_in(direction, **{field: number, "proto": self.command.proto})
