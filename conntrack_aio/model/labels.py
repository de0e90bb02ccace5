"""The names of labels, as ``connlabel.conf`` has them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import EncodeError

BITS = 128
"""``NF_CT_LABELS_MAX_SIZE`` in bits."""

PATHS = ("/etc/xtables/connlabel.conf", "/etc/connlabel.conf")
"""Where iptables and conntrack(8) look, and where nftables does."""

Label = int | str
"""A label by its bit, 0 to 127, or by its name."""


class LabelNames:
    """Names of labels: what turns ``"web"`` into bit 3, and back.

    The kernel knows labels by their bits alone. ``names[name]`` is a bit; several names may have
    the same one.
    """

    def __init__(self, names: Mapping[str, int] | None = None, source: str = "") -> None:
        """Raises :exc:`ValueError` for a bit that is not one of 0 to 127, or an empty name.

        ``source`` says in errors where the names come from.
        """
        self._bits = dict(names or {})
        self._source = source
        for name, bit in self._bits.items():
            if not name or name != name.strip():
                raise ValueError(f"{name!r} is not the name of a label")
            if not 0 <= bit < BITS:
                raise ValueError(f"label {name!r} has bit {bit}, which is not one of 0 to 127")
        self._names: dict[int, str] = {}
        for name, bit in self._bits.items():
            self._names.setdefault(bit, name)

    @classmethod
    def parse(cls, text: str, source: str = "connlabel.conf") -> LabelNames:
        """Read lines of ``BIT NAME``; what begins with ``#`` is a comment.

        Raises :exc:`ValueError` with the number of a line that is none, or that gives a name
        another bit.
        """
        names: dict[str, int] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            bit, *rest = line.split(None, 1)
            name = rest[0].strip() if rest else ""
            try:
                value = int(bit, 16) if bit.lower().startswith("0x") else int(bit)
                cls({name: value})
            except ValueError as error:
                raise ValueError(f"{source}, line {number}: {line!r}: {error}") from None
            if names.setdefault(name, value) != value:
                raise ValueError(f"{source}, line {number}: {name!r} has two bits")
        return cls(names, source)

    @classmethod
    def read(cls, path: str | os.PathLike[str] | None = None) -> LabelNames:
        """Read a file; without a path, the first of :data:`PATHS` that there is, or no names.

        Raises :exc:`OSError` for one that can't be read, and :exc:`ValueError` as :meth:`parse`.
        """
        for each in PATHS if path is None else (os.fspath(path),):
            try:
                return cls.parse(Path(each).read_text(), each)
            except FileNotFoundError:
                if path is not None:
                    raise
        return cls({}, f"there is neither {' nor '.join(PATHS)}")

    def bit(self, label: Label) -> int:
        """The bit of a label. Raises :exc:`EncodeError` for one that there is not."""
        if isinstance(label, str):
            if label not in self._bits:
                where = f" ({self._source})" if self._source else ""
                raise EncodeError(f"there is no label named {label!r}{where}", ("labels",))
            return self._bits[label]
        if type(label) is not int or not 0 <= label < BITS:
            raise EncodeError(
                f"a label is a bit from 0 to 127 or a name, not {label!r}", ("labels",)
            )
        return label

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
