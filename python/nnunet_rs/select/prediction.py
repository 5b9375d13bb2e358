"""A prediction of many images, as a command asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunet_rs.core.progress import Progress
from nnunet_rs.core.types import FoldName
from nnunet_rs.predict.options import PredictOptions
from nnunet_rs.predict.pipeline import CasePredictor, FolderOptions, kept_labels
from nnunet_rs.predict.prediction_json import prediction_content
from nnunet_rs.select.loading import load_predictor


@dataclass(frozen=True, slots=True)
class Prediction:
    """A prediction of many images, as the command line asks for it."""

    model: Path
    output: Path  # folder
    device: str = "auto"
    folds: tuple[FoldName, ...] | None = None
    configuration: str | None = None
    options: PredictOptions = field(default_factory=PredictOptions)
    written: FolderOptions = field(default_factory=FolderOptions)

    def load(self, progress: Progress, *, networks: bool = True, threads: int | None = None) -> CasePredictor:
        """Load the models; errors as `load_predictor`."""
        options = self.options if self.options.threads else replace(self.options, threads=threads)
        return load_predictor(
            self.model,
            self.device,
            self.folds,
            configuration=self.configuration,
            options=options,
            progress=progress,
            networks=networks,
        )

    def content(self, predictor: CasePredictor) -> dict[str, Any]:
        """Return the content of prediction.json."""
        return prediction_content(predictor.describe(), kept_labels(predictor.plan, self.written))
