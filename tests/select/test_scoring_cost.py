from pathlib import Path

import pytest
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.data.pipeline import PrepareOptions, prepare_dataset
from nnunet_rs.data.store import open_store
from nnunet_rs.plan.files import read_plan
from nnunet_rs.plan.planner import PlanOverrides
from nnunet_rs.predict.predictor import PredictOptions
from nnunet_rs.predict.window_grid import sliding_window_grid
from nnunet_rs.select.scoring_cost import estimate_scoring_cost


@pytest.mark.parametrize("step", [0.5, 1.0])
@pytest.mark.parametrize("name", ["2d", "3d_fullres"])
def test_windows_are_counted_as_prediction_lays_them(raw_dataset, tmp_path: Path, name: str, step: float) -> None:
    work, options = tmp_path / "work", PredictOptions(step=step)
    prepare_dataset(read_dataset(raw_dataset()), work, PrepareOptions(overrides=PlanOverrides(0.02)))
    plan = read_plan(work / "plan.json")
    store, patch = open_store(work, plan, name), plan.configurations[name].patch_size
    shapes = [store.record(f"case_{k}").geometry.resampled for k in (0, 1)]
    both = estimate_scoring_cost(work, plan, name, ["case_0", "case_1"], options)
    assert both.windows == sum(len(sliding_window_grid(shape, patch, step).starts) for shape in shapes)
    assert 0 < estimate_scoring_cost(work, plan, name, ["case_0"], options).seconds < both.seconds
