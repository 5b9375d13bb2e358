"""Files of models and trainings, cut, changed, lengthened, with other values: they are used as written, or refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.types import LabelSet
from nnunet_rs.core.workspace import BEST_JSON, CHECKPOINT, ModelFolder
from nnunet_rs.model.begin import read_saved
from nnunet_rs.model.checkpoint import load_model, save_model
from nnunet_rs.model.config import TrainingConfig, usual_config
from nnunet_rs.model.ema import WeightEMA
from nnunet_rs.model.header import Identity
from nnunet_rs.model.history import Epoch, History
from nnunet_rs.model.metadata import ModelMetadata, read_metadata
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.model.optimiser import build_optimiser
from nnunet_rs.model.recipe import FAST, PAPER, V2, TrainRecipe
from nnunet_rs.model.schedule import Position
from nnunet_rs.model.state import TrainingState, load_state, save_state
from nnunet_rs.model.tensors import read_tensors, write_tensors
from nnunet_rs.model.unet import build_unet
from nnunet_rs.model.validation_patch import ValidationPatch
from nnunet_rs.plan.schema import Configuration, Normalization, Plan
from nnunet_rs.select.choice import CHOICE, Candidate, Choice, read_choice
from nnunet_rs.select.postprocessing import PostProcessing

SETTINGS = Configuration(
    name="3d_fullres", spacing=(2.0, 1.0, 1.0), patch_size=(4, 8, 8), batch_size=2, median_shape=(8, 16, 16),
    strides=((1, 1, 1), (2, 2, 2)), kernels=((1, 3, 3), (3, 3, 3)), features=(2, 3), blocks_encoder=(1, 1),
    blocks_decoder=(1,), residual=False, batch_dice=False, inplane_augmentation=False, memory_estimate=0,
)  # fmt: skip
LABELS, RULE = LabelSet(("background", "large"), (0, 1)), Normalization("zscore", False, None)
PLAN = Plan("Made", "v2", (0, 1, 2), ("T1",), LABELS, (RULE,), {"3d_fullres": SETTINGS})
EPOCHS = tuple(Epoch(k, k + 1, 0.5, 0.4, (0.1,), 0.01, 3.0, 1.0, 1.0, 1.0) for k in range(2))
HISTORY = History(("large",), EPOCHS)
IDENTITY = Identity("3d_fullres", "p", 0, "c")
SIMPLE = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
MUCH = st.sampled_from([10**9, 2**63, -1, 1e308])
TABLES = st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
VALUES = st.one_of(SIMPLE, MUCH, st.lists(st.integers(0, 10**9), max_size=3), TABLES)
# Where, as a share of the file's length, and how: cut there, other bytes there, bytes put in there.
KINDS_OF_DAMAGE = st.sampled_from(("cut", "change", "insert"))
DAMAGE = st.tuples(st.floats(0, 1, exclude_max=True), KINDS_OF_DAMAGE, st.binary(min_size=1, max_size=9))
DAMAGES = st.lists(DAMAGE, min_size=1, max_size=3)
Damages = list[tuple[float, str, bytes]]
many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def config(recipe: TrainRecipe = FAST) -> TrainingConfig:
    return usual_config(PLAN.recipe, SETTINGS, recipe)


def state(recipe: TrainRecipe = FAST) -> TrainingState:
    torch.manual_seed(0)
    network = build_unet(SETTINGS, 1, 2, NetworkOptions())
    optimiser = build_optimiser(config(recipe), network.parameters())
    ema = None if recipe.ema_decay is None else WeightEMA(network, recipe.ema_decay)
    return TrainingState(network, optimiser, torch.amp.GradScaler("cpu", enabled=False), ema, HISTORY)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, its curves, a checkpoint after a step, and a choice."""
    folder = tmp_path_factory.mktemp("model")
    trained = state()
    trained.network(torch.zeros(1, 1, 4, 8, 8)).square().mean().backward()
    trained.optimiser.step()
    first, last = EPOCHS
    metadata = ModelMetadata(PLAN, "3d_fullres", 0, config(), 6, last, first, mirror_axes=(0,))
    save_model(folder, trained.network.state_dict(), metadata)
    HISTORY.write(folder / "metrics.jsonl")
    image = np.arange(64, dtype=np.uint8).reshape(1, 4, 4, 4)
    ValidationPatch("case", 2, image, image[0] % 2, image[0] % 3).write(folder / "patch.npz")
    save_state(folder / CHECKPOINT, trained, IDENTITY, config())
    choice = Choice(("3d_fullres",), PostProcessing(), (0,), (Candidate(("3d_fullres",), 0.5, {"large": None}),))
    CHOICE.save(folder / BEST_JSON, choice)
    return folder


def resume(folder: Path) -> None:
    read_saved(ModelFolder(folder))
    load_state(folder / CHECKPOINT, state(), IDENTITY)


