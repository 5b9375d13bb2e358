from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from nnunet_rs.cli import nnunet
from nnunet_rs.cli.commands import COMMANDS
from nnunet_rs.cli.console import UsageError
from nnunet_rs.cli.parser import build_parser
from nnunet_rs.cli.paths import fill

# Everything that nnU-Net 2.8's commands take, by the command that does the same here, with values as people type them.
OPTIONS = {
    "train": "-tr nnUNetTrainer|-p nnUNetPlans|-pretrained_weights w.pth|-num_gpus 1|--use_compressed|--npz|--c|--val|"
    "--val_best|--disable_checkpointing|-device cpu",
    "predict": "-d 27|-p nnUNetPlans|-tr nnUNetTrainer|-c 2d|-f 0 1|-step_size 0.5|--disable_tta|--verbose|"
    "--save_probabilities|--continue_prediction|-chk checkpoint_final.pth|-npp 3|-nps 3|-prev_stage_predictions p|"
    "-num_parts 2|-part_id 1|-device cuda|--disable_progress_bar|-m folder",
    "best": "-d 27|-p nnUNetPlans|-c 2d 3d_fullres|-tr nnUNetTrainer|-np 8|-f 0 1 2|--disable_ensembling|"
    "--no_overwrite",
    "evaluate": "-djfile d.json|-pfile p.json|-o s.json|-np 4|--chill|-l 1 2|-il 3",
    "postprocess": "-np 4|-pp_pkl_file p.pkl|-plans_json p.json|-dataset_json d.json",
    "preprocess": "-d 27|-fpe DatasetFingerprintExtractor|-npfp 8|--verify_dataset_integrity|--no_pp|--clean|"
    "-pl nnUNetPlannerResEncM|-gpu_memory_target 8|-preprocessor_name DefaultPreprocessor|"
    "-overwrite_target_spacing 3 1 1|-overwrite_plans_name n|-c 2d 3d_fullres|-np 8 4 8|--verbose|-plans_name n",
    "plan": "-d 27|-pl ExperimentPlanner|-gpu_memory_target 8|-preprocessor_name DefaultPreprocessor|"
    "-overwrite_target_spacing 3 1 1|-overwrite_plans_name n|-fpe DatasetFingerprintExtractor|-npfp 8|--clean|"
    "--verify_dataset_integrity|--verbose",
    "ensemble": "-i a b|-o c|-np 8|--save_npz",
}
BASE = {
    "train": "work -c 2d -f 0",
    "predict": "-i a -o b",
    "best": "work",
    "evaluate": "a b",
    "postprocess": "a -o b --keep-largest foreground",
    "preprocess": "data -o work",
    "plan": "data -o work",
    "ensemble": "-o c",
}


