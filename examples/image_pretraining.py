"""Image pre-training: a small ResNet learns fractals, then its weights start a network of clouds.

Prints how well unseen pictures of the fractals are told apart, and the accuracy of the inflated network on
clouds with these weights. `source="imagenet:FOLDER"` and its like train on pictures of your own.
"""

from command_line import arguments, fit

from pointlift.data import DataConfig
from pointlift.methods.image2point import Image2Point
from pointlift.methods.image_pretraining.module import ImageOptimConfig
from pointlift.methods.image_pretraining.recipe import ImageDataConfig, ImageModelConfig, ImagePretraining
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig

SMALL = {"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 64]}  # of timm's ResNets
CLASSES = ["chair", "lamp", "table"]
TRAINER = TrainerConfig(accelerator="cpu", enable_progress_bar=False)


def main() -> None:
    """What the words of the command line ask for."""
    out = arguments(__doc__, "image_pretraining").out
    pictures = ImagePretraining(
        model=ImageModelConfig("resnet18", options=SMALL),
        data=ImageDataConfig(categories=8, instances_per_class=24, val_instances=4, image_size=32),
        optim=ImageOptimConfig(lr=0.05, epochs=2, batch_size=32),
        trainer=TRAINER,
    )
    trained = fit(pictures, out / "images")
    accuracy = trained.metrics["val_accuracy"]
    print(f"\n{accuracy:.2f} of unseen fractals named rightly; weights in {trained.checkpoint}")

    # fractals and shapes are other classes
    weights = {"weights": str(trained.checkpoint), "weights_may_differ": ["fc"]}
    clouds = Image2Point(
        model=ModelConfig("resnet18", image_options=SMALL, pretrained=False, regime="all", **weights),
        data=DataConfig(
            classes=CLASSES, train_per_class=8, test_per_class=4, n_points=256, voxel_size=0.15, batch_size=8
        ),
        optim=OptimConfig(lr=0.1, epochs=2),
        trainer=TRAINER,
    )
    result = fit(clouds, out / "clouds")
    print(f"\naccuracy {result.metrics['val_accuracy']:.2f} on unseen clouds, {result.seconds:.0f} s")


if __name__ == "__main__":
    main()
