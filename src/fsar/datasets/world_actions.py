"""The actions of the generated world: the movements of every class, and its split.

A script gives the paths of one to three objects, and camera moves, for one clip. A class and its reverse share one
script; the reverse runs it backwards.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Track:
    """Path of one object: arrays over `frame`; x, y and radius in units of the image side.

    `stretch` multiplies the width of the object and divides its height.
    """

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    opacity: np.ndarray
    stretch: np.ndarray


def _track(progress: np.ndarray, *where: Any, **more: Any) -> Track:
    """Make a track; every argument is a constant or an array over `frame`."""
    x, y, radius = where
    values = {"x": x, "y": y, "radius": radius, "angle": 0.0, "opacity": 1.0, "stretch": 1.0} | more
    return Track(**{key: np.broadcast_to(value, progress.shape) for key, value in values.items()})


# A script turns (progress over frames in [0, 1], random generator) into tracks, back to front, and
# camera moves. The reversed class of a pair runs the same script with progress 1 - p.
Script = Callable[[np.ndarray, np.random.Generator], tuple[list[Track], dict[str, np.ndarray]]]


def _between(start: float, end: float, progress: np.ndarray) -> np.ndarray:
    return start + (end - start) * progress


def _move(start: tuple[float, float], end: tuple[float, float], jitter: tuple[float, float]) -> Script:
    def script(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
        across = rng.uniform(-1, 1, 2) * jitter  # shift of the whole path
        (x0, y0), (x1, y1) = (
            (point[0] + across[0] + rng.uniform(-0.07, 0.07), point[1] + across[1] + rng.uniform(-0.07, 0.07))
            for point in (start, end)
        )
        return [_track(p, _between(x0, x1, p), _between(y0, y1, p), rng.uniform(0.1, 0.2))], {}

    return script


def _grow(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    x, y = rng.uniform(0.35, 0.65, 2)
    return [_track(p, x, y, _between(rng.uniform(0.05, 0.1), rng.uniform(0.26, 0.36), p))], {}


def _appear(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    x, y = rng.uniform(0.25, 0.75, 2)
    return [_track(p, x, y, rng.uniform(0.12, 0.26), opacity=p)], {}


def _approach(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    direction = rng.uniform(0, 2 * np.pi)
    centre, radii = rng.uniform(0.44, 0.56, 2), rng.uniform(0.09, 0.15, 2)
    distance = _between(rng.uniform(0.34, 0.4), radii.mean() + rng.uniform(0.0, 0.03), p)
    tracks = [
        _track(p, centre[0] + s * distance * np.cos(direction), centre[1] + s * distance * np.sin(direction), r)
        for s, r in zip((-1, 1), radii, strict=True)
    ]
    return tracks, {}


def _meet(mover_in_front: bool) -> Script:
    """A thing moves to the place of another one; at the end it is in front of it (covers it) or behind it."""

    def script(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
        stand = rng.uniform(0.4, 0.6, 2)
        direction = rng.uniform(0, 2 * np.pi)
        large, small = rng.uniform(0.2, 0.26), rng.uniform(0.1, 0.15)
        away = _between(rng.uniform(0.38, 0.46), rng.uniform(0.0, 0.04), p)
        x, y = stand[0] + away * np.cos(direction), stand[1] + away * np.sin(direction)
        if mover_in_front:
            return [_track(p, *stand, small), _track(p, x, y, large)], {}
        return [_track(p, x, y, small), _track(p, *stand, large)], {}

    return script


def _stack(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    base_radius, radius = rng.uniform(0.15, 0.19), rng.uniform(0.09, 0.13)
    x, y = rng.uniform(0.35, 0.65), rng.uniform(0.7, 0.78)
    side = rng.choice([-1, 1]) * rng.uniform(0.2, 0.3)
    top = y - base_radius - radius + 0.03
    path_x = x + side * (1 - np.clip(2 * p, 0, 1))
    path_y = _between(0.1, top, np.clip(2 * p - 1, 0, 1))
    return [_track(p, x, y, base_radius), _track(p, path_x, path_y, radius)], {}


def _turn(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    start = rng.uniform(0, 2 * np.pi)
    x, y = rng.uniform(0.38, 0.62, 2)
    stretch = rng.uniform(1.5, 1.9)
    angle = start + rng.uniform(0.55, 0.8) * np.pi * p
    return [_track(p, x, y, rng.uniform(0.2, 0.26), angle=angle, stretch=stretch)], {}


def _circle(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    start, orbit = rng.uniform(0, 2 * np.pi), rng.uniform(0.22, 0.3)
    x, y = rng.uniform(0.45, 0.55, 2)
    angle = start + 2 * np.pi * rng.uniform(0.8, 1.0) * p
    return [_track(p, x + orbit * np.cos(angle), y + orbit * np.sin(angle), rng.uniform(0.1, 0.16))], {}


def _stretch(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    x, y = rng.uniform(0.4, 0.6, 2)
    stretch = _between(rng.uniform(0.85, 1.0), rng.uniform(1.8, 2.2), p)
    return [_track(p, x, y, rng.uniform(0.14, 0.2), stretch=stretch)], {}


def _pan(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    track = _track(p, rng.uniform(0.4, 0.6), rng.uniform(0.3, 0.7), rng.uniform(0.12, 0.2))
    return [track], {"x": _between(-1, 1, p) * rng.uniform(0.25, 0.35)}


def _zoom(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    x, y = rng.uniform(0.45, 0.55, 2)
    return [_track(p, x, y, rng.uniform(0.1, 0.14))], {"zoom": _between(1.0, rng.uniform(2.0, 2.6), p)}


def _enter(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    radius = rng.uniform(0.12, 0.18)
    y = _between(-radius - 0.05, rng.uniform(0.35, 0.6), p)
    return [_track(p, rng.uniform(0.25, 0.75), y, radius)], {}


def _split(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    direction, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.15)
    x, y = rng.uniform(0.44, 0.56, 2)
    distance = _between(0.0, rng.uniform(0.24, 0.3), p)
    ways = ((x + s * distance * np.cos(direction), y + s * distance * np.sin(direction)) for s in (-1, 1))
    return [_track(p, *place, radius) for place in ways], {}


def _still(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    return [_track(p, *rng.uniform(0.25, 0.75, 2), rng.uniform(0.1, 0.26))], {}


def _bounce(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    ground, height, times = rng.uniform(0.7, 0.8), rng.uniform(0.35, 0.5), rng.uniform(2.0, 3.0)
    y = ground - height * np.abs(np.sin(np.pi * times * p))
    return [_track(p, rng.uniform(0.25, 0.75), y, rng.uniform(0.1, 0.16))], {}


def _shake(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    x = rng.uniform(0.4, 0.6) + rng.uniform(0.12, 0.2) * np.sin(2 * np.pi * rng.uniform(2.5, 3.5) * p)
    return [_track(p, x, rng.uniform(0.3, 0.7), rng.uniform(0.12, 0.2))], {}


def _blink(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    opacity = (np.sin(2 * np.pi * (rng.uniform(2.0, 3.0) * p + rng.uniform())) > 0).astype(float)
    return [_track(p, *rng.uniform(0.3, 0.7, 2), rng.uniform(0.14, 0.26), opacity=opacity)], {}


def _swap(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    angle = rng.uniform(0, 2 * np.pi) + np.pi * p
    orbit, centre = rng.uniform(0.2, 0.26), rng.uniform(0.46, 0.54, 2)
    tracks = [
        _track(p, centre[0] + s * orbit * np.cos(angle), centre[1] + s * orbit * np.sin(angle), rng.uniform(0.1, 0.15))
        for s in (-1, 1)
    ]
    return tracks, {}


def _pulse(p: np.ndarray, rng: np.random.Generator) -> tuple[list[Track], dict]:
    swing = np.sin(2 * np.pi * (rng.uniform(2.0, 3.0) * p + rng.uniform()))
    return [_track(p, *rng.uniform(0.38, 0.62, 2), 0.18 + rng.uniform(0.06, 0.1) * swing)], {}


@dataclass(frozen=True)
class Action:
    """One class of the world."""

    name: str
    text: str
    split: str
    script: Script = field(repr=False)
    reversed: bool = False


def _pair(split: str, script: Script, forward: str, backward: str) -> tuple[Action, Action]:
    """Two classes; each is the other one played backwards."""
    return tuple(  # type: ignore[return-value]
        Action(text.replace(" ", "_").replace("-", "_"), text, split, script, is_reversed)
        for text, is_reversed in ((forward, False), (backward, True))
    )


def _single(split: str, script: Script, text: str) -> Action:
    return Action(text.replace(" ", "_"), text, split, script)


_LEFT, _RIGHT, _TOP, _BOTTOM = 0.18, 0.82, 0.18, 0.82

PAIRS: tuple[tuple[Action, Action], ...] = (
    _pair(
        "train",
        _move((_LEFT, _TOP), (_RIGHT, _BOTTOM), (0.0, 0.0)),
        "moving something from the top left to the bottom right",
        "moving something from the bottom right to the top left",
    ),
    _pair(
        "train",
        _move((_LEFT, _BOTTOM), (_RIGHT, _TOP), (0.0, 0.0)),
        "moving something from the bottom left to the top right",
        "moving something from the top right to the bottom left",
    ),
    _pair("train", _stretch, "stretching something", "squeezing something"),
    _pair("train", _stack, "putting something on top of something", "taking something off something"),
    _pair("train", _circle, "moving something in a clockwise circle", "moving something in a counter-clockwise circle"),
    _pair(
        "train",
        _pan,
        "turning the camera right while filming something",
        "turning the camera left while filming something",
    ),
    _pair("train", _zoom, "zooming in on something", "zooming out from something"),
    _pair("train", _enter, "something coming in from above", "something leaving upwards"),
    _pair("train", _split, "something splitting into two", "two things merging into one"),
    _pair("val", _move((0.5, _BOTTOM), (0.5, _TOP), (0.28, 0.0)), "moving something up", "moving something down"),
    _pair("val", _meet(mover_in_front=True), "covering something with something", "uncovering something"),
    _pair("val", _turn, "turning something clockwise", "turning something counter-clockwise"),
    _pair(
        "test",
        _move((_LEFT, 0.5), (_RIGHT, 0.5), (0.0, 0.28)),
        "moving something from left to right",
        "moving something from right to left",
    ),
    _pair("test", _grow, "something growing", "something shrinking"),
    _pair("test", _approach, "moving two things closer to each other", "moving two things away from each other"),
    _pair(
        "test",
        _meet(mover_in_front=False),
        "putting something behind something",
        "taking something out from behind something",
    ),
    _pair("test", _appear, "something appearing", "something disappearing"),
)

ACTIONS: tuple[Action, ...] = (
    *(action for pair in PAIRS for action in pair),
    _single("train", _still, "something staying still"),
    _single("train", _bounce, "something bouncing up and down"),
    _single("train", _shake, "shaking something left and right"),
    _single("train", _blink, "something blinking on and off"),
    _single("train", _swap, "two things swapping places"),
    _single("train", _pulse, "something pulsing"),
)
