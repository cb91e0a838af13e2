"""Results of evaluations: on disk, in tables, and in paired comparisons."""

from fsar.results.comparison import compare
from fsar.results.result import Result, load_results
from fsar.results.tables import table

__all__ = ["Result", "compare", "load_results", "table"]
