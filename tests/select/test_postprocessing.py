import numpy as np
from nnunet_rs.select.postprocessing import PostProcessing


def row(*values):
    return np.array([[values]], np.uint8)


def test_largest_component_by_hand():
    labels = row(1, 1, 2, 0, 2, 0, 1, 0, 2, 2)
    before = labels.copy()
    keep_one = PostProcessing(((1,),)).apply(labels)
    np.testing.assert_array_equal(keep_one, row(1, 1, 2, 0, 2, 0, 0, 0, 2, 2))
    keep_foreground = PostProcessing(((1, 2),)).apply(labels)
    np.testing.assert_array_equal(keep_foreground, row(1, 1, 2, 0, 0, 0, 0, 0, 0, 0))
    np.testing.assert_array_equal(labels, before)


def test_corners_connect_and_ties_keep_the_first():
    labels = np.zeros((2, 2, 5), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = 1  # share a corner
    labels[0, 0, 3:] = 1  # as large
    expected = np.zeros_like(labels)
    expected[0, 0, 0] = expected[1, 1, 1] = 1
    np.testing.assert_array_equal(PostProcessing(((1,),)).apply(labels), expected)


def test_agrees_with_skimage():
    from skimage.measure import label

    labels = (np.random.default_rng(0).random((9, 10, 11)) < 0.12).astype(np.uint8)
    components = label(labels, connectivity=3)
    largest = 1 + np.bincount(components.ravel())[1:].argmax()
    np.testing.assert_array_equal(PostProcessing(((1,),)).apply(labels), components == largest)


def test_absent_classes_are_left_alone():
    labels = row(0, 0, 1)
    np.testing.assert_array_equal(PostProcessing(((2,), (1,))).apply(labels), labels)
