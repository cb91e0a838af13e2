"""Windows on a stream: each frame is encoded once, and the answers equal those for clips of the windows' frames."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from fsar import Recognizer
from fsar.backbones import Backbone
from fsar.recognizer import UNKNOWN, Fit
from fsar.recognizer.contract import Contract, contract_of
from fsar.recognizer.examples import Action, Example, Length
from fsar.recognizer.windows import Window, Windows
from fsar.video.frame_cache import FrameCache
from fsar.video.picture import Frames
from tests.recognizer.conftest import moving

FPS = 10.0


def stream() -> Frames:
    """A square that moves right, rests, and moves left, over steady noise."""
    parts = [moving(0, 48), moving(48, 48), moving(48, 0), moving(0, 0)]
    return np.concatenate(parts)


def windows_of(windows: Windows, frames: Frames) -> list[Window]:
    found = [window for i, frame in enumerate(frames) for window in windows.add(i / FPS, frame)]
    return found + list(windows.finish(len(frames) / FPS))


def part_of(frames: Frames, window: Window) -> Frames:
    """Frames that begin in a window."""
    begins = np.arange(len(frames)) / FPS
    return frames[(begins >= window.start - 1e-6) & (begins < window.end - 1e-6)]


@pytest.mark.parametrize("sampling", ["moving", "tsn"])
def test_answers_equal_those_for_clips_of_the_same_frames(tiny: Backbone, sampling: str) -> None:
    recognizer = Recognizer(tiny, cache=FrameCache(sampling=sampling))
    recognizer.enroll("right", [moving(0, 48, seed) for seed in range(3)])
    recognizer.enroll("left", [moving(48, 0, seed) for seed in range(3)])
    frames = stream()
    found = windows_of(recognizer.windows(Contract((0.8, 1.2), FPS), batch=5), frames)
    assert {round(window.end - window.start, 2) for window in found} == {0.8, 1.2}
    for window in found[::3]:
        answer = recognizer.predict(part_of(frames, window))
        assert window.shows.action == answer.action
        expected = as_a_clip(window, recognizer.fit())
        assert {name: answer.probabilities[name] for name in expected} == pytest.approx(expected, abs=1e-4)


def as_a_clip(window: Window, fit: Fit) -> dict[str, float]:
    """What is said of a clip: the odds of "known" do not fall below `Fit.doubt`. A sure window gives only "unknown"."""
    shares = dict(window.shows.probabilities)
    unknown = shares.pop(UNKNOWN)
    odds = (1 - unknown) / unknown
    known = odds if odds >= 1 else (1 - fit.doubt) * odds + fit.doubt
    known /= 1 + known
    others = {name: known * share / (1 - unknown) for name, share in shares.items() if unknown < 1 - 1e-9}
    return others | {UNKNOWN: 1 - known}


def test_each_frame_is_encoded_once(small: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    small.fit()
    seen: Counter[bytes] = Counter()
    encode = type(small.backbone).encode_images

    def counted(self: Backbone, images: torch.Tensor) -> object:
        seen.update(image.numpy().tobytes() for image in images)
        return encode(self, images)

    monkeypatch.setattr(type(small.backbone), "encode_images", counted)
    noise = np.random.default_rng(1).integers(0, 256, (30, 64, 64, 3)).astype(np.uint8)
    windows_of(small.windows(Contract((0.8, 1.6), FPS)), noise)
    assert len(seen) == 30 and set(seen.values()) == {1}


def test_an_encoder_of_whole_clips_is_asked_for_each_window(tiny: Backbone) -> None:
    """Answers are those of `predict` again; the ring then holds pictures."""
    recognizer = Recognizer(tiny, "aim")
    recognizer.enroll("right", [moving(0, 48, seed) for seed in range(2)])
    recognizer.enroll("left", [moving(48, 0, seed) for seed in range(2)])
    assert not recognizer.method.encoder().by_frame
    frames = stream()[:16]
    found = windows_of(recognizer.windows(Contract((0.8,), FPS)), frames)
    for window in found[::4]:
        answer = recognizer.predict(part_of(frames, window))
        assert window.shows.probabilities == pytest.approx(dict(answer.probabilities), abs=1e-4)


def test_memory_does_not_grow_and_batches_change_nothing(small: Recognizer) -> None:
    frames = np.concatenate([stream()] * 3)
    windows = small.windows(Contract((0.8,), FPS), batch=4)
    found, most = [], 0
    for i, frame in enumerate(frames):
        found += windows.add(i / FPS, frame)
        most = max(most, len(windows._ring.times))
    assert most <= 0.8 * FPS + 4 + 4
    found += windows.finish(len(frames) / FPS)
    other = windows_of(small.windows(Contract((0.8,), FPS), batch=32), frames)
    assert [window[:2] for window in found] == [window[:2] for window in other]
    for one, two in zip(found, other, strict=True):
        assert one.shows.probabilities == pytest.approx(two.shows.probabilities, abs=1e-4)


def test_frames_are_equally_far_apart_at_about_the_rate(small: Recognizer) -> None:
    windows = small.windows(Contract((0.8,), rate=12.0))
    frame = np.zeros((64, 64, 3), np.uint8)
    taken = []
    for i in range(60):
        taken += [i / 30] if windows.wants(i / 30) else []
        list(windows.add(i / 30, frame))
    assert {round(later - sooner, 3) for sooner, later in pairwise(taken)} == {0.067}


def test_a_window_says_where_something_moves(small: Recognizer) -> None:
    frames = np.zeros((24, 64, 64, 3), np.uint8)
    for i, frame in enumerate(frames):
        frame[24:40, 6 * min(max(i - 8, 0), 8) :][:, :16] = 255
    (window,) = windows_of(small.windows(Contract((2.4,), FPS)), frames)
    assert window.moving == pytest.approx((0.8, 1.6), abs=0.15)


def test_a_stream_shorter_than_a_window_is_a_window(small: Recognizer) -> None:
    found = windows_of(small.windows(Contract((2.0, 3.0), FPS)), stream()[:8])
    assert [(window.start, window.end) for window in found] == [(0.0, 0.8)]
    assert not windows_of(small.windows(Contract((2.0,), FPS)), stream()[:0])


def test_a_recogniser_of_all_frames_is_refused(tiny: Backbone) -> None:
    recognizer = Recognizer(tiny, cache=FrameCache(frames=None))
    for name, start in (("right", 0), ("left", 48)):
        recognizer.enroll(name, [moving(start, 48 - start, seed) for seed in range(2)])
    with pytest.raises(ValueError, match="keeps all frames"):
        recognizer.windows(Contract((1.0,), FPS))


# ----------------------------------------------------------------------- the contract


def action(*seconds: float, fps: float = 30.0) -> Action:
    return Action.of([Example(f"{s}", None, {}, {}, None, Length(s, fps)) for s in seconds])


def test_windows_are_as_long_as_the_examples() -> None:
    contract = contract_of({"blink": action(0.3), "sleep": action(60.0)}, FrameCache())
    assert contract.lengths[0] == 0.3 and contract.lengths[-1] == 60.0
    assert all(each < 0.5 or each > 40 for each in contract.lengths)  # nothing is 5 s long
    assert contract.rate == 30.0
    assert contract_of({"a": action(2.0, 4.0)}, FrameCache()).rate == 12.0


def test_windows_and_rate_can_be_given() -> None:
    contract = contract_of({"a": action(2.0, 4.0)}, FrameCache(), windows=[3.0, 1.0], rate=5.0)
    assert (contract.lengths, contract.rate, contract.spans) == ((1.0, 3.0), 5.0, {})
    with pytest.raises(ValueError, match="above 0"):
        contract_of({"a": action(2.0)}, FrameCache(), windows=[0.0])


def test_unknown_durations_are_measured_or_asked_for(small: Recognizer, small_video: Path) -> None:
    with pytest.raises(ValueError, match="--window 1 2 4"):
        small.contract()
    kept = Action.of([Example(str(small_video), None, {}, {})])  # as an older version wrote it
    assert contract_of({"a": kept}, FrameCache()).lengths == (2.0,)
