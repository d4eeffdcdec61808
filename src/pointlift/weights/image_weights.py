"""Image networks' weights from other people's files, whatever their naming,
with a report of what became of every tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pointlift.weights.archive import write_archive
from pointlift.weights.files import (
    WeightsError,
    choose_section,
    read_content,
    refuse_non_finite,
    sections,
    training_states,
)
from pointlift.weights.naming import SCHEMES, Naming, WeightFile, recognise
from pointlift.weights.renaming import Pairs, in_order, read_rename, renamed

__all__ = ["ImageWeightsReport", "WeightsError", "load_image_weights", "read_tensors", "save_image_model"]

COMPILED = "_orig_mod."  # what torch.compile puts before the names of whatever it compiled
PREFIXES = (
    "module.",
    "backbone.",
    "model.",
    "encoder_q.",
    "encoder.",
    "base_model.",
    "feature_extractor.",
    "image_encoder.",
    "net.",
    "network.",
    "trunk.",
    "visual.",
)


@dataclass(frozen=True)
class ImageWeightsReport:
    """What became of every tensor of the file and of the network.

    matched: names loaded. missing: in the network only. unexpected: in the file only. mismatched: names with
    two shapes. The last three can only be counters of batch norm, which older files lack, the classifier
    where the scheme says that such files have none or another, and names that the caller allowed to differ.
    prefixes: what was stripped from the file's names. scheme and why: whose naming the file follows and how
    that was recognised. dropped: (name in the file, why) of tensors that have no place in the network: heads,
    copies, queues, decoders. ignored: parts of the file that hold states of training. pairs: (name in the
    file, name in the network), of every tensor that was read by order or renamed by the user's map.
    """

    path: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    prefixes: tuple[str, ...]
    scheme: str = "plain"
    why: str = ""
    dropped: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    pairs: Pairs = ()

    def render(self) -> str:
        """One line for what was loaded, one per group of what was not."""
        total = len(self.matched) + len(self.missing) + len(self.mismatched)
        lines = [f"{self.path}: {len(self.matched)} of {total} tensors loaded"]
        if self.why:
            lines.append(f"  read as {self.scheme}: {self.why}")
        if self.missing or self.mismatched:
            lines.append(
                "  NOT loaded, the network keeps its own values: "
                f"{len(self.missing) + len(self.mismatched)} tensors"
            )
        for what, names in (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("of another shape", self.mismatched),
        ):
            if names:
                lines.append(f"  {what}: {len(names)} ({_first_of(names)})")
        for why in dict.fromkeys(reason for _, reason in self.dropped):
            names = tuple(n for n, reason in self.dropped if reason == why)
            lines.append(f"  in the file, not used: {len(names)}, {why} ({_first_of(names)})")
        if self.ignored:
            lines.append(f"  states of training, not read: {', '.join(self.ignored)}")
        if self.prefixes:
            lines.append(f"  stripped from the names: {', '.join(self.prefixes)}")
        lines += [f"  {old} -> {new}" for old, new in self.pairs]
        return "\n".join(lines)


def _first_of(names: Sequence[str]) -> str:
    return f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"


def load_image_weights(
    path: str | Path,
    model: nn.Module,
    allow: Sequence[str] = (),
    scheme: str = "auto",
    part: str | None = None,
    rename: str | Path | Mapping[str, str | None] | None = None,
) -> ImageWeightsReport:
    """Load the weights in `path` into `model`, strictly, and report.

    scheme: whose naming the file follows, one of `pointlift.weights.naming.SCHEMES` ("moco", "dino",
    "mmsegmentation", ...), "plain" for the network's own names, "auto", which recognises it from all names of
    the file, or "order", which takes the tensors one by one as they come (`in_order`). What a scheme adds to
    the network (projection head, momentum copy, decoder) is dropped and reported; of recognised files alone
    the classifier may be missing or of another size. Otherwise a dictionary under "state_dict", "model" or
    the like is unwrapped, and what wrappers put before names ("module.", "model.", "encoder_q." and others of
    PREFIXES) is stripped where the model does not have it; "_orig_mod." of torch.compile always is.
    part: which dictionary of the file to read, where it holds several; by default a moving average of the
    weights, then "state_dict" and the like.
    rename: a map of the user's own from the file's names to the model's, or a file with one (`read_rename`).
    allow: names of modules that may be missing, unexpected or of another shape, usually the classifier
    (("fc",)); they keep the model's own values.

    Raises FileNotFoundError for a missing file, ValueError for an unknown scheme, WeightsError for a file
    that is truncated, holds Python objects besides tensors and settings (nothing in it is ever executed),
    holds NaN, or does not fit; the model is then unchanged.
    """
    path = Path(path)
    model = getattr(model, "_orig_mod", model)  # of a compiled network, which has its weights
    content = read_content(path)
    found, compiled = _uncompiled(path, sections(content))
    expected = model.state_dict()
    naming: Naming | None = None
    pairs: Pairs = ()
    left_out: tuple[tuple[str, str], ...] = ()
    if rename is not None or scheme == "order":
        if rename is not None and scheme not in ("auto", "plain"):
            raise ValueError(f"A rename map is given beside the scheme {scheme!r}: leave one of them out.")
        section = choose_section(path, found, part)
        if rename is None:
            tensors, pairs = in_order(path, found[section], expected, _allowed(allow))
            prefixes: tuple[str, ...] = ()
        else:
            tensors, pairs, dropped = renamed(path, found[section], read_rename(rename))
            tensors, prefixes = _strip(path, tensors, expected)
            left_out = tuple((name, "left out by the rename map") for name in dropped)
        word, why = ("order", "as asked for") if rename is None else ("renamed", "by the map that was given")
        naming = Naming(word, why, section, {}, head=(), others="not the weights that are used")
    elif (known := _naming(path, content, found, expected, scheme, part)) is not None:
        naming = known
        tensors = {new: found[naming.section][old] for old, new in naming.names.items()}
        prefixes = _removed(naming)
    else:
        section = choose_section(path, found, part)
        tensors, prefixes = _strip(path, found[section], expected)
        naming = Naming("plain", "", section, {}, head=(), others="not the weights that are used")
    fit = _Fit.of(
        tensors, expected, _allowed((*allow, *naming.head, *(_classifier(model) if naming.head else ())))
    )
    if fit.refused:
        raise WeightsError(f"{path} does not fit {type(model).__name__}: {fit.complaint(naming)}.")
    if not any(n for n in fit.matched if not n.endswith("num_batches_tracked")):
        raise WeightsError(
            f"{path} does not fit {type(model).__name__}: none of its {len(tensors)} tensors match."
        )
    loaded = {n: tensors[n] for n in fit.matched}
    refuse_non_finite(path, loaded)
    model.load_state_dict(loaded, strict=False)
    return ImageWeightsReport(
        str(path),
        fit.matched,
        fit.missing,
        fit.unexpected,
        fit.mismatched,
        (COMPILED,) * compiled + prefixes,
        naming.scheme,
        naming.why,
        (*_dropped(naming, found), *left_out),
        training_states(content),
        pairs,
    )


def _uncompiled(
    path: Path, found: Mapping[str, Mapping[str, Tensor]]
) -> tuple[dict[str, dict[str, Tensor]], bool]:
    """The sections without what torch.compile puts into names, before or within them, and whether there was
    any.
    """
    plain = {s: {n.replace(COMPILED, ""): t for n, t in tensors.items()} for s, tensors in found.items()}
    for section, tensors in found.items():
        if len(plain[section]) < len(tensors):
            raise WeightsError(
                f"{path} holds tensors twice, with and without {COMPILED} in their names: "
                "remove one of the two."
            )
    return plain, any(COMPILED in n for tensors in found.values() for n in tensors)


def read_tensors(path: str | Path, part: str | None = None) -> dict[str, Tensor]:
    """{name: tensor} of a safetensors or torch file, containers unwrapped, names as they are.
    Raises like `load_image_weights`.
    """
    path = Path(path)
    found = sections(read_content(path))
    return dict(found[choose_section(path, found, part)])


def _naming(
    path: Path,
    content: Any,
    found: Mapping[str, Mapping[str, Tensor]],
    expected: Mapping[str, Tensor],
    scheme: str,
    part: str | None,
) -> Naming | None:
    if scheme == "plain":
        return None
    if part is not None:
        choose_section(path, found, part)
        found = {part: found[part]}
    try:
        main = choose_section(path, found, part)
    except WeightsError:
        main = None  # a scheme may know which of several networks to take
    keys = (
        frozenset(k for k in content if isinstance(k, str)) if isinstance(content, Mapping) else frozenset()
    )
    file = WeightFile(found, main, keys)
    naming = recognise(file, expected, scheme)
    if naming is None and scheme != "auto":
        other = recognise(file, expected)
        says = (
            f"its names are those of {other.scheme} ({other.why})"
            if other
            else f"it has {len(file.tensors)} tensors of other names"
        )
        others = ", ".join(SCHEMES)
        raise WeightsError(
            f"{path} is not in the naming {scheme!r}: {says}; leave the scheme out, "
            f"or use plain or one of {others}."
        )
    if (
        naming is not None
        and main is not None
        and scheme == "auto"
        and _names(found[main]) == _names(expected)
    ):
        changes = naming.dropped or any(old != new for old, new in naming.names.items())
        # a network that is itself built like the scheme takes the file as it is
        return None if changes else naming
    return naming


def _names(tensors: Mapping[str, Tensor]) -> set[str]:
    return {n for n in tensors if not n.endswith("num_batches_tracked")}


def _removed(naming: Naming) -> tuple[str, ...]:
    """What every name of the file had in front of its name in the network."""
    cut = {old[: -len(new)] for old, new in naming.names.items() if old != new and old.endswith(new)}
    return tuple(sorted(cut))


def _dropped(naming: Naming, found: Mapping[str, Mapping[str, Tensor]]) -> tuple[tuple[str, str], ...]:
    rows = list(naming.dropped.items())
    for section, tensors in found.items():
        if section != naming.section:
            rows += [
                (f"{section}.{n}" if section else n, naming.others if len(tensors) > 1 else "no weight")
                for n in tensors
            ]
    return tuple(rows)


def _classifier(model: nn.Module) -> tuple[str, ...]:
    """The classifier as timm's networks name their own."""
    named = getattr(model, "default_cfg", {}).get("classifier") or ()
    return (named,) if isinstance(named, str) else tuple(named)


