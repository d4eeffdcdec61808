"""Range images: against a loop over points, by hand, and on a real scan."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pointlift.core.point_batch import PointBatch
from pointlift.views.lasers import laser_rows
from pointlift.views.range_view import KnnVote, RangeImages, RangeView

VIEW = RangeView(7, 13, 20.0, -30.0)


def scan(n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator) * torch.tensor([5.0, 5.0, 1.5])


def looped(xyz: torch.Tensor, view: RangeView) -> tuple[list[int], dict[int, int]]:
    """The pixel of every point, and the nearest point of every pixel."""
    pixels, nearest = [], {}
    for i, (x, y, z) in enumerate(xyz.tolist()):
        r = math.sqrt(x * x + y * y + z * z)
        column = min(view.width - 1, int((math.pi - math.atan2(y, x)) / (2 * math.pi) * view.width))
        share = (view.up - math.degrees(math.asin(z / r))) / (view.up - view.down)
        row = min(view.height - 1, max(0, math.floor(share * view.height)))
        pixel = row * view.width + column
        pixels.append(pixel)
        if pixel not in nearest or r < math.dist((0, 0, 0), xyz[nearest[pixel]].tolist()):
            nearest[pixel] = i
    return pixels, nearest


def test_against_a_loop_over_points_of_two_clouds() -> None:
    clouds = [scan(151, 1), scan(0), scan(97, 2)]
    values = torch.rand(248, 1)
    seen = VIEW.project(PointBatch.from_list(clouds), values)
    assert seen.images.shape == (3, 5, 7, 13) and seen.index.shape == (3, 7, 13)
    begin = 0
    for b, xyz in enumerate(clouds):
        pixels, nearest = looped(xyz, VIEW)
        own = seen.pixel[begin : begin + len(xyz)] - b * 7 * 13
        assert own.tolist() == pixels
        expected = [nearest[p] + begin if p in nearest else -1 for p in range(7 * 13)]
        assert seen.index[b].flatten().tolist() == expected
        begin += len(xyz)
    everything = torch.cat(clouds)
    for b, row, column in (seen.index >= 0).nonzero().tolist():
        i = int(seen.index[b, row, column])
        found = seen.images[b, :, row, column]
        torch.testing.assert_close(found[:3], everything[i])
        assert found[3] == values[i, 0]
        assert float(found[4]) == pytest.approx(float(everything[i].norm()), rel=1e-6)
    assert not seen.images.movedim(1, 3)[seen.index < 0].any()
    assert int(seen.shown.sum()) == int((seen.index >= 0).sum())


def test_where_things_are_by_hand() -> None:
    xyz = torch.tensor([[9.0, 0, 0], [0, 9, 0], [0, -9, 0], [9, 0, 9], [9, 0, -9], [4, 0, 0], [0, 0, 0]])
    seen = RangeView(4, 8, 45.0, -45.0).project(PointBatch.from_list([xyz]))
    row, column = seen.pixel // 8, seen.pixel % 8
    assert column.tolist() == [4, 2, 6, 4, 4, 4, 4]  # ahead is the middle, the left is left
    assert row.tolist() == [2, 2, 2, 0, 3, 2, 2]  # up is up; the scanner itself on the horizon
    assert seen.shown.tolist() == [False, True, True, True, True, False, True]  # the nearest of the middle
    behind = RangeView(4, 8).project(PointBatch.from_list([torch.tensor([[-1.0, 0, 0], [-1.0, -1e-9, 0]])]))
    assert (behind.pixel % 8).tolist() == [0, 7]  # both edges are behind the scanner


def test_pictures_of_points_and_points_of_pictures() -> None:
    xyz = scan(301)
    seen = VIEW.project(PointBatch.from_list([xyz[:200], xyz[200:]]))
    labels = torch.arange(301) % 6
    picture = seen.draw(labels, empty=-1)
    assert picture.shape == (2, 7, 13)
    back = seen.at_points(picture)
    assert (back[seen.shown] == labels[seen.shown]).all() and (back >= 0).all()
    features = torch.rand(301, 3)
    wide = seen.draw(features)
    assert wide.shape == (2, 3, 7, 13)
    torch.testing.assert_close(seen.at_points(wide)[seen.shown], features[seen.shown])


def looped_vote(seen: RangeImages, labels: torch.Tensor, vote: KnnVote, classes: int) -> list[int]:
    """RangeNet++'s algorithm 1, a point at a time."""
    height, width = labels.shape[1:]
    half = vote.search // 2
    window = np.array(
        [
            [math.exp(-(dy * dy + dx * dx) / (2 * vote.sigma**2)) for dx in range(-half, half + 1)]
            for dy in range(-half, half + 1)
        ]
    )
    window = 1 - window / window.sum()
    answers = []
    for pixel, r in zip(seen.pixel.tolist(), seen.range.tolist()):
        b, row, column = pixel // (height * width), pixel // width % height, pixel % width
        candidates = []
        for dy in range(-half, half + 1):
            for dx in range(-half, half + 1):
                y, x = row + dy, (column + dx) % width
                if not 0 <= y < height:
                    continue
                if vote.own_range and dy == dx == 0:
                    away = 0.0
                elif seen.index[b, y, x] < 0:
                    continue
                else:
                    away = abs(float(seen.images[b, -1, y, x]) - r) * window[dy + half, dx + half]
                candidates.append((away, int(labels[b, y, x])))
        near = [label for away, label in sorted(candidates)[: vote.k] if away <= vote.cutoff]
        votes = np.bincount(near, minlength=classes)
        answers.append(int(votes.argmax()) if near else int(labels[b, row, column]))
    return answers


