"""The vocabulary of axes: one word for one thing, in signatures, einops patterns, docs and errors.

| word | what it counts |
|---|---|
| `episode` | few-shot tasks that are matched together |
| `way` | classes of an episode |
| `shot` | labelled videos of a class |
| `query` | videos to be named |
| `reference` | what a query is compared with: a class's prototype, or one support video |
| `clip` | sampled videos; `*clips` stands for any leading axes of them |
| `frame` | sampled frames of a video, T in the papers |
| `rgb`, `height`, `width` | colours and pixels |
| `row`, `column`, `cell` | places of a feature map or grid, from top to bottom and from left to right |
| `token` | tokens of a transformer |
| `dim` | channels of a feature; `channel` is for those of a feature map or of a token |
| `text` | sentences; `label` is for class names, `prompt` for the templates of one class |
| `tuple` | ordered groups of frames (TRX) |

`distance`: small means near. `similarity`: large means near. `logits`: any numbers that go into softmax.
`probabilities`: sum to one over `way`.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

Clips = Float[Tensor, "*clips frame rgb=3 height width"]
FrameFeatures = Float[Tensor, "*clips frame dim"]
Tokens = Float[Tensor, "*clips frame token channel"]
FeatureMap = Float[Tensor, "*clips frame row column channel"]
TextFeatures = Float[Tensor, "text dim"]
FrameSimilarity = Float[Tensor, "*pairs query_frame support_frame"]
Distance = Float[Tensor, "*pairs"]
Logits = Float[Tensor, "episode query way"]
ShotMask = Bool[Tensor, "episode way shot"]
Targets = Int[Tensor, "episode query"]
