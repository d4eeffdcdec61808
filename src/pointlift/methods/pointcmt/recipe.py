"""`method: pointcmt` of a recipe: image network, point generator and student, one after the other (PointCMT, algorithm 1)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from pointlift.data.config import DataConfig
from pointlift.data.pictures.load import ViewConfig, load_views
from pointlift.data.training_clouds import CloudData, load_splits
from pointlift.methods.image2point import Image2Point
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt.baselines import KnowledgeDistillation, principal_directions
from pointlift.methods.pointcmt.generator import PointGenerator, load_generator
from pointlift.methods.pointcmt.generator_recipe import GeneratorConfig, train_generator
from pointlift.methods.pointcmt.guided_clouds import GuideClassifier, GuidedClouds, student_classifier
from pointlift.methods.pointcmt.guided_data import GuidedData, Guides, check_same_origin, guide_splits
from pointlift.methods.pointcmt.student import PointCMT
from pointlift.methods.pointcmt.teacher_recipe import fit_view_teacher
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.methods.training import FitResult, optimization, record_training
from pointlift.models.config import ModelConfig
from pointlift.runs.folder import RunFolder
from pointlift.runs.start import finished_result, recipe_of
from pointlift.system.distributed import process_rank, wait_for_others
from pointlift.teachers.files import TeacherConfig, build_teacher, open_teacher, teacher_identity
from pointlift.weights.network import build_network

__all__ = ["TransferConfig", "fit_pointcmt"]

Method = Literal["pointcmt", "none", "hinton", "huang", "yang", "mse", "normalize-1", "normalize-2"]


@dataclass(frozen=True)
class TransferConfig:
    """What the student learns from the image network.

    Attributes:
        method: "pointcmt"; "none", the same student and recipe without any teacher; or what PointCMT is compared with: "hinton", "huang",
            "yang", "mse", "normalize-1", "normalize-2" (see `pointlift.methods.pointcmt.baselines`).
        alpha, beta: pointcmt's weights of feature enhancement and classifier enhancement; 0 leaves one out, and with alpha 0 stage II.
        kl_reduction: of classifier enhancement over the batch: "mean", or "sum" as the released code (facts T38).
        temperature: hinton's. weight, label_weight: of the other methods' own term and of the cross entropy; null takes the method's.
        teacher_batch_size: objects per step of stage I; the paper's.
    """

    method: Method = "pointcmt"
    alpha: float = 30.0
    beta: float = 0.3
    kl_reduction: Literal["mean", "sum"] = "mean"
    temperature: float = 4.0
    weight: float | None = None
    label_weight: float | None = None
    teacher_batch_size: int = 128

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "weight", "label_weight"):
            if (value := getattr(self, name)) is not None and not 0 <= value < float("inf"):
                raise ValueError(f"transfer: {name} is {value}, expected a finite number of 0 or more.")
        if not 0 < self.temperature < float("inf") or self.teacher_batch_size < 2:
            raise ValueError(
                f"transfer: temperature is {self.temperature} and teacher_batch_size {self.teacher_batch_size}, expected a positive number "
                "and at least 2."
            )
        if self.method == "pointcmt" and self.alpha == 0 == self.beta:
            raise ValueError("transfer: alpha and beta are both 0, so that nothing is transferred: that is method none.")

    @property
    def generates(self) -> bool:
        """Whether there is a stage II."""
        return self.method == "pointcmt" and self.alpha > 0


_STUDENT = ModelConfig("pointnet2-ssg", pretrained=False, regime="scratch", options={"head": [512], "dropout": 0.0})
_TEACHER, _VIEWS, _DATA = TeacherConfig(), ViewConfig(), DataConfig(augmentation="scale-shift")
_TEACHER_OPTIM = OptimConfig(lr=0.01, epochs=50)
_GENERATOR, _TRANSFER, _TRAINER = GeneratorConfig(), TransferConfig(), TrainerConfig()
_GENERATOR_OPTIM = OptimConfig(optimizer="adam", lr=1e-3, weight_decay=0.0, epochs=50, schedule="constant")
_OPTIM = OptimConfig(
    optimizer="adam", lr=1e-3, weight_decay=0.0, epochs=200, schedule="decay", final_lr=1e-5, label_smoothing=0.2, smoothing="others"
)


@dataclass(frozen=True)
class _Stages:
    """What `fit_pointcmt` was given."""

    model: ModelConfig
    data: DataConfig
    views: ViewConfig
    teacher: TeacherConfig
    teacher_optim: OptimConfig
    generator: GeneratorConfig
    generator_optim: OptimConfig
    transfer: TransferConfig
    optim: OptimConfig
    trainer: TrainerConfig
    seed: int

    def recipe(self) -> dict[str, Any]:
        """Every group of settings as it stands in recipe.yaml. Raises ValueError for a seed below 0."""
        return recipe_of("pointcmt", **{f.name: getattr(self, f.name) for f in fields(self)})

    @property
    def devices(self) -> int:
        """Of all nodes together."""
        return self.trainer.devices * self.trainer.num_nodes


def fit_pointcmt(
    model: ModelConfig = _STUDENT,
    data: DataConfig = _DATA,
    views: ViewConfig = _VIEWS,
    teacher: TeacherConfig = _TEACHER,
    teacher_optim: OptimConfig = _TEACHER_OPTIM,
    generator: GeneratorConfig = _GENERATOR,
    generator_optim: OptimConfig = _GENERATOR_OPTIM,
    transfer: TransferConfig = _TRANSFER,
    optim: OptimConfig = _OPTIM,
    trainer: TrainerConfig = _TRAINER,
    seed: int = 0,
    out: str | Path = "runs/pointcmt",
    resume: bool = False,
) -> FitResult:
    """Train the image network (in out/teacher), the point generator (out/generator) and the student `model` (out itself).

    The image network's features of all clouds are made once, in out/features; renderings are kept in out/teacher/views or views.cache.
    `teacher.checkpoint` and `generator.checkpoint` take a finished network instead; what needs neither trains neither: transfer.method
    "none" is what `fit_image2point` does with the same settings, bit for bit. Every stage is what its own method (view_teacher,
    point_generator) makes of these settings and this seed. All see the same training clouds; where data.shots or data.share draws few of
    them, the image network learns from those few too.

    The metrics are the student's; teacher_val_accuracy and its like are the image network's. A run that was stopped anywhere goes on with
    `resume` and ends as if it had not been; finished stages are not repeated.

    Raises ValueError for parts that do not fit each other (widths, classes, pictures, clouds), RunFolderError for a folder that holds
    another run or none to resume, RunInterrupted after Ctrl-C, DivergenceError for a loss that is not a number in any stage, and what
    `fit_view_teacher`, `fit_point_generator` and `fit_image2point` raise.
    """
    run = _Stages(model, data, views, teacher, teacher_optim, generator, generator_optim, transfer, optim, trainer, seed)
    recipe, folder = run.recipe(), RunFolder(out)
    if (finished := finished_result(folder, recipe, resume, FitResult.read, ("teacher", "generator"))) is not None:
        return finished
    if transfer.method == "none":
        return _train_alone(run, folder, resume and folder.last.is_file())
    _try_networks(run)
    if not folder.recipe.is_file():
        load_views(views, data, seed)  # refuses data and pictures that do not fit, before anything is written
    if process_rank() == 0 and not folder.last.is_file():
        folder.start(recipe, {"recipe": recipe, "stage": "image network and point generator"})
    checkpoint = _stage_1(run, folder)
    renderings = folder.path / "views" if teacher.checkpoint is not None else folder.path / "teacher" / "views"  # stage I made some
    guides = guide_splits(checkpoint, teacher, views, data, trainer, seed, folder.path / "features", renderings)
    points = _stage_2(run, guides, folder) if transfer.generates else None
    return _stage_3(run, guides, points, folder, resume and folder.last.is_file())


def _try_networks(run: _Stages) -> None:
    """Whether the three networks fit each other is known before the image network has been trained for hours.

    Raises ValueError if not, and as `open_teacher` and `load_generator` for the files that are named.
    """
    student = student_classifier(
        build_network(replace(run.model, pretrained=False, weights=None, cloud_weights=None), 2, run.seed)
    ).in_features
    if run.teacher.checkpoint is not None:
        net, content = open_teacher(run.teacher.checkpoint, run.teacher)
        width, identity = net.embed_dim, str(content["identity"])
    else:
        untrained = replace(run.teacher, pretrained=False, weights=None, weights_part=None, weights_may_differ=None)
        width, identity = build_teacher(untrained, 2, run.views.size, run.seed).embed_dim, None
    if run.transfer.method == "pointcmt" and width != student:
        said = "whose own features these are" if run.teacher.width is None else f"teacher.width is {run.teacher.width}"
        raise ValueError(
            f"The student's feature has {student} channels and the image network's {width} ({said}), expected the same: set model.options "
            f"head: [{width}], or teacher.width {student}."
        )
    if run.transfer.method == "huang" and not 1 <= student // 2 <= width:
        raise ValueError(
            f"huang compresses the image network's feature of {width} channels to half the student's {student}, expected at least 2 and at "
            f"most {2 * width + 1} there: set model.options head, or a wider teacher.width."
        )
    if run.transfer.generates and run.generator.checkpoint is not None:
        _given_generator(run, run.generator.checkpoint, width, identity)


def _given_generator(run: _Stages, path: str, width: int, identity: str | None) -> PointGenerator:
    """The generator of a file. identity: of the image network, None for one that is yet to be trained.

    Raises ValueError for a generator that learned from another image network, or with another distance than stage III has.
    """
    net, facts = load_generator(path)
    if net.width != width:
        raise ValueError(
            f"generator.checkpoint: {path} takes features of {net.width} channels and the image network makes {width}: train it with this "
            "image network."
        )
    if identity is None:
        raise ValueError(
            f"generator.checkpoint: {path} is of use with the image network that it learned from only, but here a new one is trained: name "
            "that one as teacher.checkpoint, or leave generator.checkpoint out."
        )
    if facts.get("teacher_sha256") != identity:
        raise ValueError(
            f"generator.checkpoint: {path} learned from the features of another image network (checksum "
            f"{str(facts.get('teacher_sha256'))[:12]}, the one here has {identity[:12]}): name that one as teacher.checkpoint, or "
            "train the generator with this one."
        )
    there, here = facts.get("protocol", {}).get("point_generator", {}).get("distance", {}), asdict(run.generator.distance())
    odd = [name for name in ("box", "reduction") if there.get(name, here[name]) != here[name]]
    if odd:
        raise ValueError(
            f"generator.checkpoint: {path} was trained with generator.{odd[0]} {there[odd[0]]!r} and here it is {here[odd[0]]!r}, expected "
            "the same distance in both stages: set it as it was, or train another generator."
        )
    return net


def _train_alone(run: _Stages, folder: RunFolder, resume: bool) -> FitResult:
    """The student without a teacher."""
    clouds = CloudData(load_splits(run.data, run.seed), run.data, run.model.in_channels, run.seed, run.devices)
    classes = len(clouds.splits.train.classes)
    net = build_network(run.model, classes, run.seed)
    module = Image2Point(net, classes, run.model.regime, run.data.voxel_size, seed=run.seed, **optimization(run.optim, run.trainer, clouds))
    facts = {"pointcmt": {"method": "none"}}
    return record_training(module, clouds, folder, run.recipe(), run.model, run.optim, run.trainer, resume, facts)


def _stage_1(run: _Stages, folder: RunFolder) -> Path:
    """The image network's file, trained here as far as it is not yet; whether the run may go on has been checked."""
    if run.teacher.checkpoint is not None:
        return Path(run.teacher.checkpoint)
    stage = RunFolder(folder.path / "teacher")
    if stage.result.is_file() and process_rank() > 0:  # a process that was launched for a later stage only
        return stage.final
    going_on = stage.result.is_file() or stage.last.is_file()
    data = replace(run.data, batch_size=run.transfer.teacher_batch_size, features="xyz")
    result = fit_view_teacher(run.teacher, run.views, data, run.teacher_optim, run.trainer, run.seed, stage.path, going_on)
    wait_for_others()
    return result.checkpoint


