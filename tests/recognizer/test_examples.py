"""Enrolled examples: exact sums, names."""

import random

import pytest
import torch

from fsar.recognizer.examples import Action, Example, compact, find, with_short_names, without


def example(name: str, seed: int = 0) -> Example:
    generator = torch.Generator().manual_seed(seed)
    encoding = {"frames": (1000 * torch.randn(4, 32, generator=generator) ** 3).half()}
    return Example(name, name, encoding, encoding)


def test_a_prototype_does_not_depend_on_the_way_to_it() -> None:
    """In any order, and after examples that came and went: the same mean, bit for bit."""
    examples = [example(f"{i}.mp4", i) for i in range(40)]
    plain = Action.of(examples[:20])
    shuffled = Action.of(random.Random(0).sample(examples, len(examples)))
    for each in examples[20:]:
        shuffled = shuffled.without(each)
    assert torch.equal(plain.mean()["frames"], shuffled.mean()["frames"])
    left_out = Action.of(examples[1:20])
    assert torch.equal(plain.mean([examples[0]])["frames"], left_out.mean()["frames"])


def test_examples_are_found_by_their_names() -> None:
    videos = ("data/wave/anna/1.mp4", "data/wave/ben/1.mp4", "data/wave/ben/2.mp4", "array 12345678")
    actions = {"wave": Action.of([example(video) for video in videos]), "clap": Action.of([example("c.mp4")])}
    for name, video in [
        ("data/wave/anna/1.mp4", 0),
        ("ben/1.mp4", 1),
        ("2.mp4", 2),
        ("/home/data/wave/ben/2.mp4", 2),
        ("array 12345678", 3),
    ]:
        assert find(actions, "wave", name).video == videos[video]
    with pytest.raises(ValueError, match=r"'1.mp4' names 2 examples: .*; give more of its path"):
        find(actions, "wave", "1.mp4")
    with pytest.raises(ValueError, match="unknown example of 'wave' '3.mp4'.*: array 12345678, data/wave/anna"):
        find(actions, "wave", "3.mp4")
    short = with_short_names(actions)
    assert [e.video for e in short["wave"].examples] == ["anna/1.mp4", "ben/1.mp4", "2.mp4", "array 12345678"]
    assert list(without(actions, "clap", actions["clap"].examples[0])) == ["wave"]


def test_an_encoding_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.mp4: its encoding has numbers that are not finite"):
        compact({"frames": torch.tensor([1.0, float("nan")])}, "a.mp4")
