"""Reading by declared types, and text for people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunet_rs.core.document import LINE, Kind, decode, encode, is_of_ours, render
from nnunet_rs.core.errors import CheckpointError, DatasetError, PlanError


@dataclass(frozen=True, slots=True)
class Part:
    size: tuple[int, int]
    name: str = "part"


@dataclass(frozen=True, slots=True)
class Whole:
    kind: Literal["small", "large"]
    parts: dict[str, Part]
    weights: tuple[float, ...]
    open: bool
    spare: Part | None = None


WHOLE = {"kind": "small", "parts": {"a": {"size": [1, 2]}}, "weights": [1, 0.5], "open": False}


def test_values_of_declared_types_are_read() -> None:
    assert decode(Whole, WHOLE, "x.json:") == Whole("small", {"a": Part((1, 2))}, (1, 0.5), False)
    assert decode(Whole, {**WHOLE, "spare": {"size": [3, 4], "name": "b"}}, "x.json:").spare == Part((3, 4), "b")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "medium"}, 'x.json: kind is "medium": must be one of small, large'),
        ({"weights": [1, "2"]}, 'x.json: weights[1] is "2": must be a finite number'),
        ({"weights": [True]}, "x.json: weights[0] is true: must be a finite number"),
        ({"weights": [float("nan")]}, "x.json: weights[0] is NaN: must be a finite number"),
        ({"weights": 3}, "x.json: weights is 3: must be a list […]"),
        ({"open": 1}, "x.json: open is 1: must be true or false"),
        ({"parts": {"a": {"size": [1]}}}, "x.json: parts.a.size is [1]: must be a list of 2 entries"),
        ({"parts": {"a": {"size": [1, 2.5]}}}, "x.json: parts.a.size[1] is 2.5: must be a whole number"),
        ({"parts": {"a": {"size": [1, 2], "name": None}}}, "x.json: parts.a.name is null: must be a text"),
        ({"parts": [1]}, "x.json: parts is [1]: must be a table {…}"),
        ({"parts": {"a": {}}}, "x.json: parts.a: the key size is missing"),
        ({"color": 1}, "x.json: color: unknown key; allowed are kind, parts, weights, open, spare"),
    ],
)
def test_faults_name_file_key_value_and_what_is_allowed(change: dict[str, Any], text: str) -> None:
    with pytest.raises(PlanError) as caught:
        decode(Whole, {**WHOLE, **change}, "x.json:")
    assert str(caught.value) == text


def test_the_error_is_the_callers() -> None:
    with pytest.raises(CheckpointError, match=r"model\.json: the key size is missing"):
        decode(Part, {}, "model.json:", CheckpointError)


def test_long_values_are_shortened_in_errors() -> None:
    with pytest.raises(PlanError) as caught:
        decode(Part, {"size": list(range(500))}, "x.json:")
    assert len(str(caught.value)) < 150


def test_short_lists_stay_on_one_line() -> None:
    text = render(
        {"patch": [1, 2, 3], "stages": [[1, 1], [2, 2]], "why": ["one sentence", "another"], "of": {"a": {"b": 1}}}
    )
    assert text.splitlines() == [
        "{",
        '  "patch": [1, 2, 3],',
        '  "stages": [[1, 1], [2, 2]],',
        '  "why": [',
        '    "one sentence",',
        '    "another"',
        "  ],",
        '  "of": {',
        '    "a": {"b": 1}',
        "  }",
        "}",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9**9) | st.floats(-1e6, 1e6) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=6),
    max_leaves=30,
)


@given(JSON)
def test_what_is_written_is_what_is_read(value: Any) -> None:
    text = render(value)
    assert json.loads(text) == value
    rows = [row for row in text.splitlines() if not row.rstrip(",").endswith('"')]
    assert all(len(row) <= 2 * LINE for row in rows)


def test_tuples_and_dataclasses_become_lists_and_tables() -> None:
    value = Whole("large", {"a": Part((1, 2))}, (0.5,), True)
    assert encode(value) == {
        "kind": "large",
        "parts": {"a": {"size": [1, 2], "name": "part"}},
        "weights": [0.5],
        "open": True,
        "spare": None,
    }
    assert decode(Whole, json.loads(render(encode(value))), "x") == value


@dataclass(frozen=True, slots=True)
class Note:
    text: str
    pages: dict[int, Path]
    content: bytes = b""


def _with_text(body: dict[str, Any]) -> dict[str, Any]:
    """Version 1 called the text its title."""
    return {"text" if key == "title" else key: item for key, item in body.items()}


def _with_pages(body: dict[str, Any]) -> dict[str, Any]:
    """Version 2 listed the pages' files."""
    pages = {str(number): file for number, file in enumerate(body["files"], 1)}
    return {"text": body["text"], "pages": pages}


