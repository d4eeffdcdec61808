"""The columns of scenes that are features, and what readers of scenes share around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError
from pointlift.data.files.reader import OWN
from pointlift.data.sample import Sample
from pointlift.data.scene_features import COLUMNS as WIDTHS
from pointlift.data.scene_labels import IGNORED

__all__ = ["COLUMNS", "WIDTHS", "chosen_columns", "feature_rows", "need_labels", "split_columns"]

COLUMNS = tuple(WIDTHS)
"""The columns that points of scenes may have beside their coordinates: RGB in 0-1; unit vectors; 0-1 where
the format bounds it, else as the file has it."""


def chosen_columns(title: str, use: Sequence[str], has: Sequence[str]) -> tuple[str, ...]:
    """The columns that become features: ``use``, or all that the dataset has for ``("own",)``.

    Raises:
        DataError: a column that there is not, or that this dataset lacks.
    """
    use = tuple(use)
    if use == (OWN,):
        return tuple(name for name in COLUMNS if name in has)
    for name in use:
        if name not in COLUMNS:
            raise DataError(f"{title}: unknown column {name!r} in use, {', '.join(COLUMNS)} are expected")
        if name not in has:
            raise DataError(
                f"{title}: has no {name}, so they cannot be features; it has {', '.join(has) or 'xyz alone'}"
            )
    if len(set(use)) < len(use):
        raise DataError(f"{title}: use names {', '.join(use)}, each column once is expected")
    return use


def feature_rows(
    path: str,
    use: Sequence[str],
    columns: Mapping[str, npt.NDArray[Any] | None],
) -> npt.NDArray[np.float32] | None:
    """``(N, F)`` of the columns asked for, side by side in that order; None where none are.

    Args:
        path: of the scene, for messages.
        use: names of :data:`WIDTHS`.
        columns: ``{name: (N,) or (N, width)}``, None or absent for what the scene lacks.

    Raises:
        DataError: a column that the scene lacks, or with values that are NaN or infinite.
    """
    parts = []
    for name in use:
        values = columns.get(name)
        if values is None:
            has = ", ".join(n for n in COLUMNS if columns.get(n) is not None) or "xyz alone"
            raise DataError(
                f"{path}: has no {name}, which other scenes have or were asked for (it has {has}); "
                f"give this scene {name}, or leave them out with ?use={','.join(n for n in use if n != name)}"
            )
        if values.size != len(values) * WIDTHS[name]:
            raise DataError(f"{path}: its {name} have shape {values.shape}, (N, {WIDTHS[name]}) is expected")
        parts.append(np.asarray(values, dtype=np.float32).reshape(len(values), WIDTHS[name]))
        if not np.isfinite(parts[-1]).all():
            raise DataError(f"{path}: some of its {name} are NaN or infinite, repair the file")
    return np.concatenate(parts, axis=1) if parts else None


def split_columns(sample: Sample, columns: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
    """The features of a scene as ``{name: (N, width)}``, by the columns of its dataset.

    Raises:
        DataError: features of another width than the columns take.
    """
    width = sum(WIDTHS.get(name, 1) for name in columns)
    features = np.empty((len(sample), 0), np.float32) if sample.features is None else sample.features
    if features.shape[1] != width:
        raise DataError(
            f"{sample.path}: has {features.shape[1]} feature columns, {', '.join(columns)} take {width}"
        )
    ends = np.cumsum([WIDTHS.get(name, 1) for name in columns])[:-1]
    return dict(zip(columns, np.split(features.astype(np.float32), ends, axis=1))) if columns else {}


def need_labels(dataset: CloudDataset, index: int = 0) -> None:
    """DataError, in one sentence, for a dataset whose scenes have no labels to learn from."""
    if dataset.scene_labels is None:
        raise DataError(
            f"{dataset.name}: its points have no labels, so nothing can be learned from it or judged on it; "
            "it serves predict only (labels come as a column of the files, or as a file beside each)"
        )
    part = dataset[index].part if len(dataset) else None
    if part is not None and not (part != IGNORED).any():
        raise DataError(
            f"{dataset.paths[index]}: none of its points has a class, so it cannot be judged; "
            "the test split of a benchmark is scored by its server"
        )
