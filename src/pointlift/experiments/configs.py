"""What a training run is made of. A recipe's YAML is these dataclasses, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pointlift.methods.image2point import Optimizer, Schedule, Smoothing

__all__ = ["DataConfig", "ModelConfig", "OptimConfig", "TrainerConfig"]


@dataclass(frozen=True)
class ModelConfig:
    """The network: which image model, with which weights, inflated how, and what of it learns.

    Attributes:
        image_model: a timm name, "torchvision:NAME", "fractal_resnet" (embedded weights), "path/to/net.py:function" (your own), or a
            network of clouds by its name: "pointnet2-ssg", "pointnet2-msg", "simpleview", "linear-network".
        image_options: keyword arguments of the image model's constructor, e.g. {layers: [1, 1, 1, 1]} for timm's ResNets.
        network: what becomes of the image model: "inflated", "point-vit" (vision transformers), "simpleview", or "auto", which lifts
            vision transformers to point-vit and inflates everything else.
        options: keyword arguments of a network that is not inflated, e.g. {npoint: [256, 64]}.
        pretrained: start from the weights that belong to the name; a function of your own decides that itself.
        weights: a file of image weights (.safetensors .pth .pt .th .t7) to load instead.
        weights_scheme: whose names the file uses ("moco", "csail", ...; docs/own_models.md lists them); "auto" recognises them.
        weights_part: which network of a file with several, e.g. "state_dict" beside "state_dict_ema"; null takes the one to evaluate.
        weights_may_differ: modules of the image model that `weights` may lack or hold in another shape, e.g. ["fc"].
        cloud_weights: a file of weights of the whole network to start from: a checkpoint of pointlift's, whose input and output layers
            may differ, or PointContrast's. The regime scratch does not look at it.
        cloud_weights_order: of the kernels in PointContrast's file: "geometric" (every matrix at its offset) or "released" (as
            Image2Point's released code loads them, scrambled; facts T8).
        rule: a name, or a matrix T as a list of its K*K rows; this, axis, stem, head, shortcut_kernel, load_stages and start: see
            `pointlift.inflate`.
        in_channels: channels per point; must be what `data.features` delivers.
        regime: io, io+stats, io+bn, all or scratch; see `pointlift.set_finetune`.
    """

    image_model: str = "fractal_resnet"
    image_options: dict[str, Any] | None = None
    network: str = "auto"
    options: dict[str, Any] | None = None
    pretrained: bool = True
    weights: str | None = None
    weights_scheme: str = "auto"
    weights_part: str | None = None
    weights_may_differ: list[str] | None = None
    cloud_weights: str | None = None
    cloud_weights_order: str = "geometric"
    rule: str | list[list[float]] = "repeat"
    axis: str = "z"
    stem: str = "linear"
    head: str = "linear-bn"
    shortcut_kernel: int = 1
    load_stages: list[int] | None = None
    start: str = "default"
    in_channels: int = 3
    regime: str = "all"


@dataclass(frozen=True)
class DataConfig:
    """The clouds, and what becomes of them before the network sees them.

    Attributes:
        source: "procedural:shapes" (embedded), "modelnet:FOLDER" (ModelNet's h5, txt or off layout), "folder:FOLDER" (class/cloud.ply
            or split/class/cloud.ply), "meshes:FOLDER" (the same of meshes, which may also be rendered), "scanobjectnn:FOLDER?variant=...",
            "shapenetpart:FOLDER", "pixels:IMAGES" (pictures as clouds of their pixels, see docs/pixel_clouds.md) or a plain folder, whose
            kind is detected.
        n_points: at most so many points of a cloud, random ones in training, the first ones in evaluation; null keeps all.
        fps_points, read_points: both or neither (null). In training, read_points points of a cloud are read or sampled from its mesh,
            farthest point sampling from a random one on thins them to fps_points, and the random n_points are drawn from these: RS-CNN
            has 1200 of 2048 (facts 5.4). A cloud with fewer points keeps what it has.
        normalise: "unit-sphere" (centroid to the origin, farthest point to distance 1) or "none".
        features: "xyz" (the paper), "own" (those of the files) or "xyz+own".
        voxel_size: edge of a voxel, in the units of the clouds after normalisation.
        shots, share: train on so many clouds of every class, or on a share (0-1) of every class; null uses all.
        split_seed: of these draws and of val_fraction; null takes the run's seed.
        val_fraction: hold out so much of every training class to choose epochs by, and look at the test split once, at the end; null
            evaluates on the test split after every epoch, as the paper does.
        augment: change the training clouds at random, as `augmentation` says.
        augmentation: "image2point" (its ModelNet augmentation: shuffle, scale, shift, jitter) or "scale-shift" (every axis times
            2/3-3/2, plus up to 0.2, shuffled: PointCMT, DGCNN, RS-CNN, PointMLP; facts 4.2).
        batch_size: clouds per step, over all devices together.
        in_memory: read every file once and keep it; false reads it whenever it is used, for data larger than memory.
        num_workers: processes that read and augment, per device; results do not depend on it.
        train_per_class, test_per_class, shapes_seed: size and seed of the embedded shapes.
        classes: which of the embedded shapes' classes, in label order; null takes all.
    """

    source: str = "procedural:shapes"
    n_points: int | None = 1024
    normalise: Literal["unit-sphere", "none"] = "unit-sphere"
    features: Literal["xyz", "own", "xyz+own"] = "xyz"
    voxel_size: float = 0.05
    shots: int | None = None
    share: float | None = None
    split_seed: int | None = None
    val_fraction: float | None = None
    augment: bool = True
    augmentation: Literal["image2point", "scale-shift"] = "image2point"
    batch_size: int = 32
    in_memory: bool = True
    num_workers: int = 0
    train_per_class: int = 64
    test_per_class: int = 32
    shapes_seed: int = 0
    classes: list[str] | None = None
    fps_points: int | None = None
    read_points: int | None = None

    def __post_init__(self) -> None:
        if self.shots is not None and self.share is not None:
            raise ValueError("data: shots and share are both given, expected at most one of them.")
        if self.batch_size < 2:
            raise ValueError(f"data: batch_size is {self.batch_size}, expected at least 2 (batch normalisation needs more than one cloud).")
        if self.n_points is not None and self.n_points < 1:
            raise ValueError(f"data: n_points is {self.n_points}, expected at least 1, or null for all points.")
        chosen, read = self.fps_points, self.read_points
        if (chosen, read) != (None, None) and not 0 < (self.n_points or 0) <= (chosen or 0) <= (read or 0):
            raise ValueError(
                f"data: n_points is {self.n_points}, fps_points {chosen} and read_points {read}, expected all three with n_points <= "
                "fps_points <= read_points, or null for the last two."
            )
        if not self.voxel_size > 0:
            raise ValueError(f"data: voxel_size is {self.voxel_size}, expected a positive number in the units of the clouds.")
        if self.num_workers < 0:
            raise ValueError(f"data: num_workers is {self.num_workers}, expected 0 or more.")


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its schedule; the defaults are the paper's for ModelNet (v2, appendix A).

    Attributes:
        optimizer: "sgd" (without Nesterov), "adam" (weight decay added to the gradient) or "adamw" (weight decay apart from it).
        lr, weight_decay: of the optimizer. momentum: of SGD; Adam's are 0.9 and 0.999.
        epochs: length of the run; the cosine ends with it.
        schedule: "cosine" (over the whole run, ending at final_lr), "step" (a tenth after a third of the run, a hundredth after two),
            "decay" (times decay_factor after every decay_epochs epochs, not below final_lr; RS-CNN's, facts 5.4), "plateau" (half after
            every 10 epochs without a lower training loss, down to 1e-5; SimpleView's protocol, facts 5.6), "released" (the released
            code's oscillation, facts T1) or "constant".
        bn_momentum: share of the newest batch in the statistics of batch normalisation; null leaves the network's own, mostly 0.1.
        bn_decay, bn_floor: what bn_momentum is multiplied by after every decay_epochs epochs, and where it stops (RS-CNN's: 0.9, 0.5 and
            0.01, facts 5.4); null for a constant.
        label_smoothing: 0 in the paper. smoothing: who shares it, "all" classes or the "others" than the true one (facts T45).
    """

    optimizer: Optimizer = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    epochs: int = 300
    schedule: Schedule = "cosine"
    label_smoothing: float = 0.0
    smoothing: Smoothing = "all"
    final_lr: float = 0.0
    decay_factor: float = 0.7
    decay_epochs: int = 21
    bn_momentum: float | None = None
    bn_decay: float | None = None
    bn_floor: float | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"optim: epochs is {self.epochs}, expected at least 1.")


