"""`pointlift data check` and `list` of frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_recordings import made_frames, write_own, write_picture

from pointlift.commands.data import data_check, data_list
from pointlift.data.rgbd import FRAME_SOURCES
from pointlift.data.rgbd.frame_check import check_frames
from pointlift.data.rgbd.open import frame_spec


def test_a_sound_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = made_frames(5)
    assert data_check(f"rgbd:{write_own(tmp_path, made)}") == 0
    said = capsys.readouterr().out
    valid = [float((f.depth > 0).mean()) for f in made]
    middle = [float(np.median(f.depth[f.depth > 0])) / 1000 for f in made]
    for words in (
        "5 frames of 1 recordings", "12 x 16 pixels, focal length 20 21, centre 7.5 5.5 (5 frames)",
        "5 frames, 5 posed",
        f"{min(valid):.0%} to {max(valid):.0%}", f"{min(middle):.3g} to {max(middle):.3g}",
        "1000 units per metre (detected", "  ok\n",
    ):  # fmt: skip
        assert words in said


def test_what_is_refused_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_own(tmp_path, made_frames(4))
    write_picture(tmp_path / "color" / "img_0010.png", np.zeros((5, 5, 3), np.uint8))
    write_picture(tmp_path / "depth" / "d13.png", np.zeros((12, 16), np.uint16))
    assert data_check(f"rgbd:{tmp_path}") == 1
    said = capsys.readouterr().out
    assert (
        "refused:" in said and "frames of two cameras are mixed" in said and "no depth gives a point" in said
    )
    assert "NOT usable" in said and "4 frames, 2 posed" in said


def test_what_cannot_be_opened_is_a_problem(tmp_path: Path) -> None:
    report = check_frames(f"rgbd:{tmp_path}")
    assert not report.ok and "color/, depth/" in report.problems[0] and "NOT usable" in report.render()
    assert "did you mean rgbd" in check_frames(f"rgdb:{tmp_path}").problems[0]


def test_frames_of_a_source_that_has_clouds_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert data_check("procedural:rooms?height=24&width=32&frames=2&train=1", frames=True) == 0
    assert "2 frames of 1 recordings" in capsys.readouterr().out


def test_only_some_frames_are_read(tmp_path: Path) -> None:
    report = check_frames(f"rgbd:{write_own(tmp_path, made_frames(9))}", most=3)
    assert len(report.read) == 3 and report.frames == 9


def test_every_source_is_listed_and_named_as_it_is_registered(capsys: pytest.CaptureFixture[str]) -> None:
    data_list()
    said = capsys.readouterr().out
    for name in FRAME_SOURCES:
        spec = frame_spec(name)
        assert spec.name == name and f"{name}:{spec.place}" in said and spec.what in said
