"""Frames chosen by time."""

import numpy as np
import pytest

from fsar.video.sampling import frame_indices, shown_at


@pytest.mark.parametrize("frames", [1, 3, 8, 16, 29, 300])
@pytest.mark.parametrize("fps", [10.0, 24000 / 1001, 30.0])
def test_at_a_steady_rate_time_and_number_choose_alike(frames: int, fps: float) -> None:
    times = np.arange(frames + 1) / fps
    for count in (1, 3, 8):
        by_number = frame_indices(frames, count, "tsn")
        np.testing.assert_array_equal(frame_indices(frames, count, "time", times=times), by_number)
        np.testing.assert_array_equal(frame_indices(frames, count, "time"), by_number)


def test_a_rate_that_varies_is_evened_out() -> None:
    """30 frames in one second, then 10 in five: those five seconds get 7 of 8 frames, not 2."""
    times = np.concatenate([np.arange(30) / 30, 1 + np.arange(11) / 2])
    chosen = frame_indices(40, 8, "time", times=times)
    assert (times[chosen] >= 1).sum() == 7 and (np.diff(times[chosen]) > 0).all()
    assert (times[frame_indices(40, 8, "tsn")] >= 1).sum() == 2


def test_random_moments_lie_within_their_segments() -> None:
    times = np.cumsum([0.0, 0.1, 3.0, 0.1, 0.1, 0.7, 2.0])
    for seed in range(50):
        chosen = frame_indices(6, 3, "time", rng=np.random.default_rng(seed), times=times)
        for i, frame in enumerate(chosen):
            segment = times[-1] * np.array([i, i + 1]) / 3
            assert times[frame] < segment[1] and times[frame + 1] > segment[0]


def test_frames_shown_at_moments() -> None:
    begins = np.array([0.0, 0.1, 0.5])
    assert shown_at(begins, [-1, 0, 0.0999999, 0.1, 0.3, 0.5, 9]).tolist() == [0, 0, 1, 1, 1, 2, 2]
