"""Streams of ScanNet: written by the procedural writer and read back, cut off, and far too large."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from tiny_recordings import INTRINSICS, made_frames

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.procedural.writers.sens import jpeg, write_sens
from pointlift.data.rgbd.open import open_frames
from pointlift.data.rgbd.sens import open_sens, read_sens

HEAD = 4 + 8 + len("StructureSensor") + 256 + 8 + 16 + 4 + 8


def stream(path: Path, count: int = 4, lost: tuple[int, ...] = ()) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sens(path, made_frames(count), lost)
    return path


def test_written_and_read_back(tmp_path: Path) -> None:
    frames = made_frames(4)
    found = open_sens(stream(tmp_path / "a.sens"))
    assert len(found) == 4 and found.depth_kind == "zlib_ushort" and found.color_kind == "jpeg"
    for i, frame in enumerate(frames):
        assert np.array_equal(found.stored_depth(i), frame.depth)
        read = found.frame(i)
        assert np.array_equal(read.depth, frame.depth.astype(np.float32) / np.float32(1000))
        # JPEG of quality 95 without subsampling; decoders differ by 1 to 3 more
        assert np.abs(read.color.astype(int) - frame.color).max() <= 8
        assert np.allclose(read.pose, frame.pose, atol=1e-6) and read.scene == "a"
        assert np.allclose(read.depth_camera.matrix, INTRINSICS, atol=1e-6)


def test_frames_without_a_pose_are_skipped_and_counted(tmp_path: Path) -> None:
    found = read_sens(stream(tmp_path / "a.sens", 5, lost=(0, 3)), "all")
    assert list(found.names) == ["a/000001", "a/000002", "a/000004"]
    assert "2 frames whose pose is NaN or infinite" in found.account
    assert np.array_equal(found[2].depth, made_frames(5)[4].depth.astype(np.float32) / np.float32(1000))
    with pytest.raises(DataError, match=r"no frames .*2 frames whose pose"):
        read_sens(stream(tmp_path / "b.sens", 2, lost=(0, 1)), "all")


def test_a_folder_of_streams_is_several_scenes(tmp_path: Path) -> None:
    for i in range(4):
        stream(tmp_path / "scans" / f"scene000{i}_00" / f"scene000{i}_00.sens", i + 2)
    train, val = (open_frames(f"sens:{tmp_path}", split) for split in ("train", "val"))
    assert set(train.scenes) == {"scene0000_00", "scene0001_00", "scene0002_00"}
    assert set(val.scenes) == {"scene0003_00"} and len(val) == 5
    assert "4 streams" in train.account and "3 of 4 recordings" in train.account
    (tmp_path / "scannetv2_val.txt").write_text("scene0001_00\n")
    (tmp_path / "scannetv2_train.txt").write_text("scene0000_00\nscene0002_00\n")
    assert set(open_frames(f"sens:{tmp_path}", "val").scenes) == {"scene0001_00"}
    assert len(open_frames(f"sens:{tmp_path}", "train")) == 2 + 4
    copied = pickle.loads(pickle.dumps(train))
    assert np.array_equal(copied[3].depth, train[3].depth)
    stream(tmp_path / "again" / "scene0001_00.sens")
    with pytest.raises(DataError, match=r"have one name"):
        open_frames(f"sens:{tmp_path}", "all")


def changed(path: Path, at: int, form: str, *values: object) -> Path:
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, at, *values)
    path.write_bytes(bytes(data))
    return path


COMPRESSIONS = HEAD - 8 - 4 - 16 - 8


def test_depth_without_compression_and_another_shift(tmp_path: Path) -> None:
    frames = made_frames(2)
    file = stream(tmp_path / "a.sens", 2)
    head = bytearray(file.read_bytes()[:HEAD])
    struct.pack_into("<ii", head, COMPRESSIONS, 0, 0)
    struct.pack_into("<f", head, HEAD - 12, 4000.0)
    parts = [bytes(head)]
    for frame in frames:
        color, depth = frame.color.tobytes(), frame.depth.astype("<u2").tobytes()
        parts += [
            frame.pose.astype("<f4").tobytes(),
            struct.pack("<4Q", 0, 0, len(color), len(depth)),
            color,
            depth,
        ]
    file.write_bytes(b"".join(parts) + b"anything of motion")
    read = open_sens(file).frame(1)
    assert np.array_equal(read.color, frames[1].color)
    assert np.array_equal(read.depth, frames[1].depth.astype(np.float32) / np.float32(4000))
    assert np.array_equal(
        open_sens(file, 1000).frame(1).depth, frames[1].depth.astype(np.float32) / np.float32(1000)
    )


def test_occi_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"compression occi.*SensReader.*scannet_frames"):
        open_sens(changed(stream(tmp_path / "a.sens"), COMPRESSIONS + 4, "<i", 2))
    with pytest.raises(DataError, match=r"compressions -1 of colour"):
        open_sens(changed(stream(tmp_path / "b.sens"), COMPRESSIONS, "<i", -1))


def test_a_stream_cut_anywhere_is_one_sentence(tmp_path: Path) -> None:
    whole = stream(tmp_path / "a.sens", 2).read_bytes()
    cut = tmp_path / "cut.sens"
    for length in [*range(0, HEAD + 120, 13), *range(HEAD + 120, len(whole) - 8, 97)]:
        cut.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"byte|first bytes") as error:
            open_sens(cut)
        assert "\n" not in str(error.value) and "cut.sens" in str(error.value)
    cut.write_bytes(whole[:-8])  # without what follows the frames
    assert len(open_sens(cut)) == 2
    with pytest.raises(DataError, match=r"frame 1 of 2 \(from byte \d+\) needs"):
        cut.write_bytes(whole[:-30])
        open_sens(cut)


def test_garbage_is_one_sentence(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(30):
        file = tmp_path / f"{i}.sens"
        file.write_bytes(rng.bytes(int(rng.integers(0, 2000))))
        with pytest.raises(DataError):
            open_sens(file)
    with pytest.raises(DataError, match=r"no .sens stream of version 4.*version 3"):
        open_sens(changed(stream(tmp_path / "v.sens"), 0, "<I", 3))
    with pytest.raises(DataError, match=r"says it has 18446744073709551615 frames"):
        open_sens(changed(stream(tmp_path / "n.sens"), HEAD - 8, "<Q", 2**64 - 1))
    with pytest.raises(DataError, match=r"pixels of depth, it is damaged"):
        open_sens(changed(stream(tmp_path / "p.sens"), HEAD - 20, "<I", 2**31))
    with pytest.raises(DataError, match=r"depth shift is nan"):
        open_sens(changed(stream(tmp_path / "s.sens"), HEAD - 12, "<f", np.nan))
    with pytest.raises(DataError, match=r"frame 0 of 4 \(from byte"):
        open_sens(changed(stream(tmp_path / "l.sens"), HEAD + 80, "<Q", 2**63))


def test_damaged_pictures_name_the_frame(tmp_path: Path) -> None:
    file = stream(tmp_path / "a.sens")
    found = open_sens(file)
    data = bytearray(file.read_bytes())
    depth_at = int(found.starts[2] + found.color_bytes[2])
    data[depth_at : depth_at + 20] = b"\x00" * 20
    data[int(found.starts[1]) : int(found.starts[1]) + 40] = b"\x01" * 40
    file.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"frame 2 .*depths cannot be unpacked"):
        found.frame(2)
    with pytest.raises(DataError, match=r"frame 1 \(from byte \d+\), colour"):
        found.frame(1)
    short = zlib.compress(b"\x01\x02" * 5)
    small = changed(stream(tmp_path / "b.sens", 1), HEAD + 88, "<Q", len(short))
    with small.open("r+b") as opened:
        opened.seek(int(open_sens(small).starts[0] + open_sens(small).color_bytes[0]))
        opened.write(short)
    with pytest.raises(DataError, match=r"10 bytes of depth, 384 are expected"):
        open_sens(small).frame(0)
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"cut off"):
        found.frame(0)


def test_a_wrong_unit_is_said(tmp_path: Path) -> None:
    file = stream(tmp_path / "a.sens")
    with pytest.raises(DataError, match=r"every depth is nearer than 2 cm.*set \?depth_scale="):
        open_sens(file, 1e6).frame(0)
    with pytest.raises(DataError, match=r"every depth is farther than 100 m.*millimetres taken for metres"):
        read_sens(file, "all", depth_scale=1.0)[0]


def test_ten_gigabytes_are_streamed_in_constant_memory(tmp_path: Path) -> None:
    """The file is sparse: behind every JPEG stands a hole, which decoders do not look at."""
    frame = made_frames(1)[0]
    color, depth = jpeg(frame.color), zlib.compress(frame.depth.astype("<u2").tobytes())
    count, blob = 500, 20 << 20
    path = tmp_path / "large.sens"
    head = bytearray(stream(tmp_path / "a.sens", 1).read_bytes()[:HEAD])
    struct.pack_into("<Q", head, HEAD - 8, count)
    with path.open("wb") as file:
        file.write(head)
        for _ in range(count):
            file.write(
                frame.pose.astype("<f4").tobytes() + struct.pack("<4Q", 0, 0, blob, len(depth)) + color
            )
            file.seek(blob - len(color), 1)
            file.write(depth)
    assert path.stat().st_size > 10 * 10**9
    tracemalloc.start()
    found = read_sens(path, "all")
    opened = tracemalloc.get_traced_memory()[1]
    last = found[count - 1]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == count and np.array_equal(
        last.depth, frame.depth.astype(np.float32) / np.float32(1000)
    )
    assert opened < 2 << 20  # 96 bytes and a name for every frame
    assert peak < 3 * blob  # what a frame needs


def test_missing_files_say_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"does not exist.*\.sens"):
        open_frames(f"sens:{tmp_path / 'nothing'}")
    with pytest.raises(MissingDataError, match=r"holds none of its files"):
        open_frames(f"sens:{tmp_path}")
    with pytest.raises(MissingDataError, match=r"no such file"):
        open_sens(tmp_path / "b.sens")
