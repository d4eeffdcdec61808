"""Images as clouds of pixels: coordinates, colours, crops,
and that what is drawn depends on (seed, epoch, index) alone.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from pointlift.data.check import check_dataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.images.image_set import ImageSet
from pointlift.data.loader import make_loader
from pointlift.data.sources.open import available_splits, describe_source, open_dataset
from pointlift.data.sources.pixels import PixelClouds, PixelCrop, pixel_cloud

FRACTALS = "pixels:procedural:fractals?categories=1&size=16&train=4&val=2"


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth random colours, so that resizing changes values little and never by chance not at all."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


class Pictures(ImageSet):
    """Pictures in a list, two classes."""

    def __init__(self, pictures: list[Image.Image]) -> None:
        super().__init__("pictures", ("a", "b"), [i % 2 for i in range(len(pictures))])
        self.pictures = pictures

    def _load(self, i: int) -> Image.Image:
        return self.pictures[i]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eight training and four other pictures of two classes, in an ImageFolder."""
    root = tmp_path_factory.mktemp("pictures")
    for split, n in (("train", 4), ("val", 2)):
        for label, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                picture(18 + i, 16, 10 * label + n + i).save(root / split / name / f"{i}.png")
    return f"pixels:imagefolder:{root}"


def rows(xyz: np.ndarray, features: np.ndarray | None) -> np.ndarray:
    """(H, W, 3) colours of a cloud of pixels, wherever in the cloud they are."""
    assert features is not None
    image = np.full((int(xyz[:, 1].max()) + 1, int(xyz[:, 0].max()) + 1, 3), np.nan, dtype=np.float32)
    image[xyz[:, 1].astype(int), xyz[:, 0].astype(int)] = features
    return image


def test_every_pixel_is_a_point() -> None:
    image = Image.new("RGB", (3, 2))
    image.putpixel((2, 0), (255, 51, 0))
    cloud = pixel_cloud(image, 7)
    # v1, section 6.1: the pixel's location as x and y, and z = 1; rows from the top
    assert (
        cloud.xyz.tolist() == [[0, 0, 1], [1, 0, 1], [2, 0, 1], [0, 1, 1], [1, 1, 1], [2, 1, 1]]
        and cloud.label == 7
    )
    assert (
        cloud.features is not None
        and np.allclose(cloud.features[2], [1.0, 0.2, 0.0])
        and not cloud.features[[0, 1, 3, 4, 5]].any()
    )
    grey = pixel_cloud(Image.fromarray(np.array([[0, 255]], dtype=np.uint8)))
    assert grey.features is not None and grey.features.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_evaluation_sees_what_torchvision_shows() -> None:
    image = picture(90, 61)
    seen = PixelCrop(crop=28, resize=32).still(image)
    wanted = v2.Compose([v2.Resize(32), v2.CenterCrop(28)])(image)
    assert np.array_equal(np.asarray(seen), np.asarray(wanted))
    assert PixelCrop(224).still(picture(300, 500)).size == (224, 224)
    wanted = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])(picture(300, 500))
    assert np.array_equal(np.asarray(PixelCrop(224).still(picture(300, 500))), np.asarray(wanted))
    assert PixelCrop().still(image) is image


def test_whole_pictures_are_only_mirrored() -> None:
    image = picture(9, 8)
    pixels = np.asarray(image)
    seen = [np.asarray(PixelCrop().drawn(image, np.random.default_rng(seed))) for seed in range(40)]
    mirrored = [np.array_equal(s, pixels[:, ::-1]) for s in seen]
    assert all(m or np.array_equal(s, pixels) for m, s in zip(mirrored, seen)) and 8 <= sum(mirrored) <= 32
    still = PixelCrop(augment=False)
    assert np.array_equal(np.asarray(still.drawn(image, np.random.default_rng(1))), pixels)


