"""TA2N: a video is cut to its action in time, and then query and class are moved onto each other in time and place.

Li et al., "TA2N: Two-stage action alignment network for few-shot action recognition", AAAI 2022. It works on feature
maps; s_j = -1 + 2 j / (T - 1) is the time of frame j, bars are means over the places, pairs are of query and class:

    (a, b) = tanh of a small network on the maps;   frame j of the output = the input at time a s_j + b
    beta = softmax over the query's frames of k(class)[x] . q(query)[y] / sqrt(D)
    Q'[x] = Q[x] + sum over y of beta v(Q bar)[y],   S' = S + v(S bar)           added at every place
    o = 0.75 tanh of a network on [S'; Q']                                        a shift (x, y) of every frame
    S' is pooled over the places by a window that is shifted by o, Q' by -o       mean of nine windows, 0.2 apart;
                                                    each is 1 inside of the map and falls to 0 over one place outside
    logits = - sum over t of 1 - cos(pooled Q'[t], pooled S'[t])

Long: TA2N has three alignments: of durations, of shots, and of pairs in time and place.

| what | function |
|---|---|
| a, b, the cut | `Duration` |
| several shots, on request | `ShotAlignment` |
| beta, Q', S' | `Evolution.in_time` |
| o | `Evolution.convolved`, `Evolution.offsets` |
| windows | `windows` |
| logits | `Ta2n.match` |

Deviations (a dash: not checked):
| point | paper | public code | ours (switch) |
|---|---|---|---|
| several shots | - | frames of all shots are attended by those of the first shot, with maps of their own for maps and queries | mean over shots (`shots: mean`), whose order changes nothing; `first` is the code's, and that of the recipes for 5 shots |
| `first`, numbers of shots | - | every class has K | an episode in which some class has several shots aligns all of its classes; masked shots do not count |
| labels | - | ignored: a class is a block of K videos, as its reader gives them; a port shuffles them, so its numbers are void | by label |
| BatchNorm of a ResNet | - | trains from the first step | the same in the recipes (`freeze_batch_norm: false`); support and queries are two batches |
| BatchNorm of the method | - | batch statistics in training, of support, of queries, and of all pairs | the same; stored ones in the test |
| nine windows | - | in training and test; the function that shrinks their distance is never called | the code's (`perturb`) |
| norm of the logits | - | off | off (`dist_norm`) |
| a first convolution on every pair | - | of the joined maps | the same numbers from convolutions of each video's maps, once, and of what is added to them |
| loss | - | sum over queries / 16 | mean; the recipes' rate is as many times the code's as an episode has queries |
| pixels | - | [0, 1], not normalised | `pixels: normalized` (default) or `unit` |
| frames, crops | - | TRX's reader | the same in the recipes, but for videos of fewer than 8 frames, which it leaves out (`drop_short`) |
| first step | - | after 15 episodes | every `episodes_per_step` |
| flips | - | not on SSv2 | not where names tell left from right |
| state that is kept | - | the best on the test classes, every 200 to 500 episodes | the best on the val classes, unless the recipe has `protocol: paper` |
"""  # noqa: E501

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv3d, max_pool3d, unfold

from fsar.alignment import cosine
from fsar.backbones import Backbone
from fsar.config import ablation
from fsar.methods.base import Method, Traits
from fsar.methods.encoder import Encoder, MapEncoder
from fsar.methods.episode import Encoding, Episode, Prediction, Role, mean_over_shots
from fsar.shapes import FeatureMap, ShotMask

STEP = 0.2
"""Distance of the nine windows; the width of a map is 2."""
REACH = 0.75
"""Largest shift of a window."""
NORM_EPS = 1e-5
"""Added to the variance of the logits, as in LayerNorm."""

ChannelsFirst = Float[Tensor, "clip channel frame row column"]


def pooled_by_two(maps: ChannelsFirst, time: bool) -> Float[Tensor, "clip channel time height width"]:
    """Take maxima over 2 x 2 places and, with `time`, 2 frames; an axis of length 1 stays."""
    frames, rows, columns = (min(2, size) for size in maps.shape[2:])
    return max_pool3d(maps, (frames if time else 1, rows, columns))


