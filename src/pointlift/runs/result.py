"""What a run measured, kept as result.json beside the files that it names."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pointlift.runs.folder import RunFolderError
from pointlift.system.atomic import read_json

__all__ = ["RunResult"]


@dataclass(frozen=True)
class RunResult:
    """What a run measured.

    Attributes:
        metrics: of the last epoch: what metrics.csv has of it, and test_* where epochs are evaluated on a
            held-out part of the training split. Accuracies and IoUs are fractions in 0-1; None where there is
            no number.
        best: {"epoch", the column that says so} of the best epoch, not what is reported; where epochs are
            evaluated on a held-out part of the training split, test_* of that epoch too. The first epoch is
            0, as in metrics.csv; what is printed or drawn counts from 1. Empty where none is chosen.
        checkpoint: model.safetensors, the weights after the last epoch. csv: metrics.csv, one row per epoch.
        seconds: of training and evaluation, over all its resumptions.
        trainable, total: parameters.
        facts: what the method adds.
    """

    metrics: dict[str, Any]
    best: dict[str, float]
    checkpoint: Path
    csv: Path
    seconds: float
    trainable: int = 0
    total: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain types; paths relative to the run's folder, which may be moved."""
        return {**asdict(self), "checkpoint": self.checkpoint.name, "csv": self.csv.name}

    @classmethod
    def read(cls, folder: str | Path) -> RunResult:
        """The result of a finished run. Raises FileNotFoundError where there is none,
        RunFolderError for a damaged file.
        """
        path = Path(folder) / "result.json"
        if not path.is_file():
            raise FileNotFoundError(f"No finished run in {folder} (no result.json).")
        try:
            stored = read_json(path)
            total = stored.pop("total", stored.get("parameters", 0))
            known = {
                "metrics": stored.pop("metrics"),
                "best": stored.pop("best", {}),
                "checkpoint": Path(folder) / stored.pop("checkpoint", "model.safetensors"),
                "csv": Path(folder) / stored.pop("csv", "metrics.csv"),
                "seconds": float(stored.pop("seconds")),
                "trainable": stored.pop("trainable", total),
                "total": total,
            }
            # what older versions wrote beside these is what a method adds
            return cls(**known, facts={**stored.pop("facts", {}), **stored})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RunFolderError(
                f"{path} is damaged ({type(error).__name__}): delete it and go on with --resume."
            ) from None
