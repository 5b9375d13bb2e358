import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunet_rs.core.errors import DatasetError, PlanError, TrainingError
from nnunet_rs.core.types import Header, LabelSet
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.data.folds import read_plan_and_fold, read_splits
from nnunet_rs.data.preprocess import Prepared
from nnunet_rs.data.store import Store, StoreLayout
from nnunet_rs.model.checkpoint import load_model
from nnunet_rs.model.history import History
from nnunet_rs.model.metadata import read_metadata
from nnunet_rs.model.recipe import FAST, PAPER, V2
from nnunet_rs.model.schedule import PlateauRule
from nnunet_rs.model.train import train_fold
from nnunet_rs.plan.files import read_plan, write_plan
from trainings import ANEW, SHORT, Heard, losses


def test_learns_and_leaves_a_model(work: Path) -> None:
    heard, drawn = Heard(), []
    options = replace(SHORT, recipe=replace(FAST, learning_rate=0.05), epochs=6, batches=40, augmentation="light")
    result = train_fold(work, "3d_fullres", 1, options, heard, drawn.append)
    assert result.finished
    assert result.signal is None
    assert result.folder == WorkFolder(work).model("3d_fullres", 1).path
    assert sorted(path.name for path in result.folder.iterdir()) == [
        ".lock", "metrics.jsonl", "model.json", "patch.npz", "weights.safetensors",
    ]  # fmt: skip
    last = result.history.epochs[-1]
    assert last.iterations == 240
    assert last.loss < losses(result)[0] - 0.15
    assert last.mean_dice > 0.5
    assert [len(history.epochs) for history in drawn] == [1, 2, 3, 4, 5, 6]
    assert heard.done == 120 * 0.25 + 120  # small patches have a quarter of the voxels
    assert heard.note.startswith("epoch 6, ")  # the last one, of six
    assert sum(line.startswith("epoch") for line in heard.lines) == 6
    metadata = read_metadata(result.folder)
    assert (metadata.fold, metadata.config.recipe, metadata.config.seed, metadata.iterations) == (1, "fast", 3, 240)
    assert metadata.end == last
    assert metadata.cases == read_splits(work / "splits.json", [f"case_{k}" for k in range(6)])[1]
    assert History.read(result.folder / "metrics.jsonl", ("large", "small")) == result.history


@pytest.mark.parametrize("recipe", [PAPER, V2])
@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_other_recipes_in_two_and_three_dimensions(work: Path, recipe, configuration: str) -> None:
    result = train_fold(work, configuration, 0, replace(SHORT, recipe=recipe, epochs=1, augmentation=None))
    assert result.finished
    assert read_metadata(result.folder).network.deep_supervision is (recipe is V2)


def test_the_same_seed_gives_the_same_training(work: Path) -> None:
    once = losses(train_fold(work, "3d_fullres", 0, SHORT))
    assert losses(train_fold(work, "3d_fullres", 0, replace(ANEW, threads=2))) == pytest.approx(once, abs=1e-4)
    assert losses(train_fold(work, "3d_fullres", 0, replace(ANEW, seed=4))) != pytest.approx(once, abs=1e-2)


def test_the_plans_recipe_is_followed_and_told(work: Path) -> None:
    heard, brief = Heard(), replace(SHORT, recipe=None, epochs=1, batches=1)
    assert read_metadata(train_fold(work, "3d_fullres", 0, brief, heard).folder).config.recipe == "v2"
    assert "training recipe: v2, the recipe of plans by v2" in heard.lines
    plan = read_plan(work / "plan.json")
    for planned, trained in (("paper", "paper"), ("v2-resenc-l", "v2")):
        write_plan(work / "plan.json", replace(plan, recipe=planned))
        train_fold(work, "3d_fullres", 0, replace(brief, fresh=True), heard)
        assert heard.lines[-3].startswith(f"training recipe: {trained}, the recipe of plans by {planned}") or any(
            line == f"training recipe: {trained}, the recipe of plans by {planned}" for line in heard.lines
        )
    train_fold(work, "3d_fullres", 1, replace(SHORT, epochs=1), heard)
    assert any("fold 0 was trained by the recipe v2, fold 1 is by fast" in line for line in heard.lines)


