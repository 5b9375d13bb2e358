from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from nnunet_rs.cli import main
from nnunet_rs.cli.commands.train import train_options
from nnunet_rs.cli.console import UsageError
from nnunet_rs.cli.parser import build_parser
from nnunet_rs.model.losses import build_loss
from nnunet_rs.model.options import TrainOptions
from nnunet_rs.model.plugins import Plugin
from nnunet_rs.model.recipe import V2
from nnunet_rs.model.unet import build_unet
from nnunet_rs.run.cluster import ClusterOptions

TRAIN = ["train", "work", "-c", "2d", "-f", "0"]
ELSEWHERE = {
    "command",
    "work",
    "dataset",
    "configuration",
    "fold",
    "folds",
    "all",
    "tensorboard",
    "no_validation",
    "json",
    "quiet",
    "verbose",
    "version",
}
CLUSTER = {"on", "dry_run", "cluster", *(field.name for field in fields(ClusterOptions))}
PORTED = {"words"}  # positional arguments of nnU-Net's


def asked(line: str) -> TrainOptions:
    return train_options(build_parser().parse_args([*TRAIN, *line.split()]))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", TrainOptions()),
        ("--recipe v2 --epochs 3 --batches 5 --seed 7", TrainOptions(V2, epochs=3, batches=5, seed=7)),
        ("--time-budget 2m --device cpu -j 3", TrainOptions(time_budget=120, device="cpu", threads=3)),
        ("--batch-size 4 --features 8 --norm batch", TrainOptions(batch_size=4, features=8, norm="batch")),
        ("--activation relu --pooling max_pool", TrainOptions(activation="relu", downsampling="max_pool")),
        ("--no-deep-supervision --precision float32", TrainOptions(deep_supervision=False, precision="float32")),
        ("--mirror-axes y,x", TrainOptions(mirror_axes=(1, 2))),
        ("--mirror-axes none", TrainOptions(mirror_axes=())),
        ("--loss dice --augmentation light", TrainOptions(loss="dice", augmentation="light")),
        ("--resume --compile", TrainOptions(resume=True, compile=True)),
        ("--fresh --learning-rate 1e-3", TrainOptions(fresh=True, learning_rate=1e-3)),
        (
            "--oversample-foreground 0.5 --class-sampling balanced",
            TrainOptions(oversample_foreground=0.5, class_sampling="balanced"),
        ),
        (
            "--class-sampling tumour=3 a=b=0 --class-weights background=0.5 tumour=2e1",
            TrainOptions(class_sampling={"tumour": 3, "a=b": 0}, class_weights={"background": 0.5, "tumour": 20}),
        ),
        ("--case-sampling a=3 b=0.5", TrainOptions(case_sampling={"a": 3, "b": 0.5})),
    ],
)
def test_what_the_user_wants(line: str, expected: TrainOptions) -> None:
    assert asked(line) == expected


def test_all_models_go_on_where_they_were() -> None:
    assert train_options(build_parser().parse_args(["train", "work", "--all"])).resume


def test_functions_of_the_users_own() -> None:
    options = asked("--network nnunet_rs.model.unet:build_unet --loss nnunet_rs.model.losses:build_loss")
    own = (options.network, options.loss)
    assert [(str(function), function.function) for function in own if isinstance(function, Plugin)] == [
        ("--network nnunet_rs.model.unet:build_unet", build_unet),
        ("--loss nnunet_rs.model.losses:build_loss", build_loss),
    ]


def test_no_option_of_the_command_is_forgotten() -> None:
    names = vars(build_parser().parse_args(TRAIN)).keys() - ELSEWHERE - CLUSTER - PORTED
    assert names <= {field.name for field in fields(TrainOptions)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-f", "0", "--dry-run"], "--dry-run is for a cluster: add --on slurm or --on ray"),
        (["-f", "0", "--gpus", "1"], "--gpus is for a cluster: add --on slurm or --on ray"),
        (["-f", "0", "--on", "slurm"], "--on hands over several models: give --all or --folds"),
    ],
)
def test_options_of_a_cluster_are_refused_where_they_would_do_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["train", str(tmp_path), "-c", "2d", *words]) == 2
    assert said in capsys.readouterr().err


def test_weights_of_cases_come_from_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "a=3.csv"
    file.write_text("case,weight\na,3\nb,0.5\n")
    assert asked(f"--case-sampling {file}") == TrainOptions(case_sampling={"a": 3, "b": 0.5})
    with pytest.raises(UsageError, match="--case-sampling: 'b' is not a weight"):
        asked("--case-sampling a=3 b")
