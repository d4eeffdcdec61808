"""PPKT's global baselines: the encoder of a 3D network learns from whole pictures, in three ways.

Prints how often a cloud of unseen frames finds its own picture. The decoder learns nothing; the checkpoints
name what is untouched.
"""

from command_line import arguments, fit

from pointlift.data.rgbd.config import FrameDataConfig
from pointlift.methods.global_transfer.recipe import GlobalTeacherConfig, GlobalTransfer
from pointlift.methods.global_transfer.settings import GlobalTransferConfig
from pointlift.methods.optim import OptimConfig
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


def main() -> None:
    """What the words of the command line ask for."""
    out = arguments(__doc__, "global_transfer").out
    teacher = GlobalTeacherConfig("fractal_resnet")
    optim = OptimConfig(lr=0.05, momentum=0.8, epochs=4)
    for loss in ("kd", "gupta", "crd"):
        transfer = GlobalTransferConfig(loss, negatives=16)
        result = fit(GlobalTransfer(STUDENT, teacher, FRAMES, transfer, optim, TRAINER), out / loss)
        found, chance = result.metrics["val_retrieval"], result.metrics["val_chance"]
        print(
            f"\n{loss}: {100 * found:.0f} % of unseen clouds find their picture (chance: {100 * chance:.0f})"
        )


if __name__ == "__main__":
    main()
