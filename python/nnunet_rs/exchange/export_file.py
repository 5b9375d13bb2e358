"""Models of ours in one checked archive, which predict, Predictor.load and import take as it is."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from nnunet_rs.core.document import render
from nnunet_rs.core.errors import CheckpointError, DatasetError
from nnunet_rs.core.files import read_json, write_atomically
from nnunet_rs.core.progress import Progress, Silent, Task
from nnunet_rs.core.version import installed_version
from nnunet_rs.core.workspace import BEST_JSON, MODEL_JSON, PLAN_JSON, WEIGHTS, ModelFolder, WorkFolder, fold_name
from nnunet_rs.exchange.model_text import Description, describe
from nnunet_rs.model.metadata import ModelMetadata, read_metadata
from nnunet_rs.model.model_file import LICENCE, MANIFEST, MANIFEST_KIND, READ_ME, Manifest, Packed
from nnunet_rs.model.trained_models import find_models
from nnunet_rs.model.weights import digest_of
from nnunet_rs.plan.files import plan_text
from nnunet_rs.plan.schema import Plan
from nnunet_rs.select.choice import Choice, read_choice

_THEN = (1980, 1, 1, 0, 0, 0)  # of every file: the same models make the same bytes
_LONGEST = 1 << 20  # bytes of a licence


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file that was written."""

    path: Path
    sha256: str
    models: tuple[str, ...]  # models/CONFIGURATION/fold_K
    chosen: tuple[str, ...]  # configurations that best.json names, if it was taken along


def export_file(
    source: Path,
    folders: Sequence[Path],
    target: Path,
    *,
    licence: Path | None = None,
    progress: Progress | None = None,
) -> ModelFile:
    """Write models, and all that their prediction needs, into one file.

    Parameters
    ----------
    source
        The work folder, or another folder that the models are from; its best.json goes along where it speaks of them.
    folders
        Of folds: WORK/models/CONFIGURATION/fold_K. A cascade's first stage goes along unasked.
    target
        The zip; replaced whole where it is there.
    licence
        A text file, put in as it is.
    progress
        Where every file is reported, and what is left out.

    Raises
    ------
    CheckpointError
        A model is missing, damaged, or of another plan than the others.
    DatasetError
        The licence is no text.
    NnunetError
        The file cannot be written.
    """
    progress = progress or Silent()
    all_metadata = {folder: read_metadata(folder) for folder in folders}
    for folder in _first_stages(all_metadata):
        all_metadata.setdefault(folder, read_metadata(folder))
    _require_whole(all_metadata)
    choice = _choice(source, all_metadata.values(), progress)
    texts = _texts(source, all_metadata, choice, licence, target.name)
    places = {
        WorkFolder(Path()).model(metadata.configuration, metadata.fold).path.as_posix(): folder
        for folder, metadata in all_metadata.items()
    }
    files = {f"{place}/{name}": folder / name for place, folder in places.items() for name in (MODEL_JSON, WEIGHTS)}
    with progress.task("export", len(files)) as task, write_atomically(target) as temporary:
        _pack(temporary, texts, files, task)
    return ModelFile(target, digest_of(target), tuple(places), choice.configurations if choice else ())


def _texts(
    source: Path, all_metadata: Mapping[Path, ModelMetadata], choice: Choice | None, licence: Path | None, name: str
) -> dict[str, bytes]:
    """Return the documents beside the models, by their names in the archive."""
    plan = _plan(all_metadata)
    texts = {PLAN_JSON: plan_text(plan).encode()}
    if choice is not None:
        texts[BEST_JSON] = WorkFolder(source).best_file.read_bytes()
    if licence is not None:
        texts[LICENCE] = _licence(licence)
    described = Description(
        plan, tuple(all_metadata.values()), choice, _scores(all_metadata), licence is not None, name
    )
    return texts | {READ_ME: describe(described).encode()}


def _pack(target: Path, texts: Mapping[str, bytes], files: Mapping[str, Path], task: Task) -> None:
    """Write the archive; its last member lists all others with their hashes."""
    packed = {}
    with zipfile.ZipFile(target, "w") as archive:
        for name, text in texts.items():
            packed[name] = _add(archive, name, text)
        for name, path in files.items():
            with path.open("rb") as stream:
                packed[name] = _add(archive, name, stream)
            task.advance(1, name)
        _add(archive, MANIFEST, (render(MANIFEST_KIND.to_json(Manifest(packed, installed_version()))) + "\n").encode())


