"""The numbers of the shipped recipes and where they are from: what `test_recipe_values.py` looks for.

`USUAL` is what stands in a recipe that says nothing else. A recipe is a list of parts, each (source, values);
later parts win. "ours" is a source too: the papers leave the number open, or the recipe is none of theirs.
"""

from __future__ import annotations

from typing import Any

__all__ = ["RECIPES", "USUAL", "Part", "Values"]

Values = dict[str, Any]
Part = tuple[str, Values]

# of the groups' dataclasses; most are without consequence where a recipe does not name them
OPTIM: Values = {
    "optimizer": "sgd", "momentum": 0.9, "nesterov": False, "dampening": 0.0, "warmup_steps": 0,
    "weight_decay": 1e-4, "label_smoothing": 0.0, "smoothing": "all",
    "final_lr": 0.0, "decay_factor": 0.7, "decay_epochs": 21, "bn_momentum": None, "bn_decay": None,
    "bn_floor": None, "decay_steps": 250,
}  # fmt: skip
CLOUD_MODEL: Values = {
    "network": "auto", "options": None, "image_options": None, "rule": "repeat", "axis": "z",
    "stem": "linear", "head": "linear-bn", "shortcut_kernel": 1, "load_stages": None, "start": "default",
    "in_channels": 3,
}  # fmt: skip
USUAL: dict[str, Values] = {
    "optim": OPTIM,
    "teacher_optim": OPTIM,
    "generator_optim": OPTIM,
    "model": CLOUD_MODEL,
    "teacher": {**CLOUD_MODEL, "pooling": "max", "width": None},
    "data": {
        "normalise": "unit-sphere", "features": "xyz", "voxel_size": 0.05, "shots": None, "share": None,
        "split_seed": None, "val_fraction": None, "augment": True, "augmentation": "image2point",
        "thinning": "random",
        "train_per_class": 64, "test_per_class": 32, "shapes_seed": 0, "fps_points": None,
        "read_points": None, "classes": None, "limit_per_class": None,
    },
    "views": {
        "rig": "simpleview-6", "splat": 1, "mode": "harmonic", "shade": "depth", "n_views": None,
        "augment": False,
    },
    "generator": {
        "kind": "mlp", "hidden": [1024, 1024], "loss_weight": 1.0, "box": "none", "reduction": "mean",
        "matching": "auction", "epsilon": 0.01,
    },
    "transfer": {
        "method": "pointcmt", "alpha": 30.0, "beta": 0.3, "kl_reduction": "mean", "temperature": 1.0,
        "weight": None, "label_weight": None, "mutual": False, "compare": False,
    },
    "trainer": {
        "precision": "32-true", "accumulate_grad_batches": 1, "max_steps": -1, "gradient_clip_val": None,
        "early_stop_patience": None, "ema": None,
    },
    "": {"seed": 0},
}  # fmt: skip


def group(name: str, **values: Any) -> Values:
    return {f"{name}.{key}": value for key, value in values.items()}


# ---------------------------------------------------------------------------------------- Image2Point
V2: Part = (
    "Image2Point v2, appendix A: SGD, momentum 0.9, weight decay 1e-4, 0.1 along a cosine, batches of "
    "32, 300 epochs, voxels of 0.05, x, y, z; the released script: all 2,048 points",
    {
        **group("optim", lr=0.1, momentum=0.9, weight_decay=1e-4, epochs=300, schedule="cosine"),
        **group("data", batch_size=32, voxel_size=0.05, n_points=2048),
    },
)
POINTNET2: Part = (
    "Image2Point v1, section 6.1: Adam 0.001, batches of 32, 200 epochs; facts 5.1: the network, "
    "1,024 points",
    {
        **group("optim", optimizer="adam", lr=1e-3, weight_decay=0.0, epochs=200, schedule="constant"),
        **group("data", batch_size=32, n_points=1024),
        **group("model", **{"options.npoint": [512, 128], "options.radii": [0.2, 0.4]}),
        "model.options.nsample": [64, 64],
    },
)
SIMPLEVIEW: Part = (
    "facts 5.6, SimpleView's protocol: Adam 0.001, plateau, 1,000 epochs, batches of 18, 0.2 of "
    "smoothing for the 39 other classes: 0.2 * 40 / 39 for all 40; pictures of 128",
    {
        **group("optim", optimizer="adam", lr=1e-3, weight_decay=0.0, epochs=1000, schedule="plateau"),
        **group("data", batch_size=18, n_points=1024),
        "optim.label_smoothing": 0.2 * 40 / 39,
        **group("model", network="simpleview"),
        **group("model.options", stem="new", image_size=128),
    },
)
VIT: Part = (
    "Image2Point v2, appendix A: 256 centres, 64 points each; the rest of the protocol is ModelNet's",
    {
        **group("model", network="point-vit"),
        **group("model.options", centres=256, neighbours=64, position="unchanged", order="rows", axes="xy"),
    },
)


