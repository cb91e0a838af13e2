"""Batches of one size: the same bits whatever stands beside a video, and nothing encoded twice."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fsar.backbones import Backbone
from fsar.bank.batches import encode_batch, encode_in_batches, in_batches
from fsar.bank.fill import fill_bank
from fsar.datasets import Video, VideoDataset
from fsar.methods import Method, build_method
from fsar.video.frame_cache import FrameCache
from fsar.video.paths import VideoError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def videos(little_world: VideoDataset) -> tuple[Video, ...]:
    return little_world.split("test").videos[:5]


@pytest.fixture
def method(tiny: Backbone) -> Method:
    return build_method("protonet", tiny)


@pytest.fixture
def sizes(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of images that the backbone encoded."""
    seen: list[int] = []
    encode = tiny.encode_images
    monkeypatch.setattr(tiny, "encode_images", lambda images: seen.append(len(images)) or encode(images))
    return seen


@torch.no_grad()
def test_the_same_bits_whatever_the_company(tiny: Backbone) -> None:
    encode = build_method("protonet", tiny).encoder().encode
    clips = list(torch.randn(7, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))

    def rows(order: list[int]) -> dict[int, torch.Tensor]:
        made = encode_in_batches(encode, (clips[i] for i in order), 3, CPU)
        return {i: encoding["frames"] for i, encoding in zip(order, made, strict=True)}

    first = rows([0, 1, 2, 3, 4, 5, 6])
    for order in ([6, 5, 4, 3, 2, 1, 0], [2, 0, 1], [3], [4, 6]):
        assert all(torch.equal(row, first[i]) for i, row in rows(order).items())


def test_a_batch_takes_no_more_than_its_size() -> None:
    with pytest.raises(ValueError, match="a batch has 3 clips; expected at most 2"):
        encode_batch(lambda *given: {}, [torch.zeros(1)] * 3, 2, CPU)


def test_what_needs_no_encoding_waits_a_while() -> None:
    """Memory stays bounded if most encodings are on disk."""
    groups = list(in_batches("X" * 11 + "a" + "X" * 3, 2, str.islower))
    assert list(map(len, groups)) == [8, 7]
    assert list(in_batches("XaX", 1, str.islower)) == [["X"], ["a"], ["X"]]


def test_a_bank_is_filled_in_whole_batches(method: Method, videos: tuple[Video, ...], sizes: list[int]) -> None:
    cache = FrameCache(frames=4)
    alone = fill_bank(method, videos, cache=cache, keep=False, progress=False)
    assert sizes == [4] * 5
    sizes.clear()
    bank = fill_bank(method, videos, cache=cache, keep=False, batch=2, progress=False)
    assert sizes == [8] * 3  # two videos of four frames; the last batch is filled up
    torch.testing.assert_close(bank.query["frames"], alone.query["frames"])
    for devices, chosen in ((2, videos), (1, videos[1:])):
        other = fill_bank(method, chosen, cache=cache, keep=False, batch=2, devices=devices, progress=False)
        assert torch.equal(other.query["frames"], bank.query["frames"][-len(chosen) :])


def test_a_bank_on_disk_says_its_batch_and_resumes(
    method: Method, videos: tuple[Video, ...], sizes: list[int], tmp_path: Path
) -> None:
    some = (videos[0], videos[3])
    first = fill_bank(method, some, folder=tmp_path / "bank", batch=2, progress=False)
    sizes.clear()
    bank = fill_bank(method, videos, folder=tmp_path / "bank", batch=2, progress=False)
    assert sizes == [16, 16]  # three videos are new
    assert torch.equal(bank.query["frames"][[0, 3]], first.query["frames"])
    with pytest.raises(ValueError, match="batch is 2 there, None here"):
        fill_bank(method, videos, folder=tmp_path / "bank", progress=False)
    with pytest.raises(ValueError, match="batch is 0; expected 1 or more"):
        fill_bank(method, videos, batch=0)


def test_a_broken_video_costs_its_batch_nothing(method: Method, videos: tuple[Video, ...], tmp_path: Path) -> None:
    broken = replace(videos[1], id="broken", path=tmp_path / "none.mp4")
    given = (videos[0], broken, *videos[1:3])
    bank = fill_bank(method, given, keep=False, batch=2, on_error="skip", progress=False)
    assert [*bank.skipped] == ["broken"] and bank.video_ids == tuple(video.id for video in videos[:3])
    whole = fill_bank(method, videos[:3], keep=False, batch=2, progress=False)
    assert torch.equal(bank.query["frames"], whole.query["frames"])
    with pytest.raises(VideoError, match=r"none\.mp4"):
        fill_bank(method, given, keep=False, batch=2, progress=False)
