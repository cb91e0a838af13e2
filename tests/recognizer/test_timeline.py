"""From window scores to segments, and from a video file to its timeline."""

from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from fsar import Recognizer
from fsar.datasets.segments.segment import Segment
from fsar.recognizer.contract import Contract
from fsar.recognizer.timeline import LONGER, Rule, WindowScores, _Chosen, _settled, spot
from fsar.video.writing import write_video
from tests.recognizer.conftest import moving


def scores(length: float, p: list[list[float]], hop: float = 0.5, **spans: tuple[float, float]) -> WindowScores:
    starts = np.arange(len(p)) * hop
    actions = ("wave", "clap")[: len(p[0])]
    return WindowScores("a.mp4", starts[-1] + length, actions, spans, starts, starts + length, np.array(p))


def joined(one: WindowScores, other: WindowScores) -> WindowScores:
    parts = [np.concatenate(pair) for pair in ((one.starts, other.starts), (one.ends, other.ends))]
    both = np.concatenate([one.probabilities, other.probabilities])
    return WindowScores("a.mp4", max(one.duration, other.duration), one.actions, one.spans, *parts, both)


def test_a_peak_is_a_segment_and_unknown_is_none() -> None:
    (segment,) = spot(scores(2.0, [[0.0], [0.8], [0.9], [0.8], [0.0], [0.0]]))
    assert (segment.start, segment.end, segment.action) == (1.0, 3.0, "wave")
    assert segment.probability == pytest.approx((0.5 + 0.5 + 9 / 13) / 5, abs=1e-4)  # odds of 4 and 9, times `RARE`
    assert not spot(scores(2.0, [[0.4]] * 8))


def test_what_shifted_windows_do_not_see_is_chance() -> None:
    assert not spot(scores(2.0, [[0.0], [0.0], [0.99], [0.0], [0.0]]))


def test_a_clear_unknown_counts_more_than_a_close_choice() -> None:
    """The same probability: once torn between two actions, once between an action and none."""
    torn, unsure = scores(2.0, [[0.49, 0.49]] * 6), scores(2.0, [[0.49, 0.0]] * 6)
    assert spot(torn) and not spot(unsure)


def test_the_whole_beats_its_parts() -> None:
    """A long gesture holds windows that look like a short one, and are even a little surer."""
    long = scores(4.0, [[0.8, 0.0]])
    short = scores(1.0, [[0.0, 0.85]] * 7)
    assert [(each.action, each.start) for each in spot(joined(long, short), merge=False)] == [("wave", 0.0)]


def test_an_action_longer_than_its_examples_is_one_segment() -> None:
    lasting = scores(2.0, [[0.0], *[[0.9]] * 12, [0.0], [0.0]])
    (segment,) = spot(lasting)
    assert segment.end - segment.start >= 6
    assert len(spot(lasting, merge=False)) >= 3


def test_two_actions_with_a_pause_are_two_segments() -> None:
    found = spot(scores(1.0, [[0.9], [0.9], [0.9], [0.0], [0.0], [0.0], [0.9], [0.9], [0.9]], hop=0.25))
    assert len(found) == 2 and found[0].end <= found[1].start


def test_stillness_around_an_action_belongs_to_no_segment() -> None:
    some = scores(2.0, [[0.9], [0.9]], hop=1.5)
    (found,) = spot(replace(some, moving=np.array([[0.2, 1.4], [1.8, 3.3]])), merge=False)
    assert (found.start, found.end) in [(0.2, 1.4), (1.8, 3.3)]


def test_lengths_that_no_example_has_are_no_candidates() -> None:
    p = [[0.9, 0.0]] * 4
    assert spot(scores(2.0, p, wave=(1.6, 2.5))) and not spot(scores(2.0, p, wave=(3.2, 5.0)))


def test_begin_and_shortest() -> None:
    some = scores(2.0, [[0.6]] * 4)
    assert spot(some) and not spot(some, Rule(begin=0.3)) and not spot(some, Rule(shortest=10))
    with pytest.raises(ValueError, match="probabilities between 0 and 1"):
        Rule(begin=2.0)


def test_settlement_finds_the_best_of_all_sets() -> None:
    """Against trying every subset."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        drawn = rng.uniform(0, 10, (8, 2))
        bounds = [(start, start + length) for start, length in drawn.tolist()]
        candidates = [_Chosen(float(rng.uniform(0.2, 1)), *each, 0, each) for each in bounds]
        candidates.sort(key=lambda each: each.end)
        best = max(
            sum(each.score * (each.end - each.start) ** LONGER for each in some)
            for size in range(9)
            for some in combinations(candidates, size)
            if all(one.end <= other.start + 1e-3 for one, other in pairwise(some))
        )
        found, stay = _settled(candidates, known=5.0)
        assert sum(each.score * (each.end - each.start) ** LONGER for each in found) == pytest.approx(best)
        for begin in rng.uniform(5, 10, 20):  # whatever comes later
            later = _Chosen(1.0, begin, 21.0, 0, (begin, 21.0))
            assert stay <= {each.end for each in _settled([*candidates, later])[0]}


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Stillness, a square that moves right, stillness, left, stillness: 0.8 s each."""
    still = [moving(0, 0), moving(48, 48)]
    frames = np.concatenate([still[0], moving(0, 48), still[1], moving(48, 0), still[0]])
    write_video(tmp_path / "long.mp4", frames, 10.0)
    return tmp_path / "long.mp4"


def test_the_timeline_of_a_file(
    small: Recognizer, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = small.timeline(video, windows=[0.8], rate=10.0)
    truth = [Segment(str(video), 0.8, 1.6, "right"), Segment(str(video), 2.4, 3.2, "left")]
    assert [each.action for each in found] == ["right", "left"]
    assert all(one.iou(other) > 0.5 for one, other in zip(found, truth, strict=True))
    # the second time, the answers come from the cache, whatever the name of the file
    monkeypatch.setattr("fsar.recognizer.timeline.Windows", None)
    again = small.timeline(video.rename(tmp_path / "other.mp4"), windows=[0.8], rate=10.0, rule=Rule(begin=0.2))
    assert [each.video for each in again] == [str(tmp_path / "other.mp4")] * 2


def test_scores_are_kept_and_read_again(small: Recognizer, video: Path, tmp_path: Path) -> None:
    made = small.scan(video, Contract((0.8,), 10.0, {"left": (0.5, 1.0)}))
    made.save(tmp_path / "scores.npz")
    read = WindowScores.load(tmp_path / "scores.npz")
    assert spot(read) == spot(made) and read.spans == made.spans
    (tmp_path / "scores.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"scores\.npz: not scores"):
        WindowScores.load(tmp_path / "scores.npz")


def test_a_folder_of_frames_needs_a_rate(small: Recognizer, video: Path, tmp_path: Path) -> None:
    from PIL import Image

    from fsar.video.reading import read_frames

    for i, frame in enumerate(read_frames(video, None)):
        (tmp_path / "frames").mkdir(exist_ok=True)
        Image.fromarray(frame).save(tmp_path / "frames" / f"{i}.png")
    with pytest.raises(ValueError, match="--fps"):
        small.timeline(tmp_path / "frames", windows=[0.8], rate=10.0)
    found = small.timeline(tmp_path / "frames", windows=[0.8], rate=10.0, fps=10.0)
    assert [each.action for each in found] == ["right", "left"]
