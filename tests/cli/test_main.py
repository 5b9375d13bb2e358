from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest
from nnunet_rs.cli import commands, main
from nnunet_rs.cli.command import Command
from nnunet_rs.cli.commands import COMMANDS, completion
from nnunet_rs.cli.console import Console, Outcome
from nnunet_rs.cli.parser import WIDTH, build_parser
from nnunet_rs.core.choices import PLANNER_NAMES, ComparedMetric, NnunetNames, names
from nnunet_rs.core.errors import DatasetError, doing
from nnunet_rs.core.resources import SPINS
from nnunet_rs.core.termination import Terminated

NAMES = [command.name for command in COMMANDS]


@pytest.fixture
def greet(monkeypatch: pytest.MonkeyPatch) -> Command:
    """A new command: what its file would hold, and its entry in the table."""

    def add_arguments(parser: ArgumentParser) -> None:
        parser.add_argument("--name", metavar="NAME", help="whom to greet")

    def run(arguments: Namespace, console: Console) -> Outcome:
        return Outcome({"greeted": arguments.name}, (f"hello, {arguments.name}",))

    summary = "say hello"
    command = Command(
        "greet", "try", summary, "[options]", summary, ("nnunet-rs greet --name Ada",), add_arguments, run
    )
    monkeypatch.setattr(commands, "COMMANDS", (*COMMANDS, command))
    return command