def test_random_crops_cover_the_area_and_aspect_of_the_recipe() -> None:
    # colours that say where a pixel comes from, so that the window can be read off the crop
    x, y = np.meshgrid(np.arange(256), np.arange(200))
    image = Image.fromarray(np.stack([x, y, 0 * x], 2).astype(np.uint8))
    shares, aspects = [], []
    for seed in range(150):
        seen = np.asarray(PixelCrop(crop=64).drawn(image, np.random.default_rng(seed))).astype(float)
        assert seen.shape == (64, 64, 3)
        step_x, step_y = np.abs(np.diff(seen[0, :, 0])).mean(), np.abs(np.diff(seen[:, 0, 1])).mean()
        width, height = 64 * step_x, 64 * step_y
        shares.append(width * height / (256 * 200))
        aspects.append(width / height)
    # 8 % to all, read with an error
    assert min(shares) < 0.2 and max(shares) > 0.75 and min(shares) > 0.06 and max(shares) < 1.03
    assert 0.7 < min(aspects) < 0.85 and 1.2 < max(aspects) < 1.42
    # uniform in the area; large windows of a wrong aspect are tried again
    assert 0.4 < float(np.mean(shares)) < 0.62


def test_clouds_of_a_set() -> None:
    images = [picture(6, 5, 0), picture(4, 7, 1), picture(8, 8, 2)]
    clouds = PixelClouds(Pictures(images))
    assert [len(clouds[i]) for i in range(3)] == [30, 28, 64] and clouds.labels.tolist() == [0, 1, 0]
    for i, image in enumerate(images):
        cloud = clouds[i]
        assert np.array_equal(
            rows(cloud.xyz, cloud.features), np.asarray(image, dtype=np.float32) / np.float32(255)
        )
        assert np.array_equal(cloud.xyz, clouds[i].xyz)  # evaluation is the same every time
        assert np.diff(cloud.xyz[:, 1]).min() < 0  # and not in rows, whose first points are the upper ones
    in_rows = PixelClouds(Pictures(images), crop=PixelCrop(shuffle=False))
    assert np.array_equal(in_rows[1].xyz, pixel_cloud(images[1]).xyz)


def test_fewer_points_are_random_pixels() -> None:
    image = picture(20, 20)
    for view in (PixelCrop(), PixelCrop(shuffle=False)):
        clouds = PixelClouds(Pictures([image]), crop=view, n_points=50)
        cloud = clouds[0]
        assert len(np.unique(cloud.xyz, axis=0)) == 50 and cloud.xyz[:, 1].max() > 15
        assert np.array_equal(clouds[0].xyz, cloud.xyz)
        assert not np.array_equal(
            clouds.draw(0, np.random.default_rng(1)).xyz, clouds.draw(0, np.random.default_rng(2)).xyz
        )
    assert len(PixelClouds(Pictures([image]), n_points=500)[0]) == 400


def test_subsets_and_memory_keep_drawing() -> None:
    clouds = PixelClouds(
        Pictures([picture(12, 12, i) for i in range(6)]), crop=PixelCrop(crop=8), n_points=40, seed=3
    )
    part = clouds.subset([4, -5, 2])
    for same in (
        part,
        part.in_memory(),
        clouds.in_memory().subset([4, 1, 2]),
        pickle.loads(pickle.dumps(part)),
    ):
        assert same.labels.tolist() == [0, 1, 0] and same.classes == clouds.classes
        for i, whole in enumerate((4, 1, 2)):
            assert np.array_equal(same[i].features, clouds[whole].features)
            drawn = same.draw(i, np.random.default_rng(9))
            assert np.array_equal(drawn.features, clouds.draw(whole, np.random.default_rng(9)).features)
            assert not np.array_equal(drawn.features, same[i].features)
    with pytest.raises(IndexError, match="cloud 6"):
        clouds.subset([6])


