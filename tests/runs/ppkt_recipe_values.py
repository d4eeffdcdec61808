"""The numbers of the recipes of pre-training on RGB-D frames, with their sources. See `recipe_values.py`."""

from __future__ import annotations

from recipe_values import Part, Values, group

__all__ = ["PPKT_RECIPES"]

OWN = "pointlift's own"
USUAL: Values = {
    **group("data", every=1, features=["colors"], nearest=0.0, farthest=None, max_points=None, flip=0.5),
    **group("data", resize=[0.8, 1.25], augment_clouds=True, evaluate_on=None, evaluation_batch=None),
    **group("data", keep_features=False, superpixels=0),
    **group("transfer", loss="ppnce", temperature=0.04, dim=128, per_voxel="one", same_voxel="ignored"),
    **group("transfer", projection="linear", gather=False, drop_path=0.0),
    **group("model", in_channels=0),
    "teacher.layer": None,
    **group("optim", decay_steps=250, decay_factor=0.99),  # of the schedule exponential
}
UNET: Values = group("model", image_model="fractal_resnet", network="unet", pretrained=True)
EMBEDDED: Values = group("teacher", image_model="fractal_resnet", pretrained=True)
PAPER = (
    "PPKT, section 4.1: ResNet-50, 2.5 cm, 480 x 640, every 25th frame, SGD 0.5, 1e-4, 60,000 steps of 24, "
    "128 dimensions, 0.04; PointContrast's (facts 2.1, 2.4): 0.8, 0.99 every 250 steps, 4096 pairs"
)
FRAMES = "procedural:rooms?train=8&val=2&frames=10&height=120&width=160"
TOY: Values = {
    **UNET,
    **group("model", regime="scratch", in_channels=0),
    **group("optim", lr=0.1, momentum=0.8, epochs=40, schedule="cosine"),
    **group("data", voxel_size=0.1, batch_size=8, nearest=0.0, farthest=None, evaluate_on=None, every=1),
    **group("data", evaluation_batch=None),
    "optim.decay_factor": 0.99,
}
SEEN: Values = {
    **group("data", source=FRAMES, features=["colors"], image_size=[120, 160], resize=[0.8, 1.25], flip=0.5),
    **group("data", max_points=None, augment_clouds=True, superpixels=0, keep_features=False),
}
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
    "ppkt/nuscenes_res16unet34c": [
        (
            "facts 2.2: Res16UNet34C on intensity, 64, 0.07, 4096, 224 x 416, SGD 0.5, 0.9, dampening 0.1, "
            "50 epochs, 4 scans of 6 pictures",
            {
                **USUAL,
                **group("model", image_model="res16unet34c", regime="scratch", pretrained=False),
                "model.options.bn_momentum": 0.05,
                **group("teacher", image_model="torchvision:resnet50", pretrained=False),
                **group("data", features=["intensity"], voxel_size=0.1, image_size=[224, 416], batch_size=24),
                **group("transfer", temperature=0.07, dim=64, pairs=4096, per_voxel="every"),
                **group("transfer", same_voxel="negative"),
                **group("optim", lr=0.5, momentum=0.9, dampening=0.1, weight_decay=1e-4, epochs=50),
                "optim.schedule": "cosine",
            },
        ),
        (OWN, {"data.evaluation_batch": 24}),
    ],
    "ppkt/toy_global": [
        (
            OWN,
            {
                **TOY,
                **SEEN,
                **EMBEDDED,
                **group("transfer", loss="kd", temperature=None, pooling="mean", dim=128, negatives=16_384),
                **group("transfer", momentum=0.5),
            },
        )
    ],
    "ppkt/toy_pseudo_labels": [
        (
            OWN,
            {
                **TOY,
                **SEEN,
                **EMBEDDED,
                "teacher.reading": "every-place",
                **group("transfer", confidence=0.0, points=4096, drop_path=0.0),
            },
        )
    ],
    "ppkt/toy_pointcontrast": [
        (
            OWN,
            {
                **TOY,
                **group("data", source=FRAMES.replace("frames=10", "frames=16"), features=["ones"]),
                **group("data", overlap=0.3, overlap_voxel=0.05, overlap_reach=1.5, most_pairs=None),
                **group("data", match_reach=1.5, rotate=True, scale=[1.0, 1.0], jitter=0.01, jitter_p=0.95),
                **group("contrast", loss="nce", dim=32, temperature=0.4, pairs=1024, positives=1024),
                **group("contrast", candidates=256, positive_margin=0.1, negative_margin=1.4, drop_path=0.0),
            },
        )
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
                **group("transfer", pairs=2048, temperature=None),  # 0.04, ppnce's
                **group("optim", lr=0.1, momentum=0.8, epochs=40, schedule="cosine"),
            },
        )
    ],
}
