"""What the second stage of a cascade needs of the first: for every case a segmentation by the fold that held it out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.workspace import WorkFolder, fold_name
from nnunet_rs.data.folds import Fold, read_folds
from nnunet_rs.data.previous_stage import RECORD, PreviousStore
from nnunet_rs.data.store import open_store
from nnunet_rs.model.metadata import ModelMetadata, read_metadata
from nnunet_rs.plan.schema import Plan


@dataclass(frozen=True, slots=True)
class FirstStage:
    """The first stage's segmentations of the training cases, on the second stage's grid."""

    store: PreviousStore
    digest: str  # of all that made them
    models: dict[str, str]  # digests of the first stage's weights: {"fold_0": ...}


def next_stages(plan: Plan, configuration: str) -> tuple[str, ...]:
    """Name the configurations whose first stage a configuration is."""
    return tuple(other.name for other in plan.configurations.values() if other.previous == configuration)


def previous_store(work: Path, configuration: str) -> PreviousStore:
    """Return where the first stage's segmentations for a second stage are: WORK/previous/CONFIGURATION."""
    return PreviousStore(WorkFolder(work).previous_stage_folder(configuration))


@dataclass(frozen=True, slots=True)
class SegmentationSource:
    """What a case's first segmentation must have been made with."""

    fold: int  # of the first stage: the first that holds the case out
    weights: str  # their digest
    key: str  # hash of the weights and of what the case was prepared from


def first_stage_sources(
    work: Path, plan: Plan, configuration: str, folds: Iterable[int] | None = None
) -> dict[str, SegmentationSource]:
    """Return what each training case must be segmented by; another model or another preparation gives another key.

    Parameters
    ----------
    work
        The work folder.
    plan
        Its plan.
    configuration
        The second stage.
    folds
        Of the first stage: only the cases that these hold out; None: all cases that any fold holds out.

    Raises
    ------
    CheckpointError
        Folds of the first stage are not trained.
    DatasetError
        A case is not prepared, or splits.json is missing.
    """
    first = plan.configurations[configuration].previous
    assert first is not None  # callers ask for second stages only
    splits = read_folds(work)
    wanted = range(len(splits)) if folds is None else sorted(set(folds))
    _require_trained(WorkFolder(work), first, configuration, wanted)
    all_metadata = {fold: read_metadata(WorkFolder(work).model(first, fold).path) for fold in wanted}
    made_by = {fold: _made_by(metadata) for fold, metadata in all_metadata.items()}
    prepared = open_store(work, plan, configuration)
    owners = {case: fold for fold in reversed(range(len(splits))) for case in splits[fold].validation}
    return {
        case: SegmentationSource(
            fold, all_metadata[fold].digest, _digest([RECORD.version, *made_by[fold], prepared.record(case).keys])
        )
        for case, fold in sorted(owners.items())
        if fold in all_metadata
    }


def _made_by(metadata: ModelMetadata) -> tuple[object, ...]:
    """Return what a model's segmentations depend on: weights, and mirror axes unless they are all, as once always."""
    every = metadata.mirror_axes == tuple(range(metadata.plan_configuration.dims))
    return (metadata.digest,) if every else (metadata.digest, metadata.mirror_axes or ())


def open_first_stage(work: Path, plan: Plan, configuration: str, cases: Iterable[str]) -> FirstStage:
    """Open the first stage's segmentations of these cases for training.

    Raises
    ------
    CheckpointError
        Folds of the first stage are not trained, no fold holds a case out, or a segmentation is missing or of another
        model.
    DatasetError
        As `first_stage_sources`.
    """
    store, sources = previous_store(work, configuration), first_stage_sources(work, plan, configuration)
    names = sorted(set(cases))
    _require_held_out(work, configuration, [name for name in names if name not in sources])
    missing = lacking(store, {name: sources[name] for name in names})
    if missing:
        raise CheckpointError(
            f"{store.folder}: {len(missing)} of {len(names)} cases, {missing[0]} among them, have no segmentation by "
            f"the present models of {plan.configurations[configuration].previous}; nnunet-rs train {work} "
            f"-c {configuration} -f FOLD makes them (in Python: predict.previous.segment_cases)"
        )
    models = {fold_name(source.fold): source.weights for source in sources.values()}
    return FirstStage(store, _digest([(name, sources[name].key) for name in names]), models)


def report_never_held_out(work: Path, plan: Plan, configurations: Iterable[str], progress: Progress) -> None:
    """Warn, before a first stage is trained, of cases that its second stage will refuse.

    Parameters
    ----------
    work, plan
        The work folder and its plan.
    configurations
        That are to be trained.
    progress
        Called for cases that some fold trains on and none holds out.

    Raises
    ------
    DatasetError
        splits.json is missing or malformed.
    """
    cascades = [c for c in plan.configurations.values() if c.previous is not None]
    wanted = set(configurations)
    following = [c.name for c in cascades if {c.name, c.previous} & wanted]
    missing = _never_held_out(read_folds(work)) if following else ()
    if missing:
        progress.say(f"warning: {_not_held_out(work, following[0], missing)}")


def lacking(store: PreviousStore, sources: Mapping[str, SegmentationSource]) -> tuple[str, ...]:
    """List the cases that are not in a store, or there by another key."""
    return tuple(case for case, source in sources.items() if not store.has(case, source.key))


def _never_held_out(folds: Iterable[Fold]) -> tuple[str, ...]:
    """Name the cases that some fold trains on and none holds out."""
    seen, held_out = set[str](), set[str]()
    for fold in folds:
        seen.update(fold.train)
        held_out.update(fold.validation)
    return tuple(sorted(seen - held_out))


def _not_held_out(work: Path, configuration: str, missing: Sequence[str]) -> str:
    what = f"case {missing[0]} is" if len(missing) == 1 else f"{len(missing)} cases, such as {missing[0]}, are"
    return (
        f"{WorkFolder(work).splits_file}: {what} held out by no fold, so that every model of the first stage has seen "
        "them; "
        f"{configuration} needs each of its cases held out once: edit the folds before the first stage is trained"
    )


def _require_held_out(work: Path, configuration: str, missing: Sequence[str]) -> None:
    if missing:
        raise CheckpointError(_not_held_out(work, configuration, missing))


def _require_trained(work: WorkFolder, first: str, configuration: str, folds: Iterable[int]) -> None:
    missing = [fold for fold in folds if not work.model(first, fold).is_finished()]
    if not missing:
        return
    one = len(missing) == 1
    named = f"fold {missing[0]} is" if one else f"folds {', '.join(map(str, missing))} are"
    wanted = f"-f {missing[0]}" if one else "--folds all --resume"
    raise CheckpointError(
        f"{work.configuration_folder(first)}: {named} not trained, and {configuration} learns from what every fold of "
        f"{first} makes of the cases it did not see; first run nnunet-rs train {work.path} -c {first} {wanted}"
    )


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
