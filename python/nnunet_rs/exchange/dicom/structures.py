"""What a label is called in DICOM: name, colour, and codes from dataset.json or from the table of common structures."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from nnunet_rs.core.dataset_json import broken, shortened
from nnunet_rs.core.regions import painted
from nnunet_rs.core.types import LabelSet
from nnunet_rs.core.workspace import DATASET_JSON
from nnunet_rs.report.palette import class_colour

_WHITE = (0.9642, 1.0, 0.8249)  # D50, as ICC's and DICOM's CIELab have it
_TO_XYZ = (  # sRGB, adapted from D65 to D50 after Bradford
    (0.4360747, 0.3850649, 0.1430804),
    (0.2225045, 0.7168786, 0.0606169),
    (0.0139322, 0.0971045, 0.7141733),
)
_SIDES = {"left": "left", "l": "left", "lt": "left", "right": "right", "r": "right", "rt": "right"}
_ADVICE = 'write {"liver": ["SCT", "10200004", "Liver"]}: coding scheme, code and meaning for each name'


@dataclass(frozen=True, slots=True)
class Code:
    """A coded term."""

    scheme: str  # "SCT": SNOMED CT; those that begin with 99 are private
    value: str
    meaning: str


ANATOMY = Code("SCT", "91723000", "Anatomical Structure")  # of CID 7150
ABNORMAL = Code("SCT", "49755003", "Morphologically Abnormal Structure")
LEFT, RIGHT = Code("SCT", "7771000", "Left"), Code("SCT", "24028007", "Right")
PRIVATE = "99NNUNETRS"


@dataclass(frozen=True, slots=True)
class DicomStructure:
    """One label, or one region of labels."""

    name: str
    values: tuple[int, ...]  # of voxels inside it
    paint: int  # the value that it gets in a label file
    colour: tuple[int, int, int]  # red, green, blue, 0 … 255
    kind: Code
    category: Code
    side: Code | None = None

    @property
    def cielab(self) -> list[int]:
        """The colour as DICOM stores it: L, a, b in 16 bits each."""
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in (number / 255 for number in self.colour)
        ]
        x, y, z = (
            _root(sum(a * b for a, b in zip(row, linear, strict=True)) / white)
            for row, white in zip(_TO_XYZ, _WHITE, strict=True)
        )
        lightness, a, b = 116 * y - 16, 500 * (x - y), 200 * (y - z)
        scaled = (lightness * 65535 / 100, (a + 128) * 65535 / 255, (b + 128) * 65535 / 255)
        return [min(65535, max(0, round(number))) for number in scaled]


def _root(number: float) -> float:
    return number ** (1 / 3) if number > 216 / 24389 else (number * 24389 / 27 + 16) / 116


def structures_of(
    labels: LabelSet, content: Mapping[str, Any] | None = None, file: Path = Path(DATASET_JSON)
) -> tuple[DicomStructure, ...]:
    """Return the structures of a label set, the background and the ignore label left out.

    Parameters
    ----------
    labels
        Classes, or regions: these overlap.
    content
        Of dataset.json: its `codes` and `colours`, by name, come before the table's and the palette's.
    file
        Where that stands, for messages.

    Raises
    ------
    DatasetError
        `codes` or `colours` are malformed.
    """
    content = content or {}
    codes, colours = _codes(file, content.get("codes")), _colours(file, content.get("colours", content.get("colors")))
    if labels.regions:
        values = painted(labels)
        inside = [tuple(sorted({values[index] for index in region.classes} - {0})) for region in labels.regions]
        found = [(region.name, some, region.paint) for region, some in zip(labels.regions, inside, strict=True)]
    else:
        found = [(name, (value,), value) for name, value in zip(labels.names[1:], labels.values[1:], strict=True)]
    return tuple(
        _structure(name, some, paint, codes.get(name), colours.get(name) or _colour(index))
        for index, (name, some, paint) in enumerate(found, 1)
    )


def _structure(
    name: str, values: tuple[int, ...], paint: int, code: Code | None, colour: tuple[int, int, int]
) -> DicomStructure:
    known, abnormal, side = coded(name)
    kind = code or known or _private(name)
    if code is not None:
        abnormal = code.value in {value[1] for value in _table()["lesions"].values()}
    return DicomStructure(name, values, paint, colour, kind, ABNORMAL if abnormal else ANATOMY, side)


def coded(name: str) -> tuple[Code | None, bool, Code | None]:
    """Look a name up in the table; return its code, whether it is a lesion, and the side that the name tells."""
    words = re.split(r"[\W_]+", name.casefold().strip())
    sides = [_SIDES[word] for word in words if word in _SIDES]
    side = {"left": LEFT, "right": RIGHT}[sides[0]] if sides else None
    rest = [word for word in words if word and word not in _SIDES]
    unnumbered = [word for word in rest if not word.isdigit()]
    for candidate in (words, rest, unnumbered):
        text = " ".join(candidate)
        for form in (text, text.removesuffix("s")):
            entry = _table()["synonyms"].get(form, form)
            for kind in ("structures", "lesions"):
                if entry in _table()[kind]:
                    return Code(*_table()[kind][entry]), kind == "lesions", None if candidate is words else side
    return None, False, side


@cache
def _table() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("structures.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def _private(name: str) -> Code:
    """Return a code of a scheme of our own: the name, shortened with its hash where it is long."""
    plain = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
    if not plain or len(plain) > 16:
        plain = (plain[:9] + "_" if plain else "") + hashlib.sha256(name.encode()).hexdigest()[:6].upper()
    return Code(PRIVATE, plain, name[:64])


def _colour(index: int) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in class_colour(index))
    return red, green, blue


def _codes(file: Path, found: Any) -> dict[str, Code]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise broken(file, "codes", f"is {shortened(found)}, not an object", _ADVICE)
    for name, code in found.items():
        whole = isinstance(code, list) and len(code) == 3 and all(isinstance(part, str) and part for part in code)
        if not whole or len(code[0]) > 16 or len(code[1]) > 16 or len(code[2]) > 64:
            raise broken(file, "codes", f"has '{name}' = {shortened(code)}", _ADVICE)
    return {name: Code(*code) for name, code in found.items()}


def _colours(file: Path, found: Any) -> dict[str, tuple[int, int, int]]:
    if found is None:
        return {}
    advice = 'write {"liver": [221, 130, 101]}: red, green, blue from 0 to 255 for each name'
    if not isinstance(found, dict):
        raise broken(file, "colours", f"is {shortened(found)}, not an object", advice)
    for name, colour in found.items():
        whole = isinstance(colour, list) and len(colour) == 3 and all(type(part) is int for part in colour)
        if not whole or not all(0 <= part <= 255 for part in colour):
            raise broken(file, "colours", f"has '{name}' = {shortened(colour)}", advice)
    return {name: (colour[0], colour[1], colour[2]) for name, colour in found.items()}
