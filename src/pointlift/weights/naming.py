"""Whose naming a file of image weights follows, and what its tensors are called in timm's and torchvision's
networks.

A scheme is recognised from all names of the file together, never from one of them, and says why. What follows
from it is a table: every tensor of the file has a name in the network or a reason why it has no place there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from pointlift.models.images.efficientnet_names import timm_names
from pointlift.weights.tensor_names import (
    Naming,
    WeightFile,
    divided,
    inside,
    is_resnet,
    names_below,
    plain_resnet,
    remaining,
    renamed_stem,
    split_below,
    top_modules,
    wrapper_of,
)

__all__ = ["SCHEMES", "Naming", "WeightFile", "recognise"]

SEGMENTATION_HEADS = (
    "last_layer.",
    "conv3x3_ocr.",
    "ocr_gather_head.",
    "ocr_distri_head.",
    "cls_head.",
    "aux_head.",
)
HRNET_PARTS = ("conv1.", "bn1.", "conv2.", "bn2.", "layer1.", "transition", "stage2.", "stage3.", "stage4.")
HRNET_CLASSIFIER = ("incre_modules", "downsamp_modules", "final_layer", "classifier")
IMAGENET_21K = (10450, 11221)  # classes of MIIL's two cleaned versions
CSAIL_STEM = {
    "conv1": "conv1.0",
    "bn1": "conv1.1",
    "conv2": "conv1.3",
    "bn2": "conv1.4",
    "conv3": "conv1.6",
    "bn3": "bn1",
}
MMSEG_STEM = {f"stem.{i}": f"conv1.{i}" for i in (0, 1, 3, 4, 6)} | {"stem.7": "bn1"}

Recogniser = Callable[[WeightFile, Collection[str]], "Naming | None"]


def recognise(file: WeightFile, expected: Collection[str], scheme: str = "auto") -> Naming | None:
    """The naming of `file`, for a network whose tensors are called `expected`;
    None where no scheme (or not the given one) fits.

    Raises ValueError for an unknown scheme.
    """
    if scheme != "auto" and scheme not in SCHEMES:
        raise ValueError(f"scheme must be auto, plain or one of {', '.join(SCHEMES)}, got {scheme!r}.")
    if scheme != "auto":
        naming = SCHEMES[scheme](file, expected) or (
            OTHERWISE[scheme](file, expected) if scheme in OTHERWISE else None
        )
        return naming and replace(naming, scheme=scheme)
    return next(
        (naming for recogniser in SCHEMES.values() if (naming := recogniser(file, expected)) is not None),
        None,
    )


# -------------------------------------------------------------------------- contrastive and self-distilled


def _moco(file: WeightFile, expected: Collection[str]) -> Naming | None:
    found = divided(file, file.main, "encoder_q.", "encoder_k.", "queue")
    if found is None:
        return None
    section, names, p, (query, key, queue) = found
    if key != query if key else not (queue or is_resnet(query)):
        return None
    kept, dropped = split_below(names, f"{p}encoder_q.", lambda n: not n.startswith("fc."), "projection head")
    dropped |= {n: "momentum copy" for n in names if n.startswith(f"{p}encoder_k.")}
    dropped |= {n: "queue of negatives" for n in names if n.startswith(f"{p}queue")}
    parts = [
        f"a query encoder of {len(query)} tensors",
        *(["its momentum copy"] if key else []),
        *(["a queue"] if queue else []),
    ]
    return Naming("moco", f"it consists of {' and '.join(parts)}", section, kept, dropped)


def _moco_v3(file: WeightFile, expected: Collection[str]) -> Naming | None:
    found = divided(file, file.main, "base_encoder.", "momentum_encoder.", "predictor.")
    if found is None:
        return None
    section, names, p, (base, momentum, predictor) = found
    if momentum != base and not (not momentum and predictor):
        return None
    kept, dropped = split_below(
        names, f"{p}base_encoder.", lambda n: not n.startswith(("fc.", "head.")), "projection head"
    )
    dropped |= {n: "momentum copy" for n in names if n.startswith(f"{p}momentum_encoder.")}
    dropped |= {n: "prediction head" for n in names if n.startswith(f"{p}predictor.")}
    why = (
        f"it consists of a base encoder of {len(base)} tensors, "
        f"{'its momentum copy' if momentum else 'no momentum copy'} and a predictor"
    )
    return Naming("moco-v3", why, section, kept, dropped, head=("fc", "head"))


def _dino(file: WeightFile, expected: Collection[str]) -> Naming | None:
    sections = (
        next((s for s in file.sections if s.split(".")[-1] == role), None) for role in ("student", "teacher")
    )
    student, teacher = (divided(file, section, "backbone.", "head.") for section in sections)
    if student is None or teacher is None or student.parts[0] != teacher.parts[0]:
        return None
    kept = names_below(teacher.names, f"{teacher.wrapper}backbone.")
    dropped = {n: "projection head" for n in teacher.names if n not in kept}
    why = f"it holds a student and a teacher with the same backbone of {len(kept)} tensors"
    others = "not the teacher, which DINO evaluates"
    return Naming("dino", why, teacher.section, kept, dropped, ("fc", "head"), others)


# -------------------------------------------------------------------------- encoders of segmentation networks


def _mmsegmentation(file: WeightFile, expected: Collection[str]) -> Naming | None:
    found = divided(file, file.main, "backbone.", "decode_head.", "auxiliary_head.")
    if found is None:
        return None
    section, names, p, (backbone, decoder, _) = found
    if not any(n.endswith(("conv_seg.weight", "conv_seg.bias")) for n in decoder):
        return None
    kept = names_below(names, f"{p}backbone.")
    deep = "stem.0.weight" in backbone
    kept = renamed_stem(kept, MMSEG_STEM, expected) if deep else kept
    dropped = remaining(names, kept, f"{p}decode_head.", "segmentation decoder", "auxiliary head")
    why = f"it consists of a backbone of {len(backbone)} tensors and decoding heads"
    return Naming(
        "mmsegmentation", why, section, kept, dropped, hint="timm's resnet50c has its stem" if deep else ""
    )


def _torchvision_segmentation(file: WeightFile, expected: Collection[str]) -> Naming | None:
    found = divided(file, file.main, "backbone.", "classifier.", "aux_classifier.")
    if found is None:
        return None
    section, names, p, (backbone, decoder, _) = found
    if not decoder or not is_resnet(backbone):
        return None
    kept = names_below(names, f"{p}backbone.")
    dropped = remaining(names, kept, f"{p}classifier.", "segmentation decoder", "auxiliary head")
    why = (
        f"it consists of a ResNet of {len(backbone)} tensors as backbone and {len(decoder)} tensors of a "
        "segmentation classifier"
    )
    return Naming("torchvision-segmentation", why, section, kept, dropped)


def _hrnet_semseg(file: WeightFile, expected: Collection[str]) -> Naming | None:
    names = file.tensors.keys()
    p = wrapper_of(names)
    p += "model." if any(n.startswith(f"{p}model.") for n in names) else ""
    inner = inside(names, p)
    trunk = {n for n in inner if n.startswith(HRNET_PARTS)}
    heads = {n for n in inner if n.startswith(SEGMENTATION_HEADS)}
    loss = {n for n in names if n.removeprefix("module.").startswith("loss.")}
    if (
        file.main is None
        or not heads
        or not all(any(n.startswith(part) for n in trunk) for part in HRNET_PARTS)
    ):
        return None
    if len(trunk | heads) + len(loss) != len(names):
        return None
    kept, dropped = split_below(names, p, lambda n: n in trunk, "segmentation head")
    dropped |= dict.fromkeys(loss, "class weights of the loss")
    why = f"it has HRNet's four resolutions ({len(trunk)} tensors) under a segmentation head"
    return Naming("hrnet-semseg", why, file.main, kept, dropped, HRNET_CLASSIFIER)


def _csail(file: WeightFile, expected: Collection[str]) -> Naming | None:
    found = plain_resnet(file, "conv1", "bn1", "conv2", "bn2", "conv3", "bn3")
    if found is None or "fc" in top_modules(found[1].values()):
        return None
    section, names = found
    why = "it is a ResNet with a stem of three convolutions, conv1 to conv3, and no classifier"
    return Naming(
        "csail",
        why,
        section,
        renamed_stem(names, CSAIL_STEM, expected),
        hint="timm's resnet50s, or a resnet with stem_type 'deep' and stem_width 64, has its stem",
    )


# -------------------------------------------------------------------------- image classifiers


def _bagnet(file: WeightFile, expected: Collection[str]) -> Naming | None:
    found = plain_resnet(file, "conv1", "conv2", "bn1")
    if found is None or file.tensors[f"{wrapper_of(file.tensors)}conv1.weight"].shape[2:] != (1, 1):
        return None
    why = "it is a ResNet behind a 1x1 convolution conv1 and a second one, conv2"
    return Naming("bagnet", why, *found, hint="bagnet9, bagnet17 and bagnet33 have this stem")


def _torchvision(file: WeightFile, expected: Collection[str]) -> Naming | None:
    found = plain_resnet(file, "conv1", "bn1")
    if found is None:
        return None
    classifier = (
        f"with {_classes(file)} classes"
        if "fc.weight" in found[1].values()
        else "without classifier, as DINO publishes its backbone"
    )
    why = f"it is a ResNet in torchvision's names {classifier}"
    return Naming("torchvision", why, *found)


def _classes(file: WeightFile) -> int:
    return next((len(t) for n, t in file.tensors.items() if n.endswith("fc.weight")), 0)


def _miil(file: WeightFile, expected: Collection[str]) -> Naming | None:
    """MIIL publishes networks of many kinds in timm's names; what they share is the number of classes."""
    classifiers = [
        n for n, t in file.tensors.items() if t.ndim == 2 and len(t) in IMAGENET_21K and n.endswith(".weight")
    ]
    if not file.main or len(classifiers) != 1:
        return None
    p = wrapper_of(file.tensors)
    module = classifiers[0].removeprefix(p).removesuffix(".weight")
    if f"{p}{module}.bias" not in file.tensors:
        return None
    why = (
        f"it is a state_dict whose classifier {module} has the {len(file.tensors[classifiers[0]])} "
        "classes of MIIL's ImageNet-21K"
    )
    names = {n: n[len(p) :] for n in file.tensors}
    return Naming("miil-21k", why, file.main, names, head=(module,), others="not the weights that are used")


