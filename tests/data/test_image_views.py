"""Views of pictures against torchvision's, and the order of an epoch."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from pointlift.data.errors import DataError, MissingDataError, worker_errors
from pointlift.data.images.crops import CenterCrop, CroppedImages, ImageOrder, TrainCrop, _window
from pointlift.data.images.image_set import ImageSet


class Ramps(ImageSet):
    """Pictures whose pixels say where they are: red is the column, green the row, blue the picture."""

    def __init__(self, n: int = 6, width: int = 40, height: int = 30) -> None:
        super().__init__("ramps", ("a", "b"), [i % 2 for i in range(n)])
        self.side = width, height

    def _load(self, i: int) -> Image.Image:
        width, height = self.side
        pixels = np.empty((height, width, 3), np.uint8)
        pixels[..., 0], pixels[..., 1], pixels[..., 2] = np.arange(width), np.arange(height)[:, None], i
        return Image.fromarray(pixels)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(("width", "height"), [(90, 61), (61, 90), (64, 64), (73, 257)])
@pytest.mark.parametrize(("size", "resize"), [(32, 37), (32, 32), (61, None), (31, None)])
def test_evaluation_is_torchvisions_resize_and_centre_crop(
    width: int, height: int, size: int, resize: int | None
) -> None:
    picture = noise(width, height)
    steps = (
        [transforms.CenterCrop(size)]
        if resize is None
        else [transforms.Resize(resize), transforms.CenterCrop(size)]
    )
    assert np.array_equal(
        np.asarray(CenterCrop(size, resize)(picture, 0, 0)), np.asarray(transforms.Compose(steps)(picture))
    )


def test_sides_are_whole_numbers_exactly() -> None:
    """117 * (5 / 39) is 14.999... in floating point, but the side is 15."""
    seen = np.asarray(CenterCrop(5, 5)(noise(39, 117), 0, 0))
    assert int(117 * (5 / 39)) == 14
    expected = transforms.Compose([transforms.Resize(5), transforms.CenterCrop(5)])(noise(39, 117))
    assert np.array_equal(seen, np.asarray(expected))


def test_resized_crops_are_torchvisions_for_the_same_window() -> None:
    picture = noise(90, 61)
    view = np.asarray(TrainCrop(32, flip="none", seed=4)(picture, 2, 3))
    left, top, right, bottom = _window(picture.size, (0.08, 1.0), np.random.default_rng([4, 2, 3]))
    expected = transforms.functional.resized_crop(picture, top, left, bottom - top, right - left, [32, 32])
    assert np.array_equal(view, np.asarray(expected))


def test_windows_are_spread_as_torchvisions() -> None:
    ours, theirs = [], []
    torch.manual_seed(0)
    picture = torch.empty(3, 60, 100).zero_()
    for seed in range(3000):
        left, top, right, bottom = _window((100, 60), (0.08, 1.0), np.random.default_rng(seed))
        assert 0 <= left < right <= 100 and 0 <= top < bottom <= 60
        ours.append([left, top, right - left, bottom - top])
        top, left, height, width = transforms.RandomResizedCrop.get_params(
            picture, [0.08, 1.0], [3 / 4, 4 / 3]
        )
        theirs.append([left, top, width, height])
    # means of 3,000 draws with a spread of about 20 pixels: a standard error of 0.4
    np.testing.assert_allclose(np.mean(ours, 0), np.mean(theirs, 0), atol=2)
    np.testing.assert_allclose(np.std(ours, 0), np.std(theirs, 0), atol=2)
    # no window of an allowed aspect has that area
    wide = _window((1000, 1), (0.9, 1.0), np.random.default_rng(0))
    assert wide[3] - wide[1] == 1 and wide[2] - wide[0] == 1 and abs(wide[0] - 500) <= 1


def test_plain_crops_are_every_window_and_nothing_else() -> None:
    images = Ramps(1, 12, 11)
    views = {
        tuple(CroppedImages(images, TrainCrop(10, "crop", flip="none", seed=1))[(e, 0)][0][:2, 0, 0].tolist())
        for e in range(200)
    }
    assert views == {(x, y) for x in range(3) for y in range(2)}
    flipped = [CroppedImages(images, TrainCrop(10, "crop", flip="all", seed=1))[(e, 0)][0] for e in range(40)]
    kinds = {(bool(v[0, 0, 0] < v[0, 0, -1]), bool(v[1, 0, 0] < v[1, -1, 0])) for v in flipped}
    assert kinds == {(a, b) for a in (True, False) for b in (True, False)}
    sideways = [CroppedImages(images, TrainCrop(10, "crop", seed=1))[(e, 0)][0] for e in range(40)]
    assert {bool(v[1, 0, 0] < v[1, -1, 0]) for v in sideways} == {True}


def test_views_follow_from_seed_epoch_and_index_alone() -> None:
    views = CroppedImages(Ramps(), TrainCrop(8, seed=3))
    first = views[(1, 2)][0]
    views[(0, 0)], views[(5, 1)]
    assert torch.equal(views[(1, 2)][0], first) and views[(1, 2)][1] == 0
    others = [views[(2, 2)][0], CroppedImages(Ramps(), TrainCrop(8, seed=4))[(1, 2)][0]]
    assert not any(torch.equal(other[:2], first[:2]) for other in others)


def test_small_pictures_are_named() -> None:
    for view in (TrainCrop(31, "crop"), CenterCrop(31)):
        with pytest.raises(DataError, match="ramps, picture 4: has 40 x 30 pixels, too few for a crop of 31"):
            CroppedImages(Ramps(), view)[(0, 4)]


def test_orders_are_divided_among_processes() -> None:
    whole = list(ImageOrder(11, True, seed=5))
    assert sorted(i for _, i in whole) == list(range(11)) and list(ImageOrder(11, True, seed=5)) == whole
    parts = [list(ImageOrder(11, True, 5, rank, 3)) for rank in range(3)]
    # two pictures are left out
    assert [len(p) for p in parts] == [3, 3, 3] and [p[0] for p in parts] == whole[:3]
    shards = [i for rank in range(3) for _, i in ImageOrder(11, False, 5, rank, 3)]
    assert sorted(shards) == list(range(11))
    order = ImageOrder(11, True, seed=5)
    order.set_epoch(4)
    assert {e for e, _ in order} == {4} and [i for _, i in order] != [i for _, i in whole]
    order.set_epoch(0)
    order.skip = 4
    assert list(order) == whole[4:]


def test_errors_of_workers_are_one_sentence() -> None:
    class Missing(ImageSet):
        def _load(self, i: int) -> Image.Image:
            raise MissingDataError("x.png: is gone")

    loader = torch.utils.data.DataLoader(
        CroppedImages(Missing("none", ("a",), [0] * 4), CenterCrop(3)),
        2,
        sampler=ImageOrder(4, False),
        num_workers=1,
    )
    with pytest.raises(DataError) as caught, worker_errors():
        next(iter(loader))
    assert str(caught.value) == "none, picture 0: x.png: is gone"
