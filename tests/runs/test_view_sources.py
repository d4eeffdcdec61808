"""Rendered, coloured and ready-made pictures: what they show, that a cache changes nothing,
and what is wrong is said in a sentence.
"""

from __future__ import annotations

import pickle
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fitting import fit_view_teacher

from pointlift.core.mesh import Mesh
from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.formats.off import read_off
from pointlift.data.pictures import sources as view_sources
from pointlift.data.pictures.config import ViewConfig
from pointlift.data.pictures.load import load_views
from pointlift.data.pictures.sources import ViewSource
from pointlift.data.procedural.writers.objects import write_modelnet_txt, write_off
from pointlift.data.sample import Sample
from pointlift.data.training_clouds import load_splits
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.runs.folder import RunFolder, RunWriteError
from pointlift.teachers.files import TeacherConfig, open_teacher
from pointlift.views import render_mesh, rig

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from folder_writers import write_views

CLASSES = ["chair", "mug"]
DATA = DataConfig(classes=CLASSES, train_per_class=3, test_per_class=2, n_points=200, batch_size=4)
RENDERED = ViewConfig("rendered", rig="axis-3", size=20)
COLORED = DataConfig(
    source="procedural:shapes?features=color",
    classes=CLASSES,
    train_per_class=3,
    test_per_class=2,
    n_points=300,
)


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_renderings_are_those_of_the_clouds_meshes() -> None:
    source, clouds = load_views(RENDERED, DATA, 0).train, load_splits(DATA, 0).train
    images = source.images([4, 0])
    assert images.shape == (2, 3, 3, 20, 20) and images.dtype == torch.float32
    for row, index in enumerate((4, 0)):
        expected = render_mesh(clouds.mesh(index), rig("axis-3", "y"), 20)
        assert float((images[row] - expected).abs().max()) <= 0.5 / 255 + 1e-6, "kept as bytes"
    grey = load_views(replace(RENDERED, colors=False), DATA, 0).train.images([0])
    assert torch.equal(grey[:, :, 0], grey[:, :, 1]) and not torch.equal(images[1, :, 0], images[1, :, 1])


def test_a_cache_changes_no_pixel_and_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anew = load_views(RENDERED, DATA, 0).train.images(range(6))
    source = load_views(RENDERED, DATA, 0, tmp_path).train
    assert torch.equal(source.images([1, 2]), anew[1:3]) and len(files(tmp_path)) == 2
    assert torch.equal(source.images(range(6)), anew) and len(files(tmp_path)) == 6
    assert np.load(files(tmp_path)[0], mmap_mode="r").dtype == np.uint8
    few = load_views(RENDERED, replace(DATA, shots=1), 3, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(view_sources, "render_mesh", lambda *_, **__: pytest.fail("rendered again"))
        again = load_views(RENDERED, DATA, 0, tmp_path).train
        again.prepare()
        patch.setattr(CloudDataset, "mesh", lambda *_: pytest.fail("read again"))
        assert torch.equal(pickle.loads(pickle.dumps(again)).images(range(6)), anew), (
            "copies for loader processes know the names"
        )
        patch.undo()
        patch.setattr(view_sources, "render_mesh", lambda *_, **__: pytest.fail("rendered again"))
        assert few.train.images([0, 1]).shape[0] == 2, "few-shot subsets share the files"
    cut = files(tmp_path)[3]
    cut.write_bytes(cut.read_bytes()[:-5])
    assert torch.equal(source.images(range(6)), anew), "a file that is not whole is made anew"
    elsewhere = load_views(replace(RENDERED, cache=str(tmp_path / "own")), DATA, 0, tmp_path / "other").train
    assert (
        torch.equal(elsewhere.images([0]), anew[:1])
        and files(tmp_path / "own")
        and not (tmp_path / "other").exists()
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(RunWriteError, match="could not be written"):
        load_views(RENDERED, DATA, 0, tmp_path / "file").train.images([0])


def test_keys_and_files_change_with_renderer_and_mesh(tmp_path: Path) -> None:
    usual = load_views(RENDERED, DATA, 0).train.key
    changes: list[dict[str, object]] = [{"rig": "mvcnn-12"}, {"size": 21}, {"colors": False}]
    others = [load_views(replace(RENDERED, **change), DATA, 0, tmp_path).train for change in changes]  # type: ignore[arg-type]
    others.append(load_views(RENDERED, replace(DATA, shapes_seed=1), 0, tmp_path).train)
    others.append(load_views(ViewConfig(rig="axis-3", size=20, mode="z-buffer"), DATA, 0).train)
    assert len({usual, *(source.key for source in others)}) == 6
    for count, source in enumerate(others[:4], 1):
        source.images([0])
        assert len(files(tmp_path)) == count


def test_a_mesh_file_that_changes_is_rendered_again(tmp_path: Path) -> None:
    root = write_off(tmp_path / "off", 2, 2, seed=1, classes=CLASSES)
    paths = files(root / "chair" / "train")

    def mesh(index: int) -> Mesh:
        content = read_off(paths[index])
        assert content.faces is not None
        return Mesh(torch.from_numpy(content.xyz).float(), torch.from_numpy(content.faces))

    def source() -> view_sources.RenderedViews:
        samples = [Sample(np.zeros((1, 3), np.float32), 0, path=str(path)) for path in paths]
        return view_sources.RenderedViews(
            CloudDataset(samples, ["chair"], meshes=mesh), RENDERED, tmp_path / "cache"
        )

    before = source()
    first, key = before.images([0, 1]), before.key
    paths[0].write_bytes(paths[1].read_bytes() + b"\n")
    after = source()
    second = after.images([0, 1])
    other = tmp_path / "archive" / paths[0].name
    other.parent.mkdir()
    shutil.copy2(paths[0], other)
    dataset = CloudDataset([Sample(np.zeros((1, 3), np.float32), 0, path=str(other))], ["chair"], meshes=mesh)
    elsewhere = view_sources.RenderedViews(dataset, RENDERED, None)
    assert elsewhere.identify(0) != after.identify(0), (
        "one name, size and time, as an archive may give two different files"
    )
    assert after.key != key and torch.equal(second[0], first[1]) and torch.equal(second[1], first[1])


def test_meshes_that_cannot_be_rendered(tmp_path: Path) -> None:
    corner = Sample(np.zeros((3, 3), np.float32), 0, path="some/chair.off")
    empty = Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int64))
    dataset = CloudDataset([corner], ["chair"], meshes=lambda _: empty)
    with pytest.raises(
        DataError, match=r"^some/chair\.off: The mesh has 3 vertices but no faces, so it cannot be rendered"
    ):
        view_sources.RenderedViews(dataset, RENDERED, tmp_path).images([0])
    root = write_modelnet_txt(tmp_path / "txt", 2, 1, 64, classes=["airplane", "chair"])
    with pytest.raises(
        DataError, match=r"has clouds only, no meshes; render from .*, or project the clouds instead"
    ):
        load_views(RENDERED, DataConfig(source=f"modelnet:{root}", n_points=64, batch_size=2), 0)