def _fractaldb(file: WeightFile, expected: Collection[str]) -> Naming | None:
    """FractalDB-10k: with 1000 categories nothing tells its file from torchvision's, whose names it has."""
    naming = _torchvision(file, expected)
    if naming is None or file.main or _classes(file) != 10000:
        return None
    return Naming(
        "fractaldb",
        "it is a bare ResNet with the 10000 classes of FractalDB-10k",
        naming.section,
        naming.names,
    )


def _training_script(file: WeightFile, expected: Collection[str]) -> Naming | None:
    """Stylized-ImageNet's files are what PyTorch's example of ImageNet training writes;
    AlexNet and VGG carry the wrapper inside.
    """
    names = file.tensors.keys()
    wrapped = all(n.startswith("module.") for n in names)
    inside = all(n.startswith(("features.module.", "classifier.")) for n in names) and any(
        ".module." in n for n in names
    )
    if (
        file.main != "state_dict"
        or not {"arch", "state_dict"} <= file.keys
        or not file.keys & {"best_prec1", "best_acc1", "optimizer"}
    ):
        return None
    kept = {n: n.removeprefix("module.").replace("features.module.", "features.", 1) for n in names}
    if not (wrapped or inside) or not any(
        n == "fc.weight" or n.startswith("classifier.") for n in kept.values()
    ):
        return None
    why = (
        "it is what PyTorch's ImageNet example writes: arch, best_prec1 or optimizer, "
        "and a state_dict in a data-parallel wrapper"
    )
    return Naming("stylized-imagenet", why, file.main, kept, head=("fc", "classifier"))


