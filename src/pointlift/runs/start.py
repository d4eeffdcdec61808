"""How a run of any method begins: its settings as a recipe, and whether its folder lets it start, go on, or is finished already."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pointlift.runs.folder import RunFolder, RunFolderError
from pointlift.system.distributed import process_rank

__all__ = ["StoredResult", "finished_result", "recipe_of"]

Result = TypeVar("Result")
Kind = TypeVar("Kind", bound="StoredResult")


class StoredResult:
    """What dataclasses of measured numbers have in common: they are kept as result.json, beside the files that they name."""

    checkpoint: Path
    csv: Path

    def to_dict(self) -> dict[str, Any]:
        """Plain types; paths relative to the run's folder, which may be moved."""
        fields: Any = self
        return {**asdict(fields), "checkpoint": self.checkpoint.name, "csv": self.csv.name}

    @classmethod
    def read(cls: type[Kind], folder: str | Path) -> Kind:
        """The result of a finished run. Raises FileNotFoundError where there is none, RunFolderError for a damaged file."""
        path = Path(folder) / "result.json"
        if not path.is_file():
            raise FileNotFoundError(f"No finished run in {folder} (no result.json).")
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**stored, "checkpoint": Path(folder) / stored["checkpoint"], "csv": Path(folder) / stored["csv"]})
        except (ValueError, TypeError, KeyError) as error:
            raise RunFolderError(f"{path} is damaged ({type(error).__name__}): delete it and go on with --resume.") from None


def recipe_of(method: str, seed: int, **groups: Any) -> dict[str, Any]:
    """A run's recipe as plain values: the method, every group of settings (dataclasses) under its name, the seed.

    Raises ValueError for a seed below 0.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected 0 or more.")
    return {"method": method, **{name: asdict(group) for name, group in groups.items()}, "seed": seed}


def finished_result(
    folder: RunFolder, recipe: dict[str, Any], resume: bool, read: Callable[[Path], Result], stages: Sequence[str] = ()
) -> Result | None:
    """The result that `read` finds of a run that is to be resumed and is complete; None for a run that has something left to do.

    stages: folders within it of what is trained first. A run that was stopped in one of these has a recipe.yaml and no checkpoint of its
    own yet, and may go on. Raises RunFolderError where a run of `recipe` may neither start nor, with `resume`, go on.
    """
    if process_rank() > 0:  # under DDP the other processes enter here while the first already writes to the folder
        return None
    if stages and resume and not folder.last.is_file() and folder.recipe.is_file():
        folder.check_same(recipe)
    else:
        folder.check(recipe, resume)
        for stage in () if resume else stages:
            RunFolder(folder.path / stage).check(recipe, resume)
    if not resume or not folder.result.is_file():
        return None
    print(f"The run in {folder.path} is already complete.")
    return read(folder.path)
