"""Encode, match and loss in one forward pass."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fsar.methods.base import Method
from fsar.methods.episode import Encoding, Episode, Targets


class EpisodeLoss(nn.Module):
    """The loss of an episode. A device runs this module; with several devices, it is wrapped."""

    def __init__(self, method: Method):
        super().__init__()
        self.method = method

    def forward(
        self,
        support: Tensor | Encoding,
        query: Tensor | Encoding,
        text: Tensor | None,
        query_way: Int[Tensor, "episode query"],
        way_class: Int[Tensor, "episode way"],
        draws: Float[Tensor, "episode query way"] | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Compute the loss of clips, or of encodings by the method's frozen encoder.

        Args:
            support: clips [episode, way, shot, frame, rgb, height, width], or encodings [episode, way, shot, ...].
            query: clips [episode, query, frame, rgb, height, width], or encodings [episode, query, ...].
            text: output of `text_input` for each way, [episode, way, ...]; None if the method reads no text.
            query_way: the way that each query belongs to.
            way_class: each way's class, as an index into the training classes.
            draws: numbers in (0, 1), for methods that draw.

        Returns:
            The terms of the loss by name, and the accuracy.
        """
        text = None if text is None else self.method.adapt_text(text)
        if isinstance(support, Tensor) and isinstance(query, Tensor):
            episode = self.method.encode_episode(support, query, text, draws)
        else:
            assert not isinstance(support, Tensor) and not isinstance(query, Tensor)
            episode = self._from_bank(support, query, text, draws)
        prediction = self.method.match(episode)
        right = (prediction.logits.argmax(-1) == query_way).float().mean()
        return self.method.loss(episode, prediction, Targets(query_way, way_class)), right

    def _from_bank(
        self, support: Encoding, query: Encoding, text: Tensor | None, draws: Float[Tensor, "episode query way"] | None
    ) -> Episode:
        shape = next(iter(support.values())).shape[:3]
        mask = torch.ones(shape, dtype=torch.bool, device=self.method.device)
        enhanced = self.method.enhance(support, "support", self.method.text_of_shots(text, shape[-1]))
        return Episode(enhanced, self.method.enhance(query, "query"), mask, text, draws)
