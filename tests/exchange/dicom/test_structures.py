"""What labels are called in DICOM: the table of codes against the dictionaries of pydicom and highdicom; colours."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

pytest.importorskip("pydicom")

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.types import LabelSet
from nnunet_rs.exchange.dicom.structures import ABNORMAL, ANATOMY, LEFT, PRIVATE, RIGHT, Code, coded, structures_of
from pydicom.sr import _snomed_dict, codedict

TABLE: dict[str, Any] = json.loads(resources.files("nnunet_rs.exchange.dicom").joinpath("structures.json").read_text())
ENTRIES = {name: tuple(code) for kind in ("structures", "lesions") for name, code in TABLE[kind].items()}


def known_codes() -> dict[str, set[str]]:
    """Meanings of every SNOMED CT code that the context groups of pydicom's dictionary hold, lower case."""
    meanings: dict[str, set[str]] = {}
    for codes in codedict.CONCEPTS["SCT"].values():
        for value, (meaning, *_) in codes.items():
            meanings.setdefault(value, set()).add(meaning.lower())
    return meanings


def test_every_code_stands_in_pydicoms_dictionary_with_that_meaning() -> None:
    known = known_codes()
    wrong = {
        name: code
        for name, code in ENTRIES.items()
        if code[0] != "SCT" or code[2].lower() not in known.get(code[1], set())
    }
    assert wrong == {}
    assert len(ENTRIES) > 150


def test_names_are_those_of_their_meanings() -> None:
    """An entry's name is its code's meaning, or another name of it: "thyroid" of "Thyroid gland"."""
    strangers = {
        name: code[2] for name, code in ENTRIES.items() if not set(name.split()) & set(code[2].lower().split())
    }
    assert strangers == {}


def test_codes_are_those_that_highdicom_takes() -> None:
    highdicom = pytest.importorskip("highdicom")
    for scheme, value, meaning in ENTRIES.values():
        concept = highdicom.sr.CodedConcept(value, scheme, meaning)
        assert (concept.value, concept.scheme_designator, concept.meaning) == (value, scheme, meaning)


def test_no_code_is_one_that_snomed_has_retired() -> None:
    """pydicom maps the retired SRT codes onto those that stand for them: all of the table's are of the new ones."""
    assert {code[1] for code in ENTRIES.values() if code[1] in _snomed_dict.mapping.get("SRT", {})} == set()


def test_fixed_codes_stand_in_the_dictionary_too() -> None:
    known = known_codes()
    for code in (ANATOMY, ABNORMAL, LEFT, RIGHT):
        assert code.meaning.lower() in known[code.value]
    categories = {code.value for code in codedict.codes.cid7150.concepts.values()}
    assert {ANATOMY.value, ABNORMAL.value} <= categories


def test_synonyms_lead_to_entries() -> None:
    assert {name: entry for name, entry in TABLE["synonyms"].items() if entry not in ENTRIES} == {}
    assert set(TABLE["synonyms"]) & set(ENTRIES) == set()


@pytest.mark.parametrize(
    ("name", "meaning", "abnormal", "side"),
    [
        ("liver", "Liver", False, None),
        ("Kidney_Left", "Kidney", False, LEFT),
        ("right lung", "Lung", False, RIGHT),
        ("kidneys", "Kidney", False, None),
        ("heart_atrium_left", "Left atrium", False, None),
        ("vertebrae_L1", "L1 vertebra", False, None),
        ("rib_left_7", "Rib", False, LEFT),
        ("tumour", "Neoplasm", True, None),
        ("R kidney", "Kidney", False, RIGHT),
    ],
)
def test_names_are_looked_up(name: str, meaning: str, abnormal: bool, side: Code | None) -> None:
    code, found, where = coded(name)
    assert code is not None
    assert (code.meaning.lower(), found, where) == (meaning.lower(), abnormal, side)


def test_unknown_names_get_a_private_code_of_sixteen_characters_at_most() -> None:
    labels = LabelSet(("background", "odd thing", "an odd thing with a long name", "ü"), (0, 1, 2, 3))
    codes = [one.kind for one in structures_of(labels)]
    assert [code.scheme for code in codes] == [PRIVATE] * 3
    assert codes[0].value == "ODD_THING"
    assert all(0 < len(code.value) <= 16 for code in codes)
    assert len({code.value for code in codes}) == 3


def test_codes_and_colours_of_dataset_json_come_first() -> None:
    content = {"codes": {"liver": ["99ME", "1", "My liver"]}, "colours": {"liver": [255, 255, 255]}}
    (liver,) = structures_of(LabelSet(("background", "liver"), (0, 1)), content)
    assert (liver.kind, liver.colour) == (Code("99ME", "1", "My liver"), (255, 255, 255))
    assert liver.cielab == pytest.approx([65535, 32896, 32896], abs=40)  # white


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"codes": ["liver"]}, "codes"),
        ({"codes": {"liver": ["SCT", "1"]}}, "'liver'"),
        ({"codes": {"liver": ["SCT", "1" * 17, "Liver"]}}, "'liver'"),
        ({"colours": {"liver": [1, 2]}}, "'liver'"),
        ({"colors": {"liver": [1, 2, 256]}}, "'liver'"),
        ({"colours": 3}, "colours"),
    ],
)
def test_malformed_codes_and_colours_are_refused(content: dict[str, Any], told: str) -> None:
    with pytest.raises(DatasetError, match=r"dataset\.json") as caught:
        structures_of(LabelSet(("background", "liver"), (0, 1)), content)
    assert told in str(caught.value)
