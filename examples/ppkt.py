"""PPKT: a 3D network learns from an image network on RGB-D frames of rooms, without a single label.

Prints how often a point of unseen frames finds its own pixel, then fine-tunes the network for scenes from the
weights that came out. `source="rgbd:FOLDER"` takes your own recordings, and `torchvision:resnet50` is a
teacher that was trained on photographs.
"""

from command_line import arguments, fit

from pointlift.data.rgbd.config import FrameDataConfig
from pointlift.data.scene_config import SceneDataConfig
from pointlift.methods.optim import OptimConfig
from pointlift.methods.ppkt.recipe import PPKT, DenseTeacherConfig
from pointlift.methods.ppkt.settings import TransferConfig
from pointlift.methods.segmentation.scene_recipe import SceneSegmentation
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig

STUDENT = ModelConfig("fractal_resnet", network="unet", in_channels=0, regime="scratch")
TRAINER = TrainerConfig(accelerator="cpu", enable_progress_bar=False)
FRAMES = FrameDataConfig(
    source="procedural:rooms?train=3&val=1&frames=4&height=96&width=128",
    voxel_size=0.15,
    image_size=[96, 128],
    batch_size=4,
    in_memory=True,
)
ROOMS = SceneDataConfig(
    source="procedural:rooms?train=2&val=1&points=6000",
    features=["colors"],
    voxel_size=0.15,
    crop="none",
    batch_size=2,
)


def main() -> None:
    """What the words of the command line ask for."""
    out = arguments(__doc__, "ppkt").out
    optim = OptimConfig(lr=0.1, momentum=0.8, epochs=6)
    pretrained = fit(
        PPKT(
            STUDENT, DenseTeacherConfig("fractal_resnet"), FRAMES, TransferConfig(pairs=256), optim, TRAINER
        ),
        out / "pretrained",
    )
    found, chance = pretrained.metrics["val_retrieval"], pretrained.metrics["val_chance"]
    print(f"\n{100 * found:.1f} % of unseen points find their pixel, {100 * chance:.1f} % would by chance")

    start = ModelConfig(
        "fractal_resnet", network="unet", in_channels=0, cloud_weights=str(pretrained.checkpoint)
    )
    scenes = SceneSegmentation(start, ROOMS, optim=OptimConfig(lr=0.1, epochs=4), trainer=TRAINER)
    result = fit(scenes, out / "rooms")
    print(f"\nmIoU {100 * result.metrics['val_miou']:.1f} % on an unseen room")


if __name__ == "__main__":
    main()
