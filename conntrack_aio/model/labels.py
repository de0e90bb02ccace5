"""Names of labels, from ``connlabel.conf``."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from typing import Final

from ..errors import EncodeError
from ..plain import as_int, as_str, describe_number
from ..suggestions import suggestion
from .values import describe_value

BITS = 128
"""The number of labels: ``NF_CT_LABELS_MAX_SIZE`` in bits."""

PATHS = ("/etc/xtables/connlabel.conf", "/etc/connlabel.conf")
"""The file that iptables and conntrack(8) read, and the one that nftables reads."""

Label = int | str
"""A label, by its bit, 0 to 127, or by its name."""

_PATH: Final = ("labels",)
_BIT: Final = re.compile(r"0[xX]0*([0-9a-fA-F]{1,8})|0*([0-9]{1,8})")


def number_of(text: str) -> int | None:
    """Return the value of a decimal or hexadecimal number, and ``None`` for any other text."""
    found = _BIT.fullmatch(text)
    if found is None:
        return None
    hexadecimal, decimal = found.groups()
    return int(decimal) if hexadecimal is None else int(hexadecimal, 16)


def is_name(label: object) -> bool:
    """Return whether a label is given by name, so that names are needed to find its bit."""
    return issubclass(type(label), str) and number_of(as_str(label)) is None


class LabelNames:
    """The names of labels: they map ``"web"`` to bit 3, and back.

    The kernel identifies labels by their bits. Several names may have the same bit. Text that is a
    number, such as ``"5"``, is that bit, even if a label has it as its name.
    """

    def __init__(self, names: Mapping[str, int] | None = None, source: str = "") -> None:
        """Create a set of names.

        :param names: the bit of each name.
        :param source: where the names come from, for error messages.
        :raises EncodeError: when a bit is not from 0 to 127, or when a name is empty or has spaces
            around it; this is a :exc:`ValueError`.
        :raises TypeError: when ``names`` is not a mapping, a name is not text, or a bit is not an
            integer.
        """
        if names is not None and not issubclass(type(names), Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            shown = describe_value(names)
            raise TypeError(f"names must be a mapping of names to bits; got {shown}")
        self._bits: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._source = _text(source, "source")
        given: Mapping[str, int] = {} if names is None else names
        for name, bit in given.items():
            plain = _text(name, "name of a label")
            try:
                self._add(plain, as_int(bit))
            except TypeError:
                shown = describe_value(bit)
                raise TypeError(f"the bit of a label must be an integer; got {shown}") from None

    def _add(self, name: str, bit: int) -> None:
        if not name or name != name.strip():
            raise EncodeError(
                f"a label's name must be text without spaces around it; got {describe_value(name)}",
                _PATH,
            )
        if not 0 <= bit < BITS:
            shown = describe_value(name)
            raise EncodeError(
                f"the bit of label {shown} must be from 0 to 127; got {describe_number(bit)}", _PATH
            )
        if self._bits.setdefault(name, bit) != bit:
            raise EncodeError(f"label {describe_value(name)} has two bits; remove one", _PATH)
        if number_of(name) is None:
            self._names.setdefault(bit, name)

    @classmethod
    def parse(cls, text: str, source: str = "connlabel.conf") -> LabelNames:
        """Parse lines of ``BIT NAME``. Lines that begin with ``#`` are comments.

        A bit is decimal, or hexadecimal such as ``0x1f``.

        :param text: the contents of a file.
        :param source: the name of the file, for error messages.
        :raises EncodeError: when a line is invalid, or when a name has two bits; it has the number
            of the line and is a :exc:`ValueError`.
        :raises TypeError: when ``text`` is not text.
        """
        text = _text(text, "text")
        names = cls(source=source)
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            bit, *rest = line.split(None, 1)
            try:
                value = number_of(bit)
                if value is None:
                    raise EncodeError(
                        f"a line must be BIT NAME, and BIT a number; got {bit[:40]!r}", _PATH
                    )
                names._add(rest[0].strip() if rest else "", value)
            except EncodeError as error:
                where = f"{source}, line {number}: {line[:80]!r}"
                raise EncodeError(f"{where}: {error.reason}", _PATH) from None
        return names

    @classmethod
    def read(cls, path: str | os.PathLike[str] | None = None) -> LabelNames:
        """Read a file.

        :param path: the file; by default the first of :data:`PATHS` that exists. If neither exists,
            there are no names.
        :raises FileNotFoundError: when the file of this path does not exist.
        :raises EncodeError: when a file cannot be read, is not UTF-8, or has an invalid line; it
            has the path and the line and is a :exc:`ValueError`.
        """
        for name in PATHS if path is None else (os.fspath(path),):
            try:
                with open(name, "rb") as file:
                    data = file.read()
            except FileNotFoundError:
                if path is not None:
                    raise
                continue
            except OSError as error:
                if path is None and error.errno == errno.ENOTDIR:
                    continue  # the directory is a file, so the path does not exist either
                raise EncodeError(f"{name} cannot be read: {error.strerror}", _PATH) from error
            try:
                text = data.decode()
            except UnicodeDecodeError as error:
                line = data.count(b"\n", 0, error.start) + 1
                raise EncodeError(f"{name}, line {line}: must be UTF-8", _PATH) from error
            return cls.parse(text, name)
        return cls({}, f"neither {' nor '.join(PATHS)} exists")

    def bit(self, label: Label) -> int:
        """Return the bit of a label. A number may also be text: ``"5"`` or ``"0x1f"``.

        :raises EncodeError: when a name is unknown, when a number is not from 0 to 127, or when the
            label is neither; this is a :exc:`ValueError`.
        """
        number: object = label
        if issubclass(type(label), str):
            name = as_str(label)
            number = number_of(name)
            if number is None:
                if name not in self._bits:
                    where = f" ({self._source})" if self._source else ""
                    hint = suggestion(name, self._bits)
                    raise EncodeError(f"unknown label {name[:80]!r}{where}{hint}", _PATH)
                return self._bits[name]
        try:
            bit = as_int(number)
        except TypeError:
            wrong = f"an object of type {type(label).__name__}"
        else:
            if 0 <= bit < BITS:
                return bit
            wrong = describe_number(bit)
        raise EncodeError(f"a label must be a bit from 0 to 127 or a name; got {wrong}", _PATH)

    def mask(self, *labels: Label) -> int:
        """Return labels as a bitmap, as in :attr:`Flow.labels`.

        :raises EncodeError: when :meth:`bit` raises it for a label.
        """
        mask = 0
        for label in labels:
            mask |= 1 << self.bit(label)
        return mask

    def names(self, labels: int | None) -> list[Label]:
        """Return the labels of a bitmap: by name, or by bit if they have none.

        :param labels: the bitmap; ``None`` means that there are no labels.
        :raises TypeError: when ``labels`` is neither an integer nor ``None``.
        :raises EncodeError: when ``labels`` is negative or has more than 128 bits.
        """
        try:
            bits = 0 if labels is None else as_int(labels)
        except TypeError:
            shown = describe_value(labels)
            raise TypeError(f"labels must be an integer or None; got {shown}") from None
        if not 0 <= bits < 1 << BITS:
            raise EncodeError(f"must be a number of {BITS} bits; got {describe_value(bits)}", _PATH)
        return [self._names.get(bit, bit) for bit in range(bits.bit_length()) if bits >> bit & 1]

    def __repr__(self) -> str:
        return f"LabelNames({self._bits!r})"


def _text(value: object, name: str) -> str:
    try:
        return as_str(value)
    except TypeError:
        raise TypeError(f"{name} must be text; got {describe_value(value)}") from None
