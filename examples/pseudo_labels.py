"""Pseudo-labels: a 3D network learns the classes that an image network sees at its points' pixels.

Prints how often both agree on unseen frames. The embedded image network knows fractals only, so that its
classes mean nothing in a room; a segmentation network of your own is
`ClassTeacherConfig("path/to/net.py:function", reading="output")`.
"""

from command_line import arguments, fit

from pointlift.data.rgbd.config import FrameDataConfig
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pseudo_labels.module import PseudoLabelConfig
from pointlift.methods.pseudo_labels.recipe import ClassTeacherConfig, PseudoLabels
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
    out = arguments(__doc__, "pseudo_labels").out
    teacher = ClassTeacherConfig("fractal_resnet", reading="every-place")
    labels, optim = PseudoLabelConfig(points=2000), OptimConfig(lr=0.1, momentum=0.8, epochs=6)
    result = fit(PseudoLabels(STUDENT, teacher, FRAMES, labels, optim, TRAINER), out)
    found, commonest = result.metrics["val_agreement"], result.metrics["val_commonest"]
    print(
        f"\nboth networks agree on {100 * found:.1f} % of unseen points ({100 * commonest:.1f} %: one class)"
    )


if __name__ == "__main__":
    main()