@dataclass(frozen=True)
class TrainerConfig:
    """How Lightning runs it; see the Lightning documentation for accelerator, devices, strategy, num_nodes and precision.

    Attributes:
        accumulate_grad_batches: batches per optimizer step, each of `data.batch_size` clouds.
        early_stop_patience: stop after so many epochs without a better `early_stop_metric` (losses: lower is better); null never.
        evaluate_every: evaluate after every so many epochs, and after the last.
        max_steps: stop after so many optimizer steps; -1 never. A cosine then ends there.
        gradient_clip_val: largest norm of the gradient; null does not clip.
        deterministic: only deterministic algorithms, bit for bit repeatable.
        checkpoint_every_n_steps: write last.ckpt also within epochs; null after every epoch only.
        wandb: also log to Weights & Biases (extra pointlift[wandb]).
    """

    devices: int = 1
    accelerator: str = "auto"
    strategy: str = "auto"
    num_nodes: int = 1
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    accumulate_grad_batches: int = 1
    early_stop_patience: int | None = None
    early_stop_metric: Literal["val_accuracy", "val_class_accuracy", "val_loss", "train_loss"] = "val_accuracy"
    evaluate_every: int = 1
    max_steps: int = -1
    gradient_clip_val: float | None = None
    deterministic: bool = False
    checkpoint_every_n_steps: int | None = None
    log_every_n_steps: int = 50
    enable_progress_bar: bool = True
    wandb: bool = False

    def __post_init__(self) -> None:
        for name in ("devices", "num_nodes", "accumulate_grad_batches", "log_every_n_steps", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"trainer: {name} is {getattr(self, name)}, expected at least 1.")
        for name in ("early_stop_patience", "checkpoint_every_n_steps"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"trainer: {name} is {value}, expected at least 1, or null.")
        if self.max_steps < -1 or self.max_steps == 0:
            raise ValueError(f"trainer: max_steps is {self.max_steps}, expected at least 1, or -1 for no limit.")
