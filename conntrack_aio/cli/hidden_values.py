"""Find out which settings of the kernel may hide values that a list was asked for."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from .column_values import Value
from .flow_columns import FlowColumn, setting_of


class HiddenValues:
    """The columns in which flows lack a value, where the kernel records it only by a setting."""

    def __init__(self, columns: Sequence[FlowColumn]) -> None:
        """Start without rows.

        :param columns: the columns that are printed or sorted by.
        """
        self._unseen = {
            place: setting
            for place, column in enumerate(columns)
            if (setting := setting_of(column)) is not None
        }
        self._lacking: dict[int, str] = {}

    def look_at(self, rows: Iterable[Sequence[Value]]) -> None:
        """Look for columns without a value in rows."""
        if not self._unseen:
            return
        for row in rows:
            for place in [place for place in self._unseen if row[place] is None]:
                self._lacking[place] = self._unseen.pop(place)

    def settings(self, left_out: Container[int] = ()) -> set[str]:
        """Return the settings, as fields of :class:`ConntrackSysctls`.

        :param left_out: the places of columns that were not printed after all.
        """
        return {setting for place, setting in self._lacking.items() if place not in left_out}
