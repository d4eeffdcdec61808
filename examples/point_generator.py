"""PointCMT, stage II: a generator learns to draw a cloud from an image network's feature of its pictures.

Trains the image network of stage I first. Prints how far generated clouds are from the true ones (earth
mover's distance in boxes of side 1) and writes one as generated.ply, which `pointlift view` shows.
"""

import torch
from command_line import arguments, fit

from pointlift.data import DataConfig
from pointlift.data.pictures.config import ViewConfig
from pointlift.data.pictures.load import load_views
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt.generator import load_generator
from pointlift.methods.pointcmt.generator_recipe import GeneratorConfig, PointGeneration
from pointlift.methods.pointcmt.teacher import ViewTeacher
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.tasks.files import write_cloud
from pointlift.teachers.files import TeacherConfig, open_teacher

DATA = DataConfig(
    classes=["chair", "lamp", "table"], train_per_class=8, test_per_class=4, n_points=128, batch_size=8
)
VIEWS = ViewConfig(kind="projected", rig="simpleview-6", size=32)
TEACHER = TeacherConfig("simpleview", {"width": 8}, pretrained=False, width=64)
TRAINER = TrainerConfig(accelerator="cpu", enable_progress_bar=False)


def main() -> None:
    """What the words of the command line ask for."""
    out = arguments(__doc__, "point_generator").out
    stage_1 = ViewTeacher(TEACHER, VIEWS, DATA, OptimConfig(lr=0.05, epochs=3), TRAINER)
    teacher = fit(stage_1, out / "teacher").checkpoint
    recipe = PointGeneration(
        generator=GeneratorConfig(n_points=64, hidden=[128, 128], batch_size=8, loss_weight=1.0),
        teacher=TeacherConfig(
            "simpleview", {"width": 8}, pretrained=False, width=64, checkpoint=str(teacher)
        ),
        views=VIEWS,
        data=DATA,
        optim=OptimConfig(optimizer="adam", lr=1e-3, weight_decay=0.0, epochs=3, schedule="constant"),
        trainer=TRAINER,
    )
    result = fit(recipe, out / "generator")
    print(f"\ngenerated clouds are {result.metrics['val_loss']:.3f} from the true ones, unseen in training")

    network, _ = open_teacher(teacher)
    generator, _ = load_generator(result.checkpoint)
    with torch.inference_mode():
        cloud = generator(network.embed(load_views(VIEWS, DATA, recipe.seed).val.images([0])))[0]
    write_cloud(out / "generated.ply", cloud.numpy(), torch.full((64, 3), 0.5).numpy(), {})
    print(f"{out / 'generated.ply'}: {len(cloud)} points drawn from six pictures")


if __name__ == "__main__":
    main()
