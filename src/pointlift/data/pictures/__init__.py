"""Pictures of objects: projected from clouds, rendered from meshes, or ready-made in folders."""
