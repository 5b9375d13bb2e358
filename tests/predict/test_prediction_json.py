import json
from pathlib import Path

import pytest
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.core.workspace import PREDICTION_JSON
from nnunet_rs.predict.prediction_json import (
    labels_of,
    prediction_content,
    read_prediction_json,
    require_prediction_json,
    says_the_same,
    write_prediction_json,
)

LABELS = LabelSet(("background", "oedema", "core"), (0, 1, 2), (Region("whole", (1, 2), 1), Region("core", (2,), 2)))


def write(folder: Path, step: float) -> None:
    content = prediction_content({"models": {}, "step": step}, LABELS)
    with Outputs(folder) as outputs:
        require_prediction_json(outputs, content)
        write_prediction_json(outputs, content)


def test_what_labels_are_called_is_read_back(tmp_path: Path) -> None:
    write(tmp_path, 0.5)
    assert json.loads((tmp_path / PREDICTION_JSON).read_text())["step"] == 0.5
    found = labels_of(tmp_path)
    assert found is not None
    assert found.regions == LABELS.regions
    assert found.values == LABELS.values


def test_an_unchanged_file_keeps_its_date(tmp_path: Path) -> None:
    path = tmp_path / PREDICTION_JSON
    write(tmp_path, 0.5)
    made = path.stat().st_ino
    write(tmp_path, 0.5)
    assert path.stat().st_ino == made
    write(tmp_path, 1.0)
    assert path.stat().st_ino != made


@pytest.mark.parametrize("text", ["{", "[1]", '{"step": 0.5}', '{"labels": ["a finding"]}'])
def test_a_file_of_that_name_that_is_not_ours_stays(tmp_path: Path, text: str) -> None:
    (tmp_path / PREDICTION_JSON).write_text(text)
    with pytest.raises(NnunetError, match=r"prediction\.json: is not known to be made by this tool"):
        write(tmp_path, 0.5)
    assert (tmp_path / PREDICTION_JSON).read_text() == text


def test_one_that_was_edited_stays(tmp_path: Path) -> None:
    write(tmp_path, 0.5)
    edited = (tmp_path / PREDICTION_JSON).read_text().replace("{", '{"seen by": "me",', 1)
    (tmp_path / PREDICTION_JSON).write_text(edited)
    with pytest.raises(NnunetError, match=r"prediction\.json: was changed since this tool made it"):
        write(tmp_path, 0.5)
    assert (tmp_path / PREDICTION_JSON).read_text() == edited


def test_one_of_a_release_without_a_record_is_ours(tmp_path: Path) -> None:
    (tmp_path / PREDICTION_JSON).write_text(json.dumps(prediction_content({"models": {}, "step": 0.5}, LABELS)))
    write(tmp_path, 1.0)
    assert (read_prediction_json(tmp_path) or {})["step"] == 1.0


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert labels_of(tmp_path) is None
    for text in ("{", "[1]", '{"step": 0.5}'):
        (tmp_path / PREDICTION_JSON).write_text(text)
        assert labels_of(tmp_path) is None


def test_an_earlier_release_mirrored_along_all_axes_or_none(tmp_path: Path) -> None:
    def made(mirror: bool, *axes: str) -> dict:
        member = {"models": {}, "mirror": mirror} | ({"mirror_axes": list(axes)} if axes or not mirror else {})
        return prediction_content({"average_of": [member]}, LABELS)

    before = prediction_content({"average_of": [{"models": {}, "mirror": True}]}, LABELS)
    assert says_the_same(before, made(True, "z", "y", "x"))
    assert not says_the_same(before, made(False))
    assert says_the_same(made(True, "z"), made(True, "z"))
    assert not says_the_same(made(True, "z"), made(True, "y"))
    assert not says_the_same(None, made(False))