def test_a_command_is_one_file_and_one_entry(greet: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"\n  greet         {greet.summary}\n" in build_parser().format_help()
    assert main(["greet", "--name", "Ada"]) == 0
    assert capsys.readouterr().out == "hello, Ada\n"
    assert main(["greet", "--name", "Ada", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["greeted"] == "Ada"
    with pytest.raises(SystemExit):
        main(["greet", "--help"])
    assert "  --name NAME    whom to greet\n" in capsys.readouterr().out
    for shell in ("bash", "zsh", "fish"):
        script = completion.script(build_parser(), shell)
        assert "greet" in script
        assert "whom to greet" in script or shell == "bash"
    with pytest.raises(SystemExit):
        main(["gret"])
    assert "did you mean 'greet'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_usage_options_and_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0
    assert shown.startswith(f"usage: nnunet-rs {name}")
    for text in ("--json", "--quiet", "--verbose", f"examples:\n  nnunet-rs {name}"):
        assert text in shown
    assert max(map(len, shown.splitlines())) <= WIDTH + 5


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_examples_are_understood(command, capsys: pytest.CaptureFixture[str]) -> None:
    lines = "\n".join(command.examples).replace("\\\n", "").splitlines()
    for line in lines:
        program, *words = shlex.split(re.split(r" [|>#] ", line)[0])
        assert program == "nnunet-rs"
        assert build_parser().parse_args(words).command == command.name


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_the_first_page_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(arguments)
    except SystemExit as left:
        code = int(left.code or 0)
    assert code == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {command.name:<14}{command.summary}\n" in shown for command in COMMANDS)


def test_help_and_completion_name_what_there_is_to_choose_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nnunet_rs.evaluate.summary import KEYS

    assert set(names(ComparedMetric)) < set(KEYS)
    monkeypatch.setitem(PLANNER_NAMES, "mine", NnunetNames("MyPlanner", "MyPlans", "MyPlans"))  # type: ignore[arg-type]
    with pytest.raises(SystemExit):
        main(["plan", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "whose rules: paper, v2, v2-resenc-m, v2-resenc-l, v2-resenc-xl, mine (default: paper)" in shown
    assert "v2-resenc-xl mine" in completion.script(build_parser(), "bash")
    assert build_parser().parse_args(["plan", "data", "-pl", "MyPlanner"]).planner == "mine"
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "augmentation: paper, v2, fast (default" in shown
    assert "ce_dice, ce, dice, or your own" in shown
    assert "paper, paper-batchgenerators, v2, light, strong, progressive, none, or your own" in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("nnunet-rs 0.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-c", "2d"], "train needs -c and -f, or -c and --folds"),
        (["-f", "0"], "train needs -c and -f, or -c and --folds"),
        (["--all", "-f", "0"], "train needs -c and -f, or -c and --folds"),
        (["-c", "2d", "-f", "0", "--device", "cpu,cpu"], "one model trains on one device"),
    ],
)
def test_which_models_and_where(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "work", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "did you mean 'train'?"),
        (["fly"], "there are demo, check"),
        (["train", "work", "-c", "2d", "-f", "first"], "'first' is not a fold"),
        (["predict", "work", "-i", "a", "-o", "b", "--step", "2"], "'2' is not in (0, 1]"),
        (["evaluate", "a", "b", "--metric", "beauty"], "'beauty'"),
        (
            ["check", "data", "--memroy", "8G"],
            "there is no --memroy 8G here; did you mean --memory?; see `nnunet-rs check",
        ),
        (["doctor", "a", "b"], "there is no b here; see `nnunet-rs doctor --help`"),
        (["--json"], "there is no --json here"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    err = capsys.readouterr().err
    assert left.value.code == 2
    assert said in err
    assert len(err.splitlines()) == 1
    assert "--help" in err


@pytest.mark.parametrize(
    "arguments", [["plan"], ["plan", "--fingerprint", "a"], ["plan", "d", "--fingerprint", "a", "--dataset-json", "b"]]
)
def test_arguments_that_do_not_go_together_are_wrong_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "plan needs DATA, or both" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--skip-faulty"], ["--groups", "p"], ["--strata", "s.csv"], ["--num-folds", "3"]])
def test_a_fingerprint_has_no_cases_to_be_spread_over_folds(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--fingerprint", "a", "--dataset-json", "b", *option]) == 2
    assert f"{option[0]} is about a dataset's cases" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check"], "check needs DATA, or -d"),
        (["train", "-c", "2d", "-f", "0"], "train needs WORK, or -d"),
        (["predict", "-i", "a", "-o", "b"], "predict needs MODEL_OR_WORK, or -d"),
        (["preprocess", "data"], "preprocess needs -o WORK, or -d"),
        (["ensemble", "-o", "both"], "ensemble needs the folders"),
        (["predict", "m", "-i", "a", "-o", "b", "-num_parts", "2", "-part_id", "2"], "parts are counted from 0 to 1"),
    ],
)
def test_a_folder_that_is_not_named_is_wrong_usage(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_options_of_nnunets_scripts_are_understood_and_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    parse = build_parser().parse_args
    asked = parse(
        [
            "preprocess",
            "-d",
            "27",
            "-c",
            "2d",
            "3d_fullres",
            "-np",
            "4",
            "--verify_dataset_integrity",
            "-gpu_memory_target",
            "8",
        ]
    )
    assert (asked.dataset, asked.configuration, asked.threads, asked.vram) == ("27", ["2d", "3d_fullres"], 4, 8)
    asked = parse(["train", "-d", "27", "-c", "3d_fullres", "-f", "0", "--npz", "--c", "-device", "cpu"])
    assert (asked.resume, asked.device) == (True, "cpu")
    line = (
        "predict -d 27 -i a -o b -f 0 1 -c 2d -step_size 0.7 --disable_tta --save_probabilities -num_parts 4 -part_id 1"
    )
    asked = parse(f"{line} -npp 3 -nps 3 --continue_prediction --disable_progress_bar".split())
    assert (asked.step, asked.no_mirror, asked.save_probabilities, asked.quiet) == (0.7, True, True, True)
    assert (asked.part_id, asked.num_parts) == (1, 4)
    assert parse(["ensemble", "-i", "a", "b", "-o", "c"]).input == [Path("a"), Path("b")]
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    shown = capsys.readouterr().out
    assert not re.search(r"-step_size|--disable_tta|-npp|--continue|[^-]-device |[^-]-np ", shown)


def test_a_reader_that_has_seen_enough_is_no_error(raw_dataset) -> None:
    code = "import sys; from nnunet_rs.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "check", str(raw_dataset()), "--json", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.wait()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 141


def failing(error: BaseException):
    def run(arguments: Namespace, console: object) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "error: interrupted; what was finished is kept, nothing is half-written"),
        (Terminated(), 143, "error: ended by SIGTERM; what was finished is kept, nothing is half-written"),
        (DatasetError("a.nii: rule: value; advice"), 1, "error: a.nii: rule: value; advice"),
        (MemoryError(), 1, "error: out of memory (MemoryError); give less to do at once"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), 1, "error: out of memory (cuDNN error: CUDNN_STATUS"),
        (RuntimeError("CUDA error: out of memory\nmore"), 1, "error: out of memory (CUDA error: out of memory more)"),
        (OSError(errno.EACCES, "Permission denied", "b.json"), 1, "error: b.json: Permission denied"),
        (
            ModuleNotFoundError("No module named 'cc3d'", name="cc3d"),
            1,
            "error: cc3d is not installed, and this takes it; pip install connected-components-3d",
        ),
        (ValueError("two\nlines"), 1, "error: ValueError: two lines; this should not happen"),
    ],
)
def test_whatever_goes_wrong_is_one_line(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "run", failing(error))
    assert main(["check", "data"]) == code
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert len(err.splitlines()) == 1


