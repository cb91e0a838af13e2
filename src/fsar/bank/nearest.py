"""An approximate index of the pooled vectors, for a million rows and more (USearch, an extra).

The file `pooled.usearch` lies beside the shards. Rows that were added are put in, and rows that were deleted are left
out by the search, so it is not built again. One process writes it at a time.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fsar.datasets.shards import POOLED, ShardedBank
from fsar.files import atomic_path
from fsar.progress import progress_bar

FILE = "pooled.usearch"


class NearestIndex:
    """The index of a bank; it is opened, or built, or completed.

    Args:
        bank: on this machine.
        progress: show a progress bar.

    Raises:
        ValueError: USearch is not installed, or the bank is below a URL.
    """

    def __init__(self, bank: ShardedBank, progress: bool = True):
        path, width = bank.place.folder / FILE, bank.header["tensors"][POOLED]["shape"][0]
        self._index = _usearch()(ndim=width, metric="ip", dtype="f16")
        if path.is_file():
            self._index.load(str(path))
        known = {int(key) >> 32 for key in np.asarray(self._index.keys)}
        fresh = [number for number in bank.done() if number not in known and len(bank.part(POOLED, number))]
        for number in progress_bar(fresh, "index", "shard", len(fresh), progress and bool(fresh)):
            vectors = np.array(bank.part(POOLED, number))
            keys = (np.int64(number) << 32) + np.arange(len(vectors), dtype=np.int64)
            self._index.add(keys.astype(np.uint64), vectors)
        if fresh:
            with atomic_path(path) as temporary:
                self._index.save(str(temporary))

    def find(self, query: np.ndarray, count: int) -> Sequence[tuple[int, int]]:
        """Find rows with large inner products, the largest first.

        Args:
            query: a vector.
            count: of rows.

        Returns:
            Shard and row in it.
        """
        found = self._index.search(query.astype(np.float16), count)
        return [(int(key) >> 32, int(key) & (2**32 - 1)) for key in found.keys]


def _usearch() -> Any:
    try:
        from usearch.index import Index
    except ImportError as error:
        raise ValueError("an index needs USearch: pip install 'fsar[search]'; or leave --index out") from error
    return Index
