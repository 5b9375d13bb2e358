"""How a user says which series are the channels of a case: rules, or a table; neither, and each series is a case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_rs.core.dicom.series import Series
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.exchange.dicom.channels import EXAMPLE, Rule, Studies, by_rules, read_rules
from nnunet_rs.exchange.dicom.series_table import by_table


@dataclass(frozen=True, slots=True)
class SeriesChoice:
    """Rules, a table, or neither."""

    rules: tuple[Rule, ...] = ()
    table: Path | None = None

    @classmethod
    def of(cls, rules: Sequence[str], table: Path | None) -> SeriesChoice:
        """Read what was given; errors as `read_rules`, and a DatasetError where both are."""
        if rules and table is not None:
            raise DatasetError("--channels and --series-table say the same in two ways; give one of them")
        return cls(read_rules(rules), table)

    @property
    def is_made(self) -> bool:
        """Whether the user says anything."""
        return bool(self.rules) or self.table is not None

    def studies(self, series: Sequence[Series], root: Path, channels: Sequence[str] = ()) -> Studies:
        """Make cases of the series of a folder that the user calls `root`.

        Parameters
        ----------
        channels
            What the model takes, in its order; empty: as the rules or the table have them.

        Raises
        ------
        DatasetError
            As `by_table` and `Studies.ordered`; no series is a channel.
        """
        found = by_table(self.table, series) if self.table is not None else by_rules(self.rules, series, root)
        if not found.cases:
            raise DatasetError(f"{root}: no series is one of the channels; `nnunet-rs dicom` lists them: {EXAMPLE}")
        return found.ordered(channels) if channels else found


EACH = SeriesChoice()  # each series is a case
