"""What predict writes while it works: all predictions so far, as .json, .csv or .npz."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pointlift.system.atomic import atomic_write
from pointlift.tasks.task import Prediction, Task

__all__ = ["CLOUD_ENDINGS", "PredictionFile", "TimedSaves"]

CLOUD_ENDINGS = (".ply", ".las")
WRITTEN = (".json", ".csv", ".npz")


class TimedSaves:
    """Saves now and then: at the first chance, then when at least a second and ten times what the last save
    took have gone by, so that an interrupted run leaves what was done and saving costs little.
    """

    def __init__(self, save: Callable[[], None]) -> None:
        self._save, self._next = save, 0.0
        self.pending = False

    def changed(self) -> None:
        """There is more to save."""
        self.pending = True
        if self.due:
            self.finish()

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() >= self._next

    def finish(self) -> None:
        """Save what has not been saved."""
        if not self.pending:
            return
        started = time.monotonic()
        self._save()
        self.pending = False
        now = time.monotonic()
        self._next = now + max(1.0, 10 * (now - started))


class PredictionFile:
    """The predictions of a checkpoint, written as they come: every state of the file is whole, and one
    without a prediction is not written, so that errors alone never take the place of earlier predictions.

    .json: {"checkpoint", ..., "predictions": [{"file", ...} or {"file", "error"}]}, also without an ending.
    .csv: a row per file, a column per class (or part), and "error". .npz: arrays of the files that were
    answered, "files" among them, and "failed" with "errors".

    Args:
        out: the file; None: nothing is written. checkpoint, category: as they were given.
        task: the checkpoint's.

    Attributes:
        answered: how many files have a prediction.

    Raises ValueError for another ending.
    """

    def __init__(self, out: str | None, checkpoint: str, task: Task, category: str | None) -> None:
        self.out, self.task = out, task
        self.ending = Path(out or "").suffix.lower() or ".json"
        if self.ending not in WRITTEN:
            raise ValueError(
                f"--out {out}: predictions are written as {', '.join(WRITTEN)}, and the coloured cloud of a "
                f"single file as {' or '.join(CLOUD_ENDINGS)}: use one of these endings"
            )
        self.head = {"checkpoint": checkpoint, **task.heading(category)}
        self.answered = 0
        self._entries: list[dict[str, Any]] = []
        self._found: list[Prediction] = []
        self._saves = TimedSaves(self._save)

    def add(self, file: str, found: Prediction) -> None:
        """What was said of a file."""
        self.answered += 1
        if self.ending == ".npz":
            self._found.append(found)
        said = found.row() if self.ending == ".csv" else found.to_dict() if self.ending == ".json" else {}
        self._entries.append({"file": file, **said})
        self._saves.changed()

    def fail(self, file: str, sentence: str) -> None:
        """A file of which nothing can be said."""
        self._entries.append({"file": file, "error": sentence})
        if self.answered:
            self._saves.changed()

    def close(self) -> None:
        """Write what has not been written; nothing where there is no prediction."""
        if self.answered:
            self._saves.finish()

    def _save(self) -> None:
        if self.out is None:
            return
        with atomic_write(self.out) as temporary:
            if self.ending == ".json":
                content = {**self.head, "predictions": self._entries}
                temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
            elif self.ending == ".csv":
                self._save_csv(temporary)
            else:
                good = [entry["file"] for entry in self._entries if "error" not in entry]
                bad = [(entry["file"], entry["error"]) for entry in self._entries if "error" in entry]
                arrays: dict[str, Any] = {
                    "files": np.array(good),
                    "failed": np.array([file for file, _ in bad], dtype=str),
                    "errors": np.array([sentence for _, sentence in bad], dtype=str),
                    "checkpoint": np.array(self.head["checkpoint"]),
                    **self.task.arrays(self._found),
                }
                with temporary.open("wb") as stream:  # numpy would append .npz to .NPZ
                    np.savez_compressed(stream, **arrays)

    def _save_csv(self, path: Path) -> None:
        names = dict.fromkeys(name for entry in self._entries for name in entry if name != "error")
        with path.open("w", encoding="utf-8", newline="") as stream:
            table = csv.DictWriter(stream, [*names, "error"], restval="")
            table.writeheader()
            table.writerows(self._entries)
