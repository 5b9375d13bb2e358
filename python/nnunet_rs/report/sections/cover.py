"""The head of a report: what it is about, the main figures, how far the work is, what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from nnunet_rs.core.text import by, clock, counted
from nnunet_rs.evaluate.summary import Summary
from nnunet_rs.report.blocks import Cover, Figure
from nnunet_rs.report.steps import Step
from nnunet_rs.report.tables import Table, number
from nnunet_rs.report.workfolder import Training, WorkContents


def cover(work: WorkContents, steps: tuple[Step, ...]) -> Cover:
    """Sum a work folder up."""
    return Cover(
        title=work.plan.dataset,
        deck=_deck(work),
        figures=_figures(work),
        status=_status(work),
        steps=steps,
        remarks=(*work.damage, *_moved(work)),
    )


def best_scored(work: WorkContents) -> tuple[str, Summary] | None:
    """Return the configuration with the highest mean Dice, and its scores; None where nothing is scored.

    They are compared on the cases that all of them have scored; where there are none, each on its own.
    """
    scored = {name: s for name, s in work.validated().items() if not isnan(s.foreground_mean())}
    if not scored:
        return None
    shared = set.intersection(*({case.name for case in summary.cases} for summary in scored.values()))
    compared = {name: (s.of_cases(shared) if shared else s).foreground_mean() for name, s in scored.items()}
    name = max(scored, key=lambda name: -1.0 if isnan(compared[name]) else compared[name])
    return name, scored[name]


def _deck(work: WorkContents) -> str:
    names = work.plan.labels.score_names
    wanted = _listed(names) if len(names) <= 6 else counted(len(names), "class") + "es"
    what = f"{counted(len(work.names), 'case')} of {', '.join(work.plan.channels)}; to be segmented: {wanted}."
    finished = [training for training in work.trainings if training.metadata]
    if not finished:
        return f"{what} Planned by the rules of {work.plan.recipe}; no training is finished yet."
    configurations = list(dict.fromkeys(training.configuration for training in finished))
    trained = f"{counted(len(finished), 'training')} of {_listed(configurations)} finished"
    return f"{what} Planned by the rules of {work.plan.recipe}; {trained}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _figures(work: WorkContents) -> tuple[Figure, ...]:
    scored = best_scored(work)
    figures = [_dice(*scored)] if scored else []
    chosen = work.choice.candidates[0] if work.choice and work.choice.candidates else None
    if chosen and len(chosen.configurations) > 1:
        figures.insert(
            0, Figure(number(chosen.dice), "mean Dice of the chosen pair", " + ".join(chosen.configurations))
        )
    figures.append(Figure(str(len(work.names) or "-"), "training cases", _median_size(work)))
    configurations, folds = len(work.plan.configurations), len(work.folds)
    finished = sum(training.metadata is not None for training in work.trainings)
    figures.append(
        Figure(f"{finished} of {configurations * folds}", "folds trained", f"{configurations} configurations")
    )
    seconds = sum(epoch.seconds for training in work.trainings for epoch in training.history.epochs)
    if seconds:
        unit = "h:min:s" if seconds >= 3600 else "min:s"
        note = f"{unit}, all folds together" if seconds >= 60 else "all folds together"
        figures.append(Figure(clock(seconds), "of training", note))
    return tuple(figures)


def _dice(name: str, summary: Summary) -> Figure:
    low, high = summary.interval()[1]
    note = f"{name}, {counted(len(summary.cases), 'case')} held out; 95\u00a0% interval {number(low)} to {number(high)}"
    return Figure(number(summary.foreground_mean()), "mean Dice", note)


def _median_size(work: WorkContents) -> str:
    configuration = next(iter(work.plan.configurations.values()))
    full = work.plan.configurations.get("3d_fullres", configuration)
    return f"{by(full.median_shape, 'g')} voxels at {by(full.spacing, '.3g')} mm"


def _status(work: WorkContents) -> Table:
    """One row a configuration, one column a fold: its mean Dice, or how far it is."""
    folds = range(max(len(work.folds), 1 + max((t.fold for t in work.trainings), default=-1)))
    rows = []
    for name in dict.fromkeys((*work.plan.configurations, *(t.configuration for t in work.trainings))):
        by_fold = {training.fold: training for training in work.of(name)}
        rows.append((name, _prepared(work, name), *(_state(by_fold.get(fold)) for fold in folds)))
    head = ("configuration", "prepared", *(f"fold {fold}" for fold in folds))
    note = "A number is the mean Dice of the cases that the fold did not see; a dash: not begun."
    return Table("How far the work is", head, tuple(rows), note)


def _prepared(work: WorkContents, name: str) -> str:
    from nnunet_rs.data.store import prepared_name

    store = prepared_name(work.plan, name) if name in work.plan.configurations else name
    count = len(work.prepared.get(store, ()))
    return "all" if count and count == len(work.names) else f"{count} of {len(work.names)}" if count else "–"


def _state(training: Training | None) -> str:
    if training is None:
        return "–"
    if training.metadata is None:
        return f"in epoch {len(training.history.epochs) + 1}"
    if training.summary is None:
        return "trained"
    return number(training.summary.foreground_mean())


def _moved(work: WorkContents) -> tuple[str, ...]:
    if work.dataset is None:
        return (f"{work.files.dataset_file} is missing: cases cannot be shown. `nnunet-rs preprocess` makes it anew.",)
    if not work.moved:
        return ()
    some = ", ".join(work.moved[:3]) + (" …" if len(work.moved) > 3 else "")
    place = work.files.dataset_file
    return (
        f"The files of {counted(len(work.moved), 'case')} ({some}) are not where {place} says: these "
        "cases cannot be shown. Put them back, or run `nnunet-rs preprocess` with the dataset's new place.",
    )
