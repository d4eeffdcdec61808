"""What a method declares of itself: its recipe, what is best, what its checkpoints are for,
the stages before it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pointlift.methods.trainer_config import TrainerConfig

if TYPE_CHECKING:
    import lightning
    import numpy as np
    import numpy.typing as npt

    from pointlift.data.dataset import CloudDataset
    from pointlift.data.loader import Loaders
    from pointlift.methods.method import Method

__all__ = ["Best", "Experiment", "Measured", "Measurement", "Place", "Training", "optimizer_steps"]

Best = tuple[str, Literal["max", "min"]]
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a run is.

    Attributes:
        folder: of this run, or of this stage of it.
        root: of the whole run: `folder`, or the folder of the run that this is a stage of.
        stages: model.safetensors of the stages that are finished,
            of this run and of the one that it is a stage of, by name.
    """

    folder: Path
    root: Path
    stages: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """What Lightning trains.

    Attributes:
        module: the method around its network. data: its loaders.
        epochs: length of the run.
        save: writes the network and a protocol to a path.
        facts: what the method adds to the protocol, or says otherwise than it would;
            "data", of its splits, always.
        told: what it adds to result.json.
        also: other modules to evaluate on the same splits in the end;
            their metrics carry the name as a prefix.
        after: what is left to do in the run's folder once its result is written,
            given the seconds it took; by the first process.
        stops_early: whether trainer.early_stop_patience has a meaning here.
    """

    module: Method
    data: Loaders
    epochs: int
    save: Callable[[Path, dict[str, Any]], object]
    facts: Facts
    told: Facts = field(default_factory=dict)
    also: Mapping[str, lightning.LightningModule] = field(default_factory=dict)
    after: Callable[[float], None] | None = None
    stops_early: bool = True


@dataclass(frozen=True)
class Measured:
    """What a run without training found: numbers, None for one that there is none of;
    rows of metrics.csv; the time it took.
    """

    metrics: dict[str, float | None]
    rows: list[dict[str, Any]]
    seconds: float
    facts: dict[str, Any]


@dataclass(frozen=True)
class Measurement:
    """What is measured without training.

    Attributes:
        work: with the content of the last note (None at the beginning) and a function that notes where it is;
            goes on behind that note.
        facts: of the protocol.
    """

    work: Callable[[dict[str, Any] | None, Callable[[dict[str, Any]], None]], Measured]
    facts: Facts


@dataclass(frozen=True)
class Experiment(ABC):
    """A recipe: the groups of a method's settings, each a dataclass, with their defaults, and the seed.

    A method is a subclass. Class attributes: `method`, its name in METHODS and in recipe.yaml; `out`, where
    its runs go; `best`, the column of metrics.csv that says which epoch was best, and whether that is the
    highest or the lowest, None where none is chosen; `task`, the one of `pointlift.tasks` that its
    checkpoints serve, None for networks that see no clouds.
    """

    method: ClassVar[str]
    out: ClassVar[str]
    best: ClassVar[Best | None] = None
    task: ClassVar[str | None] = None

    def groups(self) -> dict[str, Any]:
        """The settings as plain values, in their order: what recipe.yaml holds beside the method."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
            for name, value in values.items()
        }

    def check(self, place: Place) -> None:  # noqa: B027  (most have nothing to add)
        """Refuse what does not fit together before anything is written or trained. Raises ValueError."""

    def stages(self) -> dict[str, Experiment]:
        """What is trained before, by the name of its folder within the run's; in order."""
        return {}

    def origins(self, place: Place) -> dict[str, str]:
        """{"NAME_sha256": checksum} of the networks that this one learns from;
        a run goes on with the same ones only.
        """
        return {}

    @abstractmethod
    def build(self, place: Place) -> Training | Measurement:
        """The network, the data and the method around them. The stages are finished by then."""

    def judged(self) -> CloudDataset | None:
        """The clouds that the report of a run shows and is measured on; None where there is no report."""
        return None

    def beside(self, folder: Path) -> dict[str, Path]:
        """The folders of the networks that the report compares, by name, that of the finished run in `folder`
        first; empty where there is nothing to compare.
        """
        return {}

    def pictures(self, folder: Path) -> dict[str, npt.NDArray[np.float32]]:
        """For the report of the finished run in `folder`: an object of every class as an image network saw
        it, (V, H, W, 3) in 0-1 by what stands below; empty where none saw any.
        """
        return {}

    def opening(self, out: Path) -> str | None:
        """What is printed before a run begins; None for nothing."""
        return None

    def summary(self, result: Any) -> str:
        """What is printed after a run: its numbers and the time."""
        numbers = ", ".join(
            f"{name} {value:.4g}" for name, value in result.metrics.items() if name.startswith("val_")
        )
        return f"{numbers} after the last epoch; {result.seconds:.0f} s"


def optimizer_steps(steps_per_epoch: int, epochs: int, trainer: TrainerConfig) -> int:
    """Length of a run in optimizer steps."""
    steps = math.ceil(steps_per_epoch / trainer.accumulate_grad_batches) * epochs
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)
