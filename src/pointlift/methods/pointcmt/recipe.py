"""`method: pointcmt` of a recipe: image network, point generator and student,
one after the other (PointCMT, algorithm 1).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from pointlift.data.config import DataConfig
from pointlift.data.pictures.config import ViewConfig
from pointlift.data.pictures.load import load_views
from pointlift.data.training_clouds import load_splits
from pointlift.methods.base import Experiment, Place, Training
from pointlift.methods.classification import Classification
from pointlift.methods.cloud_classifiers import CloudClassifier, classifier_training
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt.baselines import KnowledgeDistillation
from pointlift.methods.pointcmt.generator import PointGenerator, load_generator
from pointlift.methods.pointcmt.generator_recipe import GENERATOR_OPTIM, GeneratorConfig, PointGeneration
from pointlift.methods.pointcmt.inheritance import FeatureCode, fit_feature_code
from pointlift.methods.pointcmt.student import PointCMTStudent, TransferConfig
from pointlift.methods.pointcmt.taught_clouds import TaughtClouds, Teaching, teach, teacher_file
from pointlift.methods.pointcmt.taught_student import TeacherJudgement, student_classifier
from pointlift.methods.pointcmt.teacher import TEACHER_OPTIM, ViewTeacher
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.teachers.files import TeacherConfig, build_teacher, open_teacher, teacher_identity
from pointlift.weights.network import build_network

__all__ = ["PointCMT", "TransferConfig"]


@dataclass(frozen=True)
class PointCMT(CloudClassifier):
    """Train the image network (in out/teacher), the point generator (out/generator) and the student `model`
    (out itself).

    The image network's features of all clouds are made once, in out/features; renderings are kept in
    out/teacher/views or views.cache. `teacher.checkpoint` and `generator.checkpoint` take a finished network
    instead; what needs neither trains neither: transfer.method "none" is what `Image2Point` does with the
    same settings, bit for bit. Every stage is what its own method (view_teacher, point_generator) makes of
    these settings and this seed. All see the same training clouds; where data.shots or data.share draws few
    of them, the image network learns from those few too.

    The metrics are the student's; teacher_val_accuracy and its like are the image network's. Raises
    ValueError for parts that do not fit each other (widths, classes, pictures, clouds).
    """

    method: ClassVar[str] = "pointcmt"
    out: ClassVar[str] = "runs/pointcmt"

    model: ModelConfig = ModelConfig(
        "pointnet2-ssg", pretrained=False, regime="scratch", options={"head": [512]}
    )
    data: DataConfig = DataConfig(augmentation="scale-shift")
    views: ViewConfig = ViewConfig()
    teacher: TeacherConfig = TeacherConfig()
    teacher_optim: OptimConfig = TEACHER_OPTIM
    generator: GeneratorConfig = GeneratorConfig()
    generator_optim: OptimConfig = GENERATOR_OPTIM
    transfer: TransferConfig = TransferConfig()
    optim: OptimConfig = OptimConfig(
        optimizer="adam",
        lr=1e-3,
        weight_decay=0.0,
        epochs=200,
        schedule="decay",
        final_lr=1e-5,
        label_smoothing=0.2,
        smoothing="others",
    )
    trainer: TrainerConfig = TrainerConfig()
    seed: int = 0

    @property
    def taught(self) -> bool:
        """Whether an image network plays a part."""
        return self.transfer.method != "none"

    def check(self, place: Place) -> None:
        """The three networks, the data and the pictures are tried on each other before the first is trained
        for hours.
        """
        if not self.taught:
            return
        _try_networks(self)
        if not (place.folder / "recipe.yaml").is_file():
            load_views(self.views, self.data, self.seed)

    def stages(self) -> dict[str, Experiment]:
        """Stage I and stage II, where they are not given."""
        found: dict[str, Experiment] = {}
        if self.taught and self.teacher.checkpoint is None:
            data = replace(self.data, batch_size=self.transfer.teacher_batch_size, features="xyz")
            found["teacher"] = ViewTeacher(
                self.teacher, self.views, data, self.teacher_optim, self.trainer, self.seed
            )
        if self.transfer.generates and self.generator.checkpoint is None:
            settings = (
                self.generator,
                self.teacher,
                self.views,
                self.data,
                self.generator_optim,
                self.trainer,
                self.seed,
            )
            found["generator"] = PointGeneration(*settings)
        return found

    def origins(self, place: Place) -> dict[str, str]:
        if not self.taught:
            return {}
        _, content = open_teacher(teacher_file(self.teacher, place), self.teacher)
        found = {"teacher_sha256": str(content["identity"])}
        if self.transfer.generates:
            found["generator_sha256"] = teacher_identity(load_generator(self._generator_file(place))[0])
        return found

    def build(self, place: Place) -> Training:
        """Stage III."""
        if not self.taught:
            return self._alone()
        teaching = teach(self.teacher, self.views, self.data, self.trainer, self.seed, place)
        generator = self._generator(place, teaching) if self.transfer.generates else None
        clouds, net, settings = self.student(teaching.splits, self.seed)
        classes = len(teaching.splits.train.classes)
        code = self._code(teaching, net) if self.transfer.method == "huang" else None
        module = self._taught(net, classes, teaching, code if generator is None else generator, settings)
        # the generator's shape is that of generator.checkpoint, whatever the recipe says
        parts = {} if generator is None else {"generator": generator.arguments}
        if code is not None:
            parts["code"] = {"width": code.code, "variance_restored": code.explained}
        told = {
            **asdict(self.transfer),
            **parts,
            "teacher": teaching.path.name,
            "feature_channels": teaching.width,
        }
        judge = {"teacher": TeacherJudgement(teaching.classifier, classes)}
        return classifier_training(module, clouds, self.model, self.optim, {"pointcmt": told}, judge)

    def opening(self, out: Path) -> str:
        """What is trained and where, before the lines that every stage prints."""
        said = [f"student ({self.transfer.method}) in {out}"]
        if self.transfer.generates:
            given = self.generator.checkpoint
            said.insert(
                0,
                f"point generator in {out / 'generator'}"
                if given is None
                else f"point generator from {given}",
            )
        if self.taught:
            given = self.teacher.checkpoint
            said.insert(
                0, f"image network in {out / 'teacher'}" if given is None else f"image network from {given}"
            )
        return "one after the other: " + ", ".join(said) if len(said) > 1 else said[0]

    def _alone(self) -> Training:
        """The student without a teacher."""
        splits = load_splits(self.data, self.seed)
        clouds, net, settings = self.student(splits, self.seed)
        module = Classification(net, len(splits.train.classes), **settings)
        return classifier_training(module, clouds, self.model, self.optim, {"pointcmt": {"method": "none"}})

    def _generator_file(self, place: Place) -> Path:
        given = self.generator.checkpoint
        return place.stages["generator"] if given is None else Path(given)

    def _generator(self, place: Place, teaching: Teaching) -> PointGenerator:
        given = self.generator.checkpoint
        if given is not None:
            return _given_generator(self, given, teaching.width, teaching.identity)
        return load_generator(self._generator_file(place))[0]

    def _code(self, teaching: Teaching, net: nn.Module) -> FeatureCode:
        """huang's auto-encoder of the image network's features of the training clouds."""
        assert isinstance(teaching.splits.train, TaughtClouds)
        half = student_classifier(net).in_features // 2
        return fit_feature_code(teaching.splits.train.features, half, self.seed)

    def _taught(
        self,
        net: nn.Module,
        classes: int,
        teaching: Teaching,
        part: PointGenerator | FeatureCode | None,
        settings: dict[str, Any],
    ) -> Classification:
        """The method of stage III around the student. part: what else it needs, PointCMT's or huang's."""
        if self.transfer.method == "pointcmt":
            assert not isinstance(part, FeatureCode)
            distance = self.generator.distance()
            return PointCMTStudent(net, classes, teaching.width, part, self.transfer, distance, **settings)
        assert not isinstance(part, PointGenerator)
        return KnowledgeDistillation(
            net, classes, teaching.width, self.transfer, teaching.classifier, part, **settings
        )


def _try_networks(run: PointCMT) -> None:
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
        untrained = replace(
            run.teacher,
            pretrained=False,
            weights=None,
            weights_part=None,
            weights_rename=None,
            weights_may_differ=None,
        )
        tried = build_teacher(untrained, 2, run.views.size, run.seed, views=1)
        width, identity = tried.embed_dim, None
    if run.transfer.method == "pointcmt" and width != student:
        said = (
            "whose own features these are"
            if run.teacher.width is None
            else f"teacher.width is {run.teacher.width}"
        )
        raise ValueError(
            f"The student's feature has {student} channels and the image network's {width} ({said}), "
            f"expected the same: set model.options head: [{width}], or teacher.width {student}."
        )
    if run.transfer.method == "huang" and not 1 <= student // 2 <= width:
        raise ValueError(
            f"huang compresses the image network's feature of {width} channels to half the student's "
            f"{student}, expected at least 2 and at most {2 * width + 1} there: set model.options head, "
            "or a wider teacher.width."
        )
    if run.transfer.generates and run.generator.checkpoint is not None:
        _given_generator(run, run.generator.checkpoint, width, identity)


def _given_generator(run: PointCMT, path: str, width: int, identity: str | None) -> PointGenerator:
    """The generator of a file. identity: of the image network, None for one that is yet to be trained.

    Raises ValueError for a generator that learned from another image network,
    or with another distance than stage III has.
    """
    net, facts = load_generator(path)
    if net.width != width:
        raise ValueError(
            f"generator.checkpoint: {path} takes features of {net.width} channels and the image network "
            f"makes {width}: train it with this image network."
        )
    if identity is None:
        raise ValueError(
            f"generator.checkpoint: {path} is of use with the image network that it learned from only, but "
            "here a new one is trained: name that one as teacher.checkpoint, "
            "or leave generator.checkpoint out."
        )
    if facts.get("teacher_sha256") != identity:
        raise ValueError(
            f"generator.checkpoint: {path} learned from the features of another image network (checksum "
            f"{str(facts.get('teacher_sha256'))[:12]}, the one here has {identity[:12]}): "
            "name that one as teacher.checkpoint, or train the generator with this one."
        )
    there, here = (
        facts.get("protocol", {}).get("point_generator", {}).get("distance", {}),
        asdict(run.generator.distance()),
    )
    odd = [name for name in ("box", "reduction") if there.get(name, here[name]) != here[name]]
    if odd:
        raise ValueError(
            f"generator.checkpoint: {path} was trained with generator.{odd[0]} {there[odd[0]]!r} and here it "
            f"is {here[odd[0]]!r}, expected the same distance in both stages: set it as it was, "
            "or train another generator."
        )
    return net
