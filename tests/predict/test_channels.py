import json

import pytest
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.progress import Silent
from nnunet_rs.core.types import ChannelStats
from nnunet_rs.plan.schema import Normalization
from nnunet_rs.predict.channels import require_channels, require_declared_order

CT = Normalization("ct", False, ChannelStats(40, 80, 35, -900, 1500, -150, 250))
MR = Normalization("zscore", False, None)


class Listener(Silent):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def test_a_ct_without_a_voxel_in_the_window_is_no_ct(make_plan, make_volume):
    plan = make_plan(channels=("MR", "CT"), normalization=(MR, CT))
    volume = make_volume((4, 5, 6), channels=2)
    volume.data[0] += 1000
    require_channels(volume, plan)  # the CT is around 100
    volume.data[1, 2, 3, 4] = 99
    volume.data[1][volume.data[1] != 99] = -1000
    require_channels(volume, plan)  # one voxel is enough
    volume.data[:] = volume.data[::-1].copy()
    with pytest.raises(DatasetError, match=r"channel 1 \(CT\) has values .*none between -150 and 250 .*order MR, CT"):
        require_channels(volume, plan)


@pytest.mark.parametrize(("shape", "message"), [((2, 3, 3, 3), "has 2 channels"), ((1, 3, 3, 3), "zero everywhere")])
def test_number_and_content_are_told(shape, message, make_plan, make_volume):
    volume = make_volume(shape[1:], channels=shape[0])
    volume.data[:] = 0
    with pytest.raises(DatasetError, match=message):
        require_channels(volume, make_plan())


@pytest.mark.parametrize("key", ["channel_names", "modality"])
@pytest.mark.parametrize("above", [False, True])
def test_channels_declared_in_another_order_are_refused(key, above, make_plan, tmp_path):
    plan, folder, listener = make_plan(channels=("T1", "FLAIR")), tmp_path / "imagesTs", Listener()
    folder.mkdir()
    file = (tmp_path if above else folder) / "dataset.json"
    require_declared_order(folder, plan, listener)
    file.write_text(json.dumps({key: {"0": "t1", "1": "flair"}}))
    require_declared_order(folder, plan, listener)
    assert listener.said == []
    file.write_text(json.dumps({key: {"0": "FLAIR", "1": "T1"}}))
    with pytest.raises(DatasetError, match=r"dataset\.json: the channels are FLAIR, T1, the model takes T1, FLAIR"):
        require_declared_order(folder, plan, listener)


@pytest.mark.parametrize("content", ["{", "[1]", "{}", json.dumps({"channel_names": {"0": "T1"}})])
def test_files_that_declare_nothing_are_passed_over(content, make_plan, tmp_path):
    (tmp_path / "dataset.json").write_text(content)
    listener = Listener()
    require_declared_order(tmp_path, make_plan(channels=("T1", "FLAIR")), listener)
    assert listener.said == []


def test_other_names_are_told(make_plan, tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MRI"}}))
    listener = Listener()
    require_declared_order(tmp_path, make_plan(), listener)
    (said,) = listener.said
    assert "channels MRI; the model was trained on MR" in said
