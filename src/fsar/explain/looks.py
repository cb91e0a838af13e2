"""Pictures of attention: several models side by side on a video, or one model in an episode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from fsar.bank.fill import load_clip
from fsar.datasets import VideoDataset
from fsar.evaluation.episodes import Episodes
from fsar.explain.attention import ClassAttention, Record, alone, attention_of_videos, class_attention, recorded
from fsar.explain.episode import ShownEpisode, show_episode
from fsar.explain.frames import Row, frames_picture
from fsar.explain.picture import HEAT, Picture, wrapped
from fsar.methods.base import Method
from fsar.methods.episode import Episode
from fsar.video.frame_cache import FrameCache
from fsar.video.transforms import pictures_of

UNIT = "attention to a patch (1 = even)"


def attention_picture(
    models: Sequence[tuple[str, Method, FrameCache]],
    videos: Sequence[Path],
    text: str | None = None,
    block: int | None = -1,
) -> Picture:
    """Draw what the class token of each frame looks at: for each video its frames, then a row per model.

    Args:
        models: name, method and sampling of each.
        videos: files, or folders of frames.
        text: words of the videos' class, to show them as support videos of models that read it.
        block: number of a block, from 0, negative from the end; None is rollout.

    Returns:
        The picture. Its data hold, as `MODEL on VIDEO`, the share of every patch times the number of patches, and the
        shares of tokens that are no patches.

    Raises:
        VideoError: a video cannot be read.
        ValueError: a model without attention, or without a class token; or a text that no model reads.
    """
    if text is not None and not any(method.traits.support_reads_text for _, method, _ in models):
        named = ", ".join(name for name, _, _ in models)
        raise ValueError(
            f"--text is {text!r}, and no model here reads the class of a support video: {named}; leave it out, or take "
            f"one that does, such as ma-fsar"
        )
    rows, words = [], []
    for video, called in zip(videos, told_apart(videos), strict=True):
        for number, (name, method, cache) in enumerate(models):
            clip = load_clip(method, cache, video)[None].to(method.device)
            reads = text is not None and method.traits.support_reads_text
            encoded = method.encode_text([text]) if reads and text is not None else None
            attention = attention_of_videos(method, clip, "support" if reads else "query", encoded, block)
            frames = pictures_of(clip, *method.normalization)[0]
            if number == 0:
                rows.append(Row(called.replace("_", " "), frames))
            rows.append(replace(_row(name, frames, attention, 0), key=f"{name} on {called}"))
            words.append(f"{name} on {called}: {_said(attention, 0)}")
    what = "rollout over all blocks" if block is None else "last block" if block == -1 else f"block {block}"
    lead = (
        f"Frames of {len(videos)} video{'s' * (len(videos) > 1)}, with the class token's attention over them ({what})."
    )
    return frames_picture(rows, f"Class token to patches, {what}", UNIT, " ".join([lead, *words]))


def told_apart(videos: Sequence[Path]) -> list[str]:
    """Name videos by their file names, with as many of their folders as it takes to tell them apart.

    Example:
        >>> told_apart([Path("run/anna.mp4"), Path("walk/anna.mp4"), Path("walk/ben.mp4")])
        ['run/anna.mp4', 'walk/anna.mp4', 'ben']
    """
    paths = [video.absolute() for video in videos]
    longest = max(len(path.parts) for path in paths)
    forms = [[path.stem for path in paths]]
    forms += [["/".join(path.parts[-parts:]) for path in paths] for parts in range(2, longest)]
    return [next((form[i] for form in forms if form.count(form[i]) == 1), path.stem) for i, path in enumerate(paths)]


def _row(name: str, frames: np.ndarray, attention: ClassAttention, *video: int) -> Row:
    """One row of the picture: attention to patches as a multiple of the even share."""
    patches = attention.patches[video].cpu().double().numpy()
    even = patches.sum((1, 2), keepdims=True) / patches[0].size
    return Row(name, frames, patches / even, {k: share[video].cpu().numpy() for k, share in attention.others.items()})


def _said(attention: ClassAttention, *video: int) -> str:
    """Say how strongly the attention is bundled, and what goes to tokens that are no patches."""
    patches = attention.patches[video].flatten(1)
    share = patches / patches.sum(-1, keepdim=True)
    tenth = max(1, share.shape[-1] // 10)
    bundled = share.topk(tenth, -1).values.sum(-1).mean()
    others = ", ".join(f"{name} {100 * float(part[video].mean()):.0f} %" for name, part in attention.others.items())
    return f"the strongest {tenth} of {share.shape[-1]} patches get {100 * float(bundled):.0f} % of it; {others}."


@dataclass(frozen=True)
class EpisodeAttention:
    """Attention in one episode."""

    support: ClassAttention
    """[way, shot, frame, ...]."""
    query: ClassAttention
    """[query, frame, ...]."""
    frames: Mapping[str, Float[Tensor, "video frame key_frame"]]
    """Over the frames of each video at its class tokens, by role; empty if the encoder has none."""
    videos: Float[Tensor, "block frame video key_video"] | None
    """Over the support videos of the task at the class tokens (Task-Adapter); None if the encoder has none."""


@torch.no_grad()
def attention_of_episode(method: Method, shown: ShownEpisode, block: int | None = -1) -> EpisodeAttention:
    """Run a method on an episode and return the attention of its image encoder.

    Args:
        method: any with a ViT.
        shown: the episode.
        block: as for `class_attention`.

    Returns:
        Attention over tokens, frames and videos.

    Raises:
        ValueError: the backbone is no ViT.
    """
    method = alone(method)
    text = None if shown.text is None else shown.text[None]
    own_text = method.text_of_shots(text, shown.support.shape[1])
    with recorded(method) as records:
        support = method.encode(shown.support[None], "support", own_text)
        begun = len(records)
        query = method.encode(shown.query[None], "query")
        done = len(records)
        mask = torch.ones(1, *shown.support.shape[:2], dtype=torch.bool, device=shown.support.device)
        method.match(Episode(support, query, mask, text, shown.draws))
    # support videos that wait for their episode are encoded to the end in `match`
    of_support, of_query = [*records[:begun], *records[done:]], records[begun:done]
    frames = shown.support.shape[2]
    over_videos = [record for record in of_support if record.over == "videos"]
    return EpisodeAttention(
        class_attention(of_support, method.backbone, tuple(shown.support.shape[:3]), block),
        class_attention(of_query, method.backbone, tuple(shown.query.shape[:2]), block),
        {
            role: over
            for role, part, count in (
                ("support", of_support, shown.support.shape[0] * shown.support.shape[1]),
                ("query", of_query, len(shown.query)),
            )
            if (over := _over_frames(part, count)) is not None
        },
        _over_videos(over_videos, frames) if over_videos else None,
    )


def _over_frames(records: Sequence[Record], videos: int) -> Float[Tensor, "video frame key_frame"] | None:
    """The last block's attention over frames at the class token; tokens of a video are neighbours in the batch."""
    found = [record.weights for record in records if record.over == "frames"]
    return found[-1].unflatten(0, (videos, -1))[:, 0] if found else None