@pytest.mark.parametrize(
    ("command", "option"), [(command, option) for command, line in OPTIONS.items() for option in line.split("|")]
)
def test_every_option_is_understood_or_answered(command: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = [command, *BASE[command].split(), *option.split()]
    if option.split()[0] not in nnunet.INSTEAD[command]:
        build_parser().parse_args(line)
        return
    with pytest.raises(SystemExit) as left:
        build_parser().parse_args(line)
    assert left.value.code == 2
    assert f"{option} is nnU-Net's: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train w -c 2d -f 0 -tr nnUNetTrainer_250epochs", "write --epochs 250"),
        ("train w -c 2d -f 0 -tr nnUNetTrainerNoMirroring", "write --mirror-axes none"),
        ("train w -c 2d -f 0 -tr nnUNetTrainerOfMine", "or a function of your own"),
        ("train w -c 2d -f 0 -p nnUNetResEncUNetMPlans", "preprocess -o WORK --planner v2-resenc-m"),
        ("train w -c 2d -f 0 -num_gpus 2", "write torchrun --nproc-per-node 2 -m nnunet_rs train"),
        ("train w -c 2d -f 0 --val", "write --resume"),
        ("preprocess d -o w -pl nnUNetPlannerOfMine", "there are ExperimentPlanner, nnUNetPlannerResEncM"),
        ("postprocess a -o b -pp_pkl_file p.pkl", "pickles are not read; write --from WORK"),
        ("plan_and_preprocess -d 27", "no command 'plan_and_preprocess'; write `nnunet-rs preprocess`"),
        ("nnUNetv2_train 27 3d_fullres 0", "write `nnunet-rs train`"),
        ("find_best_configuration 27", "write `nnunet-rs best`"),
        ("apply_postprocessing -i a -o b", "write `nnunet-rs postprocess`"),
        ("export_model_to_zip -d 27", "write `nnunet-rs export MODELS -o model.zip"),
        ("install_pretrained_model_from_zip a.zip", "predict takes the zip as it is"),
    ],
)
def test_what_to_write_instead(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        build_parser().parse_args(line.split())
    shown = capsys.readouterr().err
    assert left.value.code == 2
    assert said in shown
    assert len(shown.splitlines()) == 1


@pytest.mark.parametrize(
    "line",
    [
        "predict w -i a -o b -pa 1",
        "predict w -i a -o b -num 2",
        "predict w -i a -o b -ch x",
        "predict w -i a -o b --save",
        "train w -c 2d -f 0 -dev cpu",
        "train w -c 2d -f 0 -chk x",
        "preprocess d -o w -gpu 8",
    ],
)
def test_no_abbreviation_is_taken_for_an_option(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(line.split())
    assert f"there is no {' '.join(line.split()[-2:] if line.split()[-1][0] != '-' else line.split()[-1:])} here" in (
        capsys.readouterr().err
    )


def test_numbers_may_stand_at_their_letter() -> None:
    asked = build_parser().parse_args(["train", "work", "-c2d", "-f0", "-j4"])
    assert (asked.configuration, asked.fold, asked.threads) == ("2d", 0, 4)


def test_values_of_nnunets_options_arrive() -> None:
    parse = build_parser().parse_args
    line = "preprocess -d 27 -pl nnUNetPlannerResEncL -overwrite_target_spacing 3 1 1.5 -np 8 4 -c 2d"
    asked = parse(line.split())
    assert (asked.planner, asked.spacing, asked.threads, asked.configuration) == ("v2-resenc-l", (3, 1, 1.5), 8, ["2d"])
    asked = parse(["best", "-d", "27", "-c", "2d", "3d_fullres", "-f", "0", "1", "--disable_ensembling"])
    assert (asked.configuration, asked.fold, asked.no_pairs) == (["2d", "3d_fullres"], [0, 1], True)
    assert parse(["evaluate", "a", "b", "--chill"]).partial
    for line, key, folder in (
        ("predict -m models/2d -i a -o b", "model", "models/2d"),
        ("postprocess -i a -o b --keep-largest foreground", "folder", "a"),
    ):
        asked = parse(line.split())
        fill(asked, {})
        assert getattr(asked, key) == Path(folder)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "raw" / "Dataset027_ACDC").mkdir(parents=True)
    return {"nnUNet_raw": str(tmp_path / "raw"), "nnUNet_results": str(tmp_path / "results")}


@pytest.mark.parametrize(
    "line",
    ["train 27 3d_fullres 0 --npz", "train Dataset027_ACDC 3d_fullres 0", "train 27 -c 3d_fullres -f 0"],
)
def test_a_dataset_may_stand_where_a_folder_stands(line: str, environment: dict[str, str], tmp_path: Path) -> None:
    asked = build_parser().parse_args(line.split())
    fill(asked, environment)
    assert asked.work == tmp_path / "results" / "Dataset027_ACDC" / "nnunet_rs"
    assert (asked.configuration, asked.fold) == ("3d_fullres", 0)


def test_a_number_without_nnunets_variables_is_told() -> None:
    asked = build_parser().parse_args(["train", "27", "3d_fullres", "0"])
    with pytest.raises(UsageError, match="27: no such folder; as a dataset's number it needs one of nnUNet_raw"):
        fill(asked, {})


def test_a_folder_of_that_name_comes_first(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("27").mkdir()
    asked = build_parser().parse_args(["best", "27"])
    fill(asked, environment)
    assert asked.work == Path("27")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train 27 3d_fullres", "write train WORK -c CONFIG -f FOLD"),
        ("train 27 3d_fullres 0 1", "write train WORK -c CONFIG -f FOLD"),
        ("train 27 3d_fullres 0 -c 2d", "write train WORK -c CONFIG -f FOLD"),
        ("train 27 3d_fullres first", "'first' is not a fold"),
    ],
)
def test_positional_arguments_that_do_not_fit(line: str, said: str, environment: dict[str, str]) -> None:
    asked = build_parser().parse_args(shlex.split(line))
    with pytest.raises(UsageError, match=said):
        fill(asked, environment)


def test_all_of_nnunets_options_have_a_command() -> None:
    names = {command.name for command in COMMANDS}
    assert {*nnunet.ACCEPTED, *nnunet.INSTEAD, *nnunet._NAMED} <= names
