import numpy as np
import pytest
import torch

from pointlift.evaluate import cdnv


def literal_cdnv(features, labels):
    """Equation (1) of Image2Point v2, written out sample by sample."""
    values = []
    classes = sorted(set(labels))
    for i in classes:
        for j in classes:
            if i == j:
                continue
            moments = []
            for c in (i, j):
                members = [features[k] for k in range(len(labels)) if labels[k] == c]
                mean = sum(members) / len(members)
                moments.append((mean, sum(float(((m - mean) ** 2).sum()) for m in members) / len(members)))
            (mu1, var1), (mu2, var2) = moments
            values.append((var1 + var2) / (2 * float(((mu1 - mu2) ** 2).sum())))
    return sum(values) / len(values)


@pytest.fixture
def embedding():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), [4, 9, 2, 7, 12])
    return rng.normal(size=(5, 6))[labels] * 2 + rng.normal(size=(len(labels), 6)), labels


def test_equals_the_literal_loop(embedding):
    features, labels = embedding
    assert cdnv(features, labels).mean == pytest.approx(literal_cdnv(features, labels), rel=1e-12)


def test_by_hand():
    # Means 0 and 4, mean squared distances 1 and 4: (1 + 4) / (2 * 16).
    result = cdnv([[-1.0], [1.0], [2.0], [6.0]], [0, 0, 1, 1])
    assert result.mean == pytest.approx(5 / 32, rel=1e-15)
    assert result.pairwise[0, 1] == result.pairwise[1, 0] == pytest.approx(5 / 32)
    assert np.isnan(result.pairwise[[0, 1], [0, 1]]).all()


def test_scale_rotation_order_and_translation_do_not_matter(embedding):
    features, labels = embedding
    expected = cdnv(features, labels).mean
    rng = np.random.default_rng(1)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    shuffled = rng.permutation(len(labels))
    assert cdnv(-1e-4 * features, labels).mean == pytest.approx(expected, rel=1e-12)
    assert cdnv(features @ rotation, labels).mean == pytest.approx(expected, rel=1e-12)
    assert cdnv(features[shuffled], labels[shuffled]).mean == pytest.approx(expected, rel=1e-12)
    assert cdnv(features + 1e6, labels).mean == pytest.approx(expected, rel=1e-8)


def test_float32_features_are_not_summed_in_float32(embedding):
    features, labels = embedding
    single = torch.tensor(features + 4096.0, dtype=torch.float32)
    assert cdnv(single, torch.tensor(labels)).mean == pytest.approx(
        literal_cdnv(single.double().numpy(), labels), rel=1e-9
    )


def test_full_collapse_is_zero():
    assert cdnv(np.eye(3)[[0, 0, 1, 1, 2, 2]], [0, 0, 1, 1, 2, 2]).mean == 0.0


def test_coinciding_means_are_infinite_and_explained():
    result = cdnv([[-1.0], [1.0], [-2.0], [2.0]], [0, 0, 1, 1])
    assert np.isinf(result.mean) and "same mean feature" in result.explain()
    assert result.to_dict()["mean"] == "inf"


def test_small_classes_are_left_out_and_named(embedding):
    features, labels = embedding
    more = np.concatenate([features, 100 + np.zeros((1, 6))])
    result = cdnv(more, [*labels, 6])
    assert result.mean == pytest.approx(cdnv(features, labels).mean, rel=1e-12)
    assert result.excluded == (5, 6)
    assert np.isnan(result.pairwise[5]).all() and np.isnan(result.pairwise[:, 6]).all()
    assert result.explain([f"c{i}" for i in range(7)]).endswith("c5, c6")


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.zeros((3, 2)), [0, 0, 1], "got 1 such classes"),
        (np.zeros(4), [0, 0, 1, 1], r"shape \(n, p\)"),
        (np.zeros((4, 2)), [0, 0, 1], r"shape \(4,\)"),
        ([[np.nan], [0.0], [1.0], [2.0]], [0, 0, 1, 1], "1 NaN or infinite"),
        (np.zeros((4, 2)), [0, 0, -1, -1], "without a label"),
    ],
)
def test_refuses_what_has_no_cdnv(features, labels, message):
    with pytest.raises(ValueError, match=message):
        cdnv(features, labels)
