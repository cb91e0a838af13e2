"""Search by example: which videos, or moments of long ones, of a bank show this action?

    examples -> pooled vector -> scan of all rows: shortlist -> the method ranks the shortlist exactly -> first ones

The shortlist bounds what can be found: the method never sees a row outside it. So its recall is measured: how many of
the first rows of a longer list, or of all rows, are in it.

Feedback refines the query as Rocchio (1971) does, with the weights that became usual (0.75 for what is wanted, 0.25 for
what is not): in the vector of the shortlist and in the score of the ranking.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from fsar.bank.archive import tensors_of
from fsar.bank.nearest import NearestIndex
from fsar.bank.pooled import pooled
from fsar.datasets.shards import POOLED, ShardedBank
from fsar.methods.base import Method
from fsar.methods.episode import Encoding, Episode

UNWANTED = 0.25 / 0.75
"""Weight of what is not wanted, beside what is wanted."""
LONGER = 10
"""Recall is measured on a list so many times as long as the shortlist."""
_BATCH = 256  # rows that are ranked together; does not change a result


class Found(NamedTuple):
    """A video of the bank, or a window of one."""

    id: str
    score: float
    """Larger is more similar; only scores of one search can be compared."""
    path: str
    start: float | None
    end: float | None
    label: str


@dataclass(frozen=True)
class Answer:
    """The result of a search."""

    found: tuple[Found, ...]
    recall: float
    """Share of the first rows of a longer list that the shortlist holds; 1 if all rows were ranked."""
    of: int
    """Rows that were ranked to measure the recall."""
    at: int
    """How many first rows it is about."""


class Search:
    """A bank that is searched by examples.

    Args:
        bank: any; new and deleted videos are seen when another `Search` is made.
        method: made the bank's encodings; a class's logit must not depend on other classes.
        nearest: an index of the pooled vectors, instead of a scan of all of them.

    Raises:
        ValueError: the method cannot rank by examples alone.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from fsar import build_method, load_backbone
        >>> from fsar.datasets import Video
        >>> rows = {"frames": torch.eye(16)[:8].reshape(4, 2, 16)}  # video frame dim
        >>> shapes = {"frames": [2, 16], "pooled": [8]}
        >>> specs = {name: {"dtype": "float32", "shape": shape} for name, shape in shapes.items()}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     bank = ShardedBank.create(folder, {"tensors": specs, "videos_per_shard": 4})
        ...     _ = bank.add([Video(f"{i}.mp4", Path(f"{i}.mp4"), "") for i in range(4)])
        ...     named = [{**row, "row": i} for i, row in enumerate(bank.listed(0))]
        ...     bank.write(0, {"frames": rows["frames"].numpy(), "pooled": pooled(rows, 8).numpy()}, named)
        ...     search = Search(bank, build_method("otam", load_backbone("tiny")))
        ...     answer = search({"frames": rows["frames"][2:3]}, top=1)
        >>> answer.found[0].id, answer.recall
        ('2.mp4', 1.0)
    """

    def __init__(self, bank: ShardedBank, method: Method, nearest: NearestIndex | None = None):
        if not method.traits.independent_ways or method.traits.reads_text:
            raise ValueError(
                f"{method.name} does not rank videos by examples alone: its score reads class names, or depends on "
                f"other classes; fill a bank with another method (place-motion, protonet, otam, bi-mhm)"
            )
        self.bank, self.method, self.nearest = bank, method, nearest

    @cached_property
    def _table(self) -> Any:
        """The index of the rows that can be found."""
        import pyarrow.compute as pc

        table = self.bank.index()
        return table.filter(pc.is_valid(table["row"]))

    @cached_property
    def _places(self) -> tuple[Int[np.ndarray, " row"], Int[np.ndarray, " row"]]:
        """Shard, and row in it, of each row that can be found."""
        shards, rows = (self._table[name].to_numpy() for name in ("shard", "row"))
        return shards, rows

    @cached_property
    def _vectors(self) -> dict[int, np.ndarray]:
        return dict(self.bank.each(POOLED))

    def __len__(self) -> int:
        """Number of rows that can be found."""
        return len(self._table)

    def __call__(
        self,
        examples: Encoding,
        *,
        yes: Sequence[str] = (),
        no: Sequence[str] = (),
        top: int = 20,
        shortlist: int = 500,
        exact: bool = False,
    ) -> Answer:
        """Find what resembles the examples.

        Args:
            examples: the encoder's output for each example, tensors [example, ...].
            yes: ids of rows that are wanted, too.
            no: ids of rows that are not wanted.
            top: how many rows to give.
            shortlist: rows that the method ranks.
            exact: let the method rank all rows to measure the recall; takes long.

        Returns:
            The first rows, without the examples among them, and the recall of the shortlist.

        Raises:
            ValueError: an id that the bank lacks, or a number below 1.
        """
        if min(top, shortlist) < 1:
            raise ValueError(f"top is {top} and shortlist {shortlist}; expected 1 or more")
        if not len(self):
            raise ValueError(f"{self.bank.place} has no video that could be read")
        wanted = self._joined(examples, yes)
        unwanted = self._rows(self._at(no)) if no else None
        given = set(self._at([*yes, *no]).tolist())
        query = self.query(wanted, unwanted)
        longer = len(self) if exact else min(len(self), LONGER * max(shortlist, top))
        order = [place for place in self.shortlist(query, longer + len(given)).tolist() if place not in given]
        scores = self.rank(np.array(order, int), wanted, unwanted)
        ranked = np.lexsort((np.arange(len(order)), -scores))
        within = ranked[ranked < shortlist]
        at = min(top, len(ranked))
        recall = float(np.isin(ranked[:at], within).mean()) if at else 1.0
        return Answer(tuple(self._first(order, scores, within, top)), recall, len(order), at)

    def query(self, wanted: Encoding, unwanted: Encoding | None) -> Float[Tensor, " dim"]:
        """Make the vector of a query.

        Args:
            wanted: rows [example, ...].
            unwanted: rows that are not wanted, or None.
        """
        dim = self.bank.header["tensors"][POOLED]["shape"][0]
        vector = pooled(wanted, dim).mean(0)
        return vector if unwanted is None else vector - UNWANTED * pooled(unwanted, dim).mean(0)

    def shortlist(self, query: Float[Tensor, " dim"], count: int) -> Int[np.ndarray, " row"]:
        """Find the rows whose vectors have the largest inner products with that of the query, the largest first.

        Args:
            query: of `query`.
            count: of rows, at most.
        """
        count = min(count, len(self))
        if self.nearest is not None:
            return self._numbers(self.nearest.find(query.numpy(), count))
        shards, rows = self._places
        found = np.empty(len(rows), np.float32)
        starts = np.flatnonzero(np.diff(shards, prepend=-1))
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(shards)], strict=True):
            products = torch.from_numpy(np.array(self._vectors[int(shards[start])])).float() @ query
            found[start:stop] = products.numpy()[rows[start:stop]]
        best = torch.from_numpy(found).topk(count).indices
        return best.numpy()

    def rank(
        self, places: Int[np.ndarray, " row"], wanted: Encoding, unwanted: Encoding | None
    ) -> Float[np.ndarray, " row"]:
        """Score rows by the method: the logit of what is wanted, minus that of what is not.

        Args:
            places: of the rows.
            wanted: rows [example, ...].
            unwanted: rows, or None.
        """
        scores = [np.empty(0, np.float32)]
        for start in range(0, len(places), _BATCH):
            queries = self._enhanced(self._rows(places[start : start + _BATCH]), "query")
            score = self._logits(wanted, queries)
            if unwanted is not None:
                score = score - UNWANTED * self._logits(unwanted, queries)
            scores.append(score.numpy())
        return np.concatenate(scores)

    @torch.no_grad()
    def _logits(self, examples: Encoding, queries: Encoding) -> Tensor:
        support = {name: part[None, None] for name, part in self._enhanced(examples, "support").items()}
        mask = torch.ones(next(iter(support.values())).shape[:3], dtype=torch.bool, device=self.method.device)
        episode = Episode(support, {name: part[None] for name, part in queries.items()}, mask)
        return self.method.match(episode).logits[0, :, 0].float().cpu()

    @torch.no_grad()
    def _enhanced(self, begun: Encoding, role: Any) -> Mapping[str, Tensor]:
        on_device = {name: tensor.to(self.method.device) for name, tensor in begun.items()}
        return self.method.enhance(on_device, role, None)

    def _rows(self, places: Int[np.ndarray, " row"]) -> Encoding:
        shards, rows = (each[places] for each in self._places)
        names = [name for name in self.bank.header["tensors"] if name != POOLED]
        return tensors_of({name: self.bank.rows(name, shards, rows) for name in names})

    def _joined(self, examples: Encoding, yes: Sequence[str]) -> Encoding:
        if not yes:
            return examples
        more = self._rows(self._at(yes))
        return {name: torch.cat([part.cpu().float(), more[name]]) for name, part in examples.items()}

    def _at(self, ids: Iterable[str]) -> Int[np.ndarray, " row"]:
        """Places of rows by their ids."""
        import pyarrow.compute as pc

        places = []
        for video_id in ids:
            place = pc.index(self._table["id"], video_id).as_py()
            if place < 0:
                raise ValueError(f"{self.bank.place} lacks {video_id!r}; give ids as a search prints them")
            places.append(place)
        return np.array(places, int)

    def _numbers(self, keys: Iterable[tuple[int, int]]) -> Int[np.ndarray, " row"]:
        """Places of (shard, row); those that were deleted are left out."""
        shards, rows = self._places
        number = shards.astype(np.int64) * 2**32 + rows  # ascending, as the index is
        wanted = np.array([shard * 2**32 + row for shard, row in keys], np.int64)
        places = np.minimum(np.searchsorted(number, wanted), len(number) - 1)
        return places[number[places] == wanted]

    def _first(self, order: Sequence[int], scores: np.ndarray, within: np.ndarray, top: int) -> Iterable[Found]:
        """The first rows; of windows that overlap by more than half, the first alone."""
        kept: list[Found] = []
        for i in within.tolist():
            row = self._table.slice(order[i], 1).to_pylist()[0]
            one = Found(row["id"], float(scores[i]), row["path"], row["start"], row["end"], row["label"])
            if not any(_overlap(one, other) for other in kept):
                kept.append(one)
            if len(kept) == top:
                break
        return kept


def _overlap(one: Found, other: Found) -> bool:
    if one.path != other.path or None in (one.start, one.end, other.start, other.end):
        return False
    shared = min(one.end, other.end) - max(one.start, other.start)  # type: ignore[type-var, operator]
    return bool(shared > 0.5 * min(one.end - one.start, other.end - other.start))  # type: ignore[operator]
