"""t-SNE of an embedding (Image2Point v2, Figure 4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pointlift.evaluate.classification import to_numpy

MIN_SAMPLES = 4


def tsne(features: Tensor | ArrayLike, seed: int, perplexity: float = 30.0) -> NDArray[np.float32]:
    """Two-dimensional t-SNE of (n, p) features, through scikit-learn,
    started from their principal components.

    `perplexity` is lowered to (n - 1) / 3 where there are too few samples for it: each point needs about
    three times as many neighbours. Features that are all alike have no picture and are refused.

    Returns:
        (n, 2) float32. Deterministic for a seed on one machine; rounding may differ between machines.

    Raises:
        ValueError: fewer than 4 samples, NaN or infinite or identical features,
            or a perplexity that is not positive.
    """
    x = to_numpy(features).astype(np.float32)
    if x.ndim != 2 or len(x) < MIN_SAMPLES:
        raise ValueError(f"t-SNE needs features of shape (n, p) with n >= {MIN_SAMPLES}, got {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(
            f"features hold {int((~np.isfinite(x)).sum())} NaN or infinite values, expected finite numbers"
        )
    if not perplexity > 0:
        raise ValueError(
            f"perplexity must be positive, got {perplexity}; 30 suits a few hundred samples and more"
        )
    if (x == x[0]).all():
        raise ValueError(
            "all features are identical, so there is nothing to embed; "
            "the network's output has collapsed to one point"
        )
    from sklearn.manifold import TSNE  # imported here: it costs a second that metrics alone need not pay

    model = TSNE(
        n_components=2,
        perplexity=min(float(perplexity), (len(x) - 1) / 3.0),
        init="pca" if x.shape[1] > 1 else "random",
        learning_rate="auto",
        random_state=seed,
    )
    return np.asarray(model.fit_transform(x), dtype=np.float32)
