"""Scenes: a U-Net around the embedded image network names every point of furnished rooms.

Prints mIoU on unseen rooms, then what one of them is made of; its points in the colours of their classes are
in room.ply. `source="scenes:FOLDER"` trains on your own labelled scans, `image_model="resnet18.a1_in1k"`
starts from a network that was trained on photographs.
"""

import numpy as np
from command_line import arguments, fit

import pointlift as pl
from pointlift.data.scene_config import SceneDataConfig
from pointlift.methods.optim import OptimConfig
from pointlift.methods.segmentation.scene_recipe import SceneSegmentation
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.tasks.files import write_cloud

DATA = SceneDataConfig(
    source="procedural:rooms?train=4&val=2&points=8000",
    features=["height", "colors"],
    voxel_size=0.15,
    crop="none",
    batch_size=2,
)


def main() -> None:
    """What the words of the command line ask for."""
    out = arguments(__doc__, "scene_segmentation").out
    recipe = SceneSegmentation(
        model=ModelConfig(image_model="fractal_resnet", network="unet", in_channels=0, regime="all"),
        data=DATA,
        optim=OptimConfig(lr=0.1, epochs=6, schedule="poly"),
        trainer=TrainerConfig(accelerator="cpu", enable_progress_bar=False),
    )
    result = fit(recipe, out)
    miou, right = 100 * result.metrics["val_miou"], 100 * result.metrics["val_accuracy"]
    print(f"\nmIoU {miou:.1f} %, {right:.1f} % of the points of unseen rooms")

    room = pl.open_dataset("procedural:rooms?test=1&points=8000", "test", use=("colors",))[0]
    found = pl.Predictor(result.checkpoint)(np.concatenate([room.xyz, room.features], axis=1))
    print(f"a room of {found.describe()}")
    write_cloud(out / "room.ply", room.xyz, found.colors, {"label": found.labels})
    print(f"{out / 'room.ply'} shows them")


if __name__ == "__main__":
    main()
