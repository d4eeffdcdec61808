"""The numbers of the recipes of pre-training on RGB-D frames, with their sources. See `recipe_values.py`."""

from __future__ import annotations

from recipe_values import Part, Values, group

__all__ = ["PPKT_RECIPES"]

OWN = "pointlift's own"
USUAL: Values = {
    **group("data", every=1, features=["colors"], nearest=0.0, farthest=None, max_points=None, flip=0.5),
    **group("data", resize=[0.8, 1.25], augment_clouds=True, evaluate_on=None, evaluation_batch=None),
    "data.keep_features": False,
    **group("transfer", loss="ppnce", temperature=0.04, dim=128, per_voxel="one", same_voxel="ignored"),
    **group("transfer", projection="linear", gather=False),
    **group("model", in_channels=0),
    "teacher.layer": None,
    "optim.decay_steps": 250,
}
UNET: Values = group("model", image_model="fractal_resnet", network="unet", pretrained=True)
EMBEDDED: Values = group("teacher", image_model="fractal_resnet", pretrained=True)
PAPER = (
    "PPKT, section 4.1: ResNet-50, 2.5 cm, 480 x 640, every 25th frame, SGD 0.5, 1e-4, 60,000 steps of 24, "
    "128 dimensions, 0.04; PointContrast's (facts 2.1, 2.4): 0.8, 0.99 every 250 steps, 4096 pairs"
)
PPKT_RECIPES: dict[str, list[Part]] = {
    "ppkt/scannet_res16unet34c": [
        (
            PAPER,
            {
                **USUAL,
                **group("model", image_model="res16unet34c", regime="scratch", pretrained=False),
                **group("teacher", image_model="torchvision:resnet50", pretrained=True),
                **group("data", every=25, voxel_size=0.025, image_size=[480, 640], batch_size=24),
                **group("transfer", pairs=4096),
                **group("optim", lr=0.5, momentum=0.8, weight_decay=1e-4, epochs=15, schedule="exponential"),
                **group("optim", decay_factor=0.99),
                "trainer.max_steps": 60_000,
            },
        ),
        (OWN, {"data.evaluation_batch": 4}),
    ],
    "ppkt/toy": [
        (
            OWN,
            {
                **USUAL,
                **UNET,
                **EMBEDDED,
                "data.source": "procedural:rooms?train=8&val=2&frames=10&height=120&width=160",
                **group("model", regime="scratch"),
                **group("data", voxel_size=0.1, image_size=[120, 160], batch_size=8),
                **group("transfer", pairs=1024),
                **group("optim", lr=0.1, momentum=0.8, epochs=40, schedule="cosine"),
            },
        )
    ],
    "ppkt/your_own_frames": [
        (
            OWN,
            {
                **USUAL,
                **UNET,
                **EMBEDDED,
                "data.source": "rgbd:YOUR_FOLDER",
                **group("model", regime="all"),
                **group("data", voxel_size=0.05, image_size=[240, 320], batch_size=8),
                **group("transfer", pairs=2048),
                **group("optim", lr=0.1, momentum=0.8, epochs=40, schedule="cosine"),
            },
        )
    ],
}
