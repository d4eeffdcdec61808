import json
import math

import numpy as np
import pytest
from scipy import stats

from pointlift.evaluate import epochs_to_target, paired_difference, speedup, summarize


@pytest.mark.parametrize(("target", "epochs"), [(10, 1), (50, 2), (50.1, 4), (80, 4), (80.1, None)])
def test_epochs_to_target_counts_from_one(target, epochs):
    assert epochs_to_target([10, 50, 40, 80, 70], target) == epochs


def test_nan_epochs_do_not_reach_a_target():
    assert epochs_to_target([math.nan, 60.0], 50.0) == 2
    assert epochs_to_target([math.nan], 0.0) is None


@pytest.mark.parametrize(("curve", "target"), [([], 1.0), ([1.0], math.nan)])
def test_epochs_to_target_refuses(curve, target):
    with pytest.raises(ValueError):
        epochs_to_target(curve, target)


def test_speedup_to_the_baselines_best():
    assert speedup([70, 80, 81], [10, 20, 30, 40, 60, 80, 79]) == pytest.approx(6 / 2)
    assert speedup([70, 80, 81], [10, 20, 30, 40, 60, 80, 79], target=30) == pytest.approx(3 / 1)
    assert speedup([70.0], [80.0]) is None
    with pytest.raises(ValueError, match="target"):
        speedup([1.0], [])


def test_summary_agrees_with_scipy():
    values = [72.1, 74.0, 71.3, 73.9, 70.0]
    summary = summarize(values)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert (summary.mean, summary.std, summary.n) == (
        pytest.approx(np.mean(values)),
        pytest.approx(np.std(values, ddof=1)),
        5,
    )
    assert (summary.ci_low, summary.ci_high) == (pytest.approx(low), pytest.approx(high))
    assert summary.ci_half_width == pytest.approx((high - low) / 2)


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = [s.ci_low <= 3.0 <= s.ci_high for s in (summarize(rng.normal(3.0, 2.0, 4)) for _ in range(2000))]
    assert 0.935 < np.mean(hits) < 0.965


def test_one_run_has_no_spread_and_is_valid_json():
    summary = summarize([50.0])
    assert math.isnan(summary.std) and math.isnan(summary.ci_low)
    assert json.loads(json.dumps(summary.to_dict(), allow_nan=False))["ci"] == [None, None]


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf], [[1.0, 2.0]]])
def test_summarize_refuses(values):
    with pytest.raises(ValueError):
        summarize(values)


def test_confidence_must_be_a_probability():
    with pytest.raises(ValueError, match="confidence"):
        summarize([1.0, 2.0], confidence=95)


def test_paired_difference_agrees_with_scipy_and_uses_the_pairing():
    rng = np.random.default_rng(1)
    seed_effect = rng.normal(0, 10, 6)
    a, b = 2.0 + seed_effect + rng.normal(0, 0.3, 6), seed_effect + rng.normal(0, 0.3, 6)
    found = paired_difference(a, b)
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval(0.95)
    assert found.p_value == pytest.approx(test.pvalue)
    assert (found.ci_low, found.ci_high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.verdict == "higher" and paired_difference(b, a).verdict == "lower"
    assert paired_difference([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]).verdict == "undecided"


def test_paired_difference_without_spread():
    assert paired_difference([1.0, 2.0], [1.0, 2.0]).p_value == 1.0
    assert paired_difference([2.0, 3.0], [1.0, 2.0]).p_value == 0.0


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0]), ([1.0, 2.0], [1.0])])
def test_paired_difference_needs_pairs(a, b):
    with pytest.raises(ValueError, match="same length >= 2"):
        paired_difference(a, b)
