"""Results as the runs behind published cells would leave them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from fsar.datasets.benchmarks import benchmark
from fsar.papers import Cell
from fsar.papers.runs import LEAKY, Run, config_of, runs_of, traits_of
from fsar.results.result import Result


def result_of(run: Run, recipe: Mapping[str, Any] | None = None, **changes: Any) -> Result:
    """The result of a run whose accuracy is 51.2 %, by its recipe with other keys; `changes` are fields of it."""
    known, settings = benchmark(run.benchmark), run.settings
    if settings is not None:
        settings |= recipe or {}
    classes = list(known.classes["test"])
    config = config_of(run.method, {**(run.options if settings is None else settings["options"]), **run.readout})
    options = json.loads(json.dumps(asdict(config)))
    training = None
    if settings is not None:
        training = {
            "recipe": settings,
            "dataset": run.benchmark,
            "dataset_fingerprint": "b" * 64,
            "selection": "on val",
            "groups": list(settings["lr"]),
        }
    made = Result(
        method=run.method,
        options=options,
        changed={},
        backbone=run.backbone,
        weights="0" * 16,
        transductive=traits_of(run.method, options).transductive,
        clip={"frames": 8, "sampling": "tsn" if settings is None else settings["sampling"], "version": 1},
        dataset=run.benchmark,
        dataset_fingerprint=known.hashes["test"],
        split="test",
        protocol="leaky: labels reach the scores" if options.get("variant") == LEAKY else "clean",
        selection="best of the validations, on the val classes",
        way=run.way,
        shot=run.shot,
        query=run.query,
        episodes=10_000,
        seed=0,
        episodes_fingerprint="e" * 64,
        accuracy=0.512,
        ci95=0.004,
        per_class={},
        confusion={"classes": classes, "counts": [[1 for _ in classes] for _ in classes]},
        training=training,
        seen_classes=(),
        skipped={},
        seconds=1.0,
        versions={"python": "3.11", "fsar": "0.1.0"},
        resplit=None if settings is None else settings["resplit"],
    )
    return replace(made, **changes)


def result_beside(cell: Cell, recipe: Mapping[str, Any] | None = None, **changes: Any) -> Result:
    """The result of the run that makes a cell, but for keys of the recipe and fields of the result."""
    return result_of(runs_of(cell)[0], recipe, **changes)
