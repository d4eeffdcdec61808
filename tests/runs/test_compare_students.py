"""`transfer.compare` and pointcmt/your_own_folder.yaml: a student with images beside the same one without."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from fitting import fit_pointcmt
from resuming import rows, same, weights
from tiny_pointcmt import DATA, settings

from pointlift.commands.main import main
from pointlift.data.pictures.config import ViewConfig
from pointlift.data.pictures.load import load_views
from pointlift.data.pictures.sources import ProjectedViews, RenderedViews
from pointlift.data.procedural.shapes import make_shapes
from pointlift.methods.pointcmt.student import TransferConfig
from pointlift.runs.result import RunResult
from pointlift.tasks.comparison import paired

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from folder_writers import write_mesh_folder

SHORT = [
    "--data.n_points", "64", "--data.batch_size", "4", "--transfer.teacher_batch_size", "4",
    "--generator.batch_size", "4", "--generator.n_points", "16", "--generator.hidden", "[16,16]",
    "--optim.epochs", "2", "--teacher_optim.epochs", "1", "--generator_optim.epochs", "1",
    "--views.size", "32", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false",
    "--model.options",
    '{"npoint":[16,8],"radii":[0.3,0.6],"nsample":[4,4],"mlps":[[8,16],[16,32]],"global_mlp":[32,48],'
    '"head":[128],"dropout":0.0}',
]  # fmt: skip


@pytest.mark.slow
def test_the_second_student_is_the_run_without_images_to_the_bit(tmp_path: Path) -> None:
    both = fit_pointcmt(**settings(transfer=TransferConfig("mse", teacher_batch_size=6, compare=True)),
                        out=tmp_path / "both")  # fmt: skip
    alone = fit_pointcmt(
        **settings(transfer=TransferConfig("none", teacher_batch_size=6)), out=tmp_path / "alone"
    )
    beside = RunResult.read(tmp_path / "both" / "without_images")
    assert same(weights(beside), weights(alone)) and rows(beside.csv) == rows(alone.csv)
    assert both.facts["without_images"] == beside.metrics and not same(weights(both), weights(beside))
    # a run of before the option was there goes on
    recipe = tmp_path / "alone" / "recipe.yaml"
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    del content["transfer"]["compare"]
    recipe.write_text(yaml.safe_dump(content), encoding="utf-8")
    again = settings(transfer=TransferConfig("none", teacher_batch_size=6))
    assert fit_pointcmt(**again, out=tmp_path / "alone", resume=True) == alone


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ValueError, match="compare is true and method none"):
        TransferConfig("none", compare=True)


@pytest.mark.parametrize("kind", ["folder", pytest.param("meshes", marks=pytest.mark.slow)])
def test_one_command_shows_both_students_and_the_views(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, classes = tmp_path / kind, ("chair", "mug", "table")
    if kind == "meshes":
        write_mesh_folder(source, 2, 2, classes=classes)
    else:
        shapes = make_shapes(4, 100, 0, "train", classes=classes)
        for i in range(len(shapes)):
            (source / classes[shapes[i].label]).mkdir(parents=True, exist_ok=True)
            np.save(source / classes[shapes[i].label] / f"{i}.npy", shapes[i].xyz)
    out = tmp_path / "run"
    words = ["fit", "pointcmt/your_own_folder.yaml", "--data.source", f"{kind}:{source}", "--out", str(out)]
    assert main([*words, *SHORT]) == 0
    said = capsys.readouterr().out
    assert "the same student without images in" in said
    assert re.search(r"accuracy of the same student without images \d+\.\d %", said)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "With images (pointcmt) against without images" in page and "the image network itself" in page
    assert "What the image network saw" in page and 'alt="Views of chair: ' in page
    assert ("rendered" if kind == "meshes" else "projected") in (
        out / "teacher" / "protocol.json"
    ).read_text()
    assert (out / "without_images" / "model.safetensors").is_file()


def test_the_kind_of_pictures_is_that_of_the_data() -> None:
    found = load_views(ViewConfig("auto", size=8), DATA, 0).train  # the embedded shapes have meshes
    assert isinstance(found, RenderedViews) and found.renderer()["kind"] == "rendered"
    assert isinstance(load_views(ViewConfig("projected", size=8), DATA, 0).train, ProjectedViews)
    with pytest.raises(ValueError, match="augment is for projected clouds, but kind is 'rendered'"):
        load_views(ViewConfig("auto", size=8, augment=True), DATA, 0)


def test_pairs_are_counted_and_chance_is_named() -> None:
    a, b = np.array([1, 1, 1, 1, 0, 0], dtype=bool), np.array([1, 0, 0, 0, 1, 0], dtype=bool)
    said = paired("A", "B", a, b)
    assert "only **A** was right on 3, only **B** on 1" in said
    assert "comes up in 62 % of cases" in said  # 2 (1 + 4) / 16 of a fair coin: 0.625
    assert "By chance" not in paired("A", "B", a, a)
    said = paired("A", "B", np.ones(10, dtype=bool), np.zeros(10, dtype=bool))
    assert "in 0.2 % of cases" in said  # 2 / 1024
