import json
import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from pointlift.evaluate import ClassificationResult, classification_metrics


def random_case(seed: int, n: int = 300, num_classes: int = 7):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, n)
    scores = rng.normal(size=(n, num_classes))
    scores[np.arange(n), labels] += 1.2
    return scores, labels, [f"class {i}" for i in range(num_classes)]


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_sklearn(seed):
    scores, labels, classes = random_case(seed)
    result = classification_metrics(scores, labels, classes)
    predicted = scores.argmax(1)
    assert np.array_equal(result.confusion, sk.confusion_matrix(labels, predicted, labels=range(7)))
    assert result.overall_accuracy == pytest.approx(sk.accuracy_score(labels, predicted), abs=1e-15)
    assert result.class_mean_accuracy == pytest.approx(
        sk.balanced_accuracy_score(labels, predicted), abs=1e-15
    )
    assert np.allclose(
        result.per_class_accuracy, sk.recall_score(labels, predicted, average=None), atol=1e-15
    )
    assert result.n == 300


def test_rows_are_truth_and_columns_prediction():
    result = classification_metrics([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]], [0, 0, 1], ["a", "b"])
    assert result.confusion.tolist() == [[0, 2], [0, 1]]


def test_classes_without_samples_are_named_and_left_out_of_the_mean():
    result = classification_metrics(np.eye(3)[[0, 0, 1, 1]], [0, 0, 1, 0], ["a", "b", "absent"])
    assert result.classes_without_samples == ("absent",)
    assert math.isnan(result.per_class_accuracy[2])
    assert result.class_mean_accuracy == pytest.approx((2 / 3 + 1.0) / 2)
    assert "absent" in result.summary()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_takes_tensors_of_any_float_type_with_gradient(dtype):
    scores = torch.eye(4, dtype=dtype).requires_grad_()
    assert classification_metrics(scores, torch.arange(4), list("abcd")).overall_accuracy == 1.0


def test_json_round_trip_is_strict_json_and_exact():
    scores, labels, classes = random_case(3)
    result = classification_metrics(scores, labels, [*classes[:-1], 'quote " and ünïcode'])
    text = result.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert ClassificationResult.from_json(text) == result
    absent = classification_metrics(np.eye(3)[[0, 1]], [0, 1], list("abc"))
    assert json.loads(absent.to_json())["per_class_accuracy"]["c"] is None
    assert ClassificationResult.from_json(absent.to_json()) == absent


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros((4, 3)), [0, 1], r"labels must have shape \(4,\)"),
        (np.zeros((4, 2)), [0, 1, 2, 0], r"scores must have shape \(n, 3\)"),
        (np.zeros((0, 3)), np.zeros(0, dtype=int), "no samples"),
        (np.zeros((2, 3)), [0, 3], r"in 0\.\.2, got 0\.\.3"),
        (np.zeros((2, 3)), [0, -1], "without a label"),
        (np.zeros((2, 3)), [0.0, 1.0], "integers"),
        (np.full((2, 3), np.nan), [0, 1], "2 of 2 samples are NaN"),
    ],
)
def test_refuses_what_does_not_fit(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(scores, labels, list("abc"))


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"classes": ["a"], "confusion": [[1, 2]]}',
        "not json",
        '{"classes": ["a"], "confusion": [[0]]}',
        "[]",
    ],
)
def test_damaged_json_is_refused(text):
    with pytest.raises(ValueError):
        ClassificationResult.from_json(text)
