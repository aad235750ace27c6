import torch

from pbrlib.metrics.confusion import confusion


def test_rows_are_truth_and_columns_prediction():
    labels = torch.tensor([[0, 0, 1], [2, 2, 255]])
    prediction = torch.tensor([[0, 1, 1], [2, 0, 0]])
    assert confusion(prediction, labels, num_classes=3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]


def test_pixels_that_do_not_count_are_in_no_cell():
    labels = torch.tensor([0, 1, 2])
    valid = torch.tensor([True, False, True])
    assert confusion(labels, labels, num_classes=3, valid=valid).diagonal().tolist() == [1, 0, 1]


def test_counts_equal_a_loop():
    generator = torch.Generator().manual_seed(0)
    labels, prediction = torch.randint(0, 7, (2, 2, 9, 9), generator=generator).unbind()
    expected = [[int(((labels == t) & (prediction == p)).sum()) for p in range(7)] for t in range(7)]
    assert confusion(prediction, labels, num_classes=7).tolist() == expected
