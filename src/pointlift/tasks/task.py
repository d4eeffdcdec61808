"""What a task is: the answers of one kind of checkpoint, for every command that has one at work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from pointlift.data.files.points import PointFile
from pointlift.data.sample import Sample
from pointlift.evaluate.voting import Voting, average_votes
from pointlift.report import Report, ViewCloud

if TYPE_CHECKING:
    from pointlift.tasks.predictor import Predictor
    from pointlift.tasks.report import RunSummary

__all__ = ["Evaluation", "Float32", "Metrics", "Prediction", "Task"]

Float32 = npt.NDArray[np.float32]


class Metrics(Protocol):
    """Numbers of an evaluation."""

    def to_dict(self) -> dict[str, Any]: ...
    def summary(self) -> str: ...


class Prediction(ABC):
    """What a network says of one cloud."""

    @abstractmethod
    def describe(self, top: int = 3) -> str:
        """In one line, with no more than the `top` likeliest answers where there are many."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """For predictions.json."""

    def row(self) -> dict[str, Any]:
        """For a line of predictions.csv, value by column: of `to_dict`, dicts laid out flat."""
        plain = {name: value for name, value in self.to_dict().items() if not isinstance(value, Mapping)}
        columns = dict(plain)
        for name, values in self.to_dict().items():
            if isinstance(values, Mapping):
                for key, value in values.items():
                    columns[f"{name}.{key}" if key in (*plain, "file", "error") else str(key)] = value
        return columns


@dataclass(frozen=True)
class Evaluation:
    """What was measured on labelled clouds.

    Attributes:
        content: of metrics.json.
        table: name of its .csv file. header, rows: of that file and of the table that is printed.
        said: what is printed below the table, line by line.
        pictures: PNGs by file name.
        files: the names of all these files, in words.
    """

    content: dict[str, Any]
    table: str
    header: list[str]
    rows: list[list[Any]]
    said: list[str]
    files: str
    pictures: Mapping[str, bytes] = field(default_factory=dict)


class Task:
    """A checkpoint at work. What a task does not define is refused in one sentence.

    Class attribute `name`: what checkpoints of the task say in their metadata. predictor: the network with
    its preprocessing.
    """

    name: ClassVar[str]

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    # ---------------------------------------------------------------------- a user's clouds

    def check_category(self, category: str | None) -> None:
        """Raises ValueError for a category that is unknown, or told to a network that needs none."""
        if category is not None:
            raise ValueError(
                f"--category {category} is for checkpoints of part segmentation, this one is of the task "
                f"{self.name}: leave it out"
            )

    def read_file(self, path: str | Path) -> PointFile:
        """A user's file as this task sees it. Raises DataError for what is wrong with it."""
        return self.predictor.read_object(path)

    def doubt(self, category: str | None) -> str | None:
        """What a user should know before trusting the answers; None where nothing is in doubt."""
        return None

    def hint(self, up_axis: str | None) -> str | None:
        """What is printed after the predictions; None for nothing. up_axis: as it was given."""
        return None

    def predict(self, clouds: Sequence[PointFile], category: str | None = None) -> list[Prediction]:
        """What the network says of each cloud. category: what they show, where that is known."""
        self._refuse("predict")

    def heading(self, category: str | None) -> dict[str, Any]:
        """What predictions.json says before the predictions themselves."""
        return {}

    def arrays(self, found: Sequence[Prediction]) -> dict[str, npt.NDArray[Any]]:
        """For predictions.npz: what was said of F clouds, by default the columns of their rows, each (F,)."""
        rows = [one.row() for one in found]
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}

    def check_colors(self) -> None:
        """Raises ValueError for a task or a network that cannot colour points."""
        if type(self).colors is Task.colors:
            self._refuse("predict --ply")

    def colors(self, cloud: PointFile, found: Prediction) -> tuple[Float32, dict[str, npt.NDArray[np.int64]]]:
        """Colours of the points, (N, 3) in 0-1, and labels of theirs by name, each (N,); what predict writes
        as .ply.
        """
        self._refuse("predict --ply")

    def view(self, cloud: PointFile, category: str | None = None) -> ViewCloud:
        """The cloud for the viewer, with what the network says of it."""
        self._refuse("view --checkpoint")

    def check_embed(self, per: Literal["cloud", "point"]) -> None:
        """Raises ValueError for a task or a network without such features."""
        if type(self).embed is Task.embed:
            self._refuse("embed")

    def embed(self, cloud: PointFile, per: Literal["cloud", "point"] = "cloud") -> Float32:
        """(C,) features of a cloud, or (N, C) of its points."""
        self._refuse("embed")

    def embed_clouds(self, clouds: Sequence[PointFile]) -> list[Float32]:
        """(C,) features of each cloud."""
        return [self.embed(cloud) for cloud in clouds]

    def embed_points(self, cloud: PointFile, category: str | None = None) -> Iterator[Float32]:
        """Blocks (n, C) of the features of its points, one after another, for clouds whose (N, C) would not
        fit into memory. category: what it shows, for networks that are told.
        """
        yield self.embed(cloud, "point")

    # ---------------------------------------------------------------------- labelled clouds

    def evaluate(
        self, data: str, split: str, batch_size: int = 32, seed: int | None = None, votes: int = 1
    ) -> Evaluation:
        """Metrics on a source; with more than one vote also those with votes, beside them.

        Raises DataError for clouds whose labels the checkpoint does not know, and what opening the source
        raises.
        """
        self._refuse("evaluate")

    def probabilities(self, samples: Sequence[Sample], batch_size: int = 32) -> Float32:
        """(R, C) of prepared clouds: a row per cloud or per point."""
        self._refuse("evaluate")

    def measure(self, probabilities: npt.NDArray[np.floating[Any]], samples: Sequence[Sample]) -> Metrics:
        """Metrics of such rows."""
        self._refuse("evaluate")

    def with_votes(
        self, samples: Sequence[Sample], batch_size: int, voting: Voting
    ) -> tuple[dict[str, Any], str]:
        """What voting gives (`pointlift.evaluate.voting`): for metrics.json, and in words."""
        told = (
            self.predictor.metadata["features"] != "own"
        )  # the network's features begin with the coordinates
        mean = average_votes(lambda votes: self.probabilities(votes, batch_size), samples, voting, told)
        metrics = self.measure(mean, samples)
        return {**voting.describe(), "metrics": metrics.to_dict()}, metrics.summary()

    # ---------------------------------------------------------------------- a run

    def report(self, report: Report, summary: RunSummary) -> bool:
        """Add what report.html shows of a finished run to `report`; False where the task has no report."""
        return False

    def _refuse(self, command: str) -> NoReturn:
        raise ValueError(
            f"{self.predictor.checkpoint} is a network of the task {self.name}, which has no {command}"
        )
