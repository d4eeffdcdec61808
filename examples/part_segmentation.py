"""Part segmentation: PointNet++ learns the part that every point belongs to, then names those of a mug.

Prints instance and class mIoU on unseen objects, then what the mug is made of; its points in the colours of
their parts are in mug.ply. `source="shapenetpart:FOLDER"` trains on ShapeNetPart; `cloud_weights` of the
model takes the encoder of a trained classifier.
"""

from command_line import arguments, fit

import pointlift as pl
from pointlift.data import DataConfig
from pointlift.methods.optim import OptimConfig
from pointlift.methods.segmentation.recipe import PartModelConfig, PartSegmentation
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.tasks.files import write_cloud

SMALL = {
    "npoint": [64, 16],
    "radii": [0.3, 0.6],
    "nsample": [16, 16],
    "mlps": [[16, 32], [32, 64]],
    "global_mlp": [64, 128],
    "propagation": [[64], [64], [64, 32]],
    "head": [32],
    "dropout": 0.0,
}
DATA = DataConfig(
    classes=["chair", "mug", "table"], train_per_class=16, test_per_class=4, n_points=256, batch_size=8
)


def main() -> None:
    """What the words of the command line ask for."""
    out = arguments(__doc__, "part_segmentation").out
    recipe = PartSegmentation(
        model=PartModelConfig(kind="ssg", options=SMALL, use_category=True),
        data=DATA,
        optim=OptimConfig(optimizer="adam", lr=5e-3, epochs=5),
        trainer=TrainerConfig(accelerator="cpu", enable_progress_bar=False),
    )
    result = fit(recipe, out)
    instance, per_class = result.metrics["val_instance_miou"], result.metrics["val_class_miou"]
    print(f"\ninstance mIoU {instance:.2f}, class mIoU {per_class:.2f} on unseen objects")

    mug = pl.open_dataset("procedural:shapes?classes=mug&test=1", "test", n_points=1024)[0]
    found = pl.Predictor(result.checkpoint)(mug.xyz, category="mug")
    print(f"a mug of {len(mug)} points: {found.describe()}")
    write_cloud(out / "mug.ply", mug.xyz, found.colors, {"part": found.labels})
    print(f"{out / 'mug.ply'} shows them")


if __name__ == "__main__":
    main()
