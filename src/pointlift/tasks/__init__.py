"""What a trained checkpoint is for, by name: what predict, evaluate, embed, view and the report of a run do
with it.

A task is one file with a class derived from `pointlift.tasks.task.Task`; this dict is all that has to know of
it. Checkpoints say in their metadata which one they serve. A task of your own is "path/to/file.py:Class"
under the name that your checkpoints say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pointlift.tasks.task import Task

__all__ = ["TASKS", "open_task"]

TASKS: dict[str, str] = {
    "classify": "pointlift.tasks.classify:Classify",
    "parts": "pointlift.tasks.parts:Parts",
    "segment": "pointlift.tasks.segment:Segment",
}


def open_task(
    checkpoint: str,
    image_model: str | None = None,
    *,
    device: str | None = None,
    **reading: Any,
) -> Task:
    """A checkpoint at work in the task that its metadata name.

    Args:
        checkpoint, image_model: of `Predictor`.
        device: of its network; default: the first GPU where there is one.
        reading: up_axis, seed, draws and nonfinite of `Predictor`.

    Raises what that raises, and ValueError for a device that is not there.
    """
    from pointlift.tasks.predictor import Predictor

    predictor = Predictor(checkpoint, image_model, **reading)
    if device is not None:
        predictor.use_device(device)
    if predictor.draws > 1 and predictor.task.name != "classify":
        raise ValueError(
            f"--draws {predictor.draws}: {checkpoint} is of the task {predictor.task.name}, whose answers "
            "are of one draw of points: leave it out"
        )
    return predictor.task
