"""Compare a result of this project with the published numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from fsar.methods import METHODS
from fsar.papers import FAMILIES, Cell, load_papers
from fsar.papers.differences import Difference, Pair, differences, pair
from fsar.papers.measured import of_result
from fsar.results.result import Result


@dataclass(frozen=True)
class Printed:
    """One published value, with all cells that print it."""

    accuracy: float
    """In percent."""
    backbone: str
    cells: tuple[Cell, ...]
    differences: tuple[Difference, ...]

    @property
    def comparable(self) -> bool:
        """Whether the difference of the two accuracies has a meaning."""
        return not any(difference.blocks for difference in self.differences)


def family_of(dataset: str) -> str | None:
    """Return the benchmark of a dataset without its version; None for the world and for own folders.

    Example:
        >>> family_of("ssv2-full@otam-67k")
        'ssv2-full'
    """
    family, at, _ = dataset.partition("@")
    return family if at and family in FAMILIES else None


def beside(results: Sequence[Result]) -> list[Printed]:
    """Find the published values for the setting of some results.

    If cells measured the same as the results, only these are returned. Otherwise, the most similar cells are returned:
    with the same backbone, the fewest blocking differences, and preferably the method as proposed. A value in several
    tables is one entry.

    Args:
        results: at least one; they differ only in their seeds.

    Returns:
        The published values; none if no paper prints this method on this benchmark at this way and shot.
    """
    groups: dict[tuple[float, str], list[Cell]] = {}
    for cell in _nearest(results[0]):
        assert cell.accuracy is not None
        groups.setdefault((cell.accuracy, f"{cell.backbone} ({cell.pretraining})"), []).append(cell)
    found = []
    for (accuracy, backbone), cells in groups.items():
        each = (difference for cell in cells for result in results for difference in differences(pair(result, cell)))
        found.append(Printed(accuracy, backbone, tuple(cells), tuple(dict.fromkeys(each))))
    return found


def _nearest(result: Result) -> list[Cell]:
    """Return the cells that measured the same, or else the most similar ones."""
    here = of_result(result) if result.method in METHODS else None
    ranks = [(_rank(pair(result, cell, here)), cell) for cell in _candidates(result)]
    best = min((rank for rank, _ in ranks), default=None)
    return [cell for rank, cell in ranks if rank == best]


def _rank(pair: Pair) -> tuple[int, int, bool]:
    """Sort key, smaller = more similar: backbone, number of blocking differences, method as proposed."""
    blocking = sum(difference.blocks for difference in differences(pair))
    return pair.backbone_distance, blocking, blocking > 0 and not pair.proposed


def _candidates(result: Result) -> list[Cell]:
    """Return the cells of the method on the benchmark, at the way and shot of the result.

    A read-out by the texts does not read support videos, so it is compared with 0-shot cells, too.
    """
    if result.method not in METHODS:
        return []
    alone = of_result(result).text_alone
    return [
        cell
        for cell in _cells_by_method().get(result.method, ())
        if (cell.benchmark, cell.way) == (family_of(result.dataset), result.way)
        and (cell.shot == result.shot or (alone and cell.shot == 0))
    ]


@cache
def _cells_by_method() -> Mapping[str, tuple[Cell, ...]]:
    """Group accuracies by the methods of the runs that may have made them."""
    found: dict[str, list[Cell]] = {}
    for cell in load_papers():
        if cell.accuracy is not None and cell.method in METHODS:
            for method in dict.fromkeys((cell.method, *(other.get("method", cell.method) for other in cell.also))):
                found.setdefault(method, []).append(cell)
    return {method: tuple(cells) for method, cells in found.items()}
