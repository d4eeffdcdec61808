"""predict, embed and view on many files: a bad one is named, the others go on, what is done is written."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plyfile import PlyData
from tiny_checkpoints import classifier

from pointlift.commands.embed import embed
from pointlift.commands.file_loop import Progress
from pointlift.commands.file_words import named_files
from pointlift.commands.main import main
from pointlift.commands.predict import predict
from pointlift.commands.prediction_files import TimedSaves
from pointlift.commands.view import view
from pointlift.tasks.classify import Classify
from pointlift.tasks.files import write_cloud
from pointlift.tasks.predictor import Predictor

CLASSES = ("cat", "dog", "points")  # the last as a column of its own


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(classifier(tmp_path_factory.mktemp("net") / "net.safetensors", CLASSES, n_points=64))


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Three clouds and one damaged file, with other things among them."""
    folder = tmp_path / "scans"
    rng = np.random.default_rng(0)
    for name in ("a.npy", "b.NPY", "deep/er/c.npy"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("wb") as stream:
            np.save(stream, rng.normal(size=(90, 3)))
    (folder / "bad.ply").write_bytes(b"nonsense")
    (folder / "notes.md").write_text("notes")
    (folder / "README").write_text("notes")
    (folder / ".hidden.npy").write_bytes(b"")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "a.npy").write_bytes(b"")
    (folder / "deep" / "up").symlink_to(folder, target_is_directory=True)
    return folder


def test_folders_and_patterns_are_all_supported_files_and_the_rest_is_counted(
    scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(scans / name) for name in ("a.npy", "b.NPY", "bad.ply", "deep/er/c.npy")]
    assert named_files([str(scans)]) == (files, {})
    assert capsys.readouterr().err == f"pointlift: {scans}: 4 files, 2 passed over (1 no ending, 1 .md)\n"
    assert named_files([f"{scans}/*"]) == (files, {})  # the folder deep among what matches
    assert named_files([f"{scans}/**/*.npy"])[0] == [files[0], files[3]]
    (scans / "odd[1].npy").write_bytes(b"")
    assert named_files([str(scans / "odd[1].npy"), "s.h5#3"]) == ([str(scans / "odd[1].npy"), "s.h5#3"], {})
    (scans / "empty").mkdir()
    named, problems = named_files([f"{scans}/*.laz", str(scans / "empty")])
    assert named == list(problems) and "no file that can be read matches" in problems[named[0]]
    assert "a folder without a file that can be read (.ply .off" in problems[named[1]]


