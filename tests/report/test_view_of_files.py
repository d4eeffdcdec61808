"""What `pointlift view` makes of files without a checkpoint."""

import json
import re

import numpy as np
import pytest

from pointlift.commands.main import main


def shown(page):
    """The clouds of a page of the viewer."""
    return json.loads(re.search(r'class="plv-data">(.*?)</script>', page.read_text(encoding="utf-8"))[1])


@pytest.fixture
def seen(tmp_path, capsys):
    def view(values, name, *more):
        values.astype(np.float32).tofile(tmp_path / name) if name.endswith(".bin") else np.savetxt(
            tmp_path / name, values
        )
        assert main(["view", str(tmp_path / name), "--out", str(tmp_path / "view.html"), *more]) == 0
        return shown(tmp_path / "view.html"), capsys.readouterr().out

    return view


SWEEP = np.c_[np.random.default_rng(0).normal(size=(60, 3)) * 20, np.random.default_rng(1).random(60)]


def test_the_intensity_of_a_sweep_is_a_colouring_and_points_are_counted_once(seen):
    data, said = seen(SWEEP, "sweep.bin")
    (cloud,) = data["clouds"]
    assert cloud["scalar"] is not None and cloud["scalarName"] == "intensity" and cloud["caption"] == ""
    assert data["upAxis"] == "z" and "z was taken for up, as is usual in .bin files" in said


def test_an_intensity_that_is_the_same_everywhere_is_none(seen):
    data, _ = seen(np.c_[SWEEP[:, :3], np.full(60, 0.5)], "sweep.bin")
    assert data["clouds"][0]["scalar"] is None


def test_the_axis_can_be_said_and_then_nothing_is_guessed(seen):
    data, said = seen(SWEEP[:, :3], "cloud.xyz", "--up_axis", "x")
    assert data["upAxis"] == "x" and "taken for up" not in said