def test_what_nobody_foresaw_says_at_what(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(arguments: Namespace, console: object) -> None:
        with doing("case_7"):
            raise OverflowError("too large") if arguments.quiet else OSError(errno.EIO, "Input/output error", "a.nii")

    monkeypatch.setattr(commands, "run", run)
    assert main(["check", "data", "-q"]) == 1
    assert capsys.readouterr().err.startswith("error: OverflowError: too large, in case_7; this should not happen")
    assert main(["check", "data"]) == 1
    assert capsys.readouterr().err == "error: a.nii: Input/output error, in case_7\n"


def test_verbose_adds_the_traceback_and_json_an_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "run", failing(DatasetError("a fact")))
    assert main(["check", "data", "-v", "--json"]) == 1
    shown = capsys.readouterr()
    assert "Traceback" in shown.err
    assert json.loads(shown.out) == {"command": "check", "ok": False, "error": "a fact"}


def test_help_waits_for_nothing_heavy() -> None:
    code = (
        "import sys, nnunet_rs, nnunet_rs.cli.parser as p; p.build_parser().format_help(); "
        "heavy = {'numpy', 'torch', 'rich', 'nibabel', 'matplotlib', 'scipy', 'logging', 'tempfile'}; "
        "print(sorted(heavy & set(sys.modules))); "
        "print(*sorted(name for name in sys.modules if name.startswith('nnunet_rs.') and '.cli' not in name))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    heavy, ours = shown.splitlines()
    assert heavy == "[]"
    light = {"choices", "errors", "termination", "text", "workspace"}  # which import nothing but one another
    assert {name.removeprefix("nnunet_rs.core").lstrip(".") for name in ours.split()} - {""} <= light


def test_checking_and_planning_wait_for_no_torch(raw_dataset, tmp_path: Path) -> None:
    code = (
        "import sys; from nnunet_rs.cli import main; "
        "assert main(['check', sys.argv[1]]) == 0; assert main(['plan', sys.argv[1], '-o', sys.argv[2]]) == 0; "
        "assert main(['preprocess', sys.argv[1], '-o', sys.argv[2]]) == 0; "
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    arguments = [sys.executable, "-c", code, str(raw_dataset()), str(tmp_path / "work")]
    shown = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert shown.stderr.splitlines()[-1] == "False", shown.stderr


def test_threads_wait_shortly_and_that_is_set_before_pytorch_is_loaded() -> None:
    code = (
        "import os, sys; from nnunet_rs.cli import main; main(['check', 'nowhere'])\n"
        "assert 'torch' not in sys.modules; print(os.environ['GOMP_SPINCOUNT'])"
    )
    left = {name: text for name, text in os.environ.items() if name not in {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}}
    shown = subprocess.run([sys.executable, "-c", code], env=left, capture_output=True, text=True, check=True).stdout
    assert shown.split() == [str(SPINS)]


def test_training_a_configuration_that_there_is_not(raw_dataset, tmp_path: Path, capsys) -> None:
    work = tmp_path / "work"
    assert main(["plan", str(raw_dataset(cases=5)), "-o", str(work), "-q"]) == 0
    capsys.readouterr()
    assert main(["train", str(work), "-c", "3d_full", "-f", "0", "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert "no configuration 3d_full; did you mean 3d_fullres?" in said
    assert len(said.splitlines()) == 1


def test_cases_of_one_patient_are_told_once(raw_dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset, work = raw_dataset(cases=4), str(tmp_path / "work")
    for folder in ("imagesTr", "labelsTr"):
        for index, file in enumerate(sorted((dataset / folder).iterdir())):
            ending = "_0000.nii.gz" if folder == "imagesTr" else ".nii.gz"
            file.rename(file.with_name(f"patient{index // 2:03d}_frame{index % 2:02d}{ending}"))
    example = "patient000_frame00, patient000_frame01"
    note = f"note: cases seem to be of one patient, as {example}: with --groups '^patient[0-9]+'"
    assert main(["check", str(dataset)]) == 0
    assert capsys.readouterr().out.count(note) == 1
    assert main(["check", str(dataset), "--json"]) == 0
    assert f"note: {json.loads(capsys.readouterr().out)['notes'][0]}".startswith(note)
    for more, count in ((["--groups", "^patient[0-9]+"], 0), ([], 1), ([], 0)):  # the last time the folds are made
        folder = work if not more else f"{work} 2"
        assert main(["preprocess", str(dataset), "-o", folder, "-c", "2d", "--features", "4", *more]) == 0
        assert capsys.readouterr().err.count("keep such cases together by --groups '^patient[0-9]+'") == count
