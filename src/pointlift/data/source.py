"""Former place of the datasets by name: use `pointlift.data.sources.open`."""

from __future__ import annotations

import warnings

from pointlift.data.sources.open import available_splits, describe_source, open_clouds, open_dataset

__all__ = ["available_splits", "describe_source", "open_clouds", "open_dataset"]

warnings.warn("pointlift.data.source is now pointlift.data.sources.open", DeprecationWarning, stacklevel=2)