def test_a_loss_that_is_no_number_stops(work: Path) -> None:
    class Broken:
        calls = 0

        def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return logits.sum() * (1.0 if self.calls < 3 else float("nan"))

    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 1, by batch 3 .*--learning-rate"):
        train_fold(work, "3d_fullres", 0, replace(SHORT, loss=Broken()))


class Overflowing:
    """A loss that is infinite in the calls from `first` to `last`."""

    def __init__(self, first: int, last: int) -> None:
        self.calls, self.overflows = 0, range(first, last + 1)

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        loss = torch.nn.functional.cross_entropy(logits.float(), target.long())
        return loss * (float("inf") if self.calls in self.overflows else 1.0)


def test_float16_leaves_out_a_step_whose_loss_is_no_number(work: Path) -> None:
    heard, options = Heard(), replace(SHORT, loss=Overflowing(3, 4), precision="float16", validation_batches=0)
    result = train_fold(work, "3d_fullres", 0, options, heard)
    assert result.finished
    assert all(math.isfinite(epoch.loss) for epoch in result.history.epochs)
    assert [line for line in heard.lines if "left out" in line] == [
        "float16: 2 steps left out, for the loss was no number; later ones are scaled less"
    ]


def test_float16_does_not_leave_out_steps_for_ever(work: Path) -> None:
    options = replace(SHORT, loss=Overflowing(3, 10_000), precision="float16", validation_batches=0)
    with pytest.raises(TrainingError, match=r"the loss is inf .* training has diverged"):
        train_fold(work, "3d_fullres", 0, options)


def test_out_of_memory_says_what_to_change(work: Path) -> None:
    def greedy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    with pytest.raises(TrainingError, match=r"out of GPU memory \(CUDA out of memory.*--batch-size"):
        train_fold(work, "3d_fullres", 0, replace(SHORT, loss=greedy))


def test_the_papers_rate_becomes_too_small(work: Path) -> None:
    impatient = replace(PAPER, plateau=PlateauRule(patience=0, threshold=10.0))
    result = train_fold(work, "3d_fullres", 0, replace(SHORT, recipe=impatient, epochs=100, batches=1))
    # 3e-4 · 0.2⁴ < 1e-6: the first epoch improves on nothing, four more fail to
    assert [e.learning_rate for e in result.history.epochs] == pytest.approx([3e-4, 3e-4, 6e-5, 1.2e-5, 2.4e-6])


def test_overrides_stand_in_the_card(work: Path) -> None:
    options = replace(SHORT, epochs=1, features=2, batch_size=1, loss="ce")
    metadata = read_metadata(train_fold(work, "3d_fullres", 0, options).folder)
    assert metadata.plan_configuration.features == (2, 4, 8)
    assert metadata.plan_configuration.batch_size == 1
    assert read_plan(work / "plan.json").configurations["3d_fullres"].features == (4, 6, 8)


