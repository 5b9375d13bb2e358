import shlex
from pathlib import Path

from nnunet_rs.cli import main
from nnunet_rs.cli.commands.train import train_options
from nnunet_rs.cli.parser import build_parser
from nnunet_rs.model.train import train_fold
from nnunet_rs.report.steps import command, missing_steps, steps_of
from nnunet_rs.report.workfolder import read_work_folder
from trainings import StopsAfter


def steps(made) -> list[tuple[str, str]]:
    return [(step.stage, step.what) for step in missing_steps(read_work_folder(made.work))]


def test_stage_by_stage_less_is_missing(maker) -> None:
    made = maker()
    made.planned()
    assert steps(made) == [
        ("preprocess", "no case is prepared"),
        ("train", "2d is not trained"),
        ("train", "3d_fullres is not trained"),
        ("best", "configuration and post-processing are not chosen"),
    ]
    made.prepared()
    made.training("2d", 0, finished=False, epochs=3)
    made.training("3d_fullres", 1)
    assert steps(made)[:4] == [
        ("train", "the training of 2d, fold 0 is not finished (3 epochs so far)"),
        ("validate", "the validation cases of 3d_fullres, fold 1 are not predicted"),
        ("train", "folds 1, 2, 3, 4 are not trained in 2d"),
        ("train", "folds 0, 2, 3, 4 are not trained in 3d_fullres"),
    ]


def test_commands_are_understood_by_the_command_line(maker) -> None:
    made = maker()
    made.planned()
    made.training("2d", 0, finished=False)
    found = missing_steps(read_work_folder(made.work))
    for step in found:
        words = shlex.split(step.command)
        assert words[0] == "nnunet-rs"
        assert build_parser().parse_args(words[1:]).command == words[1]
    (prepare,) = steps_of(found, "preprocess")
    assert shlex.split(prepare.command)[2] == str(made.dataset.root)


def test_commands_train_the_other_folds_alike_and_resume(maker) -> None:
    """What is printed is run as it stands: each makes, or goes on with, the training that the first one was."""
    work = maker().prepared()
    first = "--recipe fast --learning-rate 0.004 --epochs 2 --batches 3 --features 3 --norm batch --seed 4 --loss ce"
    assert main(["train", str(work), "-c", "2d", "-f", "0", *first.split(), "--device", "cpu", "-j", "1", "-q"]) == 0
    (command,) = [step.command for step in missing_steps(read_work_folder(work)) if "in 2d" in step.what]
    assert set(first.split()) <= set(command.split())
    train_until(shlex.split(command)[1:], 4)  # in the second epoch
    (command,) = [step.command for step in missing_steps(read_work_folder(work)) if "not finished" in step.what]
    assert command == f"nnunet-rs train {work} -c 2d -f 1 --resume"
    assert main([*shlex.split(command)[1:], "-q"]) == 0
    configs = [training.config for training in read_work_folder(work).trainings]
    assert len(configs) == 2
    assert configs[0] == configs[1]


def test_a_function_of_ones_own_is_named_in_the_command(maker, tmp_path: Path) -> None:
    own, work = tmp_path / "losses_of_mine.py", maker().prepared()
    own.write_text(
        "from torch import nn\n\n\ndef plain(logits, target):\n"
        "    return nn.functional.cross_entropy(logits.float(), target.long())\n"
    )
    brief = ["--epochs", "2", "--batches", "2", "--device", "cpu", "-j", "1", "-q"]
    train_until(["train", str(work), "-c", "2d", "-f", "0", "--loss", f"{own}:plain", *brief], 3)
    (command,) = [step.command for step in missing_steps(read_work_folder(work)) if "not finished" in step.what]
    assert command.endswith(f"--resume --loss {own}:plain")
    assert main([*shlex.split(command)[1:], "-q"]) == 0


def train_until(words: list[str], iterations: int) -> None:
    """Run a command line of `train`, and ask this process to stop after some iterations."""
    arguments = build_parser().parse_args(words)
    model = arguments.work, arguments.configuration, arguments.fold
    assert not train_fold(*model, train_options(arguments), StopsAfter(iterations)).finished


def test_paths_with_spaces_are_quoted() -> None:
    assert command("report", "my work") == "nnunet-rs report 'my work'"
