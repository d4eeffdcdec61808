"""Methods as functions: settings, folder and resume in one call, as most tests want them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

from pointlift.methods.base import Experiment
from pointlift.methods.distillation.recipe import Distillation
from pointlift.methods.image2point import Image2Point
from pointlift.methods.image_collapse import ImageCollapse
from pointlift.methods.image_pretraining.recipe import ImagePretraining
from pointlift.methods.pointcmt.generator_recipe import PointGeneration
from pointlift.methods.pointcmt.recipe import PointCMT
from pointlift.methods.pointcmt.teacher import ViewTeacher
from pointlift.methods.segmentation.recipe import PartSegmentation
from pointlift.runs.result import RunResult
from pointlift.runs.run import run


def _fit(
    kind: type[Experiment], *settings: Any, out: Any = None, resume: bool = False, **groups: Any
) -> RunResult:
    names = [f.name for f in fields(kind)]
    named = {**dict(zip([*names, "out", "resume"], settings)), **groups}
    out, resume = named.pop("out", out), named.pop("resume", resume)
    return run(kind(**named), kind.out if out is None else out, resume)


fit_image2point: Callable[..., RunResult] = partial(_fit, Image2Point)
fit_distillation: Callable[..., RunResult] = partial(_fit, Distillation)
fit_view_teacher: Callable[..., RunResult] = partial(_fit, ViewTeacher)
fit_point_generator: Callable[..., RunResult] = partial(_fit, PointGeneration)
fit_pointcmt: Callable[..., RunResult] = partial(_fit, PointCMT)
fit_part_segmentation: Callable[..., RunResult] = partial(_fit, PartSegmentation)
fit_image_network: Callable[..., RunResult] = partial(_fit, ImagePretraining)
measure_image_collapse: Callable[..., RunResult] = partial(_fit, ImageCollapse)