READERS: dict[str, Callable[[Path], object]] = {
    "model.json": lambda folder: (read_metadata(folder), load_model(folder)),
    "weights.safetensors": load_model,
    CHECKPOINT: resume,
    "metrics.jsonl": lambda folder: History.read(folder / "metrics.jsonl", ("large",)),
    "patch.npz": lambda folder: ValidationPatch.read(folder / "patch.npz"),
    BEST_JSON: read_choice,
}
HASHED = ("weights.safetensors", CHECKPOINT)  # of which no changed byte goes unnoticed


def damaged(content: bytes, damages: Damages) -> bytes:
    for share, kind, put in damages:
        place = int(share * len(content))
        behind = b"" if kind == "cut" else content[place + (len(put) if kind == "change" else 0) :]
        content = content[:place] + (b"" if kind == "cut" else put) + behind
    return content


def places(value: object, way: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """List the way to each value of a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(place for key, item in items for place in places(item, (*way, key)))]


def with_another(document: Any, way: tuple[str | int, ...], value: object) -> Any:
    """Return a JSON document with another value in one place."""
    if not way:
        return value
    changed = copy.copy(document)
    changed[way[0]] = with_another(document[way[0]], way[1:], value)
    return changed


def read_damaged(folder: Path, name: str, content: bytes, answered: Any) -> bool:
    """Read a file with this content in its place; returns whether it was refused, naming the file."""
    whole, said = (folder / name).read_bytes(), ""
    (folder / name).write_bytes(content)
    try:
        with answered():
            try:
                READERS[name](folder)
            except CheckpointError as error:
                said = str(error)
    finally:
        (folder / name).write_bytes(whole)
    assert not said or str(folder) in said
    return bool(said)


@many
@pytest.mark.parametrize("name", READERS)
@given(damages=DAMAGES)
def test_cut_and_changed_bytes(files: Path, answered: Any, name: str, damages: Damages) -> None:
    whole = (files / name).read_bytes()
    content = damaged(whole, damages)
    refused = read_damaged(files, name, content, answered)
    assert refused or name not in HASHED or content == whole


@many
@pytest.mark.parametrize("name", ["model.json", BEST_JSON])
@given(data=st.data())
def test_other_values(files: Path, answered: Any, name: str, data: st.DataObject) -> None:
    document = json.loads((files / name).read_text())
    changed = with_another(document, data.draw(st.sampled_from(places(document))), data.draw(VALUES))
    read_damaged(files, name, json.dumps(changed).encode(), answered)


@many
@given(data=st.data())
def test_other_values_in_a_checkpoint_of_a_right_hash(files: Path, answered: Any, data: st.DataObject) -> None:
    tensors, text = read_tensors(files / CHECKPOINT, "")
    document = json.loads(text)
    changed = with_another(document, data.draw(st.sampled_from(places(document))), data.draw(VALUES))
    write_tensors(files / "other", tensors, json.dumps(changed))
    read_damaged(files, CHECKPOINT, (files / "other").read_bytes(), answered)


SHAPES = st.lists(st.integers(0, 4), max_size=5)
KINDS = st.sampled_from([torch.float32, torch.float64, torch.uint8, torch.int64, torch.bfloat16])


@many
@pytest.mark.parametrize("recipe", [FAST, PAPER, V2], ids=lambda recipe: recipe.name)
@given(data=st.data())
def test_other_tensors_in_a_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, answered: Any, recipe: TrainRecipe, data: st.DataObject
) -> None:
    """A step after it computes, or the checkpoint is refused: fused steps do not look at shapes themselves."""
    folder = tmp_path_factory.getbasetemp() / f"tensors_{recipe.name}"
    folder.mkdir(exist_ok=True)
    if not (folder / "whole").exists():
        trained = state(recipe)
        trained.network(torch.zeros(1, 1, 4, 8, 8)).square().mean().backward()
        trained.optimiser.step()
        save_state(folder / "whole", trained, IDENTITY, config())
    tensors, text = read_tensors(folder / "whole", "")
    name = data.draw(st.sampled_from(sorted(tensors)))
    if data.draw(st.booleans()):
        tensors[name] = torch.zeros(data.draw(SHAPES), dtype=data.draw(KINDS))
    else:
        value = tensors.pop(name)
        if data.draw(st.booleans()):
            tensors[data.draw(st.text("abc/0123456789", min_size=1, max_size=9))] = value
    write_tensors(folder / CHECKPOINT, tensors, text)
    with answered():
        resumed = state(recipe)
        load_state(folder / CHECKPOINT, resumed, IDENTITY)
        resumed.network(torch.zeros(1, 1, 4, 8, 8)).square().mean().backward()
        resumed.optimiser.step()


def test_a_position_that_no_training_has(files: Path) -> None:
    save_state(files / "odd", TrainingState(*_parts(), HISTORY, Position(epoch=-1)), IDENTITY, config())
    with pytest.raises(CheckpointError, match="no training stands there"):
        load_state(files / "odd", state(), IDENTITY)


def _parts() -> tuple[Any, ...]:
    whole = state()
    return whole.network, whole.optimiser, whole.scaler, whole.ema
