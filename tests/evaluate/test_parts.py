"""Part metrics against a literal loop over shapes, parts and points, and on cases computed by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from pointlift.data.part_labels import PartLabels
from pointlift.evaluate.parts import part_metrics, predicted_parts, shape_ious

LABELS = PartLabels.numbered(("mug", "lamp", "bag"), ((0, 1), (2, 3, 4), (5,)))


def literal(predicted: list[Any], truth: list[Any], category: list[int]) -> tuple[float, float]:
    """The evaluation scripts of the field, written out: instance and class mIoU."""
    per_category: dict[int, list[float]] = {}
    for p, t, c in zip(predicted, truth, category):
        ious = []
        for part in LABELS.parts[c]:
            if not any(v == part for v in t) and not any(v == part for v in p):
                ious.append(1.0)
                continue
            both = sum(1 for a, b in zip(p, t) if a == part and b == part)
            either = sum(1 for a, b in zip(p, t) if a == part or b == part)
            ious.append(both / either)
        per_category.setdefault(c, []).append(sum(ious) / len(ious))
    everything = [iou for ious in per_category.values() for iou in ious]
    means = [sum(ious) / len(ious) for ious in per_category.values()]
    return sum(everything) / len(everything), sum(means) / len(means)


def test_against_the_loop() -> None:
    rng = np.random.default_rng(0)
    for trial in range(30):
        category = rng.integers(0, 2 if trial % 3 else 3, rng.integers(1, 9)).tolist()
        sizes = rng.integers(1, 40, len(category))
        truth = [rng.choice(LABELS.parts[c], n) for c, n in zip(category, sizes)]
        # half of the time among all parts, also those of other categories
        predicted = [rng.choice(LABELS.parts[c] if trial % 2 else 6, n) for c, n in zip(category, sizes)]
        result = part_metrics(predicted, truth, category, LABELS)
        instance, classes = literal(predicted, truth, category)
        assert result.instance_miou == pytest.approx(
            instance, abs=1e-12
        ) and result.class_miou == pytest.approx(classes, abs=1e-12)
        right = sum(int((p == t).sum()) for p, t in zip(predicted, truth))
        assert result.point_accuracy == right / sizes.sum() and result.points == sizes.sum()


def test_by_hand() -> None:
    mug, lamp = np.array([0, 0, 0, 1]), np.array([2, 2, 3, 3])
    # mug: part 0 found in 2 of 3 points, none wrongly; part 1 in 1 point and once too often: (2/3 + 1/2) / 2
    # lamp: part 2 in both, part 3 in both, and part 4 is in neither: 1
    result = part_metrics([np.array([0, 0, 1, 1]), lamp, lamp], [mug, lamp, lamp], [0, 1, 1], LABELS)
    assert result.category_iou[:2] == pytest.approx([7 / 12, 1.0]) and np.isnan(result.category_iou[2])
    assert result.instance_miou == pytest.approx((7 / 12 + 2) / 3)
    # categories count equally, bag has no shape and does not count
    assert result.class_miou == pytest.approx((7 / 12 + 1) / 2)
    assert result.point_accuracy == 11 / 12
    assert "no shapes of 1 of 3 categories" in result.summary() and "3 shapes" in result.summary()
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["per_category"]["bag"] == {
        "iou": None,
        "shapes": 0,
    }
    # a part that is only predicted counts 0, so one wrong point costs a whole part: 3 of 4 + 0 of 1 + neither
    one = part_metrics([np.array([2, 2, 2, 3])], [np.array([2, 2, 2, 2])], [1], LABELS)
    assert one.instance_miou == pytest.approx((3 / 4 + 0 + 1) / 3)


def test_an_argmax_among_the_categorys_parts() -> None:
    allowed = torch.from_numpy(LABELS.allowed())
    scores = torch.tensor([[9.0, 1, 5, 4, 3, 0], [9, 1, 5, 4, 3, 0], [1, 1, 0, 0, 0, 2]])
    category, offsets = torch.tensor([0, 1, 0]), torch.tensor([0, 1, 2, 3])
    # of equal ones the lowest
    assert predicted_parts(scores, category, offsets, allowed).tolist() == [0, 2, 0]
    assert predicted_parts(scores, category, offsets, allowed, restrict=False).tolist() == [0, 0, 5]
    assert not torch.isinf(scores).any()  # not in place


@pytest.mark.parametrize(
    ("predicted", "truth", "category", "words"),
    [
        ([], [], [], "0 predictions"),
        ([[0]], [[0], [1]], [0, 0], "1 predictions, 2 truths"),
        ([[0, 1]], [[0]], [0], "shape 0 has 2 predicted and 1 true"),
        ([[0]], [[2]], [0], "does not belong to the category"),
        ([[6]], [[0]], [0], "predicted parts must be in 0..5"),
        ([[0]], [[-1]], [0], "true parts must be in 0..5"),
        ([[0]], [[0]], [3], "one of 0..2"),
        ([[]], [[]], [0], "no points"),
    ],
)
def test_bad_input(predicted: list[Any], truth: list[Any], category: list[int], words: str) -> None:
    arrays = [[np.array(v, dtype=np.int64) for v in side] for side in (predicted, truth)]
    with pytest.raises(ValueError, match=words):
        part_metrics(arrays[0], arrays[1], category, LABELS)


def test_scores_of_minus_infinity_still_give_a_part_of_the_category() -> None:
    allowed = torch.tensor([[True, True, False, False], [False, False, True, True]])
    scores = torch.full((3, 4), -torch.inf)
    scores[1, 0], scores[2, 3] = 5.0, 1.0
    assert predicted_parts(scores, torch.tensor([1]), torch.tensor([0, 3]), allowed).tolist() == [2, 2, 3]


def test_bad_scores() -> None:
    allowed, one = torch.from_numpy(LABELS.allowed()), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="NaN"):
        predicted_parts(torch.full((1, 6), float("nan")), torch.tensor([0]), one, allowed)
    with pytest.raises(ValueError, match=r"shape \(1, 6\)"):
        predicted_parts(torch.zeros(1, 5), torch.tensor([0]), one, allowed)
    with pytest.raises(ValueError, match=r"shape \(1,\)"):
        shape_ious(torch.zeros(2).long(), torch.zeros(2).long(), torch.tensor([0]), one, allowed)


def test_tables_of_parts() -> None:
    assert LABELS.names == ("mug/0", "mug/1", "lamp/0", "lamp/1", "lamp/2", "bag/0") and len(LABELS) == 6
    assert LABELS.allowed().sum(1).tolist() == [2, 3, 1] and LABELS.allowed().sum(0).tolist() == [1] * 6
    for categories, parts, words in (
        ((), (), "0 categories"),
        (("a",), ((),), "category a"),
        (("a",), ((0, 0),), "0, 0"),
        (("a",), ((-1,),), "-1"),
    ):
        with pytest.raises(ValueError, match=words):
            PartLabels(categories, parts, ("x", "y"))
