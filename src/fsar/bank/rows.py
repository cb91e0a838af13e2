"""The tensors of a bank, filled video by video, in memory or in a file without a name."""

import math
import shutil
import tempfile

import numpy as np
import torch
from torch import Tensor

from fsar.files import cache_dir
from fsar.methods.episode import Encoding

LARGE = 2**31
"""From this size in bytes, a tensor is in a file, which the system keeps in memory as far as there is room."""


class Rows:
    """Encodings of videos, one tensor per name, filled row by row.

    Small tensors, kept one by one, would fragment the memory between large temporary tensors: with 2,400 videos, the
    process would grow by gigabytes.

    Args:
        count: largest number of rows.
    """

    def __init__(self, count: int):
        self.count, self.filled = count, 0
        self.whole: Encoding = {}

    def append(self, encoding: Encoding) -> None:
        """Fill the next row.

        Args:
            encoding: of one video; each part has the same shape for every video.

        Raises:
            ValueError: the disk has no room for the first of a large number of rows.
        """
        if not self.whole:
            self.whole = {name: _room_for(self.count, tensor) for name, tensor in encoding.items()}
        for name, tensor in encoding.items():
            self.whole[name][self.filled] = tensor
        self.filled += 1

    @property
    def bytes(self) -> int:
        """Bytes of all rows, including empty ones."""
        return sum(tensor.nbytes for tensor in self.whole.values())

    @property
    def tensors(self) -> Encoding:
        """The rows filled so far."""
        return {name: tensor[: self.filled] for name, tensor in self.whole.items()}


def _room_for(count: int, row: Tensor) -> Tensor:
    """Make an empty tensor [count, *row]; a large one in a file that the system deletes when the process ends."""
    shape = (count, *row.shape)
    size = math.prod(shape) * row.element_size()
    if size < LARGE:
        return row.new_empty(shape)
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ValueError(
            f"the bank of {count:,} videos takes {size / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB left; "
            f"set FSAR_CACHE to a folder with more room, or half_tokens=true if the method has it"
        )
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(size)
        mapped = np.memmap(file, np.uint8, "r+", shape=(size,))  # keeps the file open, though it has no name
    return torch.from_numpy(mapped).view(row.dtype).view(shape)
