import json
from pathlib import Path

from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.predict.settings import SETTINGS, labels_of, read_settings, write_settings

LABELS = LabelSet(("background", "oedema", "core"), (0, 1, 2), (Region("whole", (1, 2), 1), Region("core", (2,), 2)))


def test_what_labels_are_called_is_read_back(tmp_path: Path) -> None:
    write_settings(tmp_path, {"step": 0.5}, LABELS)
    assert json.loads((tmp_path / SETTINGS).read_text())["step"] == 0.5
    found = labels_of(tmp_path)
    assert found is not None
    assert found.regions == LABELS.regions
    assert found.values == LABELS.values


def test_an_unchanged_file_keeps_its_date(tmp_path: Path) -> None:
    path = tmp_path / SETTINGS
    write_settings(tmp_path, {"step": 0.5}, LABELS)
    made = path.stat().st_ino
    write_settings(tmp_path, {"step": 0.5}, LABELS)
    assert path.stat().st_ino == made
    write_settings(tmp_path, {"step": 1.0}, LABELS)
    assert path.stat().st_ino != made


def test_what_cannot_be_read_says_nothing_and_is_written_anew(tmp_path: Path) -> None:
    assert labels_of(tmp_path) is None
    for text in ("{", '{"step": 0.5}'):
        (tmp_path / SETTINGS).write_text(text)
        assert labels_of(tmp_path) is None
    write_settings(tmp_path, {"step": 0.5}, LABELS)
    assert read_settings(tmp_path) is not None
    assert labels_of(tmp_path) is not None
