"""Segments of long videos as a dataset: `segments.csv`, and files of ELAN, BORIS and Label Studio.

| file | what |
|---|---|
| `segments.csv` (`table.py`) | columns file, start, end, label; seconds |
| `*.eaf` (`elan.py`) | ELAN; also a folder of such files |
| `*.csv`, `*.tsv` (`boris.py`) | BORIS, aggregated or tabular events |
| `*.json` (`label_studio.py`) | Label Studio, JSON or JSON-MIN |

A video is searched at the path in the file, then by its name below the folder of the file. A `labels.csv` beside the
file gives words and splits of the classes, as for a folder of class folders.
"""

from fsar.datasets.segments.load import is_segments, load_segments, split_options

__all__ = ["is_segments", "load_segments", "split_options"]
