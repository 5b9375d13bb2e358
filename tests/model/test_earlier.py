"""Files of earlier versions with one value changed, anywhere: read, or refused in a line."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.model.header import config_of, identity_of, parse_header, read_header
from nnunet_rs.model.metadata import read_metadata

FIXTURES = Path(__file__).parents[1] / "fixtures"
MODELS = [("work_0_1.tar.xz", "2d/fold_0"), ("work_model_2.tar.xz", "2d/fold_0")]
CHECKPOINTS = [("work_0_1.tar.xz", "2d/fold_1"), ("work_model_2.tar.xz", "2d/fold_1")]
ODD = (None, 3, -1.5, "x", [], {}, True)


def unpacked(archive: str, name: str, folder: Path) -> Path:
    """Unpack one file of a work folder's models."""
    with tarfile.open(FIXTURES / archive) as packed:
        (folder / Path(name).name).write_bytes(packed.extractfile(f"work/models/{name}").read())
    return folder / Path(name).name


def changed(value: Any) -> Iterator[Any]:
    """Yield a JSON document with one value replaced, or one key left out."""
    yield from ODD
    items = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, item in items:
        for other in changed(item):
            copy = dict(value) if isinstance(value, dict) else list(value)
            copy[key] = other
            yield copy
        if isinstance(value, dict):
            yield {name: kept for name, kept in value.items() if name != key}


def all_answered(document: Any, read: Callable[[Any], object]) -> None:
    for damaged in changed(document):
        with suppress(CheckpointError):
            read(damaged)


@pytest.mark.parametrize(("archive", "fold"), MODELS)
def test_models(tmp_path: Path, archive: str, fold: str) -> None:
    path = unpacked(archive, f"{fold}/model.json", tmp_path)
    document = json.loads(path.read_text())
    assert read_metadata(tmp_path).configuration == "2d"
    document["plan"]["configurations"] = {"2d": document["plan"]["configurations"]["2d"]}

    def read(body: Any) -> object:
        path.write_text(json.dumps(body))
        return read_metadata(tmp_path)

    plan = document.pop("plan")
    all_answered(document, lambda body: read({**body, "plan": plan}) if isinstance(body, dict) else read(body))


@pytest.mark.parametrize(("archive", "fold"), CHECKPOINTS)
def test_checkpoints(tmp_path: Path, archive: str, fold: str) -> None:
    path = unpacked(archive, f"{fold}/resume.safetensors", tmp_path)
    assert identity_of(read_header(path), path).configuration == "2d"
    assert config_of(read_header(path), path).recipe == "fast"
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        document = json.loads(file.metadata()["nnunet_rs"].partition("\n")[0])

    def read(body: Any) -> object:
        header = parse_header(json.dumps(body), path)
        return identity_of(header, path), config_of(header, path)

    del document["history"], document["position"]
    all_answered(document, read)
