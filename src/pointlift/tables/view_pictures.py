"""The same objects in several kinds of views, each drawn by the recipe of a column (PointCMT, figure 3)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pointlift.data.config import DataConfig
from pointlift.data.pictures.config import ViewConfig
from pointlift.data.pictures.load import load_views
from pointlift.report.plots import Strip, picture_grid
from pointlift.tables.outcome import Picture, TableOutcome

__all__ = ["view_kinds"]


def view_kinds(outcome: TableOutcome, options: Mapping[str, Any]) -> list[Picture]:
    """A column of pictures for every column of the table: what its image network saw of some test objects.

    objects: how many, each of another class; views: how many pictures of each. Columns that read the same
    data show the same objects. Raises ValueError where no run is finished, and as `load_views` does.
    """
    objects, views = int(options.get("objects", 4)), int(options.get("views", 3))
    grid: dict[str, list[Strip]] = {}
    said: list[list[Any]] = []
    for column in outcome.columns:
        folder = next(
            (
                c.folder
                for c in outcome.cells
                if c.cell.column == column and c.status == "done" and c.folder is not None
            ),
            None,
        )
        if folder is None:
            continue
        protocol = json.loads((folder / "protocol.json").read_text(encoding="utf-8"))
        recipe = protocol["recipe"]
        config = ViewConfig(**recipe["views"])
        grid[column] = _strips(
            config, DataConfig(**recipe["data"]), int(recipe["seed"]), folder, objects, views
        )
        cameras = "ready-made" if config.kind == "folder" else config.rig
        said.append(
            [column, recipe["data"]["source"], config.kind, cameras, f"{config.size} x {config.size}"]
        )
    if not grid:
        raise ValueError("no run of the figure has finished yet.")
    caption = (
        f"What the image network sees of the first test object of some classes: {views} of its views, "
        "by the recipe of each column."
    )
    return [
        Picture("views", picture_grid(grid), caption, ["column", "data", "kind", "cameras", "pixels"], said)
    ]


def _strips(
    config: ViewConfig, data: DataConfig, seed: int, folder: Path, objects: int, views: int
) -> list[Strip]:
    source = load_views(config, data, seed, folder / "views").val
    labels = np.asarray(source.dataset.labels)
    present = np.unique(labels)
    classes = present[np.unique(np.linspace(0, len(present) - 1, objects).round().astype(int))]
    first = [int(np.flatnonzero(labels == label)[0]) for label in classes]
    seen = np.unique(np.linspace(0, source.n_views - 1, views).round().astype(int)).tolist()
    images = source.images(first)[:, seen].permute(0, 1, 3, 4, 2).numpy()
    return [
        Strip(source.dataset.classes[int(label)], list(pictures))
        for label, pictures in zip(classes, images, strict=True)
    ]
