"""Image2Point: an image network, inflated to 3D, learns to classify clouds, then classifies two of them.

Prints what became of the image network's tensors, what learns, the accuracy on unseen clouds, and two
predictions. `--regime io` trains new input and output layers only, `--regime scratch` starts from random
weights instead of the image network's.
"""

from command_line import arguments, fit

import pointlift as pl
from pointlift.data import DataConfig
from pointlift.methods.image2point import Image2Point
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig

CLASSES = ["aeroplane", "bottle", "chair", "lamp", "table"]
# embedded shapes; source="folder:my_scans" are your own. Numbers that say something need more of everything
DATA = DataConfig(
    classes=CLASSES, train_per_class=8, test_per_class=6, n_points=256, voxel_size=0.15, batch_size=8
)


def main() -> None:
    """What the words of the command line ask for."""
    args = arguments(
        __doc__, "image2point", regime=("all", "what learns: io, io+stats, io+bn, all or scratch")
    )
    recipe = Image2Point(
        model=ModelConfig("fractal_resnet", regime=args.regime, rule="repeat", axis="z"),
        data=DATA,
        optim=OptimConfig(lr=0.1, epochs=3),
        trainer=TrainerConfig(accelerator="cpu", enable_progress_bar=False),
    )
    result = fit(recipe, args.out)
    accuracy = result.metrics["val_accuracy"]
    print(f"\naccuracy {accuracy:.2f}; {result.trainable:,} of {result.total:,} parameters learned")

    predictor = pl.Predictor(result.checkpoint)
    unseen = pl.open_dataset("procedural:shapes?classes=chair,table&test=1", "test")
    for sample in (unseen[0], unseen[1]):
        print(f"a {unseen.classes[sample.label]} looks like: {predictor(sample.xyz).describe()}")


if __name__ == "__main__":
    main()
