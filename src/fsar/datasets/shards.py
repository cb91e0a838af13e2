"""A bank of shards: the encodings of any number of videos, about a thousand in a file.

| file | what |
|---|---|
| `bank.json` | the encoder; type and shape of a row of each tensor; videos per shard |
| `videos.parquet` | the list of videos, and the shard of each: it only grows |
| `NAME/00000.npy` | the tensor NAME of shard 0, [row, ...], fixed width, to be memory-mapped |
| `index/00000.parquet` | a row for each video of shard 0 (`INDEX`), written last: the shard is then there |

All files are plain: `np.load("frames/00000.npy", mmap_mode="r")`, `pandas.read_parquet("index")`. A video that could
not be read has a row in the index with the reason, and none in the tensors. A shard depends only on its videos and
the encoder; so machines that make different shards of one bank need not know of each other.

Long: one class is the whole form of the files; a third of the file is documentation.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from fsar.datasets.base import Video, VideoDataset
from fsar.datasets.place import Place, url_of
from fsar.files import locked
from fsar.progress import ahead
from fsar.text.words import class_text

FORMAT = 2
SIZE = 1000
"""Videos per shard."""
POOLED = "pooled"
"""Name of the tensor [row, dim] for search."""
DELETED = "deleted"
"""Error of a video that was removed from the bank."""
INDEX = {
    "id": "string",
    "label": "string",
    "split": "string",
    "path": "string",
    "start": "double",
    "end": "double",
    "group": "string",
    "content": "string",
    "error": "string",
    "shard": "int32",
    "row": "int32",
}
"""Columns of the index: `start` and `end` in seconds are of a segment, `content` is the hash of what was read, `error`
is the reason if nothing could be read; `row` counts from 0 in the tensors of the shard."""
_LISTED = ("id", "label", "split", "path", "start", "end", "group", "shard")


def is_bank(path: str | os.PathLike[str]) -> bool:
    """Tell whether a folder or URL holds a bank of shards.

    Args:
        path: any.
    """
    try:
        return _header(Place(path)).get("format") == FORMAT
    except (OSError, ValueError):
        return False


class ShardedBank:
    """A bank of shards on disk, or below a URL.

    Args:
        path: of its folder.

    Raises:
        ValueError: there is no bank, one of another format, or pyarrow is missing.

    Example:
        >>> import tempfile
        >>> header = {"tensors": {"frames": {"dtype": "float16", "shape": [8, 4]}}, "videos_per_shard": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     bank = ShardedBank.create(folder, header)
        ...     added = bank.add([Video("wave/1", Path("1.mp4"), "wave")])
        ...     bank.write(0, {"frames": np.ones((1, 8, 4), np.float16)}, [{**bank.listed(0)[0], "row": 0}])
        ...     added, bank.missing(), bank.part("frames", 0).shape, bank.index()["id"].to_pylist()
        (1, [], (1, 8, 4), ['wave/1'])
    """

    def __init__(self, path: str | os.PathLike[str]):
        _pyarrow()
        self.place = Place(path)
        self.header = _header(self.place)
        if self.header.get("format") != FORMAT:
            raise ValueError(
                f"{path} is no bank of shards (format {self.header.get('format')}, expected {FORMAT}); a bank with one "
                f"file per video becomes one by `fsar bank convert`"
            )

    @classmethod
    def create(cls, path: str | os.PathLike[str], header: Mapping[str, Any]) -> "ShardedBank":
        """Begin a bank, or open the one that is there.

        Args:
            path: of its folder.
            header: `tensors` and `videos_per_shard`, and everything else that the encodings depend on.

        Raises:
            ValueError: the folder holds another bank, or other files.
        """
        place, whole = Place(path), json.loads(json.dumps({"format": FORMAT, **header}))
        there = place.names("")
        if "bank.json" in there:
            found = _header(place)
            differing = [key for key in sorted({*found, *whole}) if found.get(key) != whole.get(key)]
            if differing:
                listed = "; ".join(f"{key} is {found.get(key)!r} there, {whole.get(key)!r} here" for key in differing)
                raise ValueError(f"{path} holds another bank: {listed}. Name another folder, or the same encoder")
        else:
            if there or (not place.remote and place.folder.is_file()):
                raise ValueError(f"{path} is no bank, and not empty; name a new or empty folder")
            with place.writing("bank.json") as temporary:
                temporary.write_text(json.dumps(whole, indent=1), encoding="utf-8")
        return cls(path)

    # ----------------------------------------------------------------------- the list of videos

    @property
    def size(self) -> int:
        """Videos per shard."""
        return int(self.header["videos_per_shard"])

    @property
    def shards(self) -> int:
        """Number of shards of the list."""
        from pyarrow import parquet

        if not self.place.exists("videos.parquet"):
            return 0
        shard = parquet.read_table(self.place.local("videos.parquet"), columns=["shard"])["shard"]
        return 1 + shard[-1].as_py() if len(shard) else 0

    def add(self, videos: Iterable[Video], splits: Mapping[str, str] | None = None) -> int:
        """Put videos on the list whose ids are not there yet. They are in new shards; other shards stay as they are.

        Args:
            videos: in the order of their shards.
            splits: class -> split.

        Returns:
            How many are new.
        """
        if not self.place.remote and self.place.exists("videos.parquet"):
            with locked(self.place.folder / "videos.parquet"):
                return self._add(videos, splits or {})
        return self._add(videos, splits or {})

    def _add(self, videos: Iterable[Video], splits: Mapping[str, str]) -> int:
        pyarrow, parquet = _pyarrow()
        schema = _schema(_LISTED)
        old = schema.empty_table()
        if self.place.exists("videos.parquet"):
            old = parquet.read_table(self.place.local("videos.parquet"), schema=schema)
        known, first = set(old["id"].to_pylist()), 1 + old["shard"][-1].as_py() if len(old) else 0
        fresh = [video for video in videos if video.id not in known]
        if not fresh and len(old):
            return 0
        rows = [_listed(video, splits, first + i // self.size) for i, video in enumerate(fresh)]
        table = pyarrow.concat_tables([old, pyarrow.Table.from_pylist(rows, schema)])
        with self.place.writing("videos.parquet") as temporary:
            parquet.write_table(table, temporary, row_group_size=64 * self.size)
        return len(fresh)

    def listed(self, number: int) -> list[dict[str, Any]]:
        """Read the list of one shard.

        Args:
            number: of the shard.

        Returns:
            For each video, the columns of `INDEX` but content, error and row.
        """
        _, parquet = _pyarrow()
        path = self.place.local("videos.parquet")
        return parquet.read_table(path, schema=_schema(_LISTED), filters=[("shard", "=", number)]).to_pylist()

    # ----------------------------------------------------------------------- shards

    def done(self) -> list[int]:
        """Numbers of the shards that are there."""
        return sorted(int(name[:-8]) for name in self.place.names("index") if name[:-8].isdigit())

    def missing(self) -> list[int]:
        """Numbers of the shards that are not there yet."""
        return sorted({*range(self.shards)} - {*self.done()})

    def write(self, number: int, tensors: Mapping[str, np.ndarray], rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a shard: its tensors, and then its index.

        Args:
            number: of the shard.
            tensors: [row, ...] in the types of the header.
            rows: columns of `INDEX`; a missing one is null.

        Raises:
            OSError: it cannot be written; the shard is then still missing.
        """
        for name, tensor in tensors.items():
            with self.place.writing(f"{name}/{number:05}.npy") as temporary:
                np.save(temporary, tensor, allow_pickle=False)
        self._write_index(number, rows)

    def _write_index(self, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        pyarrow, parquet = _pyarrow()
        with self.place.writing(f"index/{number:05}.parquet") as temporary:
            parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows], _schema(INDEX)), temporary)

    def index(self, numbers: Iterable[int] | None = None) -> Any:
        """Read the index.

        Args:
            numbers: of shards; by default all that are there.

        Returns:
            A `pyarrow.Table` with the columns of `INDEX`, in the order of the shards.

        Raises:
            ValueError: a file is damaged.
        """
        pyarrow, parquet = _pyarrow()

        def read(number: int) -> Any:
            path = self.place.local(f"index/{number:05}.parquet")
            try:
                return parquet.ParquetFile(path).read().cast(_schema(INDEX))
            except (OSError, ValueError, pyarrow.ArrowException) as error:
                raise ValueError(f"{path}: damaged ({error}); remove it, and fill the bank again") from error

        tables = ahead(read, self.done() if numbers is None else numbers, workers=4)
        return pyarrow.concat_tables([_schema(INDEX).empty_table(), *tables])

    def part(self, name: str, number: int) -> np.ndarray:
        """Map a tensor of a shard into memory, read-only.

        Args:
            name: of the tensor.
            number: of the shard.

        Returns:
            [row, ...].

        Raises:
            ValueError: the file is missing or damaged, or the bank has no such tensor.
        """
        if name not in self.header["tensors"]:
            raise ValueError(
                f"{self.place} has no tensor {name!r}; expected one of: {', '.join(self.header['tensors'])}"
            )
        path, spec = self.place.local(f"{name}/{number:05}.npy"), self.header["tensors"][name]
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(
                f"{path}: missing or damaged ({error}); remove index/{number:05}.parquet, and fill the bank again"
            ) from error
        if [*found.shape[1:]] != spec["shape"] or found.dtype != spec["dtype"]:
            expected = f"{spec['dtype']} [row, {', '.join(map(str, spec['shape']))}]"
            raise ValueError(f"{path}: {found.dtype} {[*found.shape]}; expected {expected} as in bank.json")
        return found

    def rows(self, name: str, shards: Sequence[int], rows: Sequence[int]) -> np.ndarray:
        """Read rows at random.

        Args:
            name: of the tensor.
            shards: number of the shard, for each row.
            rows: number in the shard, for each row.

        Returns:
            [row, ...], a copy.
        """
        spec = self.header["tensors"][name]
        found = np.empty((len(rows), *spec["shape"]), spec["dtype"])
        places = np.asarray(shards), np.asarray(rows)
        for number in np.unique(places[0]).tolist():
            here = np.flatnonzero(places[0] == number)
            found[here] = self.part(name, number)[places[1][here]]
        return found

    def each(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """Map a tensor of every shard that is there, with the number of the shard."""
        for number in self.done():
            yield number, self.part(name, number)

    def delete(self, ids: Iterable[str]) -> list[str]:
        """Remove videos: their rows become zeros, and the index says that they are deleted. Nothing else is rewritten.

        Args:
            ids: of the videos.

        Returns:
            The ids that were removed.

        Raises:
            ValueError: the bank is below a URL, or lacks a video.
        """
        folder, wanted = self.place.folder, set(ids)
        table = self.index()
        places = zip(table["id"].to_pylist(), table["shard"].to_pylist(), strict=True)
        found = {video_id: shard for video_id, shard in places if video_id in wanted}
        lacking = wanted - set(found)
        if lacking:
            raise ValueError(f"{self.place} lacks {', '.join(sorted(lacking)[:5])}; `fsar search` prints ids")
        gone = []
        for number in sorted(set(found.values())):
            with locked(folder / f"index/{number:05}.parquet"):
                rows = self.index([number]).to_pylist()
                chosen = [row for row in rows if row["id"] in wanted and row["error"] is None]
                zeros = [row["row"] for row in chosen]
                for row in chosen:
                    row |= {"error": DELETED, "row": None, "content": None}
                self._write_index(number, rows)  # first, so that no reader finds zeros
                for name in self.header["tensors"]:
                    part = np.load(folder / f"{name}/{number:05}.npy", mmap_mode="r+", allow_pickle=False)
                    part[zeros] = 0
                    part.flush()
                gone += [row["id"] for row in chosen]
        return gone

    # ----------------------------------------------------------------------- as a dataset

    @cached_property
    def features(self) -> str:
        """Name of the tensor that stands for a video in `--features`: `frames`, or the only one [frame, dim].

        Raises:
            ValueError: the encoder makes something else.
        """
        made = {name: spec["shape"] for name, spec in self.header["tensors"].items() if name != POOLED}
        fitting = [name for name, shape in made.items() if len(shape) in (1, 2)]
        if "frames" in fitting or len(fitting) == 1:
            return "frames" if "frames" in fitting else fitting[0]
        raise ValueError(
            f"{self.place} holds {', '.join(made)}, not one feature per frame; evaluate its own method with --bank, or "
            f"fill a bank with --method protonet"
        )

    def dataset(self) -> VideoDataset:
        """Make the dataset of all videos with a label; their features stay on disk until they are used.

        Raises:
            ValueError: no video has a label, or the bank holds no features of frames.
        """
        table = self.index()
        rows = [row for row in table.to_pylist() if row["error"] is None]
        labelled = [row for row in rows if row["label"]]
        if not labelled:
            raise ValueError(f"{self.place}: none of {len(rows)} videos has a label; fill it from labelled --data")
        parts: dict[int, np.ndarray] = {}
        for number in sorted({row["shard"] for row in labelled}):
            part = self.part(self.features, number)
            parts[number] = part if part.ndim == 3 else part[:, None]
        encoder = json.dumps(self.header.get("encoder"), sort_keys=True)
        videos = [
            Video(
                row["id"] if row["id"].startswith(f"{row['label']}/") else f"{row['label']}/{row['id']}",
                Path(self.place.url),
                row["label"],
                group=row["group"],
                features=parts[row["shard"]][row["row"]],
                content=_hash(f"{encoder} {row['content']}"),  # other features of the same video are other content
            )
            for row in labelled
        ]
        lost = len(table) - len(labelled)
        return VideoDataset(
            name=self.place.url.rsplit("/", 1)[-1],
            videos=tuple(sorted(videos, key=lambda video: video.id)),
            texts={row["label"]: class_text(row["label"]) for row in labelled},
            splits={row["label"]: row["split"] for row in labelled if row["split"]},
            notes=(f"left out {lost} videos of the bank that have no label or could not be read",) if lost else (),
        )


def _header(place: Place) -> dict[str, Any]:
    if not place.exists("bank.json"):
        raise ValueError(f"{place}: no bank (there is no bank.json); expected a folder that `fsar bank fill` wrote")
    try:
        return dict(json.loads(place.local("bank.json").read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: bank.json is damaged ({error}); copy it again") from error


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _listed(video: Video, splits: Mapping[str, str], shard: int) -> dict[str, Any]:
    return {
        "id": video.id,
        "label": video.label,
        "split": splits.get(video.label, ""),
        "path": url_of(video.path) or os.path.abspath(video.path),
        "start": video.start,
        "end": video.end,
        "group": video.group,
        "shard": shard,
    }


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError("a bank of shards needs pyarrow: pip install 'fsar[parquet]'") from error
    return pyarrow, parquet


def _schema(columns: Iterable[str]) -> Any:
    pyarrow, _ = _pyarrow()
    return pyarrow.schema([(name, pyarrow.type_for_alias(INDEX[name])) for name in columns])