def lifted(image_model: str, regime: str, *parts: Part, pretrained: bool | None = None) -> list[Part]:
    start = regime != "scratch" if pretrained is None else pretrained
    return [*parts, ("name", group("model", image_model=image_model, regime=regime, pretrained=start))]


REGIMES = ("io", "io+stats", "io+bn", "all", "scratch")
RECIPES: dict[str, list[Part]] = {
    **{
        f"image2point/modelnet40_resnet{depth}_{regime}": lifted(f"resnet{depth}.tv_in1k", regime, V2)
        for depth in (18, 50, 152)
        for regime in REGIMES
    },
    **{
        f"image2point/modelnet40_pointnet2-ssg_{regime}": lifted(
            "pointnet2-ssg", regime, POINTNET2, pretrained=False
        )
        for regime in ("io+stats", "all", "scratch")
    },
    **{
        f"image2point/modelnet40_simpleview_{regime}": lifted("resnet18.tv_in1k", regime, SIMPLEVIEW)
        for regime in ("all", "scratch")
    },
    **{
        f"image2point/modelnet40_vit-{size}-16_{regime}": lifted(
            f"vit_{name}_patch16_224.orig_in21k", regime, V2, VIT
        )
        for size, name in (("b", "base"), ("l", "large"))
        for regime in ("all", "scratch")
    },
}

# ---------------------------------------------------------------------------------------- distillation
DISTILLATION: Part = (
    "Image2Point v2, section 4.3 and tables 5, 10 (1, 5, 10 shots), protocol of appendix A for both; "
    "the weights of the two losses are open: 1 and 1",
    {
        **V2[1],
        **group("teacher_optim", lr=0.1, momentum=0.9, weight_decay=1e-4, epochs=300, schedule="cosine"),
        **group("data", shots=10),
        **group("distill", consistency_weight=1.0, label_weight=1.0, teacher_sees="augmented"),
        **group("model", image_model="pointcontrast_resnet34", regime="scratch", pretrained=False),
        **group("teacher", image_model="pointcontrast_resnet34", regime="all", pretrained=False),
    },
)
SCRATCH: Part = ("table 5, from scratch", group("teacher", regime="scratch"))
RECIPES |= {
    "distillation/modelnet40_resnet34_scratch_teacher": [DISTILLATION, SCRATCH],
    "distillation/modelnet40_resnet34_imagenet_teacher": [DISTILLATION],
    "distillation/modelnet40_resnet34_pointinfonce_teacher": [DISTILLATION],
    "distillation/modelnet40_resnet34_hardest_teacher": [DISTILLATION],
}

