"""Answers for millions of videos: Parquet files of about a thousand rows, which several machines write.

| file | what |
|---|---|
| `videos.parquet` | the list of videos, and the shard of each |
| `answers/00000.parquet` | action, score and probabilities of each video of shard 0 that could be read |
| `index/00000.parquet` | a row for each video of shard 0, with the reason if it could not be read; written last |

Lists, shards and what is missing are those of a bank (`fsar.datasets.shards`), which here has no tensors.
"""

import os
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

from fsar.bank.fetching import FetchingCache, reason
from fsar.datasets import Video
from fsar.datasets.shards import SIZE, ShardedBank
from fsar.devices import single_threaded
from fsar.progress import progress_bar
from fsar.recognizer.answer import Answer
from fsar.recognizer.recognizer import Recognizer
from fsar.video.apart import SECONDS, Decoders
from fsar.video.paths import VideoError

COLUMNS = ("id", "path", "start", "end", "action", "best", "probability", "unknown", "score", "threshold")


def answers_at(path: str, model: Path, videos: Iterable[Video], size: int = SIZE) -> ShardedBank:
    """Begin a folder of answers, or open the one that is there, and put videos on its list.

    Args:
        path: folder or URL.
        model: a recogniser's file; a folder holds the answers of one.
        videos: those whose ids are not on the list yet are added.
        size: videos per shard.

    Raises:
        ValueError: the folder holds the answers of another recogniser, or other files.
    """
    content = blake2b(model.read_bytes(), digest_size=16).hexdigest()
    made_by = {"method": "a recogniser", "backbone": model.name, "content": content}
    bank = ShardedBank.create(path, {"tensors": {}, "videos_per_shard": size, "made_by": made_by})
    bank.add(videos)
    return bank


def answer(
    bank: ShardedBank,
    recognizer: Recognizer,
    numbers: Iterable[int] | None = None,
    progress: bool = True,
    seconds: float = SECONDS,
) -> None:
    """Name the videos of the shards that are missing.

    Args:
        bank: from `answers_at`.
        recognizer: loaded from the same file.
        numbers: only these shards; by default all.
        progress: show a progress bar.
        seconds: for decoding one video, which is then broken.

    Raises:
        OSError: a file cannot be written.
    """
    missing = bank.missing()
    wanted = missing if numbers is None else sorted({*missing} & {*numbers})
    with Decoders(os.cpu_count() or 1, seconds) as decoders:
        for number in progress_bar(wanted, "recognize", "shard", len(wanted), progress):
            answer_shard(bank, number, recognizer, decoders)


def answer_shard(bank: ShardedBank, number: int, recognizer: Recognizer, decoders: Decoders) -> None:
    """Name the videos of one shard.

    Args:
        bank: has the shard on its list.
        number: of the shard.
        recognizer: names them; from now on, it reads videos by `decoders`.
        decoders: decode the videos.
    """
    import pyarrow
    from pyarrow import parquet

    listed = bank.listed(number)
    videos = [Video(row["id"], Path(row["path"]), "", row["start"], row["end"]) for row in listed]
    rows: list[dict[str, object]] = []
    with TemporaryDirectory(prefix="fsar-") as folder, single_threaded():  # so any machine writes the same digits
        cache = recognizer.cache
        recognizer.read_by(FetchingCache(Path(folder), cache.frames, cache.sampling, decoders))
        for row, found in zip(listed, recognizer.predict_many(videos, return_errors=True), strict=True):
            if isinstance(found, VideoError):
                row["error"] = reason(str(found), folder)
            else:
                row["row"] = len(rows)
                rows.append(_columns(found) | {name: row[name] for name in ("id", "path", "start", "end")})
    kinds = {name: pyarrow.string() for name in ("id", "path", "action", "best")}
    schema = pyarrow.schema(
        [
            *((name, kinds.get(name, pyarrow.float64())) for name in COLUMNS),
            *((f"p({name})", pyarrow.float64()) for name in sorted(recognizer.actions)),
        ]
    )
    with bank.place.writing(f"answers/{number:05}.parquet") as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema), temporary)
    bank.write(number, {}, listed)


def _columns(found: Answer) -> dict[str, object]:
    return {
        "action": found.action,
        "best": found.best,
        "probability": found.probabilities[found.best],
        "unknown": found.unknown,
        "score": found.score,
        "threshold": found.threshold,
        **{f"p({name})": value for name, value in found.probabilities.items()},
    }
