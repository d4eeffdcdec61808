"""Datasets of point clouds: a reader per file, each of which ends in its record, a `DatasetSpec`."""

SOURCES: dict[str, str] = {
    "procedural": "pointlift.data.sources.procedural_shapes:SPEC",
    "modelnet": "pointlift.data.sources.modelnet:SPEC",
    "scanobjectnn": "pointlift.data.sources.scanobjectnn:SPEC",
    "shapenetpart": "pointlift.data.sources.shapenetpart:SPEC",
    "meshes": "pointlift.data.sources.mesh_folder:SPEC",
    "folder": "pointlift.data.sources.folder:SPEC",
    "s3dis": "pointlift.data.sources.s3dis:SPEC",
    "semantickitti": "pointlift.data.sources.semantickitti:SPEC",
    "scannet": "pointlift.data.sources.scannet:SPEC",
    "sunrgbd": "pointlift.data.sources.sunrgbd:SPEC",
    "pointcept": "pointlift.data.sources.pointcept:SPEC",
    "scenes": "pointlift.data.sources.scene_folder:SPEC",
    "pixels": "pointlift.data.sources.pixels:SPEC",
}
"""The records by name, in the order in which folders are recognised and datasets listed;
a file is imported when it is needed.
"""