def _allowed(modules: Sequence[str]) -> Callable[[str], bool]:
    def allowed(name: str) -> bool:
        return name.endswith("num_batches_tracked") or any(
            name == m or name.startswith(f"{m}.") for m in modules
        )

    return allowed


@dataclass(frozen=True)
class _Fit:
    """Names of tensors by how they fit, and those of them that may not differ."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    refused: frozenset[str]

    @classmethod
    def of(
        cls, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], allowed: Callable[[str], bool]
    ) -> _Fit:
        missing = tuple(n for n in expected if n not in tensors)
        unexpected = tuple(n for n in tensors if n not in expected)
        mismatched = tuple(n for n in expected if n in tensors and tensors[n].shape != expected[n].shape)
        matched = tuple(n for n in expected if n in tensors and tensors[n].shape == expected[n].shape)
        return cls(
            matched,
            missing,
            unexpected,
            mismatched,
            frozenset(n for n in (*missing, *unexpected, *mismatched) if not allowed(n)),
        )

    def complaint(self, naming: Naming) -> str:
        groups = (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("of another shape", self.mismatched),
        )
        counts = [
            f"{len(bad)} {what} (first: {bad[0]})"
            for what, names in groups
            if (bad := [n for n in names if n in self.refused])
        ]
        total = len(self.matched) + len(self.missing) + len(self.mismatched)
        first = next(n for _, names in groups for n in names if n in self.refused)
        read = f" of a file read as {naming.scheme}, since {naming.why}" if naming.why else ""
        hint = f" ({naming.hint})" if naming.hint else ""
        return (
            f"{len(self.matched)} of {total} tensors match, {', '.join(counts)}{read}; "
            f"use the network they were made for{hint}, or name what may differ "
            f"(allow=({first.rpartition('.')[0] or first!r},))"
        )


def _strip(
    path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Rename tensors to the network's names; those it does not know keep the shortest form of theirs."""
    stripped: dict[str, Tensor] = {}
    used: set[str] = set()
    for name, tensor in found.items():
        forms = list(_forms(name))
        form, removed = next(((f, r) for f, r in forms if f in expected), forms[-1])
        if form in stripped:
            raise WeightsError(
                f"{path} holds two tensors that are both {form} once prefixes are stripped: "
                "rename one of them."
            )
        stripped[form] = tensor
        used |= set(removed)
    return stripped, tuple(p for p in PREFIXES if p in used)


def _forms(name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    removed: tuple[str, ...] = ()
    yield name, removed
    while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
        name, removed = name.removeprefix(prefix), (*removed, prefix)
        yield name, removed


def save_image_model(
    model: nn.Module, path: str | Path, metadata: Mapping[str, Any], half: bool = True
) -> None:
    """Write the state dict with JSON metadata as an archive of kind "image";
    the file appears whole or not at all.

    half: floating-point tensors in float16, otherwise as they are.
    """
    state = model.state_dict()
    if half:
        state = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    write_archive(path, "image", metadata, state)
