"""A network on range images from the command line: trained on made streets, judged, asked, reported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pointlift.commands.main import main
from pointlift.data.files.points import PointFile, read_points
from pointlift.data.scene_clouds import open_scenes
from pointlift.report import write_csv
from pointlift.tasks import open_task

SOURCE = "procedural:streets?train=2&val=1&beams=16&azimuths=128"
COMMAND = [
    "fit", "scenes/toy_streets.yaml", "--data.source", SOURCE, "--data.batch_size", "2",
    "--model.network", "range-view", "--model.options", "{height: 16, width: 128, answer: vote}",
    "--optim.epochs", "4", "--trainer.evaluate_every", "2",
]  # fmt: skip


@pytest.mark.slow
def test_a_range_view_is_trained_judged_asked_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([*COMMAND, "--out", str(out)]) == 0
    metrics = json.loads((out / "result.json").read_text())["metrics"]
    rows = (out / "metrics.csv").read_text().splitlines()
    losses = [float(row.split(",")[rows[0].split(",").index("train_loss")]) for row in rows[1:]]
    assert losses[-1] < losses[0] and metrics["val_accuracy"] > 0.05
    report = (out / "report.html").read_text()
    assert all(word in report for word in ("mIoU", "Classes", "Scenes", "What became of the image network"))

    # the checkpoint votes as the run did
    checkpoint = str(out / "model.safetensors")
    task = open_task(checkpoint, device="cpu")
    judged = task.evaluate(SOURCE, "val").content["metrics"]["miou"]
    assert judged == pytest.approx(metrics["val_miou"], abs=1e-6)

    # every point of a file is answered, also where another point hides it in the picture
    sweep = open_scenes(SOURCE, "val", ("intensity",))[0]
    assert sweep.features is not None
    write_csv(
        tmp_path / "sweep.csv",
        ["x", "y", "z", "intensity"],
        np.concatenate([sweep.xyz, sweep.features], 1).tolist(),
    )
    assert main(["predict", checkpoint, str(tmp_path / "sweep.csv"), "--out", str(tmp_path / "a.ply")]) == 0
    assert len(read_points(tmp_path / "a.ply")) == len(sweep.xyz)
    (found,) = task.predict([PointFile("sweep", sweep.xyz, columns={"intensity": sweep.features[:, 0]})])
    order = np.random.default_rng(0).permutation(len(sweep.xyz))
    (mixed,) = task.predict(
        [PointFile("sweep", sweep.xyz[order], columns={"intensity": sweep.features[order, 0]})]
    )
    agree = np.mean(np.asarray(mixed.labels) == np.asarray(found.labels)[order])  # type: ignore[attr-defined]
    assert agree > 0.99, "the order of points decides ties within a pixel alone"
