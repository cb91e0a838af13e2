"""Evaluate a method: accuracy with its confidence interval, accuracy per class, confusions."""

import math
from dataclasses import asdict
from datetime import datetime, timezone

import numpy as np
from jaxtyping import Int

from fsar.backbones.base import fingerprint_of
from fsar.bank.fill import check_features, fill_bank
from fsar.bank.store import Bank
from fsar.datasets import VideoDataset, drop_copies
from fsar.datasets.features import clip_settings
from fsar.devices import Precision, device_name
from fsar.evaluation.episodes import Episodes, EpisodeSampler
from fsar.evaluation.matching import Scores, match_from_bank, match_naively
from fsar.methods.base import Method
from fsar.results.result import Result, short_hash, versions
from fsar.video.frame_cache import FrameCache


def evaluate(
    method: Method,
    dataset: VideoDataset,
    split: str = "test",
    *,
    way: int = 5,
    shot: int = 1,
    query: int = 1,
    episodes: int | Episodes = 10_000,
    seed: int = 0,
    cache: FrameCache | None = None,
    bank: Bank | None = None,
    naive: bool = False,
    precision: Precision | None = None,
    devices: int = 1,
    predictions: bool = False,
    progress: bool = True,
) -> Result:
    """Evaluate a method on the classes of a split.

    Args:
        method: the method to evaluate.
        dataset: with splits; if it has none, give `split="all"`. Copies of a video in one class count once.
        split: train, val, test or all.
        way: classes per episode, N.
        shot: support videos per class, K.
        query: queries per class.
        episodes: how many to draw, or given episodes; `way`, `shot`, `query` and `seed` are then ignored.
        seed: of the episodes.
        cache: how frames are sampled; by default 8 by `tsn`.
        bank: encodings of the split's videos; by default made here. Videos that it skipped are left out.
        naive: encode every video of every episode again, for comparison.
        precision: of the arithmetic; by default that of `bank`, or float32.
        devices: GPUs, or copies on the CPU, that share the work (`fsar.devices.copies_on`). Does not change the result.
        predictions: keep the answer to every query in the result.
        progress: show progress bars.

    Returns:
        The accuracy and everything that it depends on. `result.accuracy` and `result.ci95` are in
        [0, 1]; `result.save(path)` writes it.

    Raises:
        VideoError: a broken video.
        ValueError: too few classes or videos, class names that the method cannot read, a precision that the device
            lacks or that is not the bank's, more devices than there are.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from fsar import build_method, load_backbone, load_folder
        >>> from fsar.video.writing import write_video
        >>> method = build_method("otam", load_backbone("tiny"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for action, brightness in (("wave", 50), ("clap", 200)):
        ...         for i in range(2):
        ...             frames = np.full((20, 64, 64, 3), brightness + 9 * i, np.uint8)  # frame height width rgb
        ...             write_video(Path(folder, action, f"{i}.mp4"), frames, 10.0)
        ...     result = evaluate(method, load_folder(Path(folder)), "all", way=2, episodes=20, progress=False)
        >>> result.percent  # mean ± half the 95 % interval
        '100.0 ± 0.0'
    """
    cache = cache or FrameCache()
    if isinstance(episodes, int):  # given episodes are used as they are
        dataset = drop_copies(dataset, cache, progress=progress)
    videos = dataset.split(split)
    check_features(method, videos.videos)
    method.check_texts(list(videos.texts.values()))
    if bank is None:
        precision = precision or "float32"
        bank = fill_bank(
            method,
            videos.videos,
            videos.texts,
            cache=cache,
            precision=precision,
            devices=devices,
            progress=progress,
        )
    elif precision not in (None, bank.precision):
        raise ValueError(f"precision is {precision}, and the bank was made in {bank.precision}; leave one of them out")
    videos = videos.without(bank.skipped)
    drawn = episodes
    if isinstance(drawn, int):
        drawn = EpisodeSampler(dataset=videos, way=way, shot=shot, query=query, seed=seed).draw(drawn)
    drawn = method.order_queries(drawn)
    if naive:
        scores = match_naively(
            method, videos, drawn, cache=cache, precision=bank.precision, devices=devices, progress=progress
        )
    else:
        scores = match_from_bank(method, bank, drawn, videos.texts, devices=devices, progress=progress)
    return summarize(
        method,
        videos,
        split,
        drawn,
        scores,
        cache=cache,
        seed=seed if isinstance(episodes, int) else None,
        bank=bank,
        devices=devices,
        predictions=predictions,
    )


def accuracy(scores: Scores, episodes: Episodes) -> tuple[float, float]:
    """Mean accuracy over episodes, and half its 95 % interval.

    The interval is 1.96 s / sqrt(episodes), where s is the standard deviation of the episodes' accuracies. For a
    single episode, s is unknown; its interval is the whole range, 1.

    Args:
        scores: logits [episode, query, way].
        episodes: the way that each query belongs to.

    Returns:
        Mean and half-interval, both in [0, 1].

    Example:
        >>> arrays = {"way_class": np.array([[0, 1]] * 2), "support": np.array([[[0], [1]]] * 2)}  # two 2-way episodes
        >>> arrays |= {"query": np.array([[2], [2]]), "target": np.array([[0], [0]])}  # with one query each
        >>> episodes = Episodes(("wave/1", "clap/1", "wave/2"), ("wave", "clap"), **arrays)
        >>> scores = Scores(np.array([[[2.0, 1.0]], [[0.5, 3.0]]]), seconds=0.0)  # the first is right, the second wrong
        >>> mean, half = accuracy(scores, episodes)
        >>> round(mean, 2), round(half, 2)
        (0.5, 0.98)
    """
    per_episode = (scores.predicted == episodes.target).mean(1)
    if len(per_episode) == 1:
        return float(per_episode[0]), 1.0
    return float(per_episode.mean()), float(1.96 * per_episode.std(ddof=1) / math.sqrt(len(per_episode)))