def _first_stages(all_metadata: Mapping[Path, ModelMetadata]) -> list[Path]:
    """List the folds of the first stages of cascades that nobody named."""
    found: list[Path] = []
    for folder, metadata in all_metadata.items():
        lower = metadata.plan_configuration.previous
        if lower is not None and not any(other.configuration == lower for other in all_metadata.values()):
            home = folder.parent.parent / lower
            if not home.is_dir():
                raise CheckpointError(
                    f"{folder}: is the second stage of a cascade, whose first, {lower}, is not beside it; it cannot be "
                    "used without"
                )
            found += find_models(home)
    return list(dict.fromkeys(found))


def _require_whole(all_metadata: Mapping[Path, ModelMetadata]) -> None:
    first = next(iter(all_metadata.values())).plan
    for folder, metadata in all_metadata.items():
        if (
            not ModelFolder(folder).weights_file.is_file()
            or digest_of(ModelFolder(folder).weights_file) != metadata.digest
        ):
            raise CheckpointError(
                f"{ModelFolder(folder).weights_file}: is missing or damaged (SHA-256 differs); copy the model again"
            )
        if (metadata.plan.channels, metadata.plan.labels) != (first.channels, first.labels):
            raise CheckpointError(f"{folder}: has other channels or labels than the others; export it alone (-c, -f)")


def _plan(all_metadata: Mapping[Path, ModelMetadata]) -> Plan:
    """Return the plan with the configurations as they were trained."""
    first = next(iter(all_metadata.values())).plan
    trained = {metadata.configuration: metadata.plan_configuration for metadata in all_metadata.values()}
    return replace(first, configurations={**first.configurations, **trained})


def _choice(source: Path, all_metadata: Iterable[ModelMetadata], progress: Progress) -> Choice | None:
    """Return what best.json decided, where it is about these models."""
    if not WorkFolder(source).best_file.is_file():
        return None
    choice = read_choice(source)
    digests = {(metadata.configuration, fold_name(metadata.fold)): metadata.digest for metadata in all_metadata}
    there = {configuration for configuration, _ in digests}
    others = {
        (name, fold)
        for name, folds in choice.models.items()
        for fold, digest in folds.items()
        if digests.get((name, fold), digest) != digest
    }
    if not set(choice.configurations) <= there or others:
        progress.say(
            f"{WorkFolder(source).best_file} is left out: it was decided about other models than those that are written"
        )
        return None
    return choice


def _scores(all_metadata: Mapping[Path, ModelMetadata]) -> dict[str, float]:
    """Mean Dice of the cases held out, by model, where they were scored."""
    found = {}
    for folder, metadata in all_metadata.items():
        path = ModelFolder(folder).summary_file
        if metadata.fold != "all" and path.is_file():
            score = read_json(path).get("foreground_mean", {}).get("Dice")
            if isinstance(score, float):
                found[f"{metadata.configuration}, fold {metadata.fold}"] = score
    return found


def _licence(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        content.decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}; give the licence's text file") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: is not UTF-8 text (byte {error.start}); give the licence as text") from error
    if not content.strip() or len(content) > _LONGEST:
        raise DatasetError(f"{path}: has {len(content)} bytes; a licence's text has 1 to {_LONGEST}")
    return content


def _add(archive: zipfile.ZipFile, name: str, content: bytes | IO[bytes]) -> Packed:
    """Put a file into an archive, and return its hash; texts are compressed, weights would not shrink."""
    info, digest, size = zipfile.ZipInfo(name, _THEN), hashlib.sha256(), 0
    info.external_attr = 0o644 << 16
    info.compress_type = zipfile.ZIP_DEFLATED if isinstance(content, bytes) else zipfile.ZIP_STORED
    with archive.open(info, "w", force_zip64=not isinstance(content, bytes)) as target:
        blocks = [content] if isinstance(content, bytes) else iter(lambda: content.read(1 << 20), b"")
        for block in blocks:
            digest.update(block)
            size += len(block)
            target.write(block)
    return Packed(digest.hexdigest(), size)
