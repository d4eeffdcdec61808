"""Datasets and folders of fractal pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pointlift.data.procedural.fractals.fractal_images import FractalImages, write_fractaldb
from pointlift.data.procedural.fractals.systems import FractalCategory, weight_table

SQUARE = FractalCategory(
    np.array([[0.5, 0, 0, 0.5, e, f, 0.25] for e in (0, 0.5) for f in (0, 0.5)]), "00000"
)
TREE = FractalCategory(
    np.array([[0.5, -0.3, 0.3, 0.5, 0.2, 0.5, 0.5], [0.6, 0.2, -0.2, 0.6, -0.3, 0.1, 0.5]]), "00001"
)
NEARLY_DIVERGENT = FractalCategory(
    np.array([[0.9, 0, 0, 0.9, 0.5, 0.1, 0.5], [0.95, 0, 0, 0.9, -0.5, 0.2, 0.5]]), "00002"
)


def test_items_labels_and_cache_agree() -> None:
    cached = FractalImages([SQUARE, TREE], 30, 24)
    lazy = FractalImages([SQUARE, TREE], 30, 24, cache=False)
    assert (
        len(cached) == 60
        and cached.images is not None
        and cached.images.shape == (60, 1, 24, 24)
        and lazy.images is None
    )
    assert cached.classes == ("00000", "00001") and cached.labels.tolist() == [0] * 30 + [1] * 30
    for index in (0, 29, 30, 59, -1):
        image, label = lazy[index]
        assert image.dtype == torch.uint8 and label == cached[index][1] == int(index % 60 >= 30)
        assert torch.equal(image, cached[index][0])
    with pytest.raises(IndexError, match="60 pictures"):
        cached[60]


def test_instances_run_through_weights_then_flips_then_patches() -> None:
    data = FractalImages([TREE], 201, 32, mode="point_gray", cache=False)
    picture = [data[i][0].numpy()[0] for i in range(101)]
    assert len({p.tobytes() for p in picture[:25]}) == 25
    np.testing.assert_array_equal(picture[25], picture[0][::-1])
    np.testing.assert_array_equal(picture[53], picture[3][:, ::-1])
    np.testing.assert_array_equal(picture[79], picture[4][::-1, ::-1])
    # another patch pattern on the same trajectory: the same points
    np.testing.assert_array_equal(picture[100], picture[0])
    patched = FractalImages([TREE], 201, 32, iterations=200, cache=False)
    assert not torch.equal(patched[100][0], patched[0][0])


def test_own_trajectories_and_held_out_instances() -> None:
    train = FractalImages([TREE], 5, 32, mode="point_gray", iterations=200, trajectory="instance")
    held_out = FractalImages(
        [TREE], 5, 32, mode="point_gray", iterations=200, trajectory="instance", first_instance=100
    )
    assert not any(torch.equal(train[i][0], held_out[i][0]) for i in range(5))
    again = FractalImages(
        [TREE], 5, 32, mode="point_gray", iterations=200, trajectory="instance", cache=False
    )
    assert all(torch.equal(train[i][0], again[i][0]) for i in range(5))
    other = FractalImages([TREE], 5, 32, mode="point_gray", iterations=200, trajectory="instance", seed=1)
    assert not torch.equal(train[0][0], other[0][0])


def test_divergent_weights_give_the_plain_picture_unless_kept() -> None:
    divergent = [
        row for row, weights in enumerate(weight_table(0.4)) if NEARLY_DIVERGENT.perturbed(weights).diverges()
    ]
    assert divergent
    mended, kept = (
        FractalImages([NEARLY_DIVERGENT], 25, 48, mode="point_gray", keep_divergent=keep)
        for keep in (False, True)
    )
    for row in range(25):
        reference = 2 if row in divergent else row
        assert torch.equal(mended[row][0], kept[reference][0])
    assert min(int((kept[row][0] > 0).sum()) for row in divergent) < 60


def test_color_pictures() -> None:
    image, _ = FractalImages([TREE], 1, 20, mode="patch_color")[0]
    assert image.shape == (3, 20, 20)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="got 0 categories"):
        FractalImages([])
    for arguments in ({"instances_per_class": 0}, {"first_instance": -1}, {"seed": -1}):
        with pytest.raises(ValueError, match="fractal images: got"):
            FractalImages([TREE], image_size=16, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'fixed' or 'instance'"):
        FractalImages([TREE], trajectory="random")  # type: ignore[arg-type]


def test_written_folder_has_the_published_names(tmp_path: Path) -> None:
    assert write_fractaldb(tmp_path, [SQUARE, TREE], 20, patterns=2) == 2 * 25 * 2 * 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000", "00001"]
    names = {p.name for p in (tmp_path / "00001").iterdir()}
    assert names == {
        f"00001_{w:02d}_count_{n}_flip{k}.png" for w in range(25) for n in range(2) for k in range(4)
    }
    picture = np.asarray(Image.open(tmp_path / "00001/00001_07_count_1_flip2.png"))
    assert picture.shape == (20, 20, 3)
    np.testing.assert_array_equal(
        picture[..., 0], FractalImages([SQUARE, TREE], 200, 20, keep_divergent=True)[200 + 157][0].numpy()[0]
    )
    kept = tmp_path / "00000/00000_00_count_0_flip0.png"
    kept.write_bytes(b"mine")
    write_fractaldb(tmp_path, [SQUARE], 20, patterns=1)
    assert kept.read_bytes() == b"mine"
    with pytest.raises(ValueError, match="patterns=0"):
        write_fractaldb(tmp_path, [SQUARE], 20, patterns=0)
