"""The kinds of work with cases that a cluster can do, and what loads each."""

from __future__ import annotations

from nnunet_rs.run.cohort.work import Opener


def opener(kind: str) -> Opener:
    """Return what loads what a kind of work needs."""
    if kind == "predict":
        from nnunet_rs.run.cohort import predicting

        return predicting.open_work
    if kind == "preprocess":
        from nnunet_rs.run.cohort import preparing

        return preparing.open_work
    if kind == "best":
        from nnunet_rs.run.cohort import choosing

        return choosing.open_work
    from nnunet_rs.run.cohort import scoring

    return scoring.open_work