def test_a_compiled_network_learns_the_same(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, original = [], torch.compile

    def traced(step: Any, **options: Any) -> Any:
        compiled.append(step)
        # traced as for every backend, in seconds and without a compiler
        return original(step, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", traced)
    plain = train_fold(work, "3d_fullres", 0, replace(SHORT, epochs=1))
    assert losses(train_fold(work, "3d_fullres", 0, replace(ANEW, epochs=1, compile=True))) == pytest.approx(
        losses(plain), abs=1e-6
    )
    assert len(compiled) == 1


def test_bfloat16_stays_near_float32(work: Path) -> None:
    exact = train_fold(work, "3d_fullres", 0, SHORT)
    rough = train_fold(work, "3d_fullres", 0, replace(ANEW, precision="bfloat16"))
    assert losses(rough) == pytest.approx(losses(exact), abs=0.1)
    assert losses(rough) != losses(exact)


def test_a_class_that_no_case_of_a_fold_holds_is_told(work: Path) -> None:
    plan, heard = read_plan(work / "plan.json"), Heard()
    train_fold(work, "3d_fullres", 0, replace(SHORT, epochs=1), heard)
    assert not [line for line in heard.lines if line.startswith("warning")]
    labels = LabelSet((*plan.labels.names, "ghost"), (0, 1, 2, 3))
    write_plan(work / "plan.json", replace(plan, labels=labels))
    train_fold(work, "3d_fullres", 0, replace(ANEW, epochs=1), heard)
    assert "warning: fold 0 trains on no case with ghost: nothing can be learnt for that" in heard.lines


def test_what_a_work_folder_may_lack(work: Path) -> None:
    with pytest.raises(
        PlanError, match=r"no configuration 3d_lowres; did you mean 3d_fullres\? there are 3d_fullres, 2d"
    ):
        train_fold(work, "3d_lowres", 0, SHORT)
    with pytest.raises(DatasetError, match="no fold 3; there are folds 0, 1, 2"):
        train_fold(work, "3d_fullres", 3, SHORT)
    with pytest.raises(PlanError, match="batch size is 0"):
        train_fold(work, "3d_fullres", 0, replace(SHORT, batch_size=0))
    plan = read_plan(work / "plan.json")
    other = replace(plan, normalization=(replace(plan.normalization[0], scheme="none"),))
    write_plan(work / "plan.json", other)
    with pytest.raises(DatasetError, match=r"case_0 was normalised by other rules .*; run preprocess again"):
        train_fold(work, "3d_fullres", 0, SHORT)
    finer = replace(plan.configurations["3d_fullres"], spacing=(1.0, 1.0, 1.0))
    write_plan(work / "plan.json", replace(plan, configurations={**plan.configurations, "3d_fullres": finer}))
    with pytest.raises(DatasetError, match=r"prepared for another plan \(shape \[8, 16, 16\].*\[16, 16, 16\]"):
        train_fold(work, "3d_fullres", 0, SHORT)
    write_plan(work / "plan.json", plan)
    for path in (work / "prepared" / "3d_fullres").glob("case_1*"):
        path.unlink()
    with pytest.raises(DatasetError, match="case case_1 has not been prepared; run preprocess"):
        train_fold(work, "3d_fullres", 0, SHORT)


def test_a_paper_plan_has_the_decoder_of_2019(work: Path) -> None:
    plan = read_plan(work / "plan.json")
    write_plan(work / "plan.json", replace(plan, recipe="paper"))
    folder = train_fold(work, "3d_fullres", 0, replace(SHORT, epochs=1)).folder
    assert json.loads((folder / "model.json").read_text())["config"]["decoder_kernels"] == "below"


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "relu"}, {"norm": "batch"}, {"downsampling": "max_pool"}, {"deep_supervision": True},
        {"loss": "ce"}, {"loss": "dice"}, {"augmentation": "light"},
    ],
)  # fmt: skip
def test_ablations_stand_in_the_card_and_load(work: Path, change: dict[str, Any]) -> None:
    """The switches of the paper's Figure 2, and of what came later."""
    folder = train_fold(work, "3d_fullres", 0, replace(SHORT, epochs=1, batches=1, **change)).folder
    network, metadata = load_model(folder)
    said = {name: getattr(metadata.config, name) for name in change}
    assert said == change
    assert isinstance(network(torch.zeros(1, 1, 4, 8, 8)), torch.Tensor)
    kinds = {type(module).__name__ for module in network.modules()}
    assert ("ReLU" in kinds) is (change.get("activation") == "relu")
    assert ("BatchNorm3d" in kinds) is (change.get("norm") == "batch")
    assert ("MaxPool3d" in kinds) is (change.get("downsampling") == "max_pool")


def test_a_model_knows_how_training_images_were_stored(work: Path) -> None:
    store, plan = Store(work / "prepared" / "3d_fullres"), read_plan(work / "plan.json")
    turned = Header("itk", ((-1, 0, 0, 0), (0, -1, 0, 0), (0, 0, 2, 0), (0, 0, 0, 1)))
    unplaced = Header("tiff", turned.affine)
    cases = read_plan_and_fold(work, "3d_fullres", 0)[1]
    for name, header in ((cases.train[0], turned), (cases.train[1], unplaced), (cases.validation[0], turned)):
        image, labels, _ = store.read_patch(name, (0, 0, 0), store.shape(name))
        geometry = replace(store.record(name).geometry, header=header)
        layout = StoreLayout.of(plan.configurations["3d_fullres"], plan.labels)
        store.write(name, Prepared(image, labels, None, geometry), store.record(name).keys, layout)
    folder = train_fold(work, "3d_fullres", 0, SHORT).folder
    assert read_metadata(folder).orientations == {"RAS": 2, "LPS": 1}
