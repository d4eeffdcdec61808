"""A submission to SemanticKITTI's benchmark: written, and checked as its validator does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.sources.semantickitti import SEQUENCES, semantickitti_labels, semantickitti_root
from pointlift.system.atomic import atomic_write

__all__ = ["SubmissionReport", "check_submission", "prediction_file", "write_submission"]


@dataclass
class SubmissionReport:
    """What :func:`check_submission` found.

    Attributes:
        files: predictions that are as they should be.
        problems: a sentence each.
    """

    files: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Every sweep has a prediction, and nothing is wrong with any."""
        return self.files > 0 and not self.problems


def prediction_file(out: Path, sweep: Path) -> Path:
    """``sequences/11/predictions/000000.label`` of ``.../sequences/11/velodyne/000000.bin``."""
    return out / "sequences" / sweep.parent.parent.name / "predictions" / f"{sweep.stem}.label"


def write_submission(
    out: str | Path, predictions: Iterable[tuple[str | Path, npt.NDArray[np.integer]]]
) -> int:
    """Write a folder to be zipped and uploaded: one uint32 a point through the inverse map.

    Args:
        out: the folder; files in it are replaced whole.
        predictions: the path of every sweep, and its ``(N,)`` labels 0-18.

    Returns:
        the number of files written.

    Raises:
        DataError: another number of labels than the sweep has points, or labels outside 0-18.
    """
    labels, count = semantickitti_labels(), 0
    for path, predicted in predictions:
        sweep, file = Path(path), prediction_file(Path(out), Path(path))
        points, values = _points(sweep), np.asarray(predicted)
        if values.shape != (points,):
            raise DataError(f"{sweep}: has {points} points but the prediction has shape {values.shape}")
        try:
            written = labels.to_written(values)
        except ValueError as error:
            raise DataError(f"{sweep}: {error}") from None
        with atomic_write(file) as temporary:
            temporary.write_bytes(written.astype("<u4").tobytes())
        count += 1
    return count


def check_submission(
    out: str | Path,
    root: str | Path,
    sequences: Sequence[str] = SEQUENCES["test"],
) -> SubmissionReport:
    """Compare a submission with the sweeps that it is of.

    Args:
        out: the folder with ``sequences/<number>/predictions``.
        root: of the dataset.
        sequences: that have to be complete.

    Raises:
        MissingDataError: the dataset is not there.
    """
    base, report = semantickitti_root(Path(root)), SubmissionReport()
    allowed = np.array([0, *semantickitti_labels().written])
    for name in sequences:
        sweeps = sorted((base / "sequences" / name / "velodyne").glob("*.bin"))
        if not sweeps:
            report.problems.append(f"{base}: sequence {name} has no sweeps to compare with")
        for sweep in sweeps:
            problem = _problem(prediction_file(Path(out), sweep), sweep, allowed)
            report.problems += [problem] if problem else []
            report.files += not problem
        folder = Path(out) / "sequences" / name / "predictions"
        extra = {f.stem for f in folder.glob("*")} - {sweep.stem for sweep in sweeps}
        if sweeps and extra:
            report.problems.append(f"{folder}: {len(extra)} files are of no sweep, such as {min(extra)}")
    return report


def _problem(file: Path, sweep: Path, allowed: npt.NDArray[np.int64]) -> str:
    if not file.is_file():
        return f"{file}: no such file"
    size, points = file.stat().st_size, _points(sweep)
    if size != 4 * points:
        return f"{file}: has {size} bytes, 4 for each of the {points} points of the sweep are expected"
    values = np.unique(np.frombuffer(file.read_bytes(), "<u4") & 0xFFFF)
    strange = values[~np.isin(values, allowed)]
    return f"{file}: has the numbers {strange[:5].tolist()}, which are no class's" if len(strange) else ""


def _points(sweep: Path) -> int:
    try:
        size = sweep.stat().st_size
    except FileNotFoundError:
        raise MissingDataError(f"{sweep}: no such file") from None
    if size % 16:
        raise DataError(f"{sweep}: its {size} bytes are no rows of x y z remission; truncated")
    return size // 16
