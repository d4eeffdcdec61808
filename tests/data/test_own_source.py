"""A dataset of one's own: one file with a reader and its record, opened,
checked and evaluated without touching another.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pointlift.commands.main import main
from pointlift.data.check import check_dataset
from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.sources import SOURCES
from pointlift.data.sources.open import (
    available_splits,
    dataset_spec,
    describe_source,
    open_clouds,
    open_dataset,
)
from pointlift.data.sources.spec import DatasetSpec
from pointlift.data.training_clouds import load_splits

READER = '''
"""Rings and discs with a temperature at every point."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointlift.data import CloudDataset, DatasetSpec, KnownDataset, Layout, Sample


@dataclass(frozen=True)
class Drawn:
    n_points: int
    seed: int
    heat: bool
    noise: float

    def __call__(self, path: str, label: int, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        radius = np.sqrt(rng.random(self.n_points)) if label else np.ones(self.n_points)
        angle = rng.uniform(0, 2 * np.pi, self.n_points)
        height = self.noise * rng.normal(size=self.n_points)
        xyz = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)
        return Sample(xyz, label, radius[:, None] if self.heat else None, path)


def read_toy(
    place: str,
    split: str,
    n_points: int | None = 64,
    seed: int = 0,
    per_class: int = 4,
    noise: float = 0.1,
    heat: bool = False,
) -> CloudDataset:
    labels = [0] * per_class + [1] * per_class
    first = {"train": 0, "test": 1000}[split]
    paths = [f"toy {split} {i}" for i in range(len(labels))]
    draw = Drawn(n_points or 64, seed + first, heat, noise)
    return CloudDataset.from_paths(paths, labels, draw, ("ring", "disc"), f"toy ({split})", "z")


def read_folder(root: Path, split: str, n_points: int | None = None) -> CloudDataset:
    files = sorted(root.glob("*.npy"))
    return CloudDataset([Sample(np.load(f), 0, path=str(f)) for f in files], ("thing",), "toy files")


ABOUT = KnownDataset("toys", "toys.py:TOYS", "rings and discs", "here", "none", "none")
TOYS = DatasetSpec("toys", "objects", {"": Layout(read_toy, own={"heat": True})}, place="", about=(ABOUT,))
FILES = DatasetSpec("toy files", "objects", {"": Layout(read_folder, points="all")}, splits=("all",))
NOTHING = 3
'''


@pytest.fixture
def own(tmp_path: Path) -> str:
    file = tmp_path / "toys.py"
    file.write_text(READER)
    return str(file)


def test_it_is_opened_by_its_file(own: str) -> None:
    dataset = open_dataset(f"{own}:TOYS?per_class=3&noise=0", "test", 32)
    assert len(dataset) == 6 and dataset.classes == ("ring", "disc") and dataset.up_axis == "z"
    assert len(dataset[0]) == 32 and np.abs(dataset[0].xyz[:, 2]).max() == 0 and dataset[0].features is None
    assert available_splits(f"{own}:TOYS") == ("train", "test") and describe_source(f"{own}:TOYS") == "toys"
    assert dataset_spec(f"{own}:TOYS") is dataset_spec(f"{own}:TOYS"), "the file is run once"


def test_a_folder_behind_the_name(own: str, tmp_path: Path) -> None:
    folder = tmp_path / "clouds"
    folder.mkdir()
    np.save(folder / "a.npy", np.ones((5, 3)))
    source = f"{own}:FILES:{folder}"
    assert len(open_dataset(source, "all")) == 1 and available_splits(source) == ("all",)
    assert check_dataset(source).splits[0].counts == {"thing": 1}


def test_it_is_checked_trained_on_and_evaluated(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"{own}:TOYS?per_class=3"
    assert main(["data", "check", source]) == 0
    assert "6 clouds, 2 classes, 3 to 3 per class, z up" in capsys.readouterr().out
    splits = load_splits(DataConfig(source, n_points=48, features="xyz+own"), 5)
    assert (len(splits.train), len(splits.val)) == (6, 6)
    evaluated = open_clouds(source, "test", "xyz+own", 48, 5)
    for sample, again in ((splits.val[i], evaluated[i]) for i in range(6)):
        assert sample.features is not None and again.features is not None
        assert np.array_equal(sample.xyz, again.xyz) and np.array_equal(sample.features, again.features)


def test_what_is_wrong_with_it_is_one_sentence(own: str, tmp_path: Path) -> None:
    cases = {
        f"{own}:TOYS?noise=much": "noise=much should be a number",
        f"{own}:TOYS?nois=1": "did you mean 'noise'",
        f"{own}:TOY": "has no 'TOY'",
        f"{own}:NOTHING": "is a int, a pointlift.data.DatasetSpec is expected",
        f"{own}:FILES": "names nothing, .*:FILES:<folder> is expected",
        f"{own}:FILES:{tmp_path / 'absent'}": "absent does not exist; a folder of toy files is expected",
    }
    for source, words in cases.items():
        with pytest.raises(DataError, match=words) as caught:
            open_dataset(source, "train")
        assert "\n" not in str(caught.value)
    with pytest.raises(MissingDataError, match=r"No file .*none\.py"):
        open_dataset(f"{tmp_path / 'none.py'}:TOYS")
    assert not check_dataset(f"{tmp_path / 'none.py'}:TOYS").ok


def test_a_file_that_was_changed_is_run_again(own: str) -> None:
    assert open_dataset(f"{own}:TOYS", "train").classes == ("ring", "disc")
    Path(own).write_text(READER.replace('"ring"', '"hoop"'))
    os.utime(own, ns=(1, 1))
    assert open_dataset(f"{own}:TOYS", "train").classes == ("hoop", "disc")


@pytest.mark.parametrize("name", SOURCES)
def test_every_record_is_whole(name: str) -> None:
    spec = dataset_spec(name)
    assert isinstance(spec, DatasetSpec) and spec.name == name and spec.about and spec.layouts
    assert all(callable(layout.read) for layout in spec.layouts.values())
    if spec.place == "<folder>":
        assert spec.title and str(Path("/nowhere")) in spec.how_to_get(Path("/nowhere"))


def test_the_public_names_are_those_of_the_rooms() -> None:
    import pointlift.data as public

    assert (
        public.CloudDataset is CloudDataset
        and public.open_dataset is open_dataset
        and set(public.__all__) <= set(dir(public))
    )
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        public.nonsense  # noqa: B018
