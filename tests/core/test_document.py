"""Reading by declared types, and text for people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunet_rs.core.document import LINE, decode, encode, render
from nnunet_rs.core.errors import CheckpointError, PlanError


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