# ---------------------------------------------------------------------------------------- pre-training
PYTORCH: Part = (
    "PyTorch's ImageNet example (v2, appendix A; v1, section 6.1): SGD 0.1, 0.9, 1e-4, a tenth every "
    "30 of 90 epochs, batches of 256, crops of 224 of pictures of 256, ImageNet's mean and deviation",
    {
        **group("optim", lr=0.1, momentum=0.9, weight_decay=1e-4, epochs=90, batch_size=256, schedule="step"),
        "optim.label_smoothing": 0.0,
        **group("views", train="resized-crop", size=224, resize=256, flip="horizontal"),
        **group("views", mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        # of embedded fractals alone
        **group("data", categories=100, instances_per_class=200, image_size=64, seed=1, val_instances=25),
        **group("model", num_classes=None, half=False),
    },
)
ZERO: Part = ("torchvision's ResNets", {"model.options.zero_init_last": False})
FRACTALDB: Part = (
    "facts 6.3: windows of 224, mean 0.2, deviation 0.5, no flips; SGD 0.1, 0.9, 1e-4, 90 epochs, a "
    "tenth at 30 and 60, batches of 256",
    group("views", train="crop", size=224, resize=None, flip="none", mean=[0.2] * 3, std=[0.5] * 3),
)
PIXELS: Part = (
    "Image2Point v1, section 6.1: SGD 0.1, 0.9, 1e-4, a tenth every 30 of 90 epochs; pixels and their "
    "colours",
    {
        **group("optim", lr=0.1, momentum=0.9, weight_decay=1e-4, epochs=90, schedule="step"),
        **group("data", n_points=None, normalise="none", features="xyz+own", augment=False),
        **group("model", image_model="pointnet2-ssg", regime="scratch", pretrained=False, in_channels=6),
    },
)
RECIPES |= {
    **{
        f"pretrain/resnet{d}_imagenet": [PYTORCH, ZERO, ("name", {"model.name": f"resnet{d}"})]
        for d in (18, 50)
    },
    "pretrain/pointcontrast_resnet34_imagenet": [
        PYTORCH,
        ("facts 1.3", {"model.name": "pointcontrast_resnet34", "model.options": None}),
    ],
    "pretrain/resnet50_tiny_imagenet": [
        PYTORCH,
        ZERO,
        (
            "ours: the pictures' own 64 pixels",
            {"model.name": "resnet50", "views.size": 64, "views.resize": 64},
        ),
    ],
    **{
        f"pretrain/resnet50_fractaldb{n}k": [PYTORCH, ZERO, FRACTALDB, ("name", {"model.name": "resnet50"})]
        for n in (1, 10)
    },
    "pretrain/pointnet2_tiny_imagenet": [
        PIXELS,
        (
            "v1, section 6.1: a quarter of 4,096 points twice, radius 3, batches of 64; 32 neighbours "
            "are ours",
            {
                "data.batch_size": 64,
                **group("model.options", npoint=[1024, 256], radii=[3, 3], nsample=[32, 32]),
            },
        ),
    ],
    "pretrain/pointnet2_imagenet": [
        PIXELS,
        (
            "v2, appendix A: 1,024 and 256 centres, radii 8 and 64, 64 neighbours, PyTorch's recipe",
            {
                "data.batch_size": 256,
                "data.source": "pixels:imagenet:data/imagenet?crop=224",
                **group("model.options", npoint=[1024, 256], radii=[8, 64], nsample=[64, 64]),
            },
        ),
    ],
    "collapse/imagenet_resnet50": [
        ("Image2Point v2, table 11; torchvision's evaluation", group("data", size=224, resize=256)),
        ("torchvision's V1 weights", group("model", image_model="resnet50.tv_in1k", pretrained=True)),
        ("ours: what fits", group("data", batch_size=256)),
    ],
}

# ---------------------------------------------------------------------------------------- PointCMT
RESNET18: Values = group("teacher", image_model="torchvision:resnet18", pretrained=True, pooling="max")
STAGES: Part = (
    "PointCMT, section 4.1: 20 views of 224; image network SGD 0.01, batches of 128, 50 epochs; "
    "generator Adam, batches of 32, 50 epochs, three layers; section 3.4: alpha 30, beta 0.3; facts "
    "4.2: 1,024 points, scale and shift; facts T40: a head of 512; the official codes: dropout 0.5. "
    "Open there, ours: momentum, decay, schedules (constant), the generator's rate, widths",
    {
        **group("data", n_points=1024, batch_size=32, augmentation="scale-shift", normalise="none"),
        **group("views", kind="folder", n_views=20, size=224),
        **RESNET18,
        **group("teacher_optim", lr=0.01, epochs=50, schedule="constant"),
        **group("generator", n_points=1024, batch_size=32),
        **group("generator_optim", optimizer="adam", lr=1e-3, weight_decay=0.0, epochs=50),
        "generator_optim.schedule": "constant",
        **group("transfer", alpha=30.0, beta=0.3, teacher_batch_size=128),
        **group("model", regime="scratch", pretrained=False),
        **group("model.options", head=[512], dropout=0.5),
    },
)
RS_CNN: Part = (
    "facts 5.4 (and section 4.1: PointNet++ is trained with RS-CNN's strategy): Adam 0.001, times 0.7 "
    "every 21 epochs, not below 1e-5, 200 epochs; batch statistics 0.9, halved, not below 0.01; 1,024 "
    "of 1,200 points",
    {
        **group("optim", optimizer="adam", lr=1e-3, weight_decay=0.0, epochs=200, schedule="decay"),
        **group("optim", decay_factor=0.7, decay_epochs=21, final_lr=1e-5, smoothing="others"),
        **group("optim", bn_momentum=0.9, bn_decay=0.5, bn_floor=0.01),
        **group("data", fps_points=1200, read_points=2048),
    },
)
DGCNN: Part = (
    "facts 5.3: SGD 0.1, 0.9, 1e-4, cosine to 0.001, 250 epochs, batches of 32, smoothing 0.2 of the "
    "others, k 20",
    {
        **group("optim", lr=0.1, momentum=0.9, weight_decay=1e-4, epochs=250, schedule="cosine"),
        **group("optim", final_lr=1e-3, label_smoothing=0.2, smoothing="others"),
        "model.options.k": 20,
    },
)
POINTMLP: Part = (
    "facts 5.5: SGD 0.1, 0.9, 2e-4, cosine to 0.005, 300 epochs, smoothing 0.2 of the others",
    {
        **group("optim", lr=0.1, momentum=0.9, weight_decay=2e-4, epochs=300, schedule="cosine"),
        **group("optim", final_lr=5e-3, label_smoothing=0.2, smoothing="others"),
    },
)
RELEASED: Part = (
    "facts 4.3 to 4.6, the released code: Adam 0.001 at a constant rate, 50 epochs, smoothing 0.2 for the "
    "image network, its decay of 1e-4 a fourth beside the mean of four gradients; one linear layer, 30, "
    "0.05, Adam with 1e-4 for the generator; AdamW 0.001, 0.05, one cosine over 1,000 epochs for the "
    "student, without dropout; the divergence is summed",
    {
        **group("teacher_optim", optimizer="adam", lr=1e-3, weight_decay=1e-4 / 4, epochs=50),
        **group("teacher_optim", schedule="constant", label_smoothing=0.2, smoothing="others"),
        **group("generator", kind="linear", loss_weight=30.0, box="released", reduction="mean", epsilon=0.05),
        **group("generator_optim", weight_decay=1e-4),
        **group("transfer", kl_reduction="sum"),
        **group("optim", optimizer="adamw", lr=1e-3, weight_decay=5e-2, epochs=1000, schedule="cosine"),
        **group("optim", label_smoothing=0.2, smoothing="others", final_lr=0.0),
        "model.options.dropout": 0.0,
    },
)
SCANS: Part = (
    "PointCMT, section 4.2: SGD over 1,000 epochs and batches of 32 for image network (from scratch) "
    "and student, six pictures as SimpleView's (128, facts 5.6), whose structure it follows: its "
    "network, its fusion, its smoothed loss; facts 5.5: 0.01 and 1e-4 are PointMLP's there",
    {
        **group("data", normalise="unit-sphere", source="scanobjectnn:data/ScanObjectNN?variant=pb-t50-rs"),
        **group("views", kind="projected", n_views=None, size=128),
        **group("teacher", image_model="simpleview", pretrained=False, pooling="fusion", width=512),
        **group("teacher_optim", lr=0.01, weight_decay=1e-4, epochs=1000, schedule="cosine", final_lr=0.0),
        **group("teacher_optim", label_smoothing=0.2, smoothing="others"),
        **group("transfer", teacher_batch_size=32),
        **group("optim", lr=0.01, weight_decay=1e-4, epochs=1000, schedule="cosine"),
        **group("optim", label_smoothing=0.2, smoothing="others", final_lr=0.0),
    },
)


def student(name: str) -> Part:
    return ("name", {"model.image_model": name})


RECIPES |= {
    "pointcmt/modelnet40_dgcnn": [STAGES, DGCNN, student("dgcnn")],
    "pointcmt/modelnet40_rscnn": [STAGES, RS_CNN, student("rscnn")],
    "pointcmt/modelnet40_pointnet2-msg": [STAGES, RS_CNN, student("pointnet2-msg")],
    "pointcmt/modelnet40_pointmlp": [STAGES, POINTMLP, student("pointmlp")],
    "pointcmt/modelnet40_released": [STAGES, RELEASED, student("pointnet2-msg")],
    "pointcmt/scanobjectnn_pointnet2-msg": [STAGES, SCANS, student("pointnet2-msg")],
    "pointcmt/scanobjectnn_pointmlp": [STAGES, SCANS, student("pointmlp")],
}
STAGE_1: Part = (
    "PointCMT, section 4.1: SGD 0.01, batches of 128, 50 epochs, 224 pixels; the schedule is open: constant",
    {
        **RESNET18,
        **group("optim", lr=0.01, epochs=50, schedule="constant"),
        **group("data", n_points=1024, batch_size=128),
        **group("views", kind="rendered", rig="rotationnet-20", size=224),
    },
)
MESHES: Part = (
    "facts 4.2",
    group("data", source="modelnet:data/modelnet40_normal_resampled?meshes=data/ModelNet40"),
)
RECIPES |= {
    "view_teacher/modelnet40": [STAGE_1, MESHES],
    "view_teacher/modelnet40_projected": [
        STAGE_1,
        ("facts 5.6", group("views", kind="projected", rig="simpleview-6", size=128)),
        (
            "facts 5.6: SimpleView's network and fusion, from scratch",
            group("teacher", image_model="simpleview", pretrained=False, pooling="fusion", width=512),
        ),
    ],
    "view_teacher/modelnet40_released": [
        STAGE_1,
        MESHES,
        (
            "facts 4.3: Adam 0.001 at a constant rate, 4 batches of 32 added up, smoothing 0.2, seed "
            "2021; 1e-4 of the sum of four is a fourth of it of their mean",
            {
                **group("optim", optimizer="adam", lr=1e-3, weight_decay=1e-4 / 4, label_smoothing=0.2),
                **group("optim", smoothing="others"),
                "data.batch_size": 32,
                "trainer.accumulate_grad_batches": 4,
                "seed": 2021,
            },
        ),
    ],
    "view_teacher/scanobjectnn": [
        STAGE_1,
        (
            "PointCMT, section 4.2: from scratch, batches of 32, 1,000 epochs; facts 5.6: SimpleView's "
            "network, fusion and smoothed loss; the rate is open: 0.01 along a cosine",
            {
                **group("teacher", image_model="simpleview", pretrained=False, pooling="fusion", width=512),
                **group("optim", epochs=1000, schedule="cosine", label_smoothing=0.2, smoothing="others"),
                **group("data", batch_size=32, source="scanobjectnn:data/ScanObjectNN?variant=pb-t50-rs"),
                **group("views", kind="projected", rig="simpleview-6", size=128),
            },
        ),
    ],
}
PARTS: Part = (
    "PointNet++'s part segmentation (train.py of its `part_seg`): 2,048 points, Adam 0.001, batches "
    "of 32, 201 epochs, times 0.7 every 200,000 shapes, 14 epochs of 14,007; not below 1e-5",
    {
        **group("optim", optimizer="adam", lr=1e-3, weight_decay=0.0, epochs=201, schedule="decay"),
        **group("optim", decay_factor=0.7, decay_epochs=14, final_lr=1e-5),
        **group("data", n_points=2048, batch_size=32, augmentation="scale-shift"),
        **group("model", kind="msg", use_category=True, restrict_to_category=True),
    },
)
RECIPES |= {"part_segmentation/shapenetpart": [PARTS], "part_segmentation/shapenetpart_pointcmt": [PARTS]}
