"""Former place of the loader of image weights: use `pointlift.weights.image_weights`."""

from __future__ import annotations

import warnings

from pointlift.weights.image_weights import load_image_weights, read_tensors

__all__ = ["load_image_weights", "read_tensors"]

warnings.warn(
    "pointlift.foreign_weights is now pointlift.weights.image_weights", DeprecationWarning, stacklevel=2
)
