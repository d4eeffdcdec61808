"""Distillation: a teacher learns from three labelled clouds of each class, a student from it and all clouds.

Prints the two trainings, then the accuracies of teacher and student, and the student's of `--alone`: the same
three clouds without a teacher. The teacher starts from an image network, the student from nothing.
"""

from dataclasses import replace
from pathlib import Path

from command_line import arguments, fit

from pointlift.data import DataConfig
from pointlift.methods.distillation.recipe import Distillation, DistillConfig
from pointlift.methods.image2point import Image2Point
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig

CLASSES = ["aeroplane", "bottle", "chair", "lamp", "table"]
CLOUDS = DataConfig(
    classes=CLASSES, train_per_class=8, test_per_class=6, n_points=256, voxel_size=0.15, batch_size=8
)
DATA = replace(CLOUDS, shots=3)  # clouds of a class whose labels are known
STUDENT = ModelConfig("fractal_resnet", pretrained=False, regime="scratch")
OPTIM = OptimConfig(lr=0.1, epochs=2)
TRAINER = TrainerConfig(accelerator="cpu", enable_progress_bar=False)
RECIPE = Distillation(
    model=STUDENT,
    teacher=ModelConfig("fractal_resnet", regime="all"),
    data=DATA,
    optim=OPTIM,
    teacher_optim=OPTIM,
    distill=DistillConfig(consistency_weight=1.0, label_weight=1.0),
    trainer=TRAINER,
)


def main() -> None:
    """What the words of the command line ask for."""
    args = arguments(__doc__, "distillation", alone=(False, "train the student without a teacher too"))
    result = fit(RECIPE, args.out)
    teacher, student = result.metrics["teacher_val_accuracy"], result.metrics["val_accuracy"]
    print(
        f"\nright on unseen clouds: teacher {teacher:.2f}, student {student:.2f}; see {args.out}/teacher too"
    )
    if args.alone:
        usual, folder = Image2Point(STUDENT, DATA, OPTIM, TRAINER), Path(f"{args.out}-alone")
        alone = fit(usual, folder)
        print(f"the same student, alone: {alone.metrics['val_accuracy']:.2f}")


if __name__ == "__main__":
    main()
