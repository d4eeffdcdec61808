"""report.html of a PPKT run: curves, correspondences, and what both networks' features look like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pointlift.data.rgbd.frame_pairs import FramePairs, PairedCloud, join_pairs
from pointlift.evaluate.feature_colors import FeatureColors, without_position
from pointlift.methods.ppkt.module import PixelToPoint
from pointlift.report import Report, ViewCloud
from pointlift.report.correspondences import correspondences, pictures_in_a_row
from pointlift.report.plots import training_curves
from pointlift.report.tables import read_rows
from pointlift.system.atomic import read_json

__all__ = ["write_report"]

FRAMES = 3  # that are drawn
MARKED = 24  # points of a frame whose pixels are drawn


def write_report(
    folder: Path, module: PixelToPoint, frames: FramePairs, recipe: str, facts: Mapping[str, Any]
) -> Path:
    """Write report.html into the folder of a finished run.

    Args:
        folder: with metrics.csv and result.json. module: the trained networks. frames: held-out frames, not
            augmented.
        recipe: text of recipe.yaml. facts: of the protocol, for the last section.
    """
    rows = read_rows(folder / "metrics.csv")
    report = Report(f"{folder.name}: pixels to points", facts["data"]["source"])
    _add_result(report, rows, read_json(folder / "result.json")["metrics"])
    module.eval()
    chosen = np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).astype(int)
    report.section("Held-out frames")
    report.text(
        "Dots of one colour are one place: its pixel on the left, its point on the right. A cross, joined by "
        "a line, is the pixel that the point's feature is nearest to among those marked."
    )
    for index in dict.fromkeys(chosen.tolist()):
        _add_frame(report, module, frames[(0, index)])
    report.section("Protocol").code(recipe, "The recipe; save it to repeat the run.")
    report.definitions({k: v for k, v in facts.items() if not isinstance(v, dict)} | dict(facts["data"]))
    return report.write(folder / "report.html")


def _add_result(report: Report, rows: list[dict[str, float]], metrics: Mapping[str, float]) -> None:
    """rows: of metrics.csv. metrics: of the end of the run."""
    last = {**rows[-1], **metrics}
    header = ["loss", "held-out loss", "own pixel found %", "by chance %", "among", "epochs"]
    values = [last["train_loss"], last["val_loss"], 100 * last["val_retrieval"], 100 * last["val_chance"]]
    note = (
        f"The loss of features that know nothing is ln {last['val_pairs']:.0f} = "
        f"{math.log(last['val_pairs']):.2f}."
    )
    report.section("Result").table(header, [[*values, int(last["val_pairs"]), len(rows)]], note, digits=3)
    panels = {
        "loss": {
            "training": [[r["train_loss"] for r in rows]],
            "held out": [[r.get("val_loss", math.nan) for r in rows]],
        },
        "own pixel found %": {
            "training": [[math.nan for _ in rows]],  # not measured; named, for the legend
            "held out": [[100 * r.get("val_retrieval", math.nan) for r in rows]],
        },
    }
    report.section("Curves").figure(training_curves(panels), "An epoch is one pass over the training frames.")


@torch.no_grad()
def _add_frame(report: Report, module: PixelToPoint, item: PairedCloud) -> None:
    batch = join_pairs([item]).to(module.device)
    features, at = module.point_features(batch)
    maps = module.g2d(module.teacher(batch.extras["pictures"]))
    size = item.picture.shape[1:]
    pixels = functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)[0]
    z2d = functional.normalize(pixels, dim=0).permute(1, 2, 0).cpu().numpy()
    z3d = functional.normalize(module.embed_points(features), dim=1)[at].cpu().numpy()
    picture, name = item.picture.transpose(1, 2, 0), item.sample.path
    shown = np.flatnonzero(np.isfinite(item.places[:, 0]))
    marked = np.random.default_rng(0).permutation(shown)[:MARKED]
    report.section(name, level=3)
    if len(marked):
        colors = item.sample.features[:, :3] + 0.5 if item.sample.features is not None else None
        found = _nearest(z3d[marked], z2d, item.places[marked])
        report.figure(
            correspondences(picture, item.places, item.sample.xyz, marked.tolist(), colors, found, name)
        )
    paint = FeatureColors.of(z2d.reshape(-1, z2d.shape[2]))
    report.figure(
        pictures_in_a_row([("the picture", picture), ("features of its pixels", paint(z2d))]),
        "Three principal directions of the pixels' features as red, green and blue.",
    )
    xyz, rest = item.sample.xyz, without_position(z3d, item.sample.xyz)
    views = {
        "in the pixels' directions": [ViewCloud(name, xyz, colors=paint(z3d))],
        "in their own, less what is linear in x, y, z": [
            ViewCloud(name, xyz, colors=FeatureColors.of(rest)(rest))
        ],
    }
    report.cloud_viewers(views, "Features of the points; drag one and both turn.", "z")


def _nearest(
    z3d: np.ndarray[Any, Any], z2d: np.ndarray[Any, Any], places: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """(n, 2) of the marked pixels the one whose feature is nearest to each point's."""
    rows, columns = np.floor(places[:, ::-1] + 0.5).astype(int).T
    candidates = z2d[rows, columns]
    chosen: np.ndarray[Any, Any] = places[(z3d @ candidates.T).argmax(axis=1)]
    return chosen
