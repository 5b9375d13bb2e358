"""One image plane of a series, as its file's header tells of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

Vector: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Origin:
    """What the files of a series share."""

    series: str  # Series Instance UID
    study: str  # Study Instance UID
    modality: str  # "CT"
    description: str  # Series Description, words of the patient hidden
    protocol: str  # Protocol Name, likewise
    sequence: str  # Sequence Name, or that of the pulse sequence: "*tfl3d1"
    number: str  # Series Number
    frame_of_reference: str  # UID; empty: none
    personal: frozenset[str] = field(default=frozenset(), repr=False)  # words of the patient: `private.words_of`


@dataclass(frozen=True, slots=True)
class Plane:
    """A file's image, or one frame of a multi-frame file's."""

    file: Path
    frame: int  # from 0
    frames: int  # in the file
    uid: str  # SOP Instance UID
    sop_class: str  # SOP Class UID
    number: int  # Instance Number, for people
    origin: Origin
    size: tuple[int, int]  # rows, columns
    samples: int  # 3: colours
    white_is_zero: bool  # viewers show it inverted (MONOCHROME1)
    position: Vector | None  # of the first voxel's centre, mm, LPS
    rows: Vector | None  # where a row runs: unit vector along growing column index
    columns: Vector | None  # unit vector along growing row index
    pixel_spacing: tuple[float, float] | None  # between rows, between columns, mm
    thickness: float | None  # mm
    gap: float | None  # from slice to slice, mm, as the header says
    rescale: tuple[float, float]  # slope, intercept: 1, 0 where the header gives none
    lacks: int  # bytes of its pixels that the file does not hold; 0 where they are compressed: that is not known
    traits: tuple[tuple[str, str], ...]  # what tells images at one position apart: ("echo time", "4.6")
