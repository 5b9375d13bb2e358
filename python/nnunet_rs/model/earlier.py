"""model.json and checkpoints of earlier versions, brought to today's form. No torch.

These are migrations of a `core.document.Kind`, which tells what they raise, and decodes and so checks what they return.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_rs.core.document import encode
from nnunet_rs.model.config import usual_config
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.model.recipe import RECIPES, recipe_of_plan

_OPTIONS = ("activation", "norm", "downsampling", "deep_supervision", "decoder_kernels")
# What a training's files held twice, before they held a TrainingConfig.
_TWICE = ("network", "recipe", "seed", "loss", "optimiser", "augmentation", "custom_network", "batch_size", "batches")
# What the first files said nothing of.
_UNSAID = (
    "epochs", "batches", "validation_batches", "time_budget", "mirror_axes", "pretrained", "learning_rate",
    "weight_decay", "momentum", "gradient_clip", "schedule", "plateau", "ema_decay", "precision", "batch_size",
    "features",
)  # fmt: skip


def model_of_version_2(body: dict[str, Any]) -> dict[str, Any]:
    """Return what model.json of version 2 holds as version 3 has it; its plan knows batch size and features."""
    plan = body["plan"]
    configuration = plan["configurations"][body["configuration"]]
    known = {"batch_size": configuration["batch_size"], "features": configuration["features"][0]}
    return {**_without(body, _TWICE), "config": _config(body, plan["recipe"], known)}


def checkpoint_of_version_1(body: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint's header of version 1 holds as version 2 has it."""
    identity = body["identity"]
    known = {name: identity[name] for name in ("batch_size", "batches")}
    config = _config({**identity, "config": body.get("config")}, "v2", known)
    return {**body, "identity": _without(identity, _TWICE), "config": config}


def _config(body: Mapping[str, Any], planned: str, known: Mapping[str, Any]) -> Any:
    """Gather a TrainingConfig from where it stood: a nested recipe, names and functions in a field each, or nowhere."""
    before, network = body.get("config"), body.get("network")
    options = {name: network[name] for name in _OPTIONS if name in network} if isinstance(network, dict) else {}
    if isinstance(before, dict):
        return _flat(before, options.get("decoder_kernels", "same"))
    said = {name: body[name] for name in ("recipe", "seed", "loss", "optimiser", "augmentation") if body.get(name)}
    name = said.get("recipe")
    recipe = RECIPES.get(name) if isinstance(name, str) else None
    if recipe is None:
        recipe = recipe_of_plan(planned)
    unknown = [name for name in _UNSAID if name not in known]
    usual = {**encode(usual_config("", None, recipe)), **encode(NetworkOptions())}
    return {**usual, **options, **said, **known, "network": body.get("custom_network"), "unknown": unknown}


def _flat(before: Mapping[str, Any], decoder_kernels: Any) -> Any:
    """Return a configuration that held its recipe as a table, and a function of the user's own beside each name."""
    recipe = before.get("recipe")
    if not isinstance(recipe, dict):
        return before
    constants = {"ema_decay" if name == "average" else name: value for name, value in recipe.items()}
    constants = _without(constants, ("name", "summary", "most_samples"))
    own = {
        name.removeprefix("custom_"): value for name, value in before.items() if name.startswith("custom_") and value
    }
    rest = {name: value for name, value in before.items() if not name.startswith("custom_")}
    return {
        **constants,
        **rest,
        "recipe": recipe.get("name"),
        "decoder_kernels": decoder_kernels,
        "network": before.get("custom_network"),
        **own,
    }


def _without(table: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in names}