def confusion(scores: Scores, episodes: Episodes) -> Int[np.ndarray, "actual predicted"]:
    """Count how often queries of one class were classified as another, over all episodes.

    Args:
        scores: logits [episode, query, way].
        episodes: the class of each way.

    Returns:
        Counts [actual, predicted], in the order of `episodes.classes`.
    """
    counts = np.zeros((len(episodes.classes),) * 2, int)
    actual = np.take_along_axis(episodes.way_class, episodes.target, 1)
    named = np.take_along_axis(episodes.way_class, scores.predicted, 1)
    np.add.at(counts, (actual.ravel(), named.ravel()), 1)
    return counts


def summarize(
    method: Method,
    dataset: VideoDataset,
    split: str,
    episodes: Episodes,
    scores: Scores,
    *,
    cache: FrameCache,
    seed: int | None,
    bank: Bank,
    devices: int = 1,
    predictions: bool = False,
) -> Result:
    """Build the result: accuracy and everything that it depends on.

    Args:
        method: what was evaluated.
        dataset: without skipped videos.
        split: name of the split in the result.
        episodes: the matched episodes.
        scores: logits [episode, query, way].
        cache: how frames were sampled.
        seed: of the episodes; None if they were given.
        bank: names the videos that were left out, and the damaged ones.
        devices: how many shared the work.
        predictions: keep the answer to every query.

    Returns:
        The result.
    """
    counts = confusion(scores, episodes)
    seen = counts.sum(1)
    mean, half_interval = accuracy(scores, episodes)
    way, shot = episodes.support.shape[1:]
    trained = method.provenance
    return Result(
        method=method.name,
        options=method.options(),
        changed=method.config.changed(),
        transductive=method.traits.transductive,
        backbone=method.backbone.name,
        weights=method.backbone.fingerprint(),
        clip=clip_settings(dataset.videos, cache),
        dataset=dataset.name,
        dataset_fingerprint=dataset.fingerprint(),
        split=split,
        protocol=_protocol(method),
        selection="none: nothing was trained or chosen" if trained is None else trained.selection,
        way=way,
        shot=shot,
        query=episodes.query.shape[1] // way,
        episodes=len(episodes),
        seed=seed,
        episodes_fingerprint=episodes.fingerprint(),
        accuracy=mean,
        ci95=half_interval,
        per_class={label: float(counts[i, i] / seen[i]) for i, label in enumerate(episodes.classes) if seen[i]},
        confusion={"classes": list(episodes.classes), "counts": counts.tolist()},
        training=None if trained is None else asdict(trained),
        trained_weights=trained_weights(method),
        seen_classes=tuple(label for label in episodes.classes if trained and label in trained.classes),
        skipped=dict(bank.skipped),
        seconds=scores.seconds,
        versions=versions(),
        right=tuple((scores.predicted == episodes.target).sum(1).tolist()),
        videos=len(dataset.videos),
        files=short_hash([(video.id, video.hashed(cache)) for video in dataset.videos], 8),
        resplit=dataset.resplit_seed,
        absent=len(dataset.absent),
        copies=len(dataset.copies),
        precision=bank.precision,
        own=method.origins(),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        device=device_name(method.device, devices),
        predictions=_answers(scores, episodes) if predictions else None,
        damaged={video.id: bank.damaged[video.id] for video in dataset.videos if video.id in bank.damaged},
    )


def _answers(scores: Scores, episodes: Episodes) -> dict[str, object]:
    """Every query's video, class and answer, as places in lists of videos and classes."""
    classes = {"actual": episodes.target, "predicted": scores.predicted}
    places = {name: np.take_along_axis(episodes.way_class, way, 1).tolist() for name, way in classes.items()}
    lists = {"video_ids": list(episodes.video_ids), "classes": list(episodes.classes)}
    return {**lists, "query": episodes.query.tolist(), **places}


def trained_weights(method: Method) -> str:
    """Hash all weights of a trained method; empty if the method was not trained.

    Args:
        method: from `load_pretrained`, or built and untrained.

    Returns:
        16 hexadecimal digits, or nothing.
    """
    if method.provenance is None:
        return ""
    return fingerprint_of({k: v for k, v in method.state_dict().items() if not k.startswith("loss_heads.")})


def _protocol(method: Method) -> str:
    """Name the reason not to trust a number; `clean` if there is none."""
    if method.traits.leaks_labels:
        return "leaky: labels reach the scores"
    trained = method.provenance
    on_test = trained is not None and trained.recipe.get("protocol", "clean") == "paper"
    return "paper: selected on the test classes" if on_test else "clean"
