from __future__ import annotations

from pathlib import Path

from nnunet_rs.core.issues import Issue, Warnings


def test_each_kind_of_warning_is_told_once_and_counted() -> None:
    said: list[str] = []
    warn = Warnings(said.append)
    for number, rule in enumerate(("units", "units", "scaling", "units")):
        warn(Issue(Path(f"{number}.nii"), rule, "value", "advice", fatal=False))
    assert said == ["warning: 0.nii: units: value; advice", "warning: 2.nii: scaling: value; advice"]
    warn.finish()
    assert said[2:] == ["warning: units: 2 more files"]
