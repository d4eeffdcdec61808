"""Tiny pictures in the layouts of the real image datasets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "white": (220, 220, 220)}


def write_picture(path: Path, colour: Sequence[int] = (90, 90, 90), side: int = 24, seed: int = 0) -> Path:
    """A square of one colour with noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-25, 26, (side, side, 3))
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


def write_coloured(
    root: Path, counts: dict[str, int], side: int = 24, suffix: str = ".png", inner: str = ""
) -> Path:
    """``<split>/<colour>/<inner>/<i>.png``; counts: pictures per class of every split ("" writes no split
    folder).
    """
    for split, count in counts.items():
        for k, (name, colour) in enumerate(COLOURS.items()):
            for i in range(count):
                write_picture(
                    root / split / name / inner / f"{name}_{i}{suffix}",
                    colour,
                    side,
                    seed=1000 * k + 100 * len(split) + i,
                )
    return root


def write_tiny_imagenet(
    root: Path, wnids: Sequence[str] = ("n02", "n01", "n03"), train: int = 4, val: int = 2, side: int = 64
) -> Path:
    """Tiny-ImageNet as it is unpacked; the grey level of a picture is 40 times the place of its class in
    sorted order.
    """
    levels = {wnid: [40 * k] * 3 for k, wnid in enumerate(sorted(wnids), 1)}
    for wnid in wnids:
        for i in range(train):
            write_picture(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", levels[wnid], side, i)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t63\t63\n")
    lines = []
    for i in range(val * len(wnids)):
        wnid = wnids[i % len(wnids)]
        write_picture(root / "val" / "images" / f"val_{i}.JPEG", levels[wnid], side, 100 + i)
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t0\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("".join(f"{w}\n" for w in wnids))
    (root / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\ttench\nn99\tsomething else\n")
    return root


def write_imagenet(
    root: Path, wnids: Sequence[str] = ("n01", "n02", "n03"), train: int = 3, val: int = 2, side: int = 48
) -> tuple[Path, list[str]]:
    """ILSVRC's folders with a flat val; returns the folder and the WordNet ids of the validation pictures,
    in order of name.
    """
    levels = {wnid: [40 * k] * 3 for k, wnid in enumerate(sorted(wnids), 1)}
    for wnid in wnids:
        for i in range(train):
            write_picture(root / "train" / wnid / f"{wnid}_{i}.JPEG", levels[wnid], side, i)
    truth = [wnids[(i * 2 + 1) % len(wnids)] for i in range(val * len(wnids))]
    for i, wnid in enumerate(truth, 1):
        write_picture(root / "val" / f"ILSVRC2012_val_{i:08d}.JPEG", levels[wnid], side, 100 + i)
    return root, truth