def _efficientnet(file: WeightFile, expected: Collection[str]) -> Naming | None:
    p = wrapper_of(file.tensors)
    names = timm_names([n.removeprefix(p) for n in file.tensors], expected)
    if file.main is None or names is None:
        return None
    blocks = len({n.split(".")[1] for n in names if n.startswith("_blocks.")})
    why = f"it consists of a stem, {blocks} blocks and a head in the names of efficientnet-pytorch"
    return Naming(
        "efficientnet-pytorch",
        why,
        file.main,
        {p + old: new for old, new in names.items()},
        head=("classifier",),
        hint="timm's tf_efficientnet_lite0, tf_efficientnet_b0, ... have its layers",
    )


def _view_teacher(file: WeightFile, expected: Collection[str]) -> Naming | None:
    """The image network of a view_teacher run: the image model without its classifier,
    and what it classifies objects with.
    """
    names = file.tensors.keys()
    trunk = inside(names, "trunk.")
    if file.main is None or not trunk or "classifier.weight" not in names:
        return None
    if not all(n.startswith(("trunk.", "projection.", "classifier.")) for n in names):
        return None
    kept = names_below(names, "trunk.")
    dropped = remaining(names, kept, "classifier.", "classifier of objects", "projection of pooled views")
    absent = {n.rpartition(".")[0] for n in expected if n not in trunk}
    head = tuple(absent) if len(absent) == 1 else ()  # its own classifier, whatever it is called
    why = (
        "it is the image network of a view_teacher run, "
        f"whose image model has {len(trunk)} tensors under trunk"
    )
    return Naming("view-teacher", why, file.main, kept, dropped, head)


def _without_classifier(file: WeightFile, expected: Collection[str]) -> Naming | None:
    naming = _torchvision(file, expected)
    return naming if naming and not any(n.startswith("fc.") for n in naming.names.values()) else None


# tried in this order: those with more parts first, since the rest of their names may look like another's
SCHEMES: dict[str, Recogniser] = {
    "moco": _moco,
    "moco-v3": _moco_v3,
    "view-teacher": _view_teacher,
    "dino": _dino,
    "mmsegmentation": _mmsegmentation,
    "torchvision-segmentation": _torchvision_segmentation,
    "hrnet-semseg": _hrnet_semseg,
    "csail": _csail,
    "efficientnet-pytorch": _efficientnet,
    "bagnet": _bagnet,
    "miil-21k": _miil,
    "fractaldb": _fractaldb,
    "stylized-imagenet": _training_script,
    "torchvision": _torchvision,
}
# what else a file of a scheme may be where the user names the scheme:
# its names alone do not tell it from torchvision's
OTHERWISE: dict[str, Recogniser] = {
    "dino": _without_classifier,
    "miil-21k": _torchvision,
    "fractaldb": _torchvision,
    "stylized-imagenet": _torchvision,
}
