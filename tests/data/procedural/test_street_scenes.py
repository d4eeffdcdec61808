"""Streets and sweeps: the geometry of the beams, what they meet, and that nothing depends on luck."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from pointlift.data.procedural.streets import (
    STREET_CLASSES,
    STREET_KINDS,
    STREET_RAW,
    Lidar,
    Street,
    Sweep,
    make_street,
    sweep,
)

NAMES = [kind.name for kind in STREET_KINDS]
LIDAR = Lidar(azimuths=360)


@pytest.fixture(scope="module")
def street() -> Street:
    return make_street(4, 2, poses=7, spacing=2.5)


@pytest.fixture(scope="module")
def seen(street: Street) -> Sweep:
    return sweep(street, 3, LIDAR)


def digest() -> str:
    """Of a street and a sweep."""
    street = make_street(1, 1, "val", 2)
    found = sweep(street, 1, Lidar(16, 90), 5)
    arrays = [street.mesh.vertices, street.mesh.kinds, found.xyz, found.intensity, found.raw, found.instance]
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


@pytest.mark.slow
def test_same_street_in_another_process() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_street_scenes as t; print(t.digest())"
    here = __file__.rpartition("/")[0]
    other = subprocess.run([sys.executable, "-c", code, here], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest()


def test_beams_are_where_the_scanner_has_them(seen: Sweep) -> None:
    xyz = np.float64(seen.xyz)
    distance = np.linalg.norm(xyz, axis=1)
    rise = np.degrees(np.arcsin(xyz[:, 2] / distance))
    around = np.degrees(np.arctan2(xyz[:, 1], xyz[:, 0])) % 360
    assert np.abs(rise - (2.0 - seen.ring * 26.8 / 63)).max() < 1e-3
    away = (around - seen.step + 180) % 360 - 180
    assert np.abs(away).max() < 1e-3
    assert (np.diff(seen.ring) >= 0).all() and len(set(zip(seen.ring, seen.step))) == len(xyz)
    assert distance.min() > 0.9 and distance.max() < 120.2
    assert 0.3 * 64 * 360 < len(xyz) < 64 * 360


def test_the_ground_is_below_the_scanner(seen: Sweep, street: Street) -> None:
    road = seen.classes == STREET_CLASSES.index("road")
    assert road.mean() > 0.1
    assert np.abs(seen.xyz[road, 2] + 1.73).max() < 0.15
    world = seen.xyz @ seen.pose[:3, :3].T + seen.pose[:3, 3]
    assert np.abs(world[road, 2]).max() < 0.15
    walk = seen.classes == STREET_CLASSES.index("sidewalk")
    assert world[walk, 2].mean() > 0.05


def test_points_lie_on_what_they_are_of(street: Street) -> None:
    exact = sweep(street, 2, Lidar(azimuths=180, noise=0.0))
    mesh = street.mesh
    world = exact.xyz @ exact.pose[:3, :3].T + exact.pose[:3, 3]
    assert (exact.instance > 0).any()
    for number in np.unique(exact.instance[exact.instance > 0]):
        own = exact.instance == number
        corners = mesh.vertices[mesh.faces[mesh.instances == number - 1]].reshape(-1, 3)
        assert (world[own] > corners.min(0) - 1e-3).all() and (world[own] < corners.max(0) + 1e-3).all()
        assert len(set(exact.raw[own])) == 1
    things = {kind.raw for kind in STREET_KINDS if kind.thing}
    assert set(exact.raw[exact.instance > 0]) <= things
    assert set(exact.raw[exact.instance == 0]).isdisjoint(things)


def test_noise_lies_along_the_beams(street: Street) -> None:
    exact, noisy = (sweep(street, 1, Lidar(azimuths=200, noise=noise)) for noise in (0.0, 0.02))
    assert len(exact.xyz) == len(noisy.xyz)
    off = np.linalg.norm(noisy.xyz, axis=1) - np.linalg.norm(exact.xyz, axis=1)
    assert abs(off.std() - 0.02) < 0.002 and abs(off.mean()) < 0.002


def test_intensity_tells_materials_and_fewer_come_back_from_afar(street: Street) -> None:
    found = sweep(street, 0, Lidar())
    assert found.intensity.min() >= 0 and found.intensity.max() < 1
    mean = {name: found.intensity[found.classes == i].mean() for i, name in enumerate(STREET_CLASSES)
            if (found.classes == i).sum() > 20}  # fmt: skip
    assert mean["traffic-sign"] > mean["road"] and len(mean) >= 8
    weak = sweep(street, 0, Lidar(sensitivity=0.02))
    assert np.linalg.norm(weak.xyz, axis=1).mean() < np.linalg.norm(found.xyz, axis=1).mean()
    assert len(weak.xyz) < len(found.xyz)


def test_the_drive_is_free_and_smooth(street: Street) -> None:
    steps = np.linalg.norm(np.diff(street.poses[:, :3, 3], axis=0), axis=1)
    assert np.abs(steps - 2.5).max() < 0.4 and (street.poses[:, 2, 3] == 1.73).all()
    for pose in street.poses:
        assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3))
    every = [sweep(street, i, Lidar(azimuths=60)) for i in range(7)]
    assert min(np.linalg.norm(s.xyz, axis=1).min() for s in every) > 1.0


def test_all_classes_appear_somewhere() -> None:
    there = {NAMES[k] for i in range(2) for k in np.unique(make_street(9, i, poses=1).mesh.kinds)}
    common = "road lane-marking sidewalk parking terrain building fence vegetation trunk pole car"
    assert there >= {*common.split(), "traffic-sign", "person", "bicycle"}
    assert there & {"truck", "bus", "bicyclist", "motorcyclist"}


def test_raw_numbers_are_those_of_the_classes() -> None:
    for kind in STREET_KINDS:
        at = STREET_CLASSES.index(kind.label)
        assert kind.raw == STREET_RAW[at] or kind.name in ("lane-marking", "bus")


def test_as_a_scene(seen: Sweep) -> None:
    scene = seen.sample(("intensity",))
    assert scene.features is not None and np.array_equal(scene.features[:, 0], seen.intensity)
    assert scene.instance is not None and scene.instance.min() == -1 and scene.label == -1
    assert seen.sample().features is None
    with pytest.raises(ValueError, match="use must be among intensity, got 'colors'"):
        seen.sample(("colors",))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda s: make_street(0, -1), ValueError, "0 or more"),
        (lambda s: make_street(poses=0), ValueError, "poses must be at least 1"),
        (lambda s: sweep(s, 7), IndexError, "pose 7 does not exist, there are 7"),
        (lambda s: Lidar(beams=0), ValueError, "at least 1 beam"),
        (lambda s: Lidar(up=-30.0), ValueError, "down <= up"),
        (lambda s: Lidar(nearest=0.0), ValueError, "nearest < farthest"),
    ],
)
def test_street_refusals(street: Street, call: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call(street)  # type: ignore[operator]