def channels_first(maps: FeatureMap) -> ChannelsFirst:
    """Join the leading axes and put the channels second."""
    return maps.reshape(-1, *maps.shape[-4:]).movedim(-1, 1)


class Duration(nn.Module):
    """Cut a video to the part in which its action happens.

    Args:
        dim: channels of a map.
        channels: inside, of both convolutions and of the last layer but one.
    """

    def __init__(self, dim: int, channels: tuple[int, int, int]):
        super().__init__()
        first, second, last = channels
        self.convolutions = nn.ModuleList([nn.Conv3d(dim, first, 3, padding=1), nn.Conv3d(first, second, 3, padding=1)])
        self.norms = nn.ModuleList([nn.BatchNorm3d(first), nn.BatchNorm3d(second)])
        of_last = nn.Linear(last, 2)
        self.out = nn.Sequential(nn.Linear(second, last), nn.ReLU(), of_last)
        nn.init.zeros_(of_last.weight)
        with torch.no_grad():
            of_last.bias.copy_(torch.tensor([2.0, 0.0]))

    def scale_and_shift(self, maps: FeatureMap) -> Float[Tensor, "*clips 2"]:
        """Compute a and b."""
        x = channels_first(maps)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = pooled_by_two(norm(convolution(x)), time=True).relu()
        return self.out(x.amax((-3, -2, -1))).tanh().reshape(*maps.shape[:-4], 2)

    def forward(self, maps: FeatureMap) -> FeatureMap:
        """Read every frame at its new time, between two frames linearly; outside of the video, there is zero."""
        frames = maps.shape[-4]
        times = torch.linspace(-1, 1, frames, device=maps.device)
        scale, shift = self.scale_and_shift(maps)[..., None].unbind(-2)
        places = (scale * times + shift + 1) / 2 * (frames - 1)  # *clips frame
        weights = (1 - (places[..., None] - torch.arange(frames, device=maps.device)).abs()).relu()
        return torch.einsum("...st,...trcd->...srcd", weights.to(maps), maps)


