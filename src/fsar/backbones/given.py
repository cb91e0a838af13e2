"""No backbone: frame features from another program, by any model."""

import torch
from torch import Tensor

from fsar.backbones.base import Backbone, ImageEncoding

PREFIX = "features/"


class GivenFeatures(Backbone):
    """Represents the unknown model that made the features of a file; it has no parameters and encodes nothing.

    Args:
        name: `features/DIM`.

    Raises:
        ValueError: `DIM` is no whole number above 0.
    """

    image_size = 0
    mean, std = (0.0,) * 3, (1.0,) * 3

    def __init__(self, name: str):
        super().__init__(name)
        dim = name.removeprefix(PREFIX)
        if not dim.isdecimal() or int(dim) < 1:
            raise ValueError(f"cannot read backbone {name!r}; expected {PREFIX}DIM, as in {PREFIX}512")
        self.dim = int(dim)
        # a method without parameters, too, knows where to compute
        self.register_buffer("place", torch.empty(0), persistent=False)

    def encode_images(self, images: Tensor) -> ImageEncoding:
        """Refuse: there is no image encoder.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{self.name} takes features made elsewhere and cannot encode videos; give --features FILE instead of "
            f"--data, or choose another backbone"
        )
