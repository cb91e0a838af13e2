"""Where each result comes from: settings, hashes, training, recipe."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import yaml

from fsar.report.benchmark import setting_words
from fsar.report.markup import Markup, element, join
from fsar.results.identity import row_name
from fsar.results.result import Result


def provenance_section(results: Sequence[Result]) -> Markup:
    """Build a folded block for each result."""
    intro = "Everything a number depends on. The same settings, videos and weights give the same number."
    return join(element("p", intro), *(_origin(result) for result in results))


def _origin(result: Result) -> Markup:
    long = ("per_class", "confusion", "right", "training", "skipped", "damaged", "predictions", "label")
    content: dict[str, Any] = {key: value for key, value in asdict(result).items() if key not in long}
    content["seen_classes"] = list(result.seen_classes)
    blocks = [("Result", content)]
    if result.training is not None:
        origin = {key: value for key, value in result.training.items() if key != "recipe"}
        blocks += [("Training", origin), ("Recipe", result.training["recipe"])]
    if result.skipped:
        blocks.append(("Videos left out", result.skipped))
    if result.damaged:
        blocks.append(("Videos with damaged pictures", result.damaged))
    where = f"{result.dataset} {result.split}, {setting_words((result.way, result.shot))}: {result.percent}"
    return element(
        "details",
        element("summary", element("b", row_name(result)), " ", where),
        *(join(element("h4", title), element("pre", _yaml(block))) for title, block in blocks),
    )


def _yaml(block: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(block))  # tuples become lists
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
