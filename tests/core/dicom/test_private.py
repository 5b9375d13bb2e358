"""What counts as the patient's name, and how paths are shown without it."""

from __future__ import annotations

from pathlib import Path

import pytest
from nnunet_rs.core.dicom.private import Shown, is_private, without_private, words_of
from nnunet_rs.core.issues import Issue

WORDS = words_of("Roe^Jane^A", "JR-0815", "")


def test_words_are_those_of_two_letters_and_more() -> None:
    assert words_of("Wu^Li^A", "7") == {"wu", "li"}
    assert {"roe", "jane", "jr", "0815"} == WORDS


@pytest.mark.parametrize("name", ["ROE_CT", "JaneRoe", "x-0815-1", "jr", "scan.jane"])
def test_names_that_tell_of_the_patient(name: str) -> None:
    assert is_private(name, WORDS)


@pytest.mark.parametrize(("name", "words"), [("ct_1", WORDS), ("slice001", {"001"}), ("liver", {"li"}), ("", WORDS)])
def test_names_that_do_not(name: str, words: frozenset[str]) -> None:
    assert not is_private(name, frozenset(words))


def test_short_words_count_where_they_stand_alone() -> None:
    assert is_private("WU_LI", words_of("Wu^Li"))
    assert is_private("case 001", frozenset({"001"}))


def test_words_of_a_text_are_hidden() -> None:
    assert without_private("CT thorax ROE, jane (arterial)", WORDS) == "CT thorax ***, *** (arterial)"


def test_folders_below_the_named_one_are_hidden_and_zips_are_called_as_they_are() -> None:
    shown = Shown(Path("/tmp/unpacked"), Path("jane/all.zip"), WORDS)
    assert shown.path(Path("/tmp/unpacked/ROE_JANE/s1/0815.dcm")) == Path("jane/all.zip/***/s1/***")
    assert shown.path(Path("/tmp/unpacked")) == Path("jane/all.zip")
    assert shown.path(Path("/elsewhere/jane")) == Path("/elsewhere/jane")
    issue = shown.issue(Issue(Path("/tmp/unpacked/jane/a"), "rule", "value", "advice"))
    assert issue.file == Path("jane/all.zip/***/a")