def test_predict_takes_a_folder_and_names_what_fails(
    checkpoint: str, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, table, arrays = (tmp_path / f"p.{ending}" for ending in ("json", "csv", "npz"))
    nothing = str(tmp_path / "*.las")
    assert predict(checkpoint, [str(scans), nothing], out=str(out)) == 2
    said = capsys.readouterr().err
    assert f"pointlift: {scans}/bad.ply: " in said and f"pointlift: {nothing}: no file" in said
    assert "2 of 5 files could not be used" in said
    entries = json.loads(out.read_text())["predictions"]
    assert [Path(e["file"]).name for e in entries if "class" in e] == ["a.npy", "b.NPY", "c.npy"]
    assert predict(checkpoint, [str(scans)], out=str(table)) == predict(
        checkpoint, [str(scans)], out=str(arrays)
    )
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["file", "class", "points", "cat", "dog", "probabilities.points", "error"]
    good = [e for e in entries if "class" in e]
    for row, entry in zip([r for r in rows if not r["error"]], good, strict=True):
        assert row["class"] == entry["class"] and row["points"] == "90"
        assert float(row["probabilities.points"]) == entry["probabilities"]["points"]
    assert "bad.ply" in rows[2]["error"] and rows[2]["cat"] == ""
    found = np.load(arrays)
    assert found["probabilities"].shape == (3, 3) and found["classes"].tolist() == list(CLASSES)
    assert found["files"].tolist() == [e["file"] for e in good] and found["points"].tolist() == [90] * 3
    assert found["failed"].tolist() == [str(scans / "bad.ply")] and "bad.ply" in found["errors"][0]
    assert found["class"].tolist() == [e["class"] for e in good]


def test_what_fails_inside_the_network_is_named_too(
    checkpoint: str, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    plain = Classify.predict
    files = [str(scans / name) for name in ("a.npy", "b.NPY", "deep/er/c.npy")]

    def some_fail(self: Classify, clouds: Any, category: str | None = None) -> Any:
        if any(c.path == files[0] for c in clouds):
            raise ValueError("voxels overflow the grid.")
        if any(c.path == files[1] for c in clouds):
            raise MemoryError("no room")
        return plain(self, clouds, category)

    monkeypatch.setattr(Classify, "predict", some_fail)
    for batch_size in (1, 3):
        out = tmp_path / f"{batch_size}.json"
        assert predict(checkpoint, files, out=str(out), batch_size=batch_size) == 2
        said = capsys.readouterr().err.splitlines()
        assert said[0] == f"pointlift: {files[0]}: voxels overflow the grid."
        assert said[1].startswith(f"pointlift: {files[1]}: out of memory: ")
        first, second, third = json.loads(out.read_text())["predictions"]
        assert "grid" in first["error"] and "memory" in second["error"] and "class" in third
    monkeypatch.setattr(Classify, "predict", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # a fault of ours is hidden from nobody
        predict(checkpoint, files, out=str(tmp_path / "z.json"))


def test_batches_say_what_single_clouds_do(checkpoint: str, scans: Path, tmp_path: Path) -> None:
    found = []
    for size in (1, 2, 8):
        predict(checkpoint, [str(scans)], out=str(tmp_path / "p.npz"), batch_size=size)
        embed(checkpoint, [str(scans)], out=str(tmp_path / "e.npz"), batch_size=size)
        found.append((np.load(tmp_path / "p.npz")["probabilities"], np.load(tmp_path / "e.npz")["features"]))
    for other in found[1:]:
        assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(found[0], other, strict=True))
    predictor = Predictor(checkpoint)
    alone = [predictor(str(scans / name)).probabilities for name in ("a.npy", "b.NPY", "deep/er/c.npy")]
    assert np.array_equal(found[0][0], np.stack(alone))
    other_seed = tmp_path / "seed.npz"
    predict(checkpoint, [str(scans)], out=str(other_seed), seed=1, device="cpu")
    assert not np.array_equal(np.load(other_seed)["probabilities"], found[0][0])


@pytest.mark.parametrize("command", ["predict", "embed", "view"])
def test_errors_alone_never_take_the_place_of_earlier_results(
    command: str, checkpoint: str, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / {"predict": "p.json", "embed": "e.npz", "view": "v.html"}[command]
    words = [command, *([] if command == "view" else [checkpoint])]
    bad = [str(scans / "bad.ply"), str(tmp_path / "missing.ply")]
    assert main([*words, *bad, "--out", str(out)]) == 2 and not out.exists()
    out.write_text("of before")
    capsys.readouterr()
    assert main([*words, *bad, "--out", str(out)]) == 2 and out.read_text() == "of before"
    said = capsys.readouterr().err.splitlines()
    assert "bad.ply" in said[0] and "missing.ply: no such file" in said[1] and len(said) == 3
    assert f"none of the 2 files could be used, so {out} was not written, and the file of before" in said[2]
    assert main([*words, bad[1], "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "missing.ply: no such file" in line and "the file of before stays as it was" in line


def test_an_interrupted_run_leaves_what_was_done(
    checkpoint: str,
    scans: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = Predictor.read

    def stopped(self: Predictor, file: Any) -> Any:
        if "c.npy" in str(file):
            raise KeyboardInterrupt
        return plain(self, file)

    monkeypatch.setattr(Predictor, "read", stopped)
    out, features = tmp_path / "p.json", tmp_path / "e.npz"
    assert main(["predict", checkpoint, str(scans), "--out", str(out)]) == 130
    assert f"interrupted after 3 of 4 files; {out} has what was done" in capsys.readouterr().err
    assert [Path(p["file"]).name for p in json.loads(out.read_text())["predictions"]] == [
        "a.npy", "b.NPY", "bad.ply"
    ]  # fmt: skip
    for per in ("cloud", "point"):
        assert main(["embed", checkpoint, str(scans), "--out", str(features), "--per", per]) == 130
        assert len(np.load(features)["files"]) == 2
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_results_are_written_as_they_come(
    checkpoint: str, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "p.json", []
    plain = Predictor.read

    def look(self: Predictor, file: Any) -> Any:
        seen.append(len(json.loads(out.read_text())["predictions"]) if out.exists() else 0)
        return plain(self, file)

    monkeypatch.setattr(Predictor, "read", look)
    monkeypatch.setattr(TimedSaves, "due", True)  # as if enough time lay between any two files
    predict(checkpoint, [str(scans)], out=str(out))
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("ending", ["npz", "csv"])
def test_embed_writes_features_of_points_block_by_block(
    ending: str, checkpoint: str, scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"e.{ending}"
    assert embed(checkpoint, [str(scans)], out=str(out), per="point") == 2
    predictor = Predictor(checkpoint)
    files = [str(scans / name) for name in ("a.npy", "b.NPY", "deep/er/c.npy")]
    clouds = [predictor.read(f) for f in files]
    expected = np.concatenate([predictor.embed(c, "point") for c in clouds])
    if ending == "npz":
        found = np.load(out)
        assert found["features"].dtype == np.float32 and np.array_equal(found["features"], expected)
        assert np.array_equal(found["xyz"], np.concatenate([c.xyz for c in clouds]))
        assert found["offsets"].tolist() == [0, 90, 180, 270] and found["files"].tolist() == files
        return
    with out.open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0][:5] == ["file", "x", "y", "z", "feature_0"] and len(rows) == 271
    assert np.array_equal(np.array([r[4:] for r in rows[1:]], dtype=np.float32), expected)
    assert rows[-1][0] == files[-1]


def test_a_cloud_whose_features_fail_midway_leaves_no_rows(
    checkpoint: str, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Classify.embed_points

    def fails(self: Classify, cloud: Any, category: str | None = None) -> Iterator[Any]:
        yield from plain(self, cloud, category)
        if "b.NPY" in cloud.path:
            raise ValueError("midway")

    monkeypatch.setattr(Classify, "embed_points", fails)
    out = tmp_path / "e.npz"
    assert embed(checkpoint, [str(scans)], out=str(out), per="point") == 2
    found = np.load(out)
    assert found["features"].shape == (180, 48) and found["offsets"].tolist() == [0, 90, 180]
    assert [Path(f).name for f in found["files"]] == ["a.npy", "c.npy"]


def test_a_coloured_cloud_of_a_single_file_by_its_ending(
    checkpoint: str, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = str(scans / "a.npy")
    assert predict(checkpoint, [cloud], out=str(tmp_path / "c.ply")) == 0
    assert len(PlyData.read(tmp_path / "c.ply")["vertex"]) == 90
    assert predict(checkpoint, [cloud], out=str(tmp_path / "c.las")) == 0
    assert (tmp_path / "c.las").stat().st_size == 227 + 26 * 90
    assert (
        predict(
            checkpoint, [cloud], out=str(tmp_path / "p.json"), ply=str(tmp_path / "x"), cloud_format="las"
        )
        == 0
    )
    assert (tmp_path / "x" / "a.las").read_bytes() == (tmp_path / "c.las").read_bytes()
    capsys.readouterr()
    for words, sentence in (
        ([str(scans), "--out", "c.las"], "is the coloured cloud of a single file, got 4 files"),
        ([cloud, "--out", "p.xlsx"], "predictions are written as .json, .csv, .npz"),
        ([cloud, "--out", cloud], "would be written over"),
        ([str(tmp_path / "c.ply"), "--ply", str(tmp_path)], "would be written over"),
        ([cloud, "--device", "gpu"], "--device gpu cannot be used"),
        ([cloud, "--batch_size", "0"], "--batch_size is 0, at least 1"),
        ([cloud, "--seed", "-1"], "--seed is -1, 0 or more"),
    ):
        assert main(["predict", checkpoint, *words]) == 2
        assert sentence in capsys.readouterr().err


def test_las_holds_the_points_where_they_are(tmp_path: Path) -> None:
    """Read back by the layout of the specification."""
    rng = np.random.default_rng(0)
    xyz, colors = rng.normal(size=(70, 3)).astype(np.float32), rng.uniform(size=(70, 3)).astype(np.float32)
    origin = (412_000.0, 5_310_000.0, 300.0)
    data = write_cloud(tmp_path / "a.las", xyz, colors, {"part": np.arange(70)}, origin).read_bytes()
    assert data[:4] == b"LASF" and data[24:26] == b"\x01\x02" and data[104] == 2
    number = np.frombuffer(data, "<u4", 1, 107)[0]
    scale, offset = np.frombuffer(data, "<f8", 3, 131), np.frombuffer(data, "<f8", 3, 155)
    bounds = np.frombuffer(data, "<f8", 6, 179).reshape(3, 2)
    rows = np.frombuffer(data, np.uint8, offset=227).reshape(number, 26)
    steps = np.ascontiguousarray(rows[:, :12]).view("<i4")
    assert np.allclose(offset + scale * steps - origin, xyz, atol=2e-9 * 5.4e6)
    assert np.allclose(bounds[:, 0] - origin, xyz.max(0), atol=1e-6)
    assert np.allclose(bounds[:, 1] - origin, xyz.min(0), atol=1e-6)
    assert np.allclose(np.ascontiguousarray(rows[:, 20:]).view("<u2") / 65535, colors, atol=1e-5)
    assert rows[:, 17].tolist() == list(range(70))


def test_view_goes_on_after_a_bad_file(
    checkpoint: str, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "v.html"
    for judge in (None, checkpoint):
        assert view([str(scans)], out=str(out), checkpoint=judge) == 2
        assert all(name in out.read_text() for name in ("a.npy", "b.NPY", "c.npy"))
        assert "bad.ply: " in capsys.readouterr().err


def test_progress_of_a_pipe_has_no_carriage_returns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter(range(0, 1000, 4))
    monkeypatch.setattr("pointlift.commands.file_loop.time.monotonic", lambda: float(next(now)))
    progress = Progress(8, quiet=True)
    for _ in range(8):
        progress.step()
    said = capsys.readouterr().err
    assert said.splitlines() == [
        "pointlift: 3 of 8 files, about 20 s left",
        "pointlift: 6 of 8 files, about 8 s left",
    ]
    assert "\r" not in said