@pytest.mark.parametrize(
    "vote",
    [
        KnnVote(),
        KnnVote(own_range=False),
        KnnVote(k=1, search=3),
        KnnVote(k=7, search=7, sigma=2.0, cutoff=0.2, own_range=False),
    ],
    ids=repr,
)
def test_votes_against_a_loop(vote: KnnVote) -> None:
    view = RangeView(11, 17, 30.0, -30.0)
    seen = view.project(PointBatch.from_list([scan(120, 3), scan(41, 4)]))
    labels = torch.randint(0, 5, seen.index.shape, generator=torch.Generator().manual_seed(1))
    assert vote.labels(seen, labels, 5).tolist() == looped_vote(seen, labels, vote, 5)


def test_votes_of_scores_are_means_and_nothing_near_is_the_pixels_own() -> None:
    xyz = torch.tensor([[5.0, 0, 0], [30.0, 0, 0]])  # one behind the other, alone in the picture
    seen = VIEW.project(PointBatch.from_list([xyz]))
    scores = torch.rand(1, 3, 7, 13)
    own = seen.at_points(scores)
    torch.testing.assert_close(KnnVote(own_range=False).scores(seen, scores), own)
    torch.testing.assert_close(KnnVote().scores(seen, scores), own)
    empty = VIEW.project(PointBatch.from_list([xyz[:0]]))
    assert KnnVote().scores(empty, scores).shape == (0, 3)


def test_wrong_values_are_refused_in_a_sentence() -> None:
    cloud = PointBatch.from_list([scan(5)])
    for wrong in (
        lambda: RangeView(0, 5),
        lambda: RangeView(4, 4, -30, 10),
        lambda: RangeView(rows="rings"),  # type: ignore[arg-type]
        lambda: KnnVote(search=4),
        lambda: KnnVote(k=26),
        lambda: KnnVote(cutoff=0),
    ):
        with pytest.raises(ValueError, match=r"must be|expected"):
            wrong()
    with pytest.raises(ValueError, match="beside has 4 rows for 5 points"):
        VIEW.project(cloud, torch.rand(4, 1))
    with pytest.raises(ValueError, match=r"rows must be in 0..6, got 0..7"):
        VIEW.project(cloud, rows=torch.tensor([0, 1, 2, 3, 7]))


@pytest.mark.real
def test_a_real_scan_gets_its_labels_back(real_data: Path) -> None:
    """Labelled points with the right label again, by the nearest point at their pixel and by the vote:
    64 x 2048 by direction 98.0 and 98.9 %, with the lasers as rows 99.5 and 99.5 %, 128 rows 99.3 and 99.6 %.
    """
    folder = real_data / "semantickitti" / "dataset" / "sequences" / "00"
    points = np.fromfile(folder / "velodyne" / "000000.bin", np.float32).reshape(-1, 4)
    raw = np.fromfile(folder / "labels" / "000000.label", np.uint32) & 0xFFFF
    names, labels = np.unique(raw, return_inverse=True)
    truth, known = torch.from_numpy(labels.reshape(-1)), torch.from_numpy(raw > 1)
    cloud = PointBatch.from_list([points[:, :3]])

    def recovered(view: RangeView, vote: KnnVote, seen_by: str, mirrored: bool = False) -> tuple[float, ...]:
        xyz = cloud.xyz * torch.tensor([1.0, -1.0, 1.0]) if mirrored else cloud.xyz
        seen = view.project(PointBatch.from_list([xyz]))
        assert seen.rows == (seen_by,)
        picture = seen.draw(truth)
        found = (seen.at_points(picture), vote.labels(seen, picture, len(names)))
        return tuple(float((f == truth)[known].double().mean()) for f in found)

    assert int(laser_rows(cloud.xyz).max()) == 63
    assert min(recovered(RangeView(), KnnVote(), "lasers")) >= 0.994  # the default
    assert min(recovered(RangeView(), KnnVote(), "lasers", mirrored=True)) >= 0.99
    spherical = RangeView(64, 2048, rows="directions")  # RangeNet++'s
    pixel, vote = recovered(spherical, KnnVote(), "directions")
    assert 0.975 < pixel < 0.985 and 0.985 < vote < 0.992
    assert recovered(spherical, KnnVote(k=1, own_range=False), "directions")[1] >= 0.99
    assert min(recovered(RangeView(128, rows="directions"), KnnVote(), "directions")) >= 0.99
