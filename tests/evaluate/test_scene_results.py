"""Metrics of scenes against scikit-learn, by hand, and over processes."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, jaccard_score

from pointlift.data.loader import EpochSampler
from pointlift.evaluate.scenes import SceneConfusion, SceneResult, confusion_of, scene_metrics

NAMES = tuple("abcde")


def scenes(count: int, seed: int = 0, classes: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 60, count)
    return [(rng.integers(0, classes, n), rng.integers(-1, classes, n)) for n in sizes]


@pytest.mark.parametrize("seed", range(5))
def test_against_scikit_learn(seed: int) -> None:
    given = scenes(7, seed)
    result = scene_metrics(*zip(*given), NAMES)
    predicted, truth = (np.concatenate(list(v)) for v in zip(*given))
    known = truth >= 0
    predicted, truth = predicted[known], truth[known]
    np.testing.assert_array_equal(result.confusion, confusion_matrix(truth, predicted, labels=range(5)))
    np.testing.assert_allclose(result.class_iou, jaccard_score(truth, predicted, average=None))
    assert result.miou == pytest.approx(jaccard_score(truth, predicted, average="macro"))
    assert result.overall_accuracy == pytest.approx(accuracy_score(truth, predicted))
    assert result.mean_accuracy == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert result.judged == known.sum() and result.ignored == (~known).sum()


# a: right in 3 of 4 points, d: only in the truth, b: only predicted, c and e: in neither
PREDICTED, TRUTH = np.array([0, 0, 0, 1, 0, 2]), np.array([0, 0, 0, 0, 3, -1])


def test_classes_missing_from_truth_prediction_or_both_by_hand() -> None:
    by_rule = {rule: scene_metrics([PREDICTED], [TRUTH], NAMES, rule) for rule in ("skip", "zero", "one")}
    for result in by_rule.values():
        assert np.isfinite(result.class_iou).all() and np.isfinite(result.class_accuracy).all()
        assert result.class_iou[0] == pytest.approx(3 / 5) and result.class_iou[3] == 0
        assert result.overall_accuracy == pytest.approx(3 / 5) and result.ignored == 1
        assert result.mean_accuracy == pytest.approx((3 / 4 + 0) / 2)  # only a and d have points
    skip, zero, one = by_rule["skip"], by_rule["zero"], by_rule["one"]
    assert skip.miou == pytest.approx((0.6 + 0 + 0) / 3) and skip.absent_classes == ("c", "e")
    assert zero.miou == pytest.approx(0.6 / 5) and zero.class_iou.tolist() == pytest.approx([0.6, 0, 0, 0, 0])
    # the released code gives a class without a true point 1, also b, which was predicted
    assert one.miou == pytest.approx((0.6 + 0 + 3) / 5) and one.absent_classes == ("b", "c", "e")
    assert "mIoU 20.00 % over 3 of 5 classes" in skip.summary()
    assert "(absent from truth and prediction, left out: c, e)" in skip.summary()
    assert "over 5 of 5 classes (absent from truth and prediction, counted as 0: c, e)" in zero.summary()
    assert "over 5 of 5 classes (absent from truth, counted as 1: b, c, e)" in one.summary()
    assert "5 points, 1 without a class ignored" in skip.summary()
    assert [row["iou"] for row in skip.rows()] == pytest.approx([0.6, 0, None, 0, None])
    assert [row["accuracy"] for row in skip.rows()] == pytest.approx([0.75, None, None, 0, None])
    assert skip.rows()[0] == {"class": "a", "iou": 0.6, "accuracy": 0.75, "true": 4, "predicted": 4}


def test_ignored_stairs_add_a_full_score_by_the_released_codes_rule() -> None:
    """Facts 1.8: reported = (sum of 13 + 1) / 14; true 60.0 becomes 62.86."""
    confusion = np.diag([60] * 13 + [0]).astype(np.int64)
    for c in range(13):
        confusion[c, (c + 1) % 13] += 20  # IoU = 60 / (80 + 80 - 60)
    names = tuple(f"class {i}" for i in range(14))
    assert SceneResult(names, confusion).miou == pytest.approx(0.60)
    assert SceneResult(names, confusion, absent="one").miou == pytest.approx(0.6286, abs=5e-5)


def test_round_trip_and_no_nan() -> None:
    result = scene_metrics([PREDICTED], [TRUTH], NAMES, "zero")
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    again = SceneResult.from_dict(data)
    assert again.to_dict() == result.to_dict() and data["classes_averaged"] == 5
    assert again.summary() == result.summary()
    with pytest.raises(ValueError, match="needs the keys"):
        SceneResult.from_dict({"classes": []})


def test_what_cannot_be_judged_is_refused_in_a_sentence() -> None:
    empty, one = np.zeros(0, int), np.array([0])
    with pytest.raises(ValueError, match=r"none of 3 points has a true class.*evaluate on a labelled split"):
        scene_metrics([np.zeros(3, int)], [np.full(3, -1)], NAMES)
    with pytest.raises(ValueError, match="nothing to judge"):
        scene_metrics([empty], [empty], NAMES)
    with pytest.raises(ValueError, match="got 1 predictions and 2 truths"):
        scene_metrics([one], [one, one], NAMES)
    with pytest.raises(ValueError, match="scene 1 has 2 predictions for 1 points"):
        scene_metrics([one, np.array([0, 0])], [one, one], NAMES)
    with pytest.raises(ValueError, match=r"predicted classes must be in 0..4, got -1..0"):
        scene_metrics([np.array([0, -1])], [np.array([0, 1])], NAMES)
    with pytest.raises(ValueError, match=r"true classes must be in 0..4, got 0..5"):
        scene_metrics([np.array([0, 1])], [np.array([0, 5])], NAMES)
    with pytest.raises(ValueError, match="absent is 'nan', one of skip, zero, one is expected"):
        SceneResult(("a",), np.ones((1, 1), int), absent="nan")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape \(1, 2\), \(1, 1\) of counts"):
        SceneResult(("a",), np.ones((1, 2), int))
    # where there is no truth, the prediction may be anything
    assert int(confusion_of(torch.tensor([-7]), torch.tensor([-1]), 5)[1]) == 1


def shared(given: list[tuple[np.ndarray, np.ndarray]], rank: int, world: int) -> SceneConfusion:
    """What one of several processes has counted, with the loader's sampler."""
    metric = SceneConfusion(NAMES)
    for _, index in EpochSampler(len(given), False, rank=rank, world_size=world):
        metric.update(*(torch.from_numpy(v) for v in given[index]))
    return metric


@pytest.mark.parametrize("world", [2, 3])
def test_shares_of_an_odd_number_of_scenes_add_up_to_one_process(world: int) -> None:
    given = scenes(7)
    whole = scene_metrics(*zip(*given), NAMES)
    parts = [shared(given, rank, world) for rank in range(world)]
    assert sum(int(p.scenes) for p in parts) == 7
    np.testing.assert_array_equal(sum(p.confusion.numpy() for p in parts), whole.confusion)
    assert sum(int(p.ignored) for p in parts) == whole.ignored


def _process(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    result: dict[str, Any] = shared(scenes(5), rank, 2).result().to_dict()
    Path(folder, f"{rank}.json").write_text(json.dumps(result), encoding="utf-8")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_over_an_odd_number_of_scenes_give_one_process_numbers(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_process, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    alone = scene_metrics(*zip(*scenes(5)), NAMES).to_dict()
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) == alone
