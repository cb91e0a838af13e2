"""The same numbers on every run, also on two threads: README says that training repeats bit for bit on a CPU."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
import torch

from fsar.backbones import Backbone
from fsar.methods import METHODS, Method, Targets, build_method, default_traits, method_class
from fsar.methods.encoder import FrameEncoder
from fsar.methods.episode import Episode
from tests.conftest import SUB_ACTIONS

WAY, SHOT = 3, 3  # an odd number of videos, so that two threads share one
SIZES = {"task-adapter-pp": {"sub_actions": SUB_ACTIONS}, "clip-fsar": {"hidden": 256}, "clip-mdmf": {"hidden": 256},
         "strm": {"out_dim": 256}, "soap": {"tuples": (1,)}, "molo": {"hidden": 256, "decoder": (8, 8, 8)},
         "clip-spm": {"hidden": 256}, "ma-fsar": {"hidden": 256}}  # fmt: skip
"""Large enough for PyTorch to divide the work of an operation among threads (32,768 numbers), as TRX's defaults are."""
FEW = {"frames": 2, "layers": 1, "text_layers": 1}
"""Options that keep what runs inside the encoder short."""
RUNS = 3


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", [name for name in METHODS if default_traits(name).trains])
def test_gradients_are_the_same_on_every_run(name: str, tiny: Backbone, two_threads: None) -> None:
    inside = type(build_method(name, tiny, **SIZES.get(name, {})).encoder()) is not FrameEncoder
    options = {field.name for field in fields(method_class(name).Config)}
    few = {key: value for key, value in FEW.items() if inside and key in options}
    method = build_method(name, tiny, **SIZES.get(name, {}), **few)
    method.begin_training(["waving", "clapping", "running"])
    method.train()
    own = {key: p for key, p in method.named_parameters() if not key.startswith("backbone.")}
    for key, parameter in method.named_parameters():
        parameter.requires_grad_(key in own)
    targets = Targets(torch.arange(WAY)[None], torch.arange(WAY)[None])

    def run() -> list[torch.Tensor]:
        method.zero_grad()
        torch.manual_seed(0)  # inputs and dropout
        episode = clips_of(method) if inside else features_of(method)
        prediction = method.match(episode)
        loss = sum(method.loss(episode, prediction, targets).values())
        if own:
            assert not list(repeated(loss.grad_fn)), "threads add up the gradient of a repeated index in any order"
            loss.backward()
        return [prediction.logits.detach(), *(p.grad.clone() for p in own.values() if p.grad is not None)]

    first = run()
    assert len(first) > 1 or not own
    for _ in range(RUNS if own else 1):
        assert all(torch.equal(*pair) for pair in zip(first, run(), strict=True))


def repeated(node: Any) -> Iterator[str]:
    """Find where tensors are indexed by lists in which a place stands twice; `index_select` is another operation.

    On several threads such gradients differ by chance, and on a busy machine seldom.
    """
    seen, waiting = set(), [node]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
        lists = [
            index for index in getattr(node, "_saved_indices", ()) if index is not None and index.dtype == torch.long
        ]
        if node.name() == "IndexBackward0" and lists:
            places = torch.stack([index.flatten() for index in torch.broadcast_tensors(*lists)])
            if places.unique(dim=1).shape[1] < places.shape[1]:
                yield node.name()


def text_of(method: Method) -> torch.Tensor | None:
    return (
        method.adapt_text(method.text_input(["waving", "clapping", "running"])[None])
        if method.traits.reads_text
        else None
    )


def draws_of(method: Method) -> torch.Tensor | None:
    return torch.rand(1, WAY, WAY) if method.traits.draws else None


def clips_of(method: Method) -> Episode:
    """An episode of short clips, for a method that changes the encoder."""
    support, query = torch.randn(1, WAY, SHOT, 2, 3, 64, 64), torch.randn(1, WAY, 2, 3, 64, 64)
    return method.encode_episode(support, query, text_of(method), draws_of(method))


def features_of(method: Method) -> Episode:
    """An episode of frame features, for a method that begins there."""
    text = text_of(method)
    support, query = ({"frames": torch.randn(1, *axes, 8, 128)} for axes in ((WAY, SHOT), (WAY,)))
    return Episode(
        method.enhance(support, "support", method.text_of_shots(text, SHOT)),
        method.enhance(query, "query"),
        torch.ones(1, WAY, SHOT, dtype=torch.bool),
        text,
        draws_of(method),
    )
