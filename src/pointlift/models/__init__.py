"""3D networks by name."""

from pointlift.models.factory import create_model, image_network, list_models
from pointlift.models.voxels.linear_network import LinearNetwork

__all__ = ["LinearNetwork", "create_model", "image_network", "list_models"]
