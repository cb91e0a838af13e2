"""Metrics for methods that make their own features: (query, support, mask) -> logits."""

from collections.abc import Callable
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from fsar.methods.base import Method
from fsar.methods.bi_mhm import BiMhm, bi_mhm_logits
from fsar.methods.otam import Otam, otam_logits
from fsar.methods.protonet import ProtoNet, protonet_logits
from fsar.methods.trx import CrossTransformers, Trx
from fsar.shapes import Logits, ShotMask

Metric = Callable[
    [Float[Tensor, "episode query frame dim"], Float[Tensor, "episode way shot frame dim"], ShotMask], Logits
]
_METHODS: dict[str, type[Method]] = {"otam": Otam, "bi-mhm": BiMhm, "trx": Trx, "protonet": ProtoNet}
_DEFAULTS: dict[str, dict[str, Any]] = {"otam": {"per": "prototype", "smoothing": 0.5}}
"""Options of CLIP-FSAR and its descendants that differ from the defaults of the metric."""


def make_metric(name: str, dim: int, **options: Any) -> Metric:
    """Make a metric for another method.

    Args:
        name: `otam`, `bi-mhm`, `trx` or `protonet`.
        dim: channels of a frame feature.
        options: fields of that method's `Config`. Without them OTAM compares with prototypes, as CLIP-FSAR does.

    Returns:
        A function; a module with parameters for `trx`.

    Example:
        >>> import torch
        >>> metric = make_metric("otam", 16)
        >>> query, support = torch.randn(1, 4, 8, 16), torch.randn(1, 2, 3, 8, 16)
        >>> metric(query, support, torch.ones(1, 2, 3, dtype=torch.bool)).shape  # episode query way
        torch.Size([1, 4, 2])
    """
    config: Any = _METHODS[name].Config(**{**_DEFAULTS.get(name, {}), **options})
    if name == "trx":
        return CrossTransformers(dim, config)
    functions: dict[str, Callable[..., Logits]] = {
        "otam": otam_logits,
        "bi-mhm": bi_mhm_logits,
        "protonet": protonet_logits,
    }
    return partial(functions[name], config=config)


def metric_episodes(name: str) -> int:
    """Return how many episodes can be matched at once with a metric."""
    cls = _METHODS[name]
    return cls.traits_of(cls.Config()).episodes_per_match
