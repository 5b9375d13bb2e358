"""Where it all comes from: files with their hashes, models, versions."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from nnunet_rs.core.workspace import BEST_JSON, DATASET_JSON, FINGERPRINT_JSON, PLAN_JSON, SPLITS_JSON
from nnunet_rs.data.mirroring import axes_named, image_axes
from nnunet_rs.model.metadata import ModelMetadata
from nnunet_rs.plan.comparison import differing_configuration, differing_data
from nnunet_rs.plan.schema import Plan
from nnunet_rs.report.blocks import Block, Section
from nnunet_rs.report.tables import Table
from nnunet_rs.report.workfolder import Training, WorkContents

FILES = (DATASET_JSON, FINGERPRINT_JSON, PLAN_JSON, SPLITS_JSON, BEST_JSON)
PACKAGES = ("nnunet-rs", "torch", "numpy", "scipy", "nibabel", "SimpleITK", "blosc2", "safetensors")


def provenance_section(work: WorkContents) -> Section:
    """List what the results were made from, so that they can be told from others and made again."""
    return Section("provenance", "Provenance", tuple(_blocks(work)))


def _blocks(work: WorkContents) -> Iterator[Block]:
    yield _files(work)
    models = tuple(_model(work.plan, training) for training in work.trainings if training.metadata)
    if models:
        head = ("model", "plan", "recipe", "seed", "iterations", "mirrored", "nnunet_rs", "SHA-256 of the weights")
        yield Table("Models", head, models, f"plan: whether the model was trained by {PLAN_JSON} as it is now.")
    rows = (*((name, package_version(name)) for name in PACKAGES), ("Python", platform.python_version()))
    yield Table("Versions that made this report", ("package", "version"), (*rows, ("system", platform.platform())))


def _files(work: WorkContents) -> Table:
    rows = []
    for name in FILES:
        path = work.path / name
        if path.is_file():
            content = path.read_bytes()
            rows.append((name, _size(len(content)), hashlib.sha256(content).hexdigest()))
    for name, cases in work.prepared.items():
        if cases:
            rows.append((f"prepared/{name}", _size(sum(case.bytes for case in cases)), f"{len(cases)} cases"))
    return Table(f"Files of {work.path.resolve()}", ("file", "size", "SHA-256"), tuple(rows))


def _model(plan: Plan, training: Training) -> tuple[str, ...]:
    metadata = training.metadata
    assert metadata is not None
    library, digest = metadata.library or "-", metadata.digest or "-"
    return (
        training.name,
        _same_plan(plan, metadata.plan, metadata.configuration),
        metadata.config.recipe,
        str(metadata.config.seed),
        str(metadata.iterations),
        _mirrored(metadata),
        library,
        digest,
    )


def _mirrored(metadata: ModelMetadata) -> str:
    """Name the axes of the image along which training mirrored, and prediction does."""
    if metadata.mirror_axes is None:
        return "not known"
    return axes_named(image_axes(metadata.mirror_axes, metadata.plan_configuration.dims, metadata.plan.transpose))


def _same_plan(now: Plan, then: Plan, name: str) -> str:
    """Compare what a model was trained by with the plan as it is."""
    if name not in now.configurations:
        return "has no such configuration now"
    if differing_data(now, then):
        return "of other data"
    differing = differing_configuration(now, then, name)
    return f"other {', '.join(key.replace('_', ' ') for key in differing)}" if differing else "the same"


def package_version(package: str) -> str:
    """Return the version of a package that is installed, else a dash."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"


def _size(count: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} B"
