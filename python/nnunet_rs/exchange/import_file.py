"""One-file models, unpacked as models of ours."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.files import write_atomically
from nnunet_rs.core.outputs import Outputs
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.workspace import BEST_JSON, MODEL_JSON, PLAN_JSON, WEIGHTS, WorkFolder
from nnunet_rs.exchange.import_nnunet import Imported, ImportOptions, require_no_model
from nnunet_rs.model.metadata import read_metadata
from nnunet_rs.model.model_file import LICENCE, READ_ME, model_source
from nnunet_rs.select.choice import read_choice
from nnunet_rs.select.postprocessing import PostProcessing


def import_file(
    source: Path, output: Path, options: ImportOptions | None = None, progress: Progress | None = None
) -> Imported:
    """Unpack what `export_file` wrote; parameters and errors as `import_nnunet`."""
    options, progress = options or ImportOptions(), progress or Silent()
    with model_source(source) as folder, Outputs(output, overwrite=options.overwrite, say=progress.say) as outputs:
        files = WorkFolder(folder)
        models = [model for name in files.configurations() for model in files.models(name)]
        there = [model.path for model in models if model.is_finished()]
        wanted = _wanted(source, there, options)
        beside = [name for name in (PLAN_JSON, BEST_JSON, READ_ME, LICENCE) if (folder / name).is_file()]
        if WorkFolder(output).plan_file.exists():
            beside.remove(PLAN_JSON)  # each model has its own
        if BEST_JSON in beside and len(wanted) < len(there):
            beside.remove(BEST_JSON)  # it is about all of them
        choice = read_choice(folder) if BEST_JSON in beside else None
        places = [output / path.relative_to(folder) for path in wanted]
        require_no_model(places)
        outputs.require(output / name for name in beside)
        with progress.task("import", len(places)) as task:
            for path, place in zip(wanted, places, strict=True):
                for name in (WEIGHTS, MODEL_JSON):  # model.json last: where it is, the model is whole
                    with write_atomically(place / name) as temporary:
                        shutil.copyfile(path / name, temporary)
                task.advance(1, f"{place.parent.name}, {place.name}")
        with outputs.new_files(PLAN_JSON) as staged:
            for name in beside:
                shutil.copyfile(folder / name, staged / name)
    if choice is None:
        return Imported(tuple(places), (), PostProcessing())
    return Imported(tuple(places), choice.configurations, choice.postprocessing)


def _wanted(source: Path, there: Sequence[Path], options: ImportOptions) -> list[Path]:
    all_metadata = {path: read_metadata(path) for path in there}
    wanted = [
        path
        for path, metadata in all_metadata.items()
        if (options.configurations is None or metadata.configuration in options.configurations)
        and (options.folds is None or metadata.fold in options.folds)
    ]
    if not wanted:
        names = (
            ", ".join(f"{metadata.configuration} fold {metadata.fold}" for metadata in all_metadata.values()) or "none"
        )
        raise CheckpointError(f"{source}: has no such model; there are {names}")
    return wanted
