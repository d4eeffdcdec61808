"""`pointlift fit` of PointCMT's stages, each alone, from the recipes that a run of all of them leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fitting import fit_pointcmt
from tiny_pointcmt import settings

from pointlift.commands.main import main


@pytest.mark.slow
def test_each_stage_alone_ends_where_the_run_of_all_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing but the place differs, so the networks are the same to the bit."""
    whole = tmp_path / "all"
    fit_pointcmt(**settings(), out=whole)

    def fit(recipe: Path, place: str, *more: str) -> Path:
        assert main(["fit", str(recipe), "--out", str(tmp_path / place), *more]) == 0
        return tmp_path / place / "model.safetensors"

    teacher = fit(whole / "teacher" / "recipe.yaml", "teacher")
    assert "val_accuracy" in capsys.readouterr().out
    generator = fit(whole / "generator" / "recipe.yaml", "generator", "--teacher.checkpoint", str(teacher))
    said = capsys.readouterr().out
    assert "val_loss" in said and str(generator) in said and "report" not in said
    assert "accuracy of its teacher" not in said and "one after the other" not in said, "one stage"
    student = fit(
        whole / "recipe.yaml",
        "student",
        "--teacher.checkpoint",
        str(teacher),
        "--generator.checkpoint",
        str(generator),
    )
    said, page = capsys.readouterr().out, (student.parent / "report.html").read_text(encoding="utf-8")
    first = (
        f"one after the other: image network from {teacher}, point generator from {generator}, student "
        f"(pointcmt) in {student.parent}"
    )
    assert said.startswith(first) and "accuracy of its teacher" in said and "whose own accuracy" in page
    for place, folder in (
        ("teacher", whole / "teacher"),
        ("generator", whole / "generator"),
        ("student", whole),
    ):
        metrics = [json.loads((f / "result.json").read_text())["metrics"] for f in (folder, tmp_path / place)]
        assert metrics[0] == metrics[1], place
