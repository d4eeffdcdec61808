"""The numbers of the recipes that are pointlift's own (toys, demos, small data), which no paper has: what the
results in README and docs were made with. See `recipe_values.py`.
"""

from __future__ import annotations

from recipe_values import Part, Values

__all__ = ["OWN_RECIPES"]

_VALUES: dict[str, dict[str, Values]] = {
    "distillation/demo": {
        "model": {"image_model": "fractal_resnet", "pretrained": True, "regime": "scratch"},
        "teacher": {"image_model": "fractal_resnet", "pretrained": True, "regime": "all"},
        "data": {"n_points": 512, "voxel_size": 0.1, "shots": 3, "batch_size": 16,
            "train_per_class": 20, "test_per_class": 10},
        "optim": {"lr": 0.1, "epochs": 30, "schedule": "cosine"},
        "teacher_optim": {"lr": 0.1, "epochs": 60, "schedule": "cosine"},
        "distill": {"consistency_weight": 1.0, "label_weight": 1.0, "teacher_sees": "augmented"},
    },
    "distillation/toy": {
        "model": {"image_model": "fractal_resnet", "pretrained": False, "regime": "scratch"},
        "teacher": {"image_model": "fractal_resnet", "pretrained": True, "regime": "all"},
        "data": {"n_points": 256, "voxel_size": 0.15, "shots": 3, "batch_size": 8,
            "train_per_class": 8, "test_per_class": 6, "classes": ["aeroplane", "bottle", "chair",
            "lamp", "table"]},
        "optim": {"lr": 0.1, "epochs": 3, "schedule": "cosine"},
        "teacher_optim": {"lr": 0.1, "epochs": 3, "schedule": "cosine"},
        "distill": {"consistency_weight": 1.0, "label_weight": 1.0, "teacher_sees": "augmented"},
    },
    "image2point/demo": {
        "model": {"image_model": "fractal_resnet", "pretrained": True, "regime": "io+bn"},
        "data": {"n_points": 512, "voxel_size": 0.1, "shots": 10, "batch_size": 16,
            "train_per_class": 10, "test_per_class": 20},
        "optim": {"lr": 0.1, "epochs": 30, "schedule": "cosine"},
    },
    "image2point/modelnet10": {
        "model": {"image_model": "fractal_resnet", "pretrained": True, "regime": "all"},
        "data": {"n_points": 1024, "voxel_size": 0.1, "shots": 10, "batch_size": 32},
        "optim": {"lr": 0.1, "epochs": 40, "schedule": "cosine"},
    },
    "image2point/toy": {
        "model": {"image_model": "fractal_resnet", "pretrained": True, "regime": "all"},
        "data": {"n_points": 256, "voxel_size": 0.15, "batch_size": 8, "train_per_class": 8,
            "test_per_class": 6, "classes": ["aeroplane", "bottle", "chair", "lamp", "table"]},
        "optim": {"lr": 0.1, "epochs": 3, "schedule": "cosine"},
    },
    "image2point/your_own_folder": {
        "model": {"image_model": "fractal_resnet", "pretrained": True, "regime": "all"},
        "data": {"n_points": 2048, "batch_size": 16},
        "optim": {"lr": 0.05, "epochs": 60, "schedule": "cosine"},
    },
    "part_segmentation/toy": {
        "model": {"kind": "ssg", "options.npoint": [64, 16], "options.radii": [0.3, 0.6],
            "options.nsample": [16, 16], "options.mlps": [[16, 32], [32, 64]],
            "options.global_mlp": [64, 128], "options.propagation": [[64], [64], [64, 32]],
            "options.head": [32], "options.dropout": 0.0, "use_category": True,
            "restrict_to_category": True},
        "data": {"n_points": 256, "augmentation": "scale-shift", "batch_size": 8,
            "train_per_class": 16, "test_per_class": 8, "classes": ["aeroplane", "chair", "lamp",
            "mug", "table"]},
        "optim": {"optimizer": "adam", "lr": 0.005, "epochs": 12, "schedule": "cosine"},
    },
    "point_generator/demo": {
        "generator": {"hidden": [256, 256], "n_points": 128, "batch_size": 16},
        "teacher": {"image_model": "torchvision:resnet18", "pretrained": True},
        "views": {"kind": "projected", "size": 48, "augment": True},
        "data": {"n_points": 512, "share": 0.25, "augmentation": "scale-shift", "batch_size": 16,
            "train_per_class": 40, "test_per_class": 15},
        "optim": {"optimizer": "adam", "lr": 0.001, "weight_decay": 0.0, "epochs": 25, "schedule":
            "constant"},
    },
    "pointcmt/demo": {
        "model": {"image_model": "pointnet2-ssg", "options.npoint": [96, 24], "options.radii":
            [0.3, 0.6], "options.nsample": [16, 16], "options.mlps": [[32, 64], [64, 128]],
            "options.global_mlp": [128, 256], "options.head": [128], "options.dropout": 0.0,
            "pretrained": False, "regime": "scratch"},
        "data": {"n_points": 512, "share": 0.25, "augmentation": "scale-shift", "batch_size": 16,
            "train_per_class": 40, "test_per_class": 15},
        "views": {"kind": "projected", "size": 32, "shade": "closeness"},
        "teacher": {"image_model": "fractal_resnet", "pretrained": True, "width": 128},
        "teacher_optim": {"lr": 0.02, "weight_decay": 0.0005, "epochs": 20, "schedule": "cosine"},
        "generator": {"hidden": [256, 256], "n_points": 128, "batch_size": 16},
        "generator_optim": {"optimizer": "adam", "lr": 0.001, "weight_decay": 0.0, "epochs": 20,
            "schedule": "constant"},
        "transfer": {"teacher_batch_size": 16},
        "optim": {"optimizer": "adam", "lr": 0.002, "weight_decay": 0.0, "epochs": 40, "schedule":
            "cosine", "label_smoothing": 0.2, "smoothing": "others", "final_lr": 1e-05},
    },
    "pointcmt/modelnet10": {
        "model": {"image_model": "pointnet2-ssg", "options.npoint": [128, 32], "options.radii":
            [0.25, 0.5], "options.nsample": [16, 16], "options.mlps": [[32, 32, 64], [64, 64,
            128]], "options.global_mlp": [128, 256, 512], "options.head": [512],
            "options.dropout": 0.0, "pretrained": False, "regime": "scratch"},
        "data": {"n_points": 512, "share": 0.1, "augmentation": "scale-shift", "batch_size": 16},
        "views": {"kind": "projected", "size": 32, "splat": 2, "shade": "closeness", "augment":
            True},
        "teacher": {"image_model": "data/models2d/resnet20_cifar.py:ResNetCifar", "pretrained":
            True, "width": 512},
        "teacher_optim": {"lr": 0.05, "epochs": 15, "schedule": "cosine"},
        "generator": {"hidden": [512, 512], "n_points": 128, "batch_size": 16},
        "generator_optim": {"optimizer": "adam", "lr": 0.001, "weight_decay": 0.0, "epochs": 20,
            "schedule": "constant"},
        "transfer": {"teacher_batch_size": 16},
        "optim": {"optimizer": "adam", "lr": 0.001, "weight_decay": 0.0, "epochs": 30, "schedule":
            "cosine", "label_smoothing": 0.2, "smoothing": "others", "final_lr": 1e-05},
    },
    "pointcmt/toy": {
        "model": {"image_model": "pointnet2-ssg", "options.npoint": [32, 16], "options.radii":
            [0.3, 0.6], "options.nsample": [8, 8], "options.mlps": [[16, 32], [32, 64]],
            "options.global_mlp": [64, 128], "options.head": [64], "options.dropout": 0.0,
            "pretrained": False, "regime": "scratch"},
        "data": {"n_points": 128, "augmentation": "scale-shift", "batch_size": 8,
            "train_per_class": 8, "test_per_class": 6, "classes": ["aeroplane", "bottle", "chair",
            "lamp", "table"]},
        "views": {"kind": "projected", "size": 32},
        "teacher": {"image_model": "simpleview", "image_options.width": 8, "pretrained": False,
            "width": 64},
        "teacher_optim": {"lr": 0.05, "epochs": 4, "schedule": "cosine"},
        "generator": {"hidden": [128, 128], "n_points": 64, "batch_size": 8},
        "generator_optim": {"optimizer": "adam", "lr": 0.001, "weight_decay": 0.0, "epochs": 3,
            "schedule": "constant"},
        "transfer": {"teacher_batch_size": 8},
        "optim": {"optimizer": "adam", "lr": 0.002, "weight_decay": 0.0, "epochs": 4, "schedule":
            "cosine", "label_smoothing": 0.2, "smoothing": "others", "final_lr": 1e-05},
    },
    "pointcmt/your_own_folder": {
        "model": {"image_model": "pointnet2-ssg", "options.npoint": [128, 32], "options.radii":
            [0.25, 0.5], "options.nsample": [16, 16], "options.mlps": [[32, 64], [64, 128]],
            "options.global_mlp": [128, 256], "options.head": [128], "options.dropout": 0.0,
            "pretrained": False, "regime": "scratch"},
        "data": {"n_points": 1024, "augmentation": "scale-shift", "batch_size": 16},
        "views": {"kind": "auto", "size": 48, "splat": 2, "shade": "closeness"},
        "teacher": {"image_model": "fractal_resnet", "pretrained": True, "width": 128},
        "teacher_optim": {"lr": 0.02, "weight_decay": 0.0005, "epochs": 20, "schedule": "cosine"},
        "generator": {"hidden": [256, 256], "n_points": 128, "batch_size": 16},
        "generator_optim": {"optimizer": "adam", "lr": 0.001, "weight_decay": 0.0, "epochs": 20,
            "schedule": "constant"},
        "transfer": {"teacher_batch_size": 16, "compare": True},
        "optim": {"optimizer": "adam", "lr": 0.002, "weight_decay": 0.0, "epochs": 60, "schedule":
            "cosine", "label_smoothing": 0.2, "smoothing": "others", "final_lr": 1e-05},
    },
    "pretrain/fractal": {
        "model": {"name": "fractal_resnet", "num_classes": 60, "half": False},
        "data": {"categories": 60, "instances_per_class": 500, "image_size": 48, "seed": 1,
            "val_instances": 50},
        "views": {"train": "resized-crop", "size": 224, "flip": "horizontal", "resize": 256,
            "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        "optim": {"lr": 0.05, "epochs": 6, "batch_size": 64, "schedule": "cosine"},
        "trainer": {"precision": "bf16-mixed"},
        "": {"seed": 1},
    },
    "pretrain/pointnet2_toy": {
        "model": {"image_model": "pointnet2-ssg", "options.npoint": [64, 16], "options.radii": [3,
            6], "options.nsample": [16, 16], "pretrained": False, "in_channels": 6, "regime":
            "scratch"},
        "data": {"source": "pixels:procedural:fractals?categories=6&size=24&train=16&val=8",
            "n_points": None, "normalise": "none", "features": "xyz+own", "augment": False,
            "batch_size": 16},
        "optim": {"optimizer": "adam", "lr": 0.001, "weight_decay": 0.0, "epochs": 6, "schedule":
            "constant"},
    },
    "pretrain/toy": {
        "model": {"name": "resnet18", "num_classes": None, "options.layers": [1, 1, 1, 1],
            "options.channels": [8, 16, 32, 64], "half": False},
        "data": {"categories": 8, "instances_per_class": 24, "image_size": 32, "seed": 1,
            "val_instances": 4},
        "views": {"train": "resized-crop", "size": 224, "flip": "horizontal", "resize": 256,
            "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        "optim": {"lr": 0.05, "epochs": 2, "batch_size": 32, "schedule": "cosine"},
    },
    "view_teacher/modelnet10": {
        "teacher": {"image_model": "data/models2d/resnet20_cifar.py:ResNetCifar", "pretrained":
            True, "width": 512},
        "views": {"kind": "projected", "size": 32, "splat": 2, "shade": "closeness", "augment":
            True},
        "data": {"n_points": 512, "share": 0.1, "augmentation": "scale-shift", "batch_size": 16},
        "optim": {"lr": 0.05, "epochs": 10, "schedule": "cosine"},
    },
    "view_teacher/toy": {
        "teacher": {"image_model": "fractal_resnet", "pretrained": True},
        "views": {"kind": "projected", "size": 32, "splat": 2, "shade": "closeness"},
        "data": {"n_points": 256, "batch_size": 8, "train_per_class": 8, "test_per_class": 6,
            "classes": ["aeroplane", "bottle", "chair", "lamp", "table"]},
        "optim": {"lr": 0.02, "epochs": 4, "schedule": "cosine"},
    },
}  # fmt: skip
OWN_RECIPES: dict[str, list[Part]] = {
    name: [("ours", {f"{group}.{key}".lstrip("."): value for group, values in groups.items()
                     for key, value in values.items()})]
    for name, groups in _VALUES.items()
}  # fmt: skip
