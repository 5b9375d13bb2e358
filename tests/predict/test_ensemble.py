import nibabel
import numpy as np
import pytest
from nnunet_rs.core.errors import CheckpointError, DatasetError
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.predict.ensemble import Ensemble, side_by_side, together
from nnunet_rs.predict.exporter import Exporter
from nnunet_rs.predict.folder import FolderOptions, predict_folder
from nnunet_rs.predict.probabilities import open_probabilities
from nnunet_rs.select.ensemble_folders import ensemble_folders

REGIONS = LabelSet(("background", "oedema", "core"), (0, 1, 2), (Region("whole", (1, 2), 1), Region("core", (2,), 2)))


def planes(*counts, offset=0.0):
    first = 0
    for count in counts:
        values = np.arange(first, first + count, dtype=np.float32) + offset
        yield first, np.broadcast_to(values[:, None, None], (2, count, 1, 1))
        first += count


def test_streams_are_cut_at_common_places():
    parts = list(together([planes(3, 1, 2), planes(2, 4, offset=10)]))
    assert [(first, [v[0, :, 0, 0].tolist() for v in values]) for first, values in parts] == [
        (0, [[0, 1], [10, 11]]),
        (2, [[2], [12]]),
        (3, [[3], [13]]),
        (4, [[4, 5], [14, 15]]),
    ]


@pytest.fixture
def members(make_predictor):
    def make(**changes):
        flat = make_predictor(patch_size=(8, 8), spacing=(1.0, 1.3, 1.2), mirror=True, **changes)
        return flat, make_predictor(folds=2, spacing=(1.5, 1.1, 1.0), patch_size=(6, 8, 8), **changes)

    return make


def whole(predictor, prepared):
    output = predictor.output_grid(prepared, axis=0)
    return np.concatenate(
        [values for _, values in predictor.stream_probabilities(prepared, output, Exporter())], axis=1
    )


@pytest.mark.parametrize("changes", [{}, {"labels": REGIONS}, {"recipe": "v2"}, {"transpose": (2, 0, 1)}])
def test_one_pass_equals_averaging_whole_volumes(members, make_volume, changes):
    ensemble = Ensemble(members(**changes))
    volume = make_volume((13, 11, 17), margin=1)
    prepared = ensemble.prepare(volume)
    mean = np.mean([whole(m, p).astype(np.float64) for m, p in zip(ensemble.members, prepared, strict=True)], axis=0)
    labels = ensemble.plan.labels
    if labels.regions:
        decided = np.where(mean[1] >= 0.5, 2, np.where(mean[0] >= 0.5, 1, 0))
        ties = (np.abs(mean - 0.5) < 1e-5).any(axis=0)
    else:
        decided = np.array(labels.values)[mean.argmax(axis=0)]
        best = np.sort(mean, axis=0)
        ties = best[-1] - best[-2] < 1e-5
    geometry = prepared[0].geometry
    expected, near = geometry.undo(decided), geometry.undo(ties)
    result = ensemble.predict_prepared(prepared)
    np.testing.assert_array_equal(result[~near], expected[~near])


def test_members_must_share_their_plan(make_predictor):
    with pytest.raises(CheckpointError, match="one plan"):
        Ensemble((make_predictor(), make_predictor(labels=REGIONS)))


def test_the_task_hears_of_one_case(members, make_volume):
    class Counter:
        count = 0.0

        def advance(self, count=1, note=""):
            self.count += count

    pair, counter = members(), Counter()
    prepared = [member.prepare(make_volume((9, 11, 10))) for member in pair]
    for _ in side_by_side(pair, prepared, Exporter(), counter).planes:
        pass
    assert counter.count == pytest.approx(1)


@pytest.fixture
def saved(tmp_path, save_nifti, made_up_case, members):
    for index in range(2):
        save_nifti(tmp_path / "in" / f"case_{index}.nii.gz", made_up_case(index, (7, 12, 9))[0][0], (2.0, 1.0, 1.0))
    pair = members()
    folders = [tmp_path / "flat", tmp_path / "solid"]
    for member, folder in zip(pair, folders, strict=True):
        predict_folder(member, tmp_path / "in", folder, FolderOptions(save_probabilities=True))
    return tmp_path, pair, folders


def test_saved_probabilities_average_to_the_same(saved):
    root, pair, folders = saved
    assert ensemble_folders(folders, root / "saved").written == ("case_0", "case_1")
    predict_folder(Ensemble(pair), root / "in", root / "direct", FolderOptions(save_probabilities=True))
    for case in ("case_0", "case_1"):
        ours, theirs = (nibabel.load(root / name / f"{case}.nii.gz") for name in ("saved", "direct"))
        np.testing.assert_array_equal(ours.affine, theirs.affine)
        file = open_probabilities(root / "direct" / f"{case}.b2nd")
        mean = file.planes(0, 0, file.shape[1]).astype(np.float32)
        best = np.sort(mean, axis=0)
        clear = best[-1] - best[-2] > 4e-3  # float16
        np.testing.assert_array_equal(np.asarray(ours.dataobj).T[clear], np.asarray(theirs.dataobj).T[clear])


def test_folders_that_do_not_go_together_are_said(saved, tmp_path, make_predictor):
    root, _, folders = saved
    with pytest.raises(DatasetError, match="at least two"):
        ensemble_folders(folders[:1], root / "out")
    with pytest.raises(DatasetError, match="no probabilities"):
        ensemble_folders([folders[0], root / "in"], root / "out")
    with pytest.raises(DatasetError, match="is not a folder"):
        ensemble_folders([folders[0], root / "nowhere"], root / "out")
    other = root / "other"
    predict_folder(make_predictor(labels=REGIONS), root / "in", other, FolderOptions(save_probabilities=True))
    with pytest.raises(DatasetError, match="of one dataset"):
        ensemble_folders([folders[0], other], root / "out")
    (folders[1] / "case_1.b2nd").unlink()
    with pytest.raises(DatasetError, match=r"lacks case_1\.b2nd"):
        ensemble_folders(folders, root / "out")
    (folders[1] / "case_1.b2nd").write_bytes(b"something else")
    with pytest.raises(DatasetError, match=r"case_1\.b2nd: holds no probabilities"):
        ensemble_folders(folders, root / "out")
