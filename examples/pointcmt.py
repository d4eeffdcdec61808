"""PointCMT: images teach a network that sees points; image network, generator and student in one call.

Prints the three trainings, and how often image network and student are right on unseen objects. `--method
hinton` (or huang, yang, mse, normalize-1, normalize-2, none) trains the student with one of the paper's
baselines instead.
"""

from command_line import arguments, fit

from pointlift.data import DataConfig
from pointlift.data.pictures.config import ViewConfig
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt.generator_recipe import GeneratorConfig
from pointlift.methods.pointcmt.recipe import PointCMT, TransferConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.teachers.files import TeacherConfig

WIDTH = 64  # of the features that image network and student share
LEVELS = {"npoint": [32, 16], "radii": [0.3, 0.6], "nsample": [8, 8], "mlps": [[16, 32], [32, 64]]}
SMALL = {**LEVELS, "global_mlp": [64, 128], "head": [WIDTH]}  # a small PointNet++
DATA = DataConfig(
    classes=["chair", "lamp", "table"], train_per_class=8, test_per_class=4, n_points=128, batch_size=8
)
ADAM = OptimConfig(optimizer="adam", lr=2e-3, weight_decay=0.0, epochs=3)


def main() -> None:
    """What the words of the command line ask for."""
    args = arguments(
        __doc__, "pointcmt", method=("pointcmt", "how the student learns from the image network")
    )
    recipe = PointCMT(
        model=ModelConfig("pointnet2-ssg", pretrained=False, regime="scratch", options=SMALL),
        data=DATA,
        views=ViewConfig(kind="projected", rig="simpleview-6", size=32),
        teacher=TeacherConfig("simpleview", {"width": 8}, pretrained=False, width=WIDTH),
        teacher_optim=OptimConfig(lr=0.05, epochs=3),
        generator=GeneratorConfig(n_points=64, hidden=[128, 128], batch_size=8),
        generator_optim=ADAM,
        transfer=TransferConfig(method=args.method, alpha=30.0, beta=0.3, teacher_batch_size=8),
        optim=ADAM,
        trainer=TrainerConfig(accelerator="cpu", enable_progress_bar=False),
    )
    result = fit(recipe, args.out)
    metrics = result.metrics
    print(
        f"\nright on unseen objects: image network {metrics.get('teacher_val_accuracy', float('nan')):.2f}, ",
        end="",
    )
    print(f"student, which sees their points alone, {metrics['val_accuracy']:.2f}")


if __name__ == "__main__":
    main()
