"""Augmentations of the colours of scenes (MinkowskiEngine's, which PointContrast and image2point took over).

Colours are RGB in 0-1, and stay there, in three feature columns from ``at`` on. The released codes work in
0-255, and image2point's on bytes, so that each of its steps cuts off to whole numbers; here nothing is cut.
Facts 1.8 and 2.6 have the figures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pointlift.data.sample import FloatArray, Sample

__all__ = ["AutoContrast", "ColorJitter", "ColorTranslation"]


@dataclass(frozen=True)
class AutoContrast:
    """With probability ``p``, every channel is blended with itself stretched to 0-1 over the scene.

    A channel that is the same at all points stays as it is.

    Attributes:
        at: first of the three colour columns.
        blend: share of the stretched colours: 0.5 in image2point, None draws it, U(0, 1), as PointContrast.
        p: 0.2 in both.

    Raises:
        ValueError: a share or probability outside 0 .. 1.
    """

    at: int
    blend: float | None = None
    p: float = 0.2

    def __post_init__(self) -> None:
        _check_share("AutoContrast", "blend", 0.0 if self.blend is None else self.blend)
        _check_share("AutoContrast", "p", self.p)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        apply, drawn = rng.random() < self.p, rng.random()
        if not apply or not len(sample):
            return sample
        colors = _colors(sample, self.at)
        low, high = colors.min(axis=0), colors.max(axis=0)
        spread = high - low
        stretched = np.where(spread > 0, (colors - low) / np.where(spread > 0, spread, 1), colors)
        blend = np.float32(drawn if self.blend is None else self.blend)
        return _with_colors(sample, self.at, (1 - blend) * colors + blend * stretched)


@dataclass(frozen=True)
class ColorTranslation:
    """With probability ``p``, one offset U(-ratio, ratio) per channel is added to the whole scene.

    Attributes:
        at: first of the three colour columns.
        ratio: 0.1 for ScanNet, 0.05 for S3DIS. p: 0.95.

    Raises:
        ValueError: a share or probability outside 0 .. 1.
    """

    at: int
    ratio: float = 0.1
    p: float = 0.95

    def __post_init__(self) -> None:
        _check_share("ColorTranslation", "ratio", self.ratio)
        _check_share("ColorTranslation", "p", self.p)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        apply, offset = rng.random() < self.p, rng.uniform(-self.ratio, self.ratio, 3).astype(np.float32)
        if not apply:
            return sample
        return _with_colors(sample, self.at, _colors(sample, self.at) + offset)


@dataclass(frozen=True)
class ColorJitter:
    """With probability ``p``, noise N(0, sigma) is added to every channel of every point.

    Attributes:
        at: first of the three colour columns.
        sigma: 0.05 for ScanNet, 0.005 for S3DIS. p: 0.95.

    Raises:
        ValueError: a negative deviation, a probability outside 0 .. 1.
    """

    at: int
    sigma: float = 0.05
    p: float = 0.95

    def __post_init__(self) -> None:
        _check_share("ColorJitter", "sigma", self.sigma)
        _check_share("ColorJitter", "p", self.p)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        apply, own = rng.random() < self.p, np.random.default_rng(rng.integers(2**63))
        if not apply:
            return sample
        noise = own.standard_normal((len(sample), 3), dtype=np.float32) * np.float32(self.sigma)
        return _with_colors(sample, self.at, _colors(sample, self.at) + noise)


def _colors(sample: Sample, at: int) -> FloatArray:
    """``(N, 3)`` colours of a sample. Raises ValueError for a sample without these columns."""
    width = 0 if sample.features is None else sample.features.shape[1]
    if sample.features is None or width < at + 3:
        raise ValueError(
            f"{sample.path or 'a sample'}: has {width} feature columns, colours are expected in columns "
            f"{at} to {at + 2}: read the scene with colours (use), or leave colours out of the augmentation"
        )
    return sample.features[:, at : at + 3]


def _with_colors(sample: Sample, at: int, colors: FloatArray) -> Sample:
    assert sample.features is not None
    features = sample.features.copy()
    np.clip(colors, 0, 1, out=features[:, at : at + 3])
    return replace(sample, features=features)


def _check_share(name: str, what: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}({what}={value}): a number in 0 .. 1 is expected")
