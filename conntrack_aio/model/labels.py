"""The names of labels, as ``connlabel.conf`` has them."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ..errors import EncodeError
from ..plain import as_int, as_str
from .values import describe_value

BITS = 128
"""``NF_CT_LABELS_MAX_SIZE`` in bits."""

PATHS = ("/etc/xtables/connlabel.conf", "/etc/connlabel.conf")
"""Where iptables and conntrack(8) look, and where nftables does."""

Label = int | str
"""A label by its bit, 0 to 127, or by its name."""

_PATH: Final = ("labels",)
_BIT: Final = re.compile(r"0[xX]0*([0-9a-fA-F]{1,8})|0*([0-9]{1,8})")


def number_of(text: str) -> int | None:
    """Return the number that a text is, decimal or hexadecimal; ``None`` if it is none."""
    found = _BIT.fullmatch(text)
    if found is None:
        return None
    hexadecimal, decimal = found.groups()
    return int(decimal) if hexadecimal is None else int(hexadecimal, 16)


def is_name(label: object) -> bool:
    """Whether it takes names to know which bit a label is."""
    return issubclass(type(label), str) and number_of(as_str(label)) is None


class LabelNames:
    """Names of labels: what turns ``"web"`` into bit 3, and back.

    The kernel knows labels by their bits alone. Several names may have the same bit. A text that
    is a number, such as ``"5"``, is that bit, whatever has it as its name.
    """

    def __init__(self, names: Mapping[str, int] | None = None, source: str = "") -> None:
        """Make a set of names.

        :param names: the bit of each name.
        :param source: where the names come from, as errors say it.

        :raises EncodeError: which is a :exc:`ValueError`, for a bit that is not one of 0 to 127, or
            a name that is empty or surrounded by spaces.
        :raises TypeError: when the names are not a mapping, a name is not text, or a bit not an
            integer.
        """
        if names is not None and not issubclass(type(names), Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            shown = describe_value(names)
            raise TypeError(f"LabelNames takes a mapping of names to bits; got {shown}")
        self._bits: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._source = _text(source, "source")
        given: Mapping[str, int] = {} if names is None else names
        for name, bit in given.items():
            plain = _text(name, "the name of a label")
            try:
                self._add(plain, as_int(bit))
            except TypeError:
                shown = describe_value(bit)
                raise TypeError(f"the bit of a label must be an integer; got {shown}") from None

    def _add(self, name: str, bit: int) -> None:
        if not name or name != name.strip():
            raise EncodeError(f"{describe_value(name)} is not the name of a label", _PATH)
        if not 0 <= bit < BITS:
            shown = f"label {describe_value(name)} has bit {describe_value(bit)}"
            raise EncodeError(f"{shown}, which is not one of 0 to 127", _PATH)
        if self._bits.setdefault(name, bit) != bit:
            raise EncodeError(f"{describe_value(name)} has two bits", _PATH)
        if number_of(name) is None:
            self._names.setdefault(bit, name)

    @classmethod
    def parse(cls, text: str, source: str = "connlabel.conf") -> LabelNames:
        """Read lines of ``BIT NAME``; what begins with ``#`` is a comment.

        A bit is decimal, or hexadecimal as in ``0x1f``.

        :raises EncodeError: which is a :exc:`ValueError`, with the number of the line, for a line
            that is none of these, or that gives a name another bit.
        :raises TypeError: when it is not text.
        """
        text = _text(text, "what is parsed")
        names = cls(source=source)
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            bit, *rest = line.split(None, 1)
            try:
                value = number_of(bit)
                if value is None:
                    raise EncodeError(f"a line is BIT NAME, and {bit[:40]!r} is no number", _PATH)
                names._add(rest[0].strip() if rest else "", value)
            except EncodeError as error:
                where = f"{source}, line {number}: {line[:80]!r}"
                raise EncodeError(f"{where}: {error.reason}", _PATH) from None
        return names

    @classmethod
    def read(cls, path: str | os.PathLike[str] | None = None) -> LabelNames:
        """Read a file; without a path, the first of :data:`PATHS` that there is, or no names.

        :raises FileNotFoundError: when the file of this path does not exist.
        :raises EncodeError: which is a :exc:`ValueError`, with the path and the line, when a file
            can't be read, is not UTF-8, or has a line that :meth:`parse` refuses.
        """
        for each in PATHS if path is None else (os.fspath(path),):
            try:
                data = Path(each).read_bytes()
            except FileNotFoundError:
                if path is not None:
                    raise
                continue
            except OSError as error:
                if path is None and error.errno == errno.ENOTDIR:
                    continue  # its directory is no directory, so there is no such file
                raise EncodeError(f"{each} can't be read: {error.strerror}", _PATH) from error
            try:
                text = data.decode()
            except UnicodeDecodeError as error:
                line = data.count(b"\n", 0, error.start) + 1
                raise EncodeError(f"{each}, line {line}: this is not UTF-8", _PATH) from error
            return cls.parse(text, each)
        return cls({}, f"there is neither {' nor '.join(PATHS)}")

    def bit(self, label: Label) -> int:
        """Return the bit of a label. A number may be text: ``"5"`` or ``"0x1f"``.

        :raises EncodeError: for a name that is not known, a number that is not one of 0 to 127, and
            what is neither.
        """
        number: object = label
        if issubclass(type(label), str):
            name = as_str(label)
            number = number_of(name)
            if number is None:
                if name not in self._bits:
                    where = f" ({self._source})" if self._source else ""
                    raise EncodeError(f"there is no label named {name[:80]!r}{where}", _PATH)
                return self._bits[name]
        try:
            bit = as_int(number)
        except TypeError:
            wrong = f"an object of type {type(label).__name__}"
        else:
            if 0 <= bit < BITS:
                return bit
            wrong = str(bit) if abs(bit) < 1 << 64 else "so large a number"
        raise EncodeError(f"a label is a bit from 0 to 127 or a name, not {wrong}", _PATH)

    def mask(self, *labels: Label) -> int:
        """The labels as a bitmap, as in :attr:`Flow.labels`. Raises :exc:`EncodeError`."""
        mask = 0
        for label in labels:
            mask |= 1 << self.bit(label)
        return mask

    def names(self, labels: int | None) -> list[Label]:
        """Return the labels of a bitmap: by name, or by bit where there is none.

        ``None`` has no label.

        :raises TypeError: for what is neither an integer nor ``None``.
        :raises EncodeError: for a number that is negative or has more than 128 bits.
        """
        try:
            bits = 0 if labels is None else as_int(labels)
        except TypeError:
            shown = describe_value(labels)
            raise TypeError(f"labels must be an integer of 128 bits or None; got {shown}") from None
        if not 0 <= bits < 1 << BITS:
            raise EncodeError(f"{describe_value(bits)} is not a number of {BITS} bits", _PATH)
        return [self._names.get(bit, bit) for bit in range(bits.bit_length()) if bits >> bit & 1]

    def __repr__(self) -> str:
        return f"LabelNames({self._bits!r})"


def _text(value: object, what: str) -> str:
    try:
        return as_str(value)
    except TypeError:
        raise TypeError(f"{what} must be text; got {describe_value(value)}") from None
