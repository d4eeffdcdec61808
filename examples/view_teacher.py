"""PointCMT, stage I: an image network learns to classify objects from depth pictures of their points.

Prints the accuracy on unseen objects, then the features that it makes of six pictures of one of them: what
teaches point networks in the later stages (pointcmt.py runs all three). `kind="rendered"` shows meshes
instead, for data that have them.
"""

import torch
from command_line import arguments, fit

from pointlift.data import DataConfig
from pointlift.data.pictures.config import ViewConfig
from pointlift.data.pictures.load import load_views
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt.teacher import ViewTeacher
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.teachers.files import TeacherConfig, open_teacher

DATA = DataConfig(
    classes=["aeroplane", "bottle", "chair", "lamp", "table"],
    train_per_class=8,
    test_per_class=6,
    n_points=256,
    batch_size=8,
)
VIEWS = ViewConfig(kind="projected", rig="simpleview-6", size=32, splat=2, shade="closeness")


def main() -> None:
    """What the words of the command line ask for."""
    args = arguments(__doc__, "view_teacher")
    recipe = ViewTeacher(
        teacher=TeacherConfig("fractal_resnet"),
        views=VIEWS,
        data=DATA,
        optim=OptimConfig(lr=0.02, epochs=3),
        trainer=TrainerConfig(accelerator="cpu", enable_progress_bar=False),
    )
    result = fit(recipe, args.out)
    print(f"\naccuracy {result.metrics['val_accuracy']:.2f} on unseen objects")

    network, _ = open_teacher(result.checkpoint, recipe.teacher)
    images = load_views(VIEWS, DATA, recipe.seed).val.images([0])
    with torch.inference_mode():
        features = network.embed(images)
    print(f"{images.shape[1]} pictures of an object become a feature of {features.shape[1]} channels")


if __name__ == "__main__":
    main()