MARK = {"format": "nnunet_rs note"}
NOTE = Kind("note", Note, CheckpointError, "write it anew", version=3, migrations={1: _with_text, 2: _with_pages})
BARE = Kind("note", Note, DatasetError, "write it anew", marked=False, compact=True)
VALUE = Note("a", {1: Path("b/c.nii"), 20: Path("d")}, b"\0\xff")


def test_a_document_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    NOTE.save(path, VALUE)
    content = json.loads(path.read_text())
    assert list(content.items())[:2] == [("format", "nnunet_rs note"), ("version", 3)]
    assert content["pages"] == {"1": "b/c.nii", "20": "d"}
    assert content["content"] == "AP8="
    assert is_of_ours(content)
    assert NOTE.load(path) == VALUE


def test_a_document_without_its_kind_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    BARE.save(path, VALUE)
    assert path.read_text().count("\n") == 1
    content = json.loads(path.read_text())
    assert next(iter(content)) == "version"
    assert not is_of_ours(content)
    assert BARE.load(path) == BARE.from_json({**content, "format": "nnunet_rs note"}, "n.json") == VALUE


def test_only_versions_that_lead_to_this_one_are_read() -> None:
    kind = Kind("note", Note, CheckpointError, "write it anew", version=3, migrations={2: _with_pages})
    with pytest.raises(CheckpointError, match=r"version is 1, this release reads 2 to 3"):
        kind.from_json({**MARK, "version": 1}, "n.json")


@pytest.mark.parametrize("version", [1, 2])
def test_documents_of_earlier_versions_are_brought_up_step_by_step(version: int) -> None:
    text = {1: "title", 2: "text"}[version]
    old = {**MARK, "version": version, text: "a", "files": ["b", "c"]}
    assert NOTE.from_json(old, "n.json") == Note("a", {1: Path("b"), 2: Path("c")})


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ([], 'n.json: is no note of nnunet_rs: the key format must be "nnunet_rs note"'),
        ({"format": "nnunet_rs plan"}, 'n.json: is no note of nnunet_rs: the key format must be "nnunet_rs note"'),
        ({**MARK}, "n.json: version is None, this release reads 1 to 3; write it anew"),
        ({**MARK, "version": 4}, "n.json: version is 4, this release reads 1 to 3; write it anew"),
        (
            {**MARK, "version": True},
            "n.json: version is True, this release reads 1 to 3; write it anew",
        ),
        (
            {**MARK, "version": 2},
            "n.json: is damaged, of version 2 (KeyError('files')); write it anew",
        ),
        ({**MARK, "version": 3}, "n.json: the key text is missing"),
        (
            {**MARK, "version": 3, "text": "", "pages": {"x": ""}},
            'n.json: pages the key is "x": must be a whole number',
        ),
        (
            {**MARK, "version": 3, "text": "", "pages": {"1": 2}},
            "n.json: pages.1 is 2: must be a path",
        ),
        (
            {**MARK, "version": 3, "text": "", "pages": {}, "content": "!"},
            'n.json: content is "!": must be bytes as base64',
        ),
    ],
)
def test_other_documents_are_refused(document: Any, text: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        NOTE.from_json(document, "n.json")
    assert str(caught.value) == text


def test_a_document_without_its_kind_must_not_name_another() -> None:
    with pytest.raises(DatasetError, match=r"n\.json: is no note of nnunet_rs"):
        BARE.from_json({"format": "nnunet_rs plan", "version": 1}, "n.json")
