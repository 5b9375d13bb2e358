from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import pytest
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.issues import Issue
from nnunet_rs.plan.dataset_scan_file import KEPT, ScannedCase, read_dataset_scan, write_dataset_scan
from nnunet_rs.plan.schema import CasePrint

UNITS = Issue(Path("b.nii"), "units", "x", "y", "b", fatal=False)
CASES = {
    "a": ScannedCase("s", CasePrint("a", (3, 4, 5), (2, 4, 5), (1.0, 1.0, 2.0)), (True, False, True), (), "d"),
    "b": ScannedCase("t", CasePrint("b", (3, 4, 5), (3, 4, 5), (1.0, 1.0, 2.0)), (), (UNITS,)),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_dataset_scan(tmp_path / "survey.json", CASES, b"counts")
    assert read_dataset_scan(tmp_path / "survey.json") == (CASES, b"counts")


def test_statistics_that_unpack_to_more_than_is_kept_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "survey.json"
    write_dataset_scan(file, CASES, b"")
    content = json.loads(file.read_text())
    content["statistics"] = base64.b64encode(zlib.compress(bytes(KEPT + 1))).decode()
    file.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"survey\.json: statistics are cut short, or larger than any that are kept"):
        read_dataset_scan(file)
