"""RGB-D recordings: frames, and where they come from.

`FRAME_SOURCES` is what there is: a recording kind's name in a source string, and where its record stands.
"""

from __future__ import annotations

__all__ = ["FRAME_SOURCES"]

FRAME_SOURCES: dict[str, str] = {
    "procedural": "pointlift.data.rgbd.procedural_frames:PROCEDURAL",
    "sens": "pointlift.data.rgbd.sens:SENS",
    "scannet_frames": "pointlift.data.rgbd.scannet_frames:SCANNET_FRAMES",
    "7scenes": "pointlift.data.rgbd.seven_scenes:SEVEN_SCENES",
    "tum": "pointlift.data.rgbd.tum:TUM",
    "redwood": "pointlift.data.rgbd.redwood:REDWOOD",
    "nyuv2": "pointlift.data.rgbd.nyuv2:NYUV2",
    "nyuv2_raw": "pointlift.data.rgbd.nyuv2_raw:NYUV2_RAW",
    "sunrgbd": "pointlift.data.rgbd.sun_frames:SUNRGBD",
    "kitti": "pointlift.data.rgbd.kitti:KITTI",
    "nuscenes": "pointlift.data.rgbd.nuscenes:NUSCENES",
    "rgbd": "pointlift.data.rgbd.own_folder:OWN_FOLDER",
}
