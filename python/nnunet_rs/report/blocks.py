"""What a report's page is made of. Sections say what there is; the template says how it looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from nnunet_rs.report.charts import Chart
from nnunet_rs.report.slices import Slices
from nnunet_rs.report.steps import Step
from nnunet_rs.report.tables import Table


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Points:
    """A list of sentences."""

    items: tuple[str, ...]
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Charts:
    """Drawings side by side, as many as there is room for."""

    charts: tuple[Chart, ...]
    caption: str
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not there yet, and the commands that make it."""

    text: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """A class in a viewer: what it looks like in each layer, and a number."""

    name: str
    reference: str  # data URI; empty: there is no reference
    prediction: str  # data URI
    value: str  # its score, or its volume
    agreement: str = ""  # Dice between the folds; empty: unknown


@dataclass(frozen=True, slots=True)
class Viewer:
    """One case to scroll through."""

    rank: str  # best, median, worst; or which of how many
    name: str
    label: str  # of the number beside the name: mean Dice
    value: str  # that number
    channels: tuple[str, ...]
    views: tuple[Slices, ...]  # a plane each, that to begin with first
    legend: tuple[LegendEntry, ...]
    measure: str  # what the legend's numbers are: Dice, ml
    missed: str = ""  # data URI: what is in the reference alone; empty: there is no reference
    extra: str = ""  # data URI: what is in the prediction alone
    notes: tuple[str, ...] = ()  # sentences above the pictures

    @property
    def agreement(self) -> bool:
        """Whether the legend tells how far the folds agree."""
        return any(entry.agreement for entry in self.legend)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers over the image, from the lowest to the topmost."""
        return ("prediction", "reference", "difference") if self.missed else ("prediction",)


@dataclass(frozen=True, slots=True)
class Folded:
    """Details that open on demand."""

    title: str
    blocks: tuple[Block, ...]


Block: TypeAlias = Text | Points | Charts | Missing | Viewer | Folded | Table


@dataclass(frozen=True, slots=True)
class Section:
    """A chapter of the page."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that stands for itself."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cover:
    """The head of the page."""

    title: str
    deck: str  # one or two sentences that sum everything up
    figures: tuple[Figure, ...]
    status: Table
    steps: tuple[Step, ...]
    remarks: tuple[str, ...]  # what is damaged or no longer where it was
    kicker: str = "Report"  # above the title: what kind of page it is
