"""Episodes: which videos are matched together. Episode i depends only on (dataset, seed, i).

A hash of (seed, episode, name) gives every class and every video a pseudo-random priority; the lowest ones are chosen.
So an episode does not depend on the order of files, on the number of episodes drawn at a time, or on the process.
"""

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b, sha256
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt64

from fsar.datasets import VideoDataset
from fsar.files import write_text_atomic
from fsar.names import many

_CHUNK = 1024  # episodes drawn at a time: limits memory, does not change a result


@dataclass(frozen=True)
class Episodes:
    """Which videos are matched together."""

    video_ids: tuple[str, ...]
    classes: tuple[str, ...]
    way_class: Int[np.ndarray, "episode way"]
    """Class of each way, as an index into `classes`."""
    support: Int[np.ndarray, "episode way shot"]
    """Support videos of each way, as indices into `video_ids`."""
    query: Int[np.ndarray, "episode query"]
    """Query videos, as indices into `video_ids`."""
    target: Int[np.ndarray, "episode query"]
    """The way that each query belongs to."""

    def __len__(self) -> int:
        return len(self.query)

    def __getitem__(self, chosen: slice) -> "Episodes":
        arrays = (self.way_class, self.support, self.query, self.target)
        return Episodes(self.video_ids, self.classes, *(array[chosen] for array in arrays))

    def in_class_order(self) -> "Episodes":
        """Return the same episodes with queries sorted by way, for the audit of a public code that leaks labels."""
        order = np.argsort(self.target, axis=1, kind="stable")
        query, target = (np.take_along_axis(array, order, 1) for array in (self.query, self.target))
        return Episodes(self.video_ids, self.classes, self.way_class, self.support, query, target)

    def draws(self) -> Float[np.ndarray, "episode query way"]:
        """Compute random numbers in (0, 1) for methods that draw: hashes of support videos, query and class.

        They do not depend on the order of classes and shots, or on other episodes.
        """
        videos, classes = _hashes("video ", self.video_ids), _hashes("class ", self.classes)
        episode = np.bitwise_xor.reduce(_scramble(videos[self.support]), axis=(1, 2))
        query = _mix(episode[:, None], videos[self.query])
        mixed = _mix(query[:, :, None], classes[self.way_class][:, None])
        return ((mixed >> np.uint64(11)).astype(float) + 0.5) * 2.0**-53

    def fingerprint(self) -> str:
        """Hash of the episodes; equal if equal videos have equal roles."""
        digest = sha256(json.dumps([self.video_ids, self.classes]).encode())
        for array in (self.way_class, self.support, self.query, self.target):
            digest.update(f"{array.shape}".encode() + array.astype("<i4").tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write a manifest (JSON) that `load` replays."""
        content = {
            "format": 1,
            "fingerprint": self.fingerprint(),
            "classes": self.classes,
            "video_ids": self.video_ids,
            "way_class": self.way_class.tolist(),
            "support": self.support.tolist(),
            "query": self.query.tolist(),
            "target": self.target.tolist(),
        }
        write_text_atomic(path, json.dumps(content))

    @classmethod
    def load(cls, path: Path, dataset: VideoDataset) -> "Episodes":
        """Read a manifest that `save` wrote.

        Args:
            path: the file.
            dataset: must have all videos of the manifest.

        Raises:
            ValueError: the file is not a manifest, was changed, or has videos that the dataset lacks.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            arrays = [np.array(content[key]) for key in ("way_class", "support", "query", "target")]
            episodes = cls(tuple(content["video_ids"]), tuple(content["classes"]), *arrays)
            intact = content["fingerprint"] == episodes.fingerprint()
        except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not an episode manifest that fsar wrote ({error!r})") from error
        if not intact:
            raise ValueError(f"{path}: its episodes do not match its fingerprint; it was changed or cut short")
        missing = set(episodes.video_ids) - {video.id for video in dataset.videos}
        if missing:
            raise ValueError(
                f"{path}: {len(missing)} of its videos are not in dataset {dataset.name}, among them "
                f"{', '.join(sorted(missing)[:3])}; it was drawn from another dataset or split"
            )
        return episodes


@dataclass(frozen=True, kw_only=True)
class EpisodeSampler:
    """Draws N-way K-shot episodes from a dataset.

    Raises:
        ValueError: the dataset has too few classes, or a class too few videos.

    Example:
        >>> from fsar.datasets import Video
        >>> videos = [Video(f"{c}/{i}", Path(f"{c}/{i}.mp4"), c) for c in ("wave", "clap", "sit") for i in range(4)]
        >>> sampler = EpisodeSampler(dataset=VideoDataset("mine", tuple(videos), {}, {}), way=2, shot=3, seed=0)
        >>> drawn = sampler.draw(100)
        >>> drawn.support.shape, drawn.query.shape  # episode way shot, episode query
        ((100, 2, 3), (100, 2))
        >>> bool((sampler.draw(1, start=7).support == drawn.support[7]).all())  # episode 7, however it is drawn
        True
    """

    dataset: VideoDataset
    way: int = 5
    """Classes per episode, N."""
    shot: int = 1
    """Labelled videos per class, K."""
    query: int = 1
    """Queries per class."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.way, self.shot, self.query) < 1:
            raise ValueError(
                f"an episode needs at least one way, shot and query; got way {self.way}, shot {self.shot}, "
                f"query {self.query}"
            )
        classes = self.dataset.classes
        if self.way > len(classes):
            raise ValueError(
                f"{self.way}-way episodes need {self.way} classes; {self.dataset.name} has {len(classes)} here: "
                f"{', '.join(classes[:12])}"
            )
        needed = self.shot + self.query
        short = {label: n for label, n in sorted(self.dataset.counts.items()) if n < needed}
        if short:
            listed = ", ".join(f"{label} has {n}" for label, n in list(short.items())[:5])
            copies = f" ({len(self.dataset.copies)} copies are left out)" if self.dataset.copies else ""
            queries = many(self.query, "query", "queries")
            raise ValueError(
                f"{self.shot}-shot episodes with {queries} per class need {needed} videos in every class; "
                f"{listed}{copies}. Lower shot or query, add videos, or leave the class out"
            )

    def draw(self, count: int, start: int = 0) -> Episodes:
        """Draw the episodes start, ..., start + count - 1.

        Args:
            count: how many, at least 1.
            start: number of the first one, at least 0.

        Raises:
            ValueError: count or start is too small.
        """
        if count < 1 or start < 0:
            raise ValueError(f"cannot draw {count} episodes from number {start} on; ask for at least one, from 0 on")
        ids, classes, _, _ = self._videos
        chunks = [
            self._draw(np.arange(first, min(first + _CHUNK, start + count)))
            for first in range(start, start + count, _CHUNK)
        ]
        return Episodes(ids, classes, *(np.concatenate(parts) for parts in zip(*chunks, strict=True)))

    @cached_property
    def _videos(self) -> tuple[tuple[str, ...], tuple[str, ...], np.ndarray, np.ndarray]:
        """Return names of videos and classes, the videos of each class padded with -1 [class, video], and hashes."""
        ids = tuple(sorted(video.id for video in self.dataset.videos))
        index = {video_id: i for i, video_id in enumerate(ids)}
        classes = self.dataset.classes
        members: dict[str, list[int]] = {label: [] for label in classes}
        for video in self.dataset.videos:
            members[video.label].append(index[video.id])
        padded = np.full((len(classes), max(map(len, members.values()))), -1)
        for row, own in zip(padded, members.values(), strict=True):
            row[: len(own)] = sorted(own)
        return ids, classes, padded, _hashes("video ", ids)

    def _draw(self, episodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        _, classes, padded, video_hash = self._videos
        seeds = _hash(f"seed {self.seed}") ^ episodes.astype(np.uint64)
        class_priority = _mix(seeds[:, None], _hashes("class ", classes)[None])  # episode class
        way_class = np.argsort(class_priority, axis=1, kind="stable")[:, : self.way]

        candidates = padded[way_class]  # episode way video
        priority = _mix(seeds[:, None, None], video_hash[candidates])
        priority[candidates < 0] = np.iinfo(np.uint64).max
        order = np.argsort(priority, axis=2, kind="stable")[..., : self.shot + self.query]
        taken = np.take_along_axis(candidates, order, axis=2)
        support, query = taken[..., : self.shot], taken[..., self.shot :]

        # so that the order of the queries does not reveal their classes
        query = query.reshape(len(episodes), -1)
        target = np.broadcast_to(np.repeat(np.arange(self.way), self.query), query.shape)
        shuffle = np.argsort(_mix(seeds[:, None] + np.uint64(1), video_hash[query]), axis=1, kind="stable")
        return way_class, support, np.take_along_axis(query, shuffle, 1), np.take_along_axis(target, shuffle, 1)


def _hash(text: str) -> np.uint64:
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


@lru_cache(maxsize=16)
def _hashes(prefix: str, texts: tuple[str, ...]) -> UInt64[np.ndarray, " text"]:
    return np.array([_hash(prefix + text) for text in texts], dtype=np.uint64)


def _mix(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Combine two hashes; every bit of the result depends on every bit of both (finaliser of SplitMix64, twice)."""
    return _scramble(_scramble(left) ^ right)


def _scramble(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
