"""What losses that read the texts of all training classes share."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from fsar.backbones import Backbone
from fsar.methods.base import Method


class TrainingText(Method):
    """A method whose loss compares videos with the texts of all training classes."""

    training_text: Tensor | None

    def __init__(self, backbone: Backbone, config: Any):
        super().__init__(backbone, config)
        # not saved: the frozen text tower can compute it again
        self.register_buffer("training_text", None, persistent=False)

    def begin_training(self, class_texts: Sequence[str], episodes_per_step: int = 1) -> None:
        """Encode the texts of all training classes."""
        self.training_text = self.encode_text(list(class_texts))

    def require_training_text(self) -> Tensor:
        """Return the texts of the training classes [label, dim].

        Raises:
            ValueError: `begin_training` was not called.
        """
        if self.training_text is None:
            weight = getattr(self.config, "class_text_weight", None)
            given = "" if weight is None else f"class_text_weight {weight} but "
            way_out = "" if weight is None else ", or set class_text_weight to 0"
            raise ValueError(
                f"{self.name} got {given}no training classes; expected begin_training(class_texts) before the loss: "
                f"call it{way_out}"
            )
        return self.training_text