@pytest.mark.parametrize("memory", [False, True])
def test_batches_follow_from_seed_and_epoch(memory: bool, source: str) -> None:
    def batches(epoch: int, seed: int = 0, workers: int = 0, shuffle: bool = True) -> list[torch.Tensor]:
        loader = make_loader(
            open_dataset(f"{source}?crop=8", n_points=None, in_memory=memory),
            5,
            shuffle,
            seed,
            num_workers=workers,
        )
        loader.set_epoch(epoch)
        found = []
        for batch in loader:
            assert batch.features is not None
            found.append(torch.cat([batch.xyz, batch.features], 1))
        return found

    def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
        return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

    assert same(batches(2), batches(2, workers=0 if memory else 1))
    assert not same(batches(2), batches(3)) and not same(batches(2), batches(2, seed=1))
    assert same(batches(2, shuffle=False), batches(3, shuffle=False))  # evaluation draws nothing

    resumed = make_loader(open_dataset(f"{source}?crop=8", n_points=None), 5, True)
    resumed.load_state_dict({"epoch": 2, "batches": 1})
    rest = [batch.features for batch in resumed]
    assert all(f is not None and torch.equal(f, w[:, 3:]) for f, w in zip(rest, batches(2)[1:], strict=True))


def test_sources(source: str) -> None:
    train, test = (open_dataset(source, split, n_points=None) for split in ("train", "test"))
    assert (
        isinstance(train, PixelClouds)
        and train.counts().tolist() == [4, 4]
        and test.counts().tolist() == [2, 2]
    )
    assert train.classes == test.classes == ("cat", "dog") and [len(train[i]) for i in (0, 1)] == [288, 304]
    assert describe_source(source) == "pixels of imagefolder" and available_splits(source) == (
        "train",
        "test",
    )
    assert len(open_dataset(f"{source}?crop=12&resize=14", n_points=None)[0]) == 144
    assert len(open_dataset(source, n_points=9)[0]) == 9
    plain = open_dataset(f"{source}?augment=false&shuffle=false", n_points=None)
    assert np.array_equal(plain.draw(0, np.random.default_rng(0)).features, plain[0].features)


def test_check_tells_pictures_apart_by_their_colours(source: str) -> None:
    folder = Path(source.removeprefix("pixels:imagefolder:"))
    report = check_dataset(source)
    assert report.ok and not report.warnings and [sum(s.counts.values()) for s in report.splits] == [8, 4]
    copy = folder / "val" / "dog" / "copy.png"
    copy.write_bytes((folder / "train" / "cat" / "2.png").read_bytes())
    try:
        (warning,) = check_dataset(source).warnings
    finally:
        copy.unlink()
    assert "1 clouds are also in train" in warning and "picture" in warning


def test_options_of_the_image_source() -> None:
    # 20 pixels rendered, 8 of them seen
    fractals = open_dataset(FRACTALS + "&crop=8", "test", n_points=None, size=20, seed=2)
    assert len(fractals) == 2 and len(fractals[0]) == 64
    assert describe_source(FRACTALS) == "pixels of procedural"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("pixels:", "pixels:<image source> is expected"),
        ("pixels:imagefoldr:x", "did you mean imagefolder"),
        ("pixels:imagefolder:nowhere", "nowhere does not exist"),
        (FRACTALS + "&crop=0", "crop is 0"),
        (FRACTALS + "&resize=8", "expected a crop"),
        (FRACTALS + "&crop=12&resize=8", "resize of at least it"),
        (FRACTALS + "&crop=big", "crop=big should be a whole number"),
        (FRACTALS + "&categorie=3", "did you mean 'categories'"),
        ("pixel:procedural:fractals", "did you mean 'pixels'"),
    ],
)
def test_bad_sources(bad: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_dataset(bad, n_points=None)


def test_missing_pictures_and_bad_number_of_points(source: str) -> None:
    with pytest.raises(MissingDataError, match="nowhere does not exist"):
        describe_source("pixels:imagefolder:nowhere")
    with pytest.raises(DataError, match="n_points is 0"):
        open_dataset(source, n_points=0)