def _over_videos(records: Sequence[Record], frames: int) -> Float[Tensor, "block frame video key_video"]:
    """Every block's attention over videos at the class token: the batch is (frame token), the class token first."""
    return torch.stack([record.weights.unflatten(0, (frames, -1))[:, 0] for record in records])


def episode_attention_picture(
    method: Method, cache: FrameCache, dataset: VideoDataset, episodes: Episodes, block: int | None, name: str
) -> Picture:
    """Draw the support and query videos of an episode with attention over them, and attention over frames and videos.

    Args:
        method: any with a ViT.
        cache: how frames are sampled.
        dataset: holds the videos.
        episodes: the first one is shown.
        block: as for `class_attention`.
        name: of the model.

    Returns:
        The picture.

    Raises:
        VideoError: a video cannot be read.
        ValueError: the backbone is no ViT.
    """
    shown = show_episode(method, cache, dataset, episodes)
    attention = attention_of_episode(method, shown, block)
    support, query = pictures_of(shown.support, *method.normalization), pictures_of(shown.query, *method.normalization)
    rows, said = [], []
    for way in range(len(shown.words)):
        for shot, example in enumerate(shown.examples(way)):
            rows.append(_row(f"support: {example}", support[way, shot], attention.support, way, shot))
    for number, target in enumerate(shown.target):
        rows.append(_row(f"query: {shown.words[target]}", query[number], attention.query, number))
        said.append(f"Query {shown.words[target]}: {_said(attention.query, number)}")
    lead = f"{len(rows)} videos of an episode, with the class token's attention of {name} over their frames."
    what = "rollout" if block is None else "last block" if block == -1 else f"block {block}"
    picture = frames_picture(rows, f"{name}: class token to patches, {what}", UNIT, " ".join([lead, *said]))
    _add_matrices(picture.figure, attention, [one for way in range(len(shown.words)) for one in shown.examples(way)])
    data = {f"over frames: {role}": over.cpu().numpy() for role, over in attention.frames.items()}
    if attention.videos is not None:
        data["over videos"] = attention.videos.cpu().numpy()
    return Picture(picture.figure, picture.title, picture.words, {**picture.data, **data, **shown.names()})


def _add_matrices(figure: Figure, attention: EpisodeAttention, words: Sequence[str]) -> None:
    """Add, below the frames, attention over frames (mean over videos) and over the videos of the task."""
    matrices: list[tuple[Tensor, str, Sequence[str] | None, str]] = [
        (over.mean(0), "frame", None, f"over frames, {role} (mean over videos)")
        for role, over in attention.frames.items()
    ]
    if attention.videos is not None:
        over = attention.videos[-1].mean(0)
        matrices.append((over, "support video", words, "over the task's videos, last block (mean over frames)"))
    if not matrices:
        return
    width, height = figure.get_size_inches()
    width, below = max(width, 3.4 * len(matrices)), 3.4
    figure.set_size_inches(width, height + below)
    figure.set_layout_engine("compressed", rect=(0, below / (height + below), 1, height / (height + below)))
    for number, (over, what, ticks, title) in enumerate(matrices):
        left, right = (0.22, 0.84) if ticks is None else (0.42, 0.8)  # room for names
        place = ((number + left) / len(matrices), 0.9 / (height + below))
        axes = figure.add_axes((*place, (right - left) / len(matrices), (below - 1.4) / (height + below)))
        axes.set_in_layout(False)
        image = axes.imshow(over.cpu().numpy(), cmap=HEAT, vmin=0)
        axes.set_title(wrapped(title, 34), fontsize=8)
        axes.set_xlabel(f"attended {what}", fontsize=8)
        axes.set_ylabel(what, fontsize=8)
        places = range(len(over))
        numbers = [str(i + 1) for i in places]
        names = [wrapped(f"{name} ({n})", 26) for n, name in zip(numbers, ticks, strict=True)] if ticks else numbers
        axes.set_xticks(places, numbers, fontsize=6)  # names beside the rows only: below, they would need too much room
        axes.set_yticks(places, names, fontsize=6)
        bar = figure.colorbar(image, ax=axes, fraction=0.05)
        bar.set_label("share of attention", fontsize=7)
        bar.ax.tick_params(labelsize=7)