def test_colours_of_points() -> None:
    views = ViewConfig("projected-color", rig="simpleview-6", size=16, splat=2)
    source = load_views(views, replace(COLORED, features="own"), 0).train
    images = source.images([0, 3])
    assert images.shape == (2, 6, 3, 16, 16) and not torch.equal(images[:, :, 0], images[:, :, 1])
    seen = {
        tuple(c) for c in images[0].permute(0, 2, 3, 1).reshape(-1, 3).mul(1000).round().int().tolist()
    } - {(0, 0, 0)}
    features = source.dataset[0].features
    assert features is not None
    assert seen <= {tuple(c) for c in np.rint(features * 1000).astype(int).tolist()}, (
        "no colours but those of points"
    )
    assert (
        source.key
        != load_views(ViewConfig(rig="simpleview-6", size=16, splat=2, mode="z-buffer"), COLORED, 0).train.key
    )
    with pytest.raises(
        DataError, match=r"has no features, but 3 colours in 0-1 are expected with views.kind projected-color"
    ):
        load_views(views, DATA, 0)
    eye = np.eye(3, dtype=np.float32)
    later = CloudDataset([Sample(eye, 0, eye, "a.ply"), Sample(eye, 0, None, "b.ply")], ["a"])
    with pytest.raises(DataError, match=r"^b\.ply: has no features"):
        view_sources.ProjectedViews(later, views, DATA, 0).images([1])
    bright = CloudDataset(
        [Sample(np.eye(3, dtype=np.float32), 0, np.full((3, 3), 255, np.float32), "a.ply")], ["a"]
    )
    with pytest.raises(DataError, match=r"^a\.ply: has 3 features from 255 to 255, but 3 colours in 0-1"):
        view_sources.ProjectedViews(bright, views, DATA, 0).images([0])


# ------------------------------------------------------------------------------------------------ folders


def paint(views: int) -> object:
    def of(mesh: Mesh) -> np.ndarray:
        pixels = np.full((views, 12, 12, 3), len(mesh.vertices) % 251, np.uint8)
        pixels[:, :6] = np.arange(views, dtype=np.uint8)[:, None, None, None] * 20
        return pixels

    return of


@pytest.fixture
def off(tmp_path: Path) -> DataConfig:
    return DataConfig(
        source=f"modelnet:{write_off(tmp_path / 'off', 3, 2, seed=2, classes=CLASSES)}",
        n_points=64,
        batch_size=4,
    )


