"""Earlier names of options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from nnunet_rs.cli import main
from nnunet_rs.plan.files import read_plan


@pytest.mark.parametrize(("option", "told"), [("--recipe", True), ("--planner", False)])
def test_an_earlier_name_does_the_same_and_is_told(
    option: str, told: bool, raw_dataset: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(raw_dataset()), "-o", str(tmp_path / "work"), option, "v2"]) == 0
    assert read_plan(tmp_path / "work" / "plan.json").recipe == "v2"
    assert ("--recipe is now --planner" in capsys.readouterr().err) is told


def test_help_does_not_show_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--help"])
    shown = capsys.readouterr().out
    assert "--planner" in shown
    assert "--recipe" not in shown
