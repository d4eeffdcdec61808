"""3D networks by name."""

from typing import TYPE_CHECKING, Any

from pointlift.models.factory import create_model, image_network, list_models

if TYPE_CHECKING:
    from pointlift.models.voxels.linear_network import LinearNetwork

__all__ = ["LinearNetwork", "create_model", "image_network", "list_models"]


def __getattr__(name: str) -> Any:
    """Networks are imported when they are first asked for."""
    if name == "LinearNetwork":
        from pointlift.models.voxels.linear_network import LinearNetwork

        return LinearNetwork
    raise AttributeError(f"module 'pointlift.models' has no attribute {name!r}")
