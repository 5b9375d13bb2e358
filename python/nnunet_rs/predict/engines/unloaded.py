"""What is known of trained models whose networks stay on disk: where they are not to compute, as on a login node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nnunet_rs.core.types import Shape
from nnunet_rs.core.workspace import ModelFolder
from nnunet_rs.model.metadata import ModelMetadata, read_metadata
from nnunet_rs.model.nnunet_models import holds_nnunet_models, read_nnunet_model
from nnunet_rs.predict.blend import OutputActivation
from nnunet_rs.predict.engines.engine import Alone, HostEngine, Scored
from nnunet_rs.predict.engines.opening import Opened
from nnunet_rs.predict.options import PredictOptions


class Unloaded(HostEngine):
    """The engine of no networks. See Engine."""

    __slots__ = ()
    remarks: tuple[str, ...] = ()

    def describe(self) -> str:
        """See Engine."""
        return "nothing: the networks are not loaded"

    def scores(
        self,
        windows: Any,
        mirror_axes: Shape,
        activation: OutputActivation,
        alone: Alone | None = None,  # noqa: ARG002 (there is no network)
    ) -> Iterator[Scored]:
        """Raise a RuntimeError: there is no network."""
        raise RuntimeError(f"{len(windows)} windows, {mirror_axes}, {activation}: the networks are not loaded")


def describe_models(folders: Sequence[Path], options: PredictOptions) -> Opened:
    """Read all of fold folders but their networks; parameters and errors as `open_models`."""
    return Opened(Unloaded(), tuple(_metadata(folder, options) for folder in folders))


def _metadata(folder: Path, options: PredictOptions) -> ModelMetadata:
    if ModelFolder(folder).is_finished():
        return read_metadata(folder)
    if options.unfinished and ModelFolder(folder).has_checkpoint():
        from nnunet_rs.model.unfinished import load_unfinished

        return load_unfinished(folder, network=options.network)[1]
    if holds_nnunet_models(folder):
        return read_nnunet_model(folder, checkpoint=options.nnunet.checkpoint)[1]
    return read_metadata(folder)  # says what is missing
