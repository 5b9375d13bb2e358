"""What is known of a trained model besides its weights: model.json. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_rs.core.errors import CheckpointError, PlanError
from nnunet_rs.core.files import read_json
from nnunet_rs.data.folds import Fold
from nnunet_rs.model.history import Epoch
from nnunet_rs.model.switches import NetworkOptions, network_channels
from nnunet_rs.plan.document import decode, encode
from nnunet_rs.plan.schema import Configuration, Plan, plan_from_json

VERSION = 1
FORMAT = "nnunet_rs model"
CARD = "model.json"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """All that is known of a trained model besides its weights."""

    plan: Plan  # labels, channels, normalisation, spacing, patch size: with the overrides it was trained with
    configuration: str
    network: NetworkOptions
    fold: int
    recipe: str
    seed: int
    iterations: int
    end: Epoch | None  # the last epoch
    best: Epoch | None  # by Dice on validation patches; the weights are the last epoch's all the same
    custom_network: str | None = None  # module:function of a network of the user's own
    loss: str = ""  # names, or module:function of the user's own
    optimiser: str = ""
    augmentation: str = ""
    cases: Fold | None = None  # what it was trained on, and what was held out
    first_stage: dict[str, str] | None = None  # of a cascade's second: digests of the models whose segmentations it saw
    library: str = ""  # version of nnunet_rs that trained it
    digest: str = ""  # SHA-256 of weights.safetensors

    @property
    def settings(self) -> Configuration:
        """The configuration that was trained."""
        return self.plan.configurations[self.configuration]

    @property
    def channels(self) -> tuple[int, int]:
        """Input channels (with those of the previous stage's segmentation) and outputs of the network."""
        return network_channels(self.plan, self.settings)


def read_card(folder: Path) -> ModelCard:
    """Read model.json of a model folder (WORK/models/CONFIGURATION/fold_K).

    Raises
    ------
    CheckpointError
        There is no finished model, or the card is damaged or of another version.
    """
    path = folder / CARD
    if not path.is_file():
        raise CheckpointError(_missing(folder))
    document = read_json(path, CheckpointError)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CheckpointError(f'{path}: is no model of nnunet_rs: the key format must be "{FORMAT}"')
    if document.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: version is {document.get('version')!r}, this release reads {VERSION}; "
            "use the nnunet_rs that trained it, or train again"
        )
    body = {key: value for key, value in document.items() if key not in ("format", "version")}
    card = _decode_card(body, path)
    if card.configuration not in card.plan.configurations:
        raise CheckpointError(
            f'{path}: configuration is "{card.configuration}": must be one of {", ".join(card.plan.configurations)}'
        )
    return card


def _decode_card(body: dict[str, Any], path: Path) -> ModelCard:
    try:
        plan = plan_from_json(body.get("plan"), f"{path}: plan")  # checked, and brought to this release's version
    except PlanError as error:
        raise CheckpointError(str(error)) from error
    return decode(ModelCard, {**body, "plan": encode(plan)}, f"{path}:", CheckpointError)


def _missing(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}: no such folder; train this configuration and fold first"
    if (folder / "resume.safetensors").is_file():
        return f"{folder}: its training is not finished; go on with train --resume"
    return f"{folder}: holds no model ({CARD} is missing); give the folder of a fold that has been trained"