class ShotAlignment(nn.Module):
    """Attend from the frames of a class's first shot to those of every shot, as the public code.

    Args:
        dim: channels of a map.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.key, self.query, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))

    def forward(
        self, support: Float[Tensor, "episode way shot frame row column channel"], mask: ShotMask
    ) -> Float[Tensor, "episode way frame row column channel"]:
        """Give the class means.

        Args:
            support: maps.
            mask: false for missing shots; the first one that is there is the reference.
        """
        means = support.mean((-3, -2))  # episode way shot frame channel
        first = mask.long().argmax(-1)[..., None, None, None].expand(-1, -1, 1, *means.shape[-2:])
        reference = self.query(means.gather(2, first))
        scores = torch.einsum("ewktd,ewsud->ewktu", self.key(means), reference) / means.shape[-1] ** 0.5
        recon = torch.einsum("ewktu,ewktrcd->ewkurcd", scores.softmax(-2), self.value(support))
        return mean_over_shots(recon, mask)


class Evolution(nn.Module):
    """Move a query and a class onto each other, in time and place.

    Args:
        dim: channels of a map.
        channels: inside, of both convolutions and of the last layer but one.
        perturb: average nine windows.
        parts: `time`, `space`, `both` or `none`; the parameters of the others are not there.
    """

    def __init__(self, dim: int, channels: tuple[int, int, int], perturb: bool, parts: str):
        super().__init__()
        first, second, last = channels
        self.perturb = perturb
        self.has_time, self.has_space = (parts in ("both", part) for part in ("time", "space"))
        if self.has_time:
            self.key, self.query, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        if not self.has_space:
            return
        self.joined = nn.Conv3d(2 * dim, first, 3, padding=1)
        self.convolution = nn.Conv3d(first, second, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm3d(first), nn.BatchNorm3d(second)])
        of_last = nn.Linear(last, 2)
        self.out = nn.Sequential(nn.Linear(second, last), nn.ReLU(), of_last)
        nn.init.zeros_(of_last.weight)
        nn.init.zeros_(of_last.bias)

    def convolved(self, maps: FeatureMap) -> dict[str, Float[Tensor, "*clips frame row column out"]]:
        """Convolve maps by each half of the first layer: `as_class` and `as_query`; nothing without `space`.

        That layer is linear. So it runs on each video's maps once, and not on every pair; the mean over shots of
        `as_class` is that of the mean map.
        """
        if not self.has_space:
            return {}
        for_class, for_query = self.joined.weight.chunk(2, 1)  # the class comes first
        return {"as_class": _convolved(maps, for_class), "as_query": _convolved(maps, for_query)}

    def forward(
        self, query: Encoding, classes: Encoding
    ) -> tuple[Float[Tensor, "episode query way frame channel"], Float[Tensor, "episode query way frame channel"]]:
        """Give the pooled frames of query and class, for every pair.

        Args:
            query: `maps` [episode, query, frame, row, column, channel] and what `convolved` gives of them.
            classes: the same of the class means.
        """
        of_query, of_class = (side["maps"].mean((-3, -2)) for side in (query, classes))
        to_query, to_class = self.in_time(of_query, of_class)
        if not self.has_space:
            return of_query[:, :, None] + to_query, (of_class + to_class)[:, None].expand_as(to_query)
        shift = self.offsets(query["as_query"], classes["as_class"], to_query, to_class)
        rows, columns = query["maps"].shape[-3:-1]
        query_rows, query_columns = windows(-shift, (rows, columns), self.perturb)
        class_rows, class_columns = windows(shift, (rows, columns), self.perturb)
        pooled_query = torch.einsum("eqwtr,eqwtc,eqtrcd->eqwtd", query_rows, query_columns, query["maps"])
        pooled_class = torch.einsum("eqwtr,eqwtc,ewtrcd->eqwtd", class_rows, class_columns, classes["maps"])
        return pooled_query + to_query, pooled_class + to_class[:, None]

    def in_time(
        self,
        query: Float[Tensor, "episode query frame channel"],
        classes: Float[Tensor, "episode way frame channel"],
    ) -> tuple[Float[Tensor, "episode query way frame channel"], Float[Tensor, "episode way frame channel"]]:
        """Compute what is added at all places of the query's frames, for every pair, and of the class's frames.

        Args:
            query: means over the places.
            classes: means over the places.

        Returns:
            Zeros without `time`.
        """
        if not self.has_time:
            to_query = torch.zeros_like(query)[:, :, None].expand(-1, -1, classes.shape[1], -1, -1)
            return to_query, torch.zeros_like(classes)
        scores = torch.einsum("ewxd,eqyd->eqwxy", self.key(classes), self.query(query)) / query.shape[-1] ** 0.5
        to_query = torch.einsum("eqwxy,eqyd->eqwxd", scores.softmax(-1), self.value(query))
        return to_query, self.value(classes)

    def offsets(
        self, as_query: Tensor, as_class: Tensor, to_query: Tensor, to_class: Tensor
    ) -> Float[Tensor, "episode query way frame xy=2"]:
        """Compute the shift of every frame of every pair.

        Args:
            as_query: convolved maps.
            as_class: convolved maps.
            to_query: as `in_time` gives it.
            to_class: as `in_time` gives it.
        """
        for_class, for_query = self.joined.weight.chunk(2, 1)
        rows, columns = as_query.shape[-3:-1]
        as_class = as_class + _of_constant(to_class, for_class, (rows, columns))
        of_pair = _of_constant(to_query, for_query, (rows, columns)) + self.joined.get_parameter("bias")
        x = as_query[:, :, None] + as_class[:, None] + of_pair
        pairs = x.shape[:3]
        x = pooled_by_two(self.norms[0](channels_first(x)), time=False).relu()
        x = pooled_by_two(self.norms[1](self.convolution(x)), time=False).relu()
        return REACH * self.out(x.amax((-2, -1)).mT).tanh().unflatten(0, pairs)


def _convolved(maps: FeatureMap, weight: Tensor) -> Float[Tensor, "*clips frame row column out"]:
    made = conv3d(channels_first(maps), weight, padding=1).movedim(1, -1)
    return made.reshape(*maps.shape[:-4], *made.shape[1:])


def _of_constant(rows: Float[Tensor, "*pairs frame dim"], weight: Tensor, size: tuple[int, int]) -> FeatureMap:
    """Convolve maps that are the same at every place.

    Only the kernel's part inside of the map counts, so at most nine kinds of places differ: corners, sides, the rest.
    """
    out, dim, time = weight.shape[:3]
    kinds = [min(3, length) for length in size]
    ones = torch.ones(1, 1, *kinds, device=weight.device, dtype=weight.dtype)
    inside = unfold(ones, 3, padding=1)[0]  # place_of_kernel kind: 1 if it is inside of the map
    summed = (weight.reshape(-1, len(inside)) @ inside).unflatten(0, (out, dim, time))
    kernel = rearrange(summed, "out dim time kind -> (out kind) dim time")
    made = conv1d(rows.flatten(0, -3).mT, kernel, padding=1)
    made = rearrange(
        made, "pair (out row column) frame -> pair frame row column out", out=out, row=kinds[0], column=kinds[1]
    )
    for axis, length in zip((2, 3), size, strict=True):
        kind = [place if length < 4 else min(place, 1) + (place == length - 1) for place in range(length)]
        made = made.index_select(axis, torch.tensor(kind, device=made.device))
    return made.unflatten(0, rows.shape[:-2])


def windows(
    shift: Float[Tensor, "*pairs frame xy=2"], size: tuple[int, int], perturb: bool
) -> tuple[Float[Tensor, "*pairs frame row"], Float[Tensor, "*pairs frame column"]]:
    """Compute the weights of rows and columns under a shifted window; a place's weight is their product.

    A window is 1 inside of the map and falls to 0 over one place outside of it. The mean over nine windows is the
    product of two means over three, since their shifts in x and y are independent.

    Args:
        shift: of every frame, x and y.
        size: rows and columns of the map.
        perturb: average windows shifted by -0.2, 0 and 0.2 more.

    Example:
        >>> rows, columns = windows(torch.zeros(1, 2), (2, 3), perturb=False)
        >>> rows, columns
        (tensor([[0.5000, 0.5000]]), tensor([[0.3333, 0.3333, 0.3333]]))
    """
    steps = torch.tensor([-STEP, 0.0, STEP] if perturb else [0.0], device=shift.device)
    weights = []
    for axis, length in zip((1, 0), size, strict=True):  # rows are shifted by y, columns by x
        grid = torch.linspace(-1, 1, length, device=shift.device) if length > 1 else torch.zeros(1, device=shift.device)
        places = (grid + shift[..., axis, None, None].float() + steps[:, None]).abs()  # *pairs frame step place
        inside = (1 - (length - 1) / 2 * (places - 1).relu()).relu()  # places are 2 / (length - 1) apart
        weights.append((inside / inside.sum(-1, keepdim=True).clamp(min=1e-6)).mean(-2).to(shift))
    return weights[0], weights[1]


def normed(
    logits: Float[Tensor, "episode query way"], present: Bool[Tensor, "episode way"]
) -> Float[Tensor, "episode query way"]:
    """Subtract a query's mean logit and divide by the deviation of its logits, as LayerNorm without parameters.

    Args:
        logits: of every class.
        present: false for classes without shots, which do not count.

    Example:
        >>> normed(torch.tensor([[[1.0, 3.0, 99.0]]]), torch.tensor([[True, True, False]]))[0, 0, :2]
        tensor([-1.0000,  1.0000])
    """
    shares = (present / present.sum(-1, keepdim=True).clamp(min=1))[:, None]
    centred = logits - (shares * logits).sum(-1, keepdim=True)
    variance = (shares * centred.square()).sum(-1, keepdim=True)
    return centred / (variance + NORM_EPS).sqrt()


class Ta2n(Method):
    """Videos are cut to their action; then the frames of a query and a class are moved onto each other."""

    name = "ta2n"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options of TA2N."""

        least: ClassVar[dict[str, float]] = {"duration_channels": 1, "evolution_channels": 1}

        shots: Literal["mean", "first"] = "mean"
        """Several shots of a class: their mean, or every shot aligned with the first one, as in the public code."""
        dropout: float = 0.5
        """Dropout on the feature maps."""
        duration: bool = ablation(True)
        """The first stage: cut every video to its action."""
        evolution: Literal["both", "time", "space", "none"] = ablation("both")
        """The second stage: query and class are moved onto each other in time and in space, in one, or not at all."""
        perturb: bool = ablation(True)
        """Average nine windows where the second stage acts in space."""
        dist_norm: bool = ablation(False)
        """Normalise the logits of each query by their mean and deviation over the classes."""
        duration_channels: tuple[int, int, int] = ablation((64, 128, 32))
        """Channels inside the network of the first stage."""
        evolution_channels: tuple[int, int, int] = ablation((128, 128, 64))
        """Channels inside the network of the second stage."""
        pixels: Literal["normalized", "unit"] = "normalized"
        """Pixels normalised by the backbone's mean and deviation, or in [0, 1], as in the public code."""

        def idle(self) -> list[tuple[bool, str, tuple[str, ...]]]:
            """A stage that is off has no network; without space, the second one has no windows."""
            return [
                (not self.duration, "duration: false", ("duration_channels",)),
                (self.evolution in ("time", "none"), f"evolution: {self.evolution}", ("perturb", "evolution_channels")),
            ]

    config: Config

    def __init__(self, backbone: Backbone, config: Config):
        super().__init__(backbone, config)
        dim = backbone.map_dim
        self.dropout = nn.Dropout(config.dropout)
        if config.duration:
            self.duration = Duration(dim, config.duration_channels)
        if config.shots == "first":
            self.alignment = ShotAlignment(dim)
        self.evolution = Evolution(dim, config.evolution_channels, config.perturb, config.evolution)

    @classmethod
    def traits_of(cls, config: Config) -> Traits:
        """Both stages and the visual tower train; means of shots, not normalised, are independent of other classes."""
        return Traits(
            trains=("own", "visual"),
            # with `first`, one class of several shots aligns all classes
            independent_ways=config.shots == "mean" and not config.dist_norm,
            matches_means=config.shots == "mean",
            pixels=config.pixels,
            episodes_per_match=2,  # 25 pairs of 8 x 7 x 7 places with 128 channels: 40 MB
        )

    def encoder(self) -> Encoder:
        """The feature maps; everything that trains comes after."""
        return MapEncoder(self.backbone, self.config.pixels)

    def enhance(self, encoding: Encoding, role: Role, text: Tensor | None = None) -> Encoding:
        """Cut every video to its action.

        Returns:
            `maps` [*clips, frame, row, column, channel] and, with `shots: mean`, what `Evolution.convolved` gives.
        """
        maps = self.dropout(encoding["maps"])
        maps = self.duration(maps) if self.config.duration else maps
        return {"maps": maps} | (self.evolution.convolved(maps) if self.config.shots == "mean" else {})

    def match(self, episode: Episode) -> Prediction:
        """Logits: minus the distance of frames of the same number. Named outputs: the pooled frames of every pair."""
        query, classes = self._compared(episode)
        of_query, of_class = self.evolution(query, classes)
        logits = (cosine(of_query, of_class) - 1).sum(-1)
        logits = normed(logits, episode.shot_mask.any(-1)) if self.config.dist_norm else logits
        return Prediction(logits, {"query": of_query, "classes": of_class})

    def _compared(self, episode: Episode) -> tuple[Encoding, Encoding]:
        """Give maps and convolved maps of the queries and of the classes."""
        mask = episode.shot_mask
        if self.config.shots == "mean":
            return episode.query, {name: mean_over_shots(part, mask) for name, part in episode.support.items()}
        query, support = episode.query["maps"], episode.support["maps"]
        classes = mean_over_shots(support, mask)
        if mask.shape[-1] > 1:
            several = (mask.sum(-1).amax(-1) > 1).reshape(-1, *[1] * 5)  # without masked shots: padding counts nowhere
            classes = torch.where(several, self.alignment(support, mask), classes)
            query = torch.where(several, self.alignment.value(query), query)
        of_query, of_class = ({"maps": maps, **self.evolution.convolved(maps)} for maps in (query, classes))
        return of_query, of_class
