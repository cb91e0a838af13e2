"""A saved recogniser as a folder that runs without PyTorch and without this package.

| module | what |
|---|---|
| `graphs` | encoder and matcher as ONNX |
| `int8` | the encoder in whole numbers |
| `bundle` | the folder: graphs, settings, `folder/run.py`, the page |
| `folder/` | files that every export gets as they are |
"""

from fsar.export.bundle import export

__all__ = ["export"]