def test_ready_made_views(off: DataConfig, tmp_path: Path) -> None:
    root = write_views(tmp_path / "views", paint(3), 3, 2, seed=2, classes=CLASSES)  # type: ignore[arg-type]
    views = ViewConfig("folder", size=12, folder=str(root), n_views=3)
    splits = load_views(views, replace(off, val_fraction=0.34), 0)
    assert splits.test is not None and [len(s) for s in (splits.train, splits.val, splits.test)] == [4, 2, 4]
    for source in (splits.train, splits.val, splits.test):
        images = source.images(range(len(source)))
        for row in range(len(source)):
            # OFF, number of vertices, number of faces
            vertices = int(Path(source.dataset.paths[row]).read_text().split()[1])
            assert images[row, 2, :, 0, 0].tolist() == pytest.approx([40 / 255] * 3)
            assert float(images[row, 0, 0, 11, 11]) == pytest.approx(vertices % 251 / 255), (
                "the views of another object"
            )
    small = load_views(replace(views, size=6), off, 0).train
    assert small.images([0]).shape == (1, 3, 3, 6, 6) and small.key != load_views(views, off, 0).train.key
    assert float(small.images([0])[0, 1, 0, 0, 0]) == pytest.approx(20 / 255, abs=1e-3)
    key, file = load_views(views, off, 0).train.key, files(root / "chair" / "train")[0]
    file.write_bytes(file.read_bytes() + b" ")
    assert load_views(views, off, 0).train.key != key


def test_folders_that_do_not_fit(off: DataConfig, tmp_path: Path) -> None:
    root = write_views(tmp_path / "views", paint(3), 3, 2, seed=2, classes=CLASSES)  # type: ignore[arg-type]
    views = ViewConfig("folder", size=12, folder=str(root))
    with pytest.raises(DataError, match=r"has 3 of 4 .*n_views"):
        load_views(replace(views, n_views=4), off, 0)
    with pytest.raises(MissingDataError, match="no such folder"):
        load_views(replace(views, folder=str(tmp_path / "none")), off, 0)
    missing = root / "mug" / "train" / "mug_0002_002.png"
    content = missing.read_bytes()
    missing.unlink()
    with pytest.raises(MissingDataError, match=r"mug_0002_002\.png: no such view"):
        load_views(views, off, 0)
    missing.write_bytes(content)
    for file in (root / "chair" / "test").iterdir():
        if file.stem.endswith("_003"):
            file.unlink()
    for file in (root / "mug" / "test").iterdir():
        if file.stem.endswith("_003"):
            file.unlink()
    with pytest.raises(
        ValueError, match="objects for training have 3 views, those of val 2, expected as many"
    ):
        load_views(views, off, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "folder"}, "kind is 'folder' and folder None"),
        ({"kind": "rendered", "folder": "x"}, "kind is 'rendered' and folder 'x'"),
        ({"n_views": 3}, "n_views is 3 with kind 'projected'"),
        ({"kind": "rendered", "augment": True}, "augment is for projected clouds"),
        ({"rig": "axis-3"}, 'mode "harmonic" draws SimpleView'),
        ({"splat": 3}, "splat must be 1 or an even number"),
        (
            {"rig": "dodecahedron"},
            "rig must be one of rotationnet-20, mvcnn-12, simpleview-6, axis-3, got 'dodecahedron'",
        ),
    ],
)
def test_settings_that_do_not_fit(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_views(ViewConfig(**given), DATA, 0)  # type: ignore[arg-type]


def test_a_teacher_of_renderings_keeps_them_in_its_folder(tmp_path: Path) -> None:
    optim, trainer = (
        OptimConfig(lr=0.01, epochs=1),
        TrainerConfig(accelerator="cpu", enable_progress_bar=False, evaluate_every=1),
    )
    teacher, data = TeacherConfig("fractal_resnet"), replace(DATA, num_workers=1, batch_size=3)
    result = fit_view_teacher(teacher, replace(RENDERED, size=32), data, optim, trainer, 0, tmp_path / "run")
    assert len(files(tmp_path / "run" / "views")) == 6 + 4 and 0 <= result.metrics["val_accuracy"] <= 1
    source: ViewSource = load_views(replace(RENDERED, size=32), DATA, 0).train
    assert open_teacher(result.checkpoint)[1]["views"] == source.renderer()
    folder, recipe = RunFolder(tmp_path / "run"), {"views": {"cache": "a", "size": 3}}
    folder.recipe.write_text("views: {cache: b, size: 3}\n")
    assert not folder.differences(recipe), "where renderings are kept changes no number"