def _stage_2(run: _Stages, guides: Guides, folder: RunFolder) -> PointGenerator:
    """The generator, loaded or trained here as far as it is not yet."""
    given = run.generator.checkpoint
    if given is None:
        path = train_generator(
            guides, run.generator, run.teacher, run.views, run.data, run.generator_optim, run.trainer, run.seed, folder.path / "generator"
        )
        return load_generator(path)[0]
    return _given_generator(run, given, guides.width, guides.identity)


def _stage_3(run: _Stages, guides: Guides, generator: PointGenerator | None, folder: RunFolder, resume: bool) -> FitResult:
    clouds = GuidedData(guides.splits, run.data, run.model.in_channels, run.seed, run.devices)
    classes = len(guides.splits.train.classes)
    net = build_network(run.model, classes, run.seed)
    module = _student(run, net, classes, guides, generator, optimization(run.optim, run.trainer, clouds))
    identities = {"teacher_sha256": guides.identity}
    if generator is not None:
        identities["generator_sha256"] = teacher_identity(generator)
    if resume and process_rank() == 0:
        check_same_origin(folder, "pointcmt", identities)
    drawing = {} if generator is None else {"generator": generator.arguments}  # of generator.checkpoint, whatever the recipe says
    known = {**identities, **drawing, "teacher": guides.path.name, "feature_channels": guides.width}
    facts = {"pointcmt": {**asdict(run.transfer), **known}}
    judge = {"teacher": GuideClassifier(guides.classifier, classes)}
    return record_training(module, clouds, folder, run.recipe(), run.model, run.optim, run.trainer, resume, facts, judge)


def _student(
    run: _Stages, net: nn.Module, classes: int, guides: Guides, generator: PointGenerator | None, options: dict[str, Any]
) -> Image2Point:
    """The method of stage III around the student."""
    transfer, regime = run.transfer, run.model.regime
    shared: dict[str, Any] = {"voxel_size": run.data.voxel_size, "seed": run.seed, **options}
    if transfer.method == "pointcmt":
        weights: dict[str, Any] = {"alpha": transfer.alpha, "beta": transfer.beta, "kl_reduction": transfer.kl_reduction}
        return PointCMT(net, classes, guides.width, generator, regime, distance=run.generator.distance(), **weights, **shared)
    assert transfer.method != "none"
    principal = None
    if transfer.method == "huang":
        assert isinstance(guides.splits.train, GuidedClouds)
        principal = principal_directions(guides.splits.train.features, student_classifier(net).in_features // 2)
    weights = {"temperature": transfer.temperature, "weight": transfer.weight, "label_weight": transfer.label_weight}
    return KnowledgeDistillation(net, classes, guides.width, transfer.method, guides.classifier, principal, regime, **weights, **shared)
