"""The fingerprint of a dataset, taken case by case: what the scan's must equal."""

from __future__ import annotations

from nnunet_rs.core.check import check_case
from nnunet_rs.core.types import Dataset
from nnunet_rs.plan.fingerprint import FingerprintBuilder
from nnunet_rs.plan.schema import Fingerprint


def fingerprint_dataset(dataset: Dataset) -> Fingerprint:
    """Read every training case, a second time where percentiles need it."""
    builder, seen = FingerprintBuilder(dataset), []
    for case in dataset.training:
        volume, labels, _ = check_case(dataset, case)
        assert volume is not None
        assert labels is not None
        builder.add(case.name, volume, labels.data)
        seen.append((volume, labels.data))
    if builder.pending:
        for volume, data in seen:
            builder.refine(volume, data)
    return builder.finish()
