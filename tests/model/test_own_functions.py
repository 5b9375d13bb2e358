"""Network, optimiser, augmentation and functions after each epoch of the user's own."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.model.checkpoint import load_model
from nnunet_rs.model.history import History
from nnunet_rs.model.metadata import read_metadata
from nnunet_rs.model.recipe import V2
from nnunet_rs.model.train import train_fold
from nnunet_rs.model.unet import build_unet
from nnunet_rs.predict.predictor import PredictOptions, Predictor
from trainings import ANEW, SHORT, Heard, losses


def wide(configuration, inputs, outputs, options):
    return build_unet(replace(configuration, features=(5, 5, 5)), inputs, outputs, options)


def test_network_and_optimiser_of_the_users_own(work: Path) -> None:
    options = replace(SHORT, epochs=1, network=wide, optimiser=lambda parameters: torch.optim.Adagrad(parameters))
    folder = train_fold(work, "3d_fullres", 0, options).folder
    assert read_metadata(folder).config.network.endswith("test_own_functions:wide")
    loaded, _ = load_model(folder, network=wide)
    assert loaded.heads[0].in_channels == 5
    predictor = Predictor.load(folder, "cpu", options=PredictOptions(network=wide))
    assert predictor.engine.describe().startswith("PyTorch")
    (remark,) = (remark for remark in predictor.engine.remarks if "computed by PyTorch" in remark)
    assert remark.endswith("test_own_functions:wide, which is PyTorch's")


def test_an_optimiser_of_the_users_own_brings_its_rate(work: Path) -> None:
    options = replace(
        SHORT, recipe=V2, epochs=2, batches=1, optimiser=lambda weights: torch.optim.RMSprop(weights, lr=0.004)
    )
    epochs = train_fold(work, "3d_fullres", 0, options).history.epochs
    assert [epoch.learning_rate for epoch in epochs] == pytest.approx([0.004, 0.004 * 0.5**0.9])


def twice(configuration, normalization):
    """An augmentation with a transform of batchgenerators' own."""
    from batchgenerators.transforms.color_transforms import BrightnessMultiplicativeTransform
    from nnunet_rs.data.augment import Augmentation

    return Augmentation(configuration.patch_size, None, (BrightnessMultiplicativeTransform((2, 2)),))


def test_an_augmentation_of_the_users_own(work: Path) -> None:
    folder = train_fold(work, "3d_fullres", 0, replace(SHORT, epochs=1, augmentation=twice)).folder
    assert read_metadata(folder).config.augmentation.endswith("test_own_functions:twice")
    assert read_metadata(folder).mirror_axes == ()


def turned(configuration, normalization):
    """An augmentation that mirrors by itself, and says so."""
    from nnunet_rs.data.augment import Augmentation

    return Augmentation(configuration.patch_size, mirror_axes=(1,))


@pytest.mark.parametrize(("configuration", "changes", "axes", "said"), [
    ("3d_fullres", {}, (), "no axis"),
    ("3d_fullres", {"augmentation": "light"}, (), "no axis"),
    ("3d_fullres", {"augmentation": "light", "recipe": V2}, (0, 1, 2), "z, y, x"),
    ("3d_fullres", {"augmentation": "light", "mirror_axes": (0, 2)}, (0, 2), "z, x"),
    ("3d_fullres", {"mirror_axes": (1,)}, (1,), "y"),
    ("2d", {"augmentation": "light", "recipe": V2}, (0, 1), "y, x"),
    ("2d", {"augmentation": "light", "mirror_axes": (0, 1)}, (0,), "y; z lies across the slices of 2d"),
    ("3d_fullres", {"augmentation": turned}, (1,), "y"),
    ("3d_fullres", {"augmentation": twice}, (), "no axis; should .*:twice mirror, let it say so"),
    ("3d_fullres", {"augmentation": twice, "mirror_axes": (2,)}, (2,), "x"),
])  # fmt: skip
def test_the_model_knows_what_it_was_trained_mirrored_along(work: Path, configuration, changes, axes, said) -> None:
    heard = Heard()
    folder = train_fold(work, configuration, 0, replace(SHORT, epochs=1, batches=1, **changes), heard).folder
    assert read_metadata(folder).mirror_axes == axes
    assert any(re.fullmatch(f"mirrored in training, and so in prediction: {said}.*", line) for line in heard.lines)


def test_a_function_of_the_users_own_is_called_after_each_epoch(work: Path, tmp_path: Path) -> None:
    """By name, as the command line gives it; a class is made once and told what the training is."""
    file = tmp_path / "logger.py"
    file.write_text(
        "made = []\n"
        "class Logger:\n"
        "    def __init__(self, context):\n"
        "        made.append((context.configuration.name, context.fold, context.config.seed))\n"
        "        self.rows = []\n"
        "    def __call__(self, history):\n"
        "        made.append(history.epochs[-1].loss)\n"
        "def broken(history):\n"
        "    raise RuntimeError('no connection')\n"
    )
    drawn: list[History] = []
    result = train_fold(work, "3d_fullres", 0, replace(SHORT, on_epoch=f"{file}:Logger"), None, drawn.append)
    module = next(module for module in sys.modules.values() if getattr(module, "__file__", None) == str(file))
    assert module.made == [("3d_fullres", 0, 3), *losses(result)]
    assert drawn[-1] == result.history
    again = train_fold(work, "3d_fullres", 0, ANEW)
    assert losses(again) == losses(result)  # it changes nothing
    told = r"--on-epoch logger.py:broken: RuntimeError: no connection \(.*logger.py, line 9.*then --resume goes on"
    with pytest.raises(NnunetError, match=told):
        train_fold(work, "3d_fullres", 0, replace(ANEW, on_epoch=f"{file}:broken"))
    resumed = train_fold(work, "3d_fullres", 0, replace(SHORT, resume=True))  # without it
    assert losses(resumed) == losses(result)


LOGGERS = [("wandb", "WandB", "init"), ("mlflow", "MLflow", "log_params")]  # library, class, what is told the options


@pytest.mark.parametrize(("library", "logger", "logs"), LOGGERS)
def test_the_loggers_of_the_page_find_what_they_log(
    work: Path, monkeypatch: pytest.MonkeyPatch, library: str, logger: str, logs: str
) -> None:
    """The page's own text, with a stand-in for the library: what it asks of a training and its epochs is there."""
    stand_in, namespace = MagicMock(), {}
    monkeypatch.setitem(sys.modules, library, stand_in)
    page = Path(__file__).parents[2] / "docs" / "howto" / "own-functions.md"
    texts = re.findall(r"<<'PY'\n(.*?)^PY$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    exec(next(text for text in texts if library in text), namespace)
    trained = train_fold(work, "3d_fullres", 0, replace(SHORT, on_epoch=namespace[logger]))
    given = getattr(stand_in, logs).call_args
    assert {"epochs": 2, "seed": 3}.items() <= (given.kwargs.get("config") or given.args[0]).items()
    log = stand_in.init.return_value.log if library == "wandb" else stand_in.log_metrics
    assert [call.kwargs["step"] for call in log.call_args_list] == [0, 1]
    assert [call.args[0]["loss"] for call in log.call_args_list] == losses(trained)
