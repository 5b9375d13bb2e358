"""What `best` chose: a configuration or a pair of them, and post-processing."""

from __future__ import annotations

from collections.abc import Iterator

from nnunet_rs.report.blocks import Block, Missing, Points, Section, Text
from nnunet_rs.report.steps import Step, steps_of
from nnunet_rs.report.tables import choice_table
from nnunet_rs.report.workfolder import WorkContents


def choice_section(work: WorkContents, steps: tuple[Step, ...]) -> Section:
    """Report what predicting with the work folder follows."""
    return Section("choice", "The choice", tuple(_blocks(work, steps)))


def _blocks(work: WorkContents, steps: tuple[Step, ...]) -> Iterator[Block]:
    choice = work.choice
    if choice is None:
        what = (
            "Which configuration is best, whether a pair is better, and whether post-processing helps is not decided."
        )
        yield Missing(what, steps_of(steps, "best") if work.validated() else ())
        return
    names, kept = " + ".join(choice.configurations), choice.postprocessing.keep_largest
    steps_taken = [" + ".join(work.plan.labels.names[index] for index in classes) for classes in kept]
    what = f"the largest component is kept of {', then of '.join(steps_taken)}" if kept else "nothing is post-processed"
    yield Text(f"Predicting with this work folder uses {names}; {what}.")
    yield choice_table(choice)
    yield Points(choice.postprocessing.reasons, "Post-processing that was tried")
