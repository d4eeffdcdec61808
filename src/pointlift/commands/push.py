"""`pointlift push`: a checkpoint to a hub."""

from __future__ import annotations

__all__ = ["push"]


def push(
    checkpoint: str,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str = "pointlift checkpoint",
) -> int:
    """Put a checkpoint on the Hugging Face hub, for everyone who knows the name: its safetensors file and its
    metadata as JSON, which hold the recipe with the paths in it. Needs the extra pointlift[hub] and a login
    (hf auth login).

    Args:
        checkpoint: a .safetensors file that pointlift wrote.
        repository: user/repository; made where it is not there.
        private: make a new repository private.
        revision: the branch (default: the main one).
        message: of the commit.

    Examples:
        pointlift push runs/mine/model.safetensors me/my-scans --private
    """
    from pointlift.weights.sharing import push_to_hub

    name = push_to_hub(checkpoint, repository, private or None, revision, message)
    print(f"pushed {checkpoint}\nnext   pointlift predict {name} YOUR_FILE.ply")
    return 0
