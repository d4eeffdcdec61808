import io

import numpy as np
import pytest
from PIL import Image

from pointlift.evaluate import cdnv, tsne
from pointlift.report.embedding import plot_tsne


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 8)
    return (20 * np.eye(3, 10)[labels] + rng.normal(size=(24, 10))).astype(np.float32), labels


def test_tsne_separates_blobs_and_repeats(blobs):
    features, labels = blobs
    embedded = tsne(features, seed=0)  # perplexity 30 would be refused for 24 samples
    assert embedded.shape == (24, 2) and embedded.dtype == np.float32
    assert np.array_equal(embedded, tsne(features, seed=0))
    assert cdnv(embedded, labels).mean < 0.1


def test_smallest_sample_works():
    assert np.isfinite(tsne(np.random.default_rng(0).normal(size=(4, 3)), seed=1)).all()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((3, 2)), "n >= 4"),
        (np.zeros((9, 2)), "identical"),
        (np.full((9, 2), np.inf), "infinite"),
        (np.zeros(9), r"\(n, p\)"),
    ],
)
def test_tsne_refuses(features, message):
    with pytest.raises(ValueError, match=message):
        tsne(features, seed=0)


def test_tsne_refuses_a_perplexity_of_zero(blobs):
    with pytest.raises(ValueError, match="perplexity"):
        tsne(blobs[0], seed=0, perplexity=0.0)


def test_picture_is_a_png_and_the_cdnv_changes_its_title(blobs):
    features, labels = blobs
    plain = plot_tsne(features[:, :2], labels, ["a_$x$", "_b", "c"])
    titled = plot_tsne(features[:, :2], labels, ["a_$x$", "_b", "c"], cdnv(features, labels))
    assert Image.open(io.BytesIO(plain)).format == "PNG"
    assert plain != titled
    assert plain == plot_tsne(features[:, :2], labels, ["a_$x$", "_b", "c"])


def test_picture_refuses_what_does_not_fit(blobs):
    with pytest.raises(ValueError, match="shape"):
        plot_tsne(blobs[0], blobs[1], list("abc"))
    with pytest.raises(ValueError, match=r"in 0\.\.1"):
        plot_tsne(blobs[0][:, :2], blobs[1], list("ab"))
    with pytest.raises(ValueError, match="one per embedded point"):
        plot_tsne(blobs[0][:, :2], blobs[1][:-1], list("abc"))
