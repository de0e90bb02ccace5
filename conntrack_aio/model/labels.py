"""The names of labels, as ``connlabel.conf`` has them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ..errors import EncodeError
from ..plain import as_int, as_str

BITS = 128
"""``NF_CT_LABELS_MAX_SIZE`` in bits."""

PATHS = ("/etc/xtables/connlabel.conf", "/etc/connlabel.conf")
"""Where iptables and conntrack(8) look, and where nftables does."""

Label = int | str
"""A label by its bit, 0 to 127, or by its name."""

_PATH: Final = ("labels",)
_BIT: Final = re.compile(r"0[xX][0-9a-fA-F]{1,8}|[0-9]{1,8}")


class LabelNames:
    """Names of labels: what turns ``"web"`` into bit 3, and back.

    The kernel knows labels by their bits alone. ``names[name]`` is a bit; several names may have
    the same one.
    """

    def __init__(self, names: Mapping[str, int] | None = None, source: str = "") -> None:
        """Make a set of names.

        :param names: the bit of each name.
        :param source: where the names come from, as errors say it.

        :raises EncodeError: which is a :exc:`ValueError`, for a bit that is not one of 0 to 127, or
            a name that is empty or surrounded by spaces.
        :raises TypeError: when a name is not text, or a bit not an integer.
        """
        self._bits: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._source = source
        for name, bit in (names or {}).items():
            self._add(as_str(name), as_int(bit))

    def _add(self, name: str, bit: int) -> None:
        if not name or name != name.strip():
            raise EncodeError(f"{name!r} is not the name of a label", _PATH)
        if not 0 <= bit < BITS:
            raise EncodeError(f"label {name!r} has bit {bit}, which is not one of 0 to 127", _PATH)
        if self._bits.setdefault(name, bit) != bit:
            raise EncodeError(f"{name!r} has two bits", _PATH)
        self._names.setdefault(bit, name)

    @classmethod
    def parse(cls, text: str, source: str = "connlabel.conf") -> LabelNames:
        """Read lines of ``BIT NAME``; what begins with ``#`` is a comment.

        A bit is decimal, or hexadecimal as in ``0x1f``.

        :raises EncodeError: which is a :exc:`ValueError`, with the number of the line, for a line
            that is none of these, or that gives a name another bit.
        """
        names = cls(source=source)
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            bit, *rest = line.split(None, 1)
            try:
                if not _BIT.fullmatch(bit):
                    raise EncodeError(f"a line is BIT NAME, and {bit[:40]!r} is no number", _PATH)
                value = int(bit, 16 if bit[:2] in ("0x", "0X") else 10)
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
                raise EncodeError(f"{each} can't be read: {error.strerror}", _PATH) from error
            try:
                text = data.decode()
            except UnicodeDecodeError as error:
                line = data.count(b"\n", 0, error.start) + 1
                raise EncodeError(f"{each}, line {line}: this is not UTF-8", _PATH) from error
            return cls.parse(text, each)
        return cls({}, f"there is neither {' nor '.join(PATHS)}")

    def bit(self, label: Label) -> int:
        """Return the bit of a label.

        :raises EncodeError: for a name that is not known, a number that is not one of 0 to 127, and
            what is neither.
        """
        if isinstance(label, str):
            name = as_str(label)
            if name not in self._bits:
                where = f" ({self._source})" if self._source else ""
                raise EncodeError(f"there is no label named {name[:80]!r}{where}", _PATH)
            return self._bits[name]
        try:
            bit = as_int(label)
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

    def of(self, labels: int | None) -> list[Label]:
        """The labels of a bitmap: by name, or by bit where there is none. ``None`` has no label."""
        bits = labels or 0
        return [self._names.get(bit, bit) for bit in range(bits.bit_length()) if bits >> bit & 1]

    def __repr__(self) -> str:
        return f"LabelNames({self._bits!r})"
