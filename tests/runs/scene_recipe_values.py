"""The numbers of the recipes of scenes, with their sources. See `recipe_values.py`."""

from __future__ import annotations

from typing import Any

from recipe_values import Part, Values, group

__all__ = ["SCENE_RECIPES"]

USUAL: Values = {
    **group("data", evaluate_on=None, scenes=None, labels=None, repeat=1, max_voxels=80_000),
    "data.one_per_voxel": False,
    **group("loss", class_weights="none", absent="skip"),
    **group("model", in_channels=0, stem="linear"),
}
UNET: Values = group("model", image_model="resnet18.tv_in1k", network="unet", regime="all", pretrained=True)


def _part(source: str, *values: Values, **optim: Any) -> list[Part]:
    merged: Values = dict(USUAL)
    for part in values:
        merged |= part
    return [(source, {**merged, **group("optim", **optim)})]


PAPER = "Image2Point v2, appendix A, and its listing 2; facts"
OWN = "pointlift's own"
RES16: Values = {
    **group("model", image_model="res16unet34c", network="auto", regime="all", pretrained=False),
    **group("data", features=["colors"], frame="floor", one_per_voxel=True, crop="none", batch_size=48),
}
TOY: Values = {
    **group("model", image_model="fractal_resnet", network="unet", regime="all", pretrained=True),
    **group("data", crop="none", augmentation="none", batch_size=3),
}
SCENE_RECIPES: dict[str, list[Part]] = {
    "scenes/s3dis_resnet18": _part(
        f"{PAPER} 1.8: voxels of 0.05, 400 epochs, 0.1 poly, batches of 3 on 2 GPUs, no Nesterov",
        UNET,
        {"model.stem": "three-conv"},
        group("data", features=["xyz", "colors"], frame="mean", voxel_size=0.05, one_per_voxel=True),
        group("data", crop="none", augmentation="image2point-s3dis", batch_size=6),
        lr=0.1, momentum=0.9, weight_decay=1e-4, epochs=400, schedule="poly",
    ),
    "scenes/semantickitti_resnet18": _part(
        f"{PAPER} 1.9: 0.24, cosine after 250 steps, 15 epochs, batches of 2 on 4 GPUs, 80,000 voxels",
        UNET,
        {"model.stem": "three-conv"},
        group("data", features=["xyz", "intensity"], frame="none", voxel_size=0.05, one_per_voxel=True),
        group("data", crop="random", max_voxels=80_000, batch_size=8),
        {"data.augmentation": "image2point-semantickitti"},
        lr=0.24, momentum=0.9, weight_decay=1e-4, epochs=15, schedule="cosine", warmup_steps=250,
    ),
    "scenes/semantickitti_hrnet-w48": _part(
        f"{OWN}: the papers do not say (v2, table 2; v1, table 2); five channels, facts 1.9",
        group("model", image_model="hrnet_w48", network="range-view", regime="all", pretrained=True),
        {"model.options.rows": "directions"},
        group("data", features=["xyz", "intensity"], frame="none", voxel_size=0.05, crop="none"),
        group("data", augmentation="image2point-semantickitti", batch_size=8),
        lr=0.01, momentum=0.9, weight_decay=1e-4, epochs=30, schedule="poly",
    ),
    "scenes/s3dis_pointnet2": _part(
        f"{OWN}: the paper does not say (v2, table 2)",
        group("model", image_model="pointnet2-ssg-parts", network="auto", regime="all", pretrained=False),
        group("model.options", categories=0, npoint=[1024, 256], radii=[0.2, 0.8], nsample=[64, 64]),
        group("data", features=["xyz", "colors"], frame="floor", voxel_size=0.05, one_per_voxel=True),
        {"data.repeat": 8},
        group("data", crop="sphere", max_voxels=8192, augmentation="pointcontrast-s3dis", batch_size=8),
        optimizer="adam", lr=1e-3, weight_decay=1e-4, epochs=100, schedule="cosine",
    ),
    "scenes/s3dis_res16unet34c": _part(
        "facts 2.7, 2.6: 5 cm, SGD 0.1, 60,000 steps of 48 of 204 rooms = 1,177 epochs of 51",
        RES16,
        group("data", voxel_size=0.05, augmentation="pointcontrast-s3dis", repeat=12),
        lr=0.1, dampening=0.1, weight_decay=1e-4, epochs=1177, schedule="poly", bn_momentum=0.02,
    ),
    "scenes/scannet_res16unet34c": _part(
        "facts 2.6: 2 cm, SGD 0.8, momentum 0.9, dampening 0.1, poly, 60,000 steps of 48 of 1,201 scans",
        RES16,
        group("data", voxel_size=0.02, augmentation="pointcontrast-scannet"),
        lr=0.8, dampening=0.1, weight_decay=1e-4, epochs=2400, schedule="poly", bn_momentum=0.02,
    ),
    "scenes/toy": _part(
        OWN,
        TOY,
        group("data", source="procedural:rooms?train=12&val=6&points=20000", features=["height", "colors"]),
        group("data", frame="floor", voxel_size=0.1),
        lr=0.1, weight_decay=1e-4, epochs=20, schedule="poly",
    ),
    "scenes/toy_streets": _part(
        OWN,
        TOY,
        group("data", source="procedural:streets?train=12&val=6", features=["xyz", "intensity"]),
        group("data", frame="none", voxel_size=0.2),
        lr=0.1, weight_decay=1e-4, epochs=20, schedule="poly",
    ),
    "scenes/your_own_folder": _part(
        OWN,
        TOY,
        group("data", source="scenes:YOUR_FOLDER", features=None, frame="floor", voxel_size=0.05, repeat=4),
        group("data", crop="sphere", max_voxels=40_000, augmentation="pointcontrast-s3dis", batch_size=2),
        {"loss.class_weights": "sqrt"},
        lr=0.05, weight_decay=1e-4, epochs=40, schedule="poly",
    ),
}  # fmt: skip
