"""What a table reads from disk, whether it is there, and where to get it:
one sentence, before anything runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pointlift.data.errors import MissingDataError
from pointlift.data.images.open import describe_image_datasets
from pointlift.data.sources.open import describe_datasets
from pointlift.data.sources.spec import KnownDataset
from pointlift.tables.fingerprint import DATA, canonical, paths_in, texts
from pointlift.tables.plan import Plan, Run

__all__ = ["check_needs", "described", "missing_paths", "needed_paths", "needed_places"]

# weights that nothing downloads by itself, by the names that the tables expect below {data}/weights
WEIGHTS = {
    "resnet50_miil_21k.pth": "ResNet50 on ImageNet-21K, from Alibaba-MIIL's repository ImageNet21K",
    "FractalDB-1000_resnet50_epoch90.pth": (
        "ResNet50 on FractalDB-1K, from the repository FractalDB-Pretrained-ResNet-PyTorch"
    ),
    "FractalDB-10000_resnet50_epoch90.pth": (
        "ResNet50 on FractalDB-10K, from the repository FractalDB-Pretrained-ResNet-PyTorch"
    ),
    "pointcontrast_pointinfonce.pth": (
        "PointContrast's ResNet34 (PointInfoNCE), from the repository facebookresearch/PointContrast"
    ),
    "pointcontrast_hardest.pth": (
        "PointContrast's ResNet34 (hardest contrastive), from the repository facebookresearch/PointContrast"
    ),
    "hrnetv2_w48_cityscapes.pth": (
        "an HRNetV2-W48 that segments Cityscapes, from the repository HRNet/HRNet-Semantic-Segmentation"
    ),
    "cityscapes_resnet18.pth": (
        "a ResNet18 that segments Cityscapes, from the repository structure_knowledge_distillation"
    ),
    "ade20k_resnet18dilated_encoder.pth": (
        "encoder of a ResNet18 that segments ADE20K, from CSAIL's semantic-segmentation-pytorch"
    ),
}


def needed_paths(runs: Iterable[Run]) -> dict[str, str]:
    """{text in a recipe: its path} of everything in the data folder that some runs read, in order. A path
    among the options of a source has the text "option=path"."""
    found: dict[str, str] = {}
    for run in runs:
        for text in texts(canonical(run.content)):
            for path in paths_in(text) if DATA in text else ():
                option = re.search(rf"[?&](\w+)={re.escape(path)}(?:&|$)", text)
                found[f"{option.group(1)}={path}" if option else text] = path
    return found


def needed_places(plan: Plan, runs: Iterable[Run]) -> dict[str, Path]:
    """{text in a recipe: the path that it stands for} of everything in the data folder that some runs read,
    in order.
    """
    return {
        text: Path(path.replace(DATA, plan.data)).expanduser() for text, path in needed_paths(runs).items()
    }


def missing_paths(plan: Plan, runs: Iterable[Run]) -> dict[str, Path]:
    """`needed_places` that do not exist."""
    return {text: place for text, place in needed_places(plan, runs).items() if not place.exists()}


def check_needs(plan: Plan, runs: Iterable[Run]) -> None:
    """Raises MissingDataError, one sentence that says what is missing, where to get it,
    under which terms, and how it should look.
    """
    missing = missing_paths(plan, runs)
    if not missing:
        return
    parts = [_sentence(text, place) for text, place in missing.items()]
    needs = [n for n in plan.table.needs if not _datasets(n)]
    notes = f"; {'; '.join(needs)}" if needs else ""
    how = (
        f"nothing was run: put it there, name another folder with --data (now {plan.data!r}), "
        "or use --scale toy"
    )
    raise MissingDataError(
        f"table {plan.table.id} ({plan.scale}) needs what is not there: {'; '.join(parts)}{notes}; {how}"
    )


def described(text: str, place: Path) -> str:
    """What a place in the data folder is for and where that is from, in a few words."""
    if place.name in WEIGHTS:
        return WEIGHTS[place.name]
    datasets = _expected(text, place)
    if not datasets:
        return "weights" if re.search(r"\.\w+$", place.name) else "a folder"
    return f"{_name(datasets[0])}, from {datasets[0].where}; {datasets[0].licence}"


def _name(dataset: KnownDataset) -> str:
    return dataset.name.partition(",")[0]


def _sentence(text: str, place: Path) -> str:
    datasets = _expected(text, place)
    if not datasets:
        return f"{place} ({described(text, place)}) does not exist"
    layouts = " or ".join(f"{d.layout} (from {d.where})" for d in datasets)
    return (
        f"{place} does not exist, {_name(datasets[0])} ({datasets[0].licence}) is expected there as {layouts}"
    )


def _expected(text: str, place: Path) -> list[KnownDataset]:
    """The datasets that a source such as 'modelnet:...' or 'pixels:imagenet:...' may be; the one that is
    handed out under the name of the place, if there is one."""
    if text.startswith("meshes="):
        return [d for d in _known() if d.source.startswith("modelnet:") and ".off" in d.layout]
    kinds = re.findall(r"([A-Za-z][\w-]+):", text.partition("?")[0])
    for kind in reversed(kinds):
        if found := [d for d in _known() if d.source.startswith(f"{kind}:")]:
            return [d for d in found if re.search(rf"\b{re.escape(place.name)}\b", d.where)] or found
    return [] if kinds else [d for d in _known() if re.search(rf"\b{re.escape(place.name)}\b", d.where)]


def _datasets(need: str) -> list[KnownDataset]:
    """Known datasets that a short name such as 'modelnet40' means."""
    return [d for d in _known() if _short(need) in _short(d.name + d.source)]


def _known() -> tuple[KnownDataset, ...]:
    return (*describe_datasets(), *describe_image_datasets())


def _short(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
