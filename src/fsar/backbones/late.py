"""A backbone that is loaded at its first use: an edit of a recogniser that encodes nothing starts without it."""

from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from fsar.backbones.base import Backbone, ImageEncoding

LEFT = frozenset({"dim", "image_size", "mean", "std"})
"""Attributes that only the loaded backbone knows."""


class LateBackbone(Backbone):
    """Stands for a backbone of the package until something is encoded or one of its sizes is asked for.

    Args:
        name: as given to `load_backbone`.
        weights: hash of its weights, as far as is known.
        load: loads it; called at most once.

    Example:
        >>> from fsar.backbones import load_backbone
        >>> late = LateBackbone("tiny", "0123", lambda: print("loading") or load_backbone("tiny"))
        >>> late.fingerprint()
        '0123'
        >>> late.dim
        loading
        128
    """

    def __init__(self, name: str, weights: str, load: Callable[[], Backbone]):
        super().__init__(name)
        self._weights, self._load, self._lock = weights, load, Lock()
        self._loaded: list[Backbone] = []  # in a list, so that its parameters are not this module's
        self.register_buffer("place", torch.empty(0), persistent=False)  # tells where to compute

    @property
    def loaded(self) -> Backbone:
        """The backbone itself."""
        with self._lock:
            if not self._loaded:
                self._loaded.append(self._load().to(self.place.device))
            return self._loaded[0]

    def __getattr__(self, name: str) -> Any:
        """Ask the backbone itself for its sizes."""
        return getattr(self.loaded, name) if name in LEFT else super().__getattr__(name)

    @property
    def interpolation(self) -> str:  # type: ignore[override]
        """How the backbone's frames are resized."""
        return self.loaded.interpolation

    @property
    def has_text(self) -> bool:  # type: ignore[override]
        """Whether the backbone has a text tower."""
        return self.loaded.has_text

    @property
    def logit_scale(self) -> Tensor:
        """Scale of image-text cosines."""
        return self.loaded.logit_scale

    def text_features(self, texts: list[str]) -> Tensor:
        """Encode sentences."""
        return self.loaded.text_features(texts)

    def encode_images(self, images: Tensor) -> ImageEncoding:
        """Encode images."""
        return self.loaded._encode(images)

    def fingerprint(self) -> str:
        """The hash that was given."""
        return self._weights

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Move the backbone itself, too, if it is there; otherwise it is moved when it is loaded."""
        for backbone in self._loaded:
            backbone._apply(fn, recurse)
        return super()._apply(fn, recurse)
