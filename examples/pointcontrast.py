"""PointContrast: a 3D network learns which points of two views of a room are the same, without a label.

Prints how often a point of unseen views finds its match. `source="rgbd:FOLDER"` takes your own recordings,
which need poses.
"""

from command_line import arguments, fit

from pointlift.data.rgbd.view_config import ViewPairConfig
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcontrast.recipe import PointContrast
from pointlift.methods.pointcontrast.settings import ContrastConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig

STUDENT = ModelConfig("fractal_resnet", network="unet", in_channels=0, regime="scratch")
TRAINER = TrainerConfig(accelerator="cpu", enable_progress_bar=False)
VIEWS = ViewPairConfig(
    source="procedural:rooms?train=1&val=1&frames=16&height=96&width=128",
    features=["colors"],
    voxel_size=0.15,
    batch_size=2,
    in_memory=True,
)


def main() -> None:
    """What the words of the command line ask for."""
    out = arguments(__doc__, "pointcontrast").out
    contrast = ContrastConfig("nce", pairs=256)
    optim = OptimConfig(lr=0.1, momentum=0.8, epochs=4)
    result = fit(PointContrast(STUDENT, VIEWS, contrast, optim, TRAINER), out)
    found, chance = result.metrics["val_retrieval"], result.metrics["val_chance"]
    print(f"\n{100 * found:.1f} % of unseen points find their match, {100 * chance:.1f} % would by chance")


if __name__ == "__main__":
    main()
