"""The generated world: a small labelled benchmark of real video files, rendered by the project.

Textured shapes move over textured, drifting backgrounds. The forty actions have names in the style of
Something-Something. Most come in pairs: one action is the other played backwards, so a method that ignores the order
of frames cannot tell the two apart. Objects, colours, textures, speed, start, camera drift and lighting are random for
every clip, so neither a single frame nor the background tells the class.

`render_world` writes H.264 files and a `labels.csv` for `fsar.datasets.load_folder`. After that, the world is a dataset
like any other. `render_scene` and `describe_frame` give frames with captions; `scripts/train_tiny.py` trains the
built-in backbone on them.
"""

from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from fsar.datasets.world_actions import ACTIONS, Action, Track
from fsar.files import write_text_atomic
from fsar.progress import progress_bar
from fsar.video.writing import write_video

VERSION = 1  # increase it with every change to a rendered pixel
SIZE = 96  # height and width of a clip, pixels
FRAMES_PER_SECOND = 12.0
CLIPS_PER_CLASS = 20

COLOURS = {
    "red": (210, 45, 40),
    "orange": (240, 140, 30),
    "yellow": (240, 220, 50),
    "green": (50, 165, 60),
    "cyan": (60, 200, 205),
    "blue": (45, 75, 205),
    "purple": (135, 60, 175),
    "pink": (240, 130, 180),
    "white": (240, 240, 240),
    "black": (25, 25, 25),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "diamond", "crescent")
TEXTURES = ("plain", "striped", "dotted", "checked", "mottled")


@dataclass(frozen=True)
class Thing:
    """Looks of one object; they stay the same over a clip."""

    shape: str
    colour: str
    texture: str
    phase: float


@dataclass(frozen=True)
class Camera:
    """Position of the camera: arrays over `frame`; shift in units of the image side, zoom at least 1."""

    x: np.ndarray
    y: np.ndarray
    zoom: np.ndarray


@dataclass(frozen=True)
class Scene:
    """What `render_scene` draws: objects from back to front, their tracks, the camera and the background."""

    things: list[Thing]
    tracks: list[Track]
    camera: Camera
    background: int  # seed of the background's texture
    drift: tuple[float, float]  # how far the background moves over the clip, in image sides
    light: tuple[float, float, float]  # gain, slope along x, slope along y


def _generator(*key: object) -> np.random.Generator:
    digest = blake2b("/".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def draw_scene(action: Action, seed: int, times: np.ndarray) -> Scene:
    """Choose the scene of one clip at random; the same arguments give the same scene.

    Args:
        action: what happens.
        seed: of everything that is random.
        times: of the frames, in [0, 1].
    """
    rng = _generator(VERSION, action.name, seed)
    start, end = rng.uniform(0.0, 0.2), rng.uniform(0.75, 1.0)
    progress = np.clip((times - start) / (end - start), 0, 1) ** rng.uniform(0.75, 1.35)
    if action.reversed:
        progress = 1 - progress
    tracks, moves = action.script(progress, rng)
    angle = rng.uniform(0, 2 * np.pi, len(tracks))
    tracks = [replace(track, angle=track.angle + a) for track, a in zip(tracks, angle, strict=True)]
    things = [
        Thing(str(rng.choice(SHAPES)), str(rng.choice(list(COLOURS))), str(rng.choice(TEXTURES)), rng.uniform())
        for _ in tracks
    ]
    drift = rng.uniform(-0.05, 0.05, 2)[:, None] * (times - 0.5)
    camera = Camera(drift[0] + moves.get("x", 0.0), drift[1], np.broadcast_to(moves.get("zoom", 1.0), times.shape))
    return Scene(
        things=things,
        tracks=tracks,
        camera=camera,
        background=int(rng.integers(2**31)),
        drift=tuple(rng.uniform(-0.15, 0.15, 2) * rng.integers(0, 2)),
        light=(rng.uniform(0.75, 1.1), *rng.uniform(-0.2, 0.2, 2)),
    )


def _background(scene: Scene, times: np.ndarray) -> np.ndarray:
    """Draw the texture as the moving camera sees it: [frame, SIZE, SIZE, rgb] in [0, 255]."""
    rng = _generator("background", scene.background)
    coarse, side = int(rng.integers(6, 22)), 3 * SIZE
    grid = rng.random((coarse, coarse)).astype(np.float32)
    place = np.linspace(0, coarse - 1.001, side)
    low, weight = place.astype(int), (place % 1).astype(np.float32)
    rows = grid[low] * (1 - weight)[:, None] + grid[low + 1] * weight[:, None]
    noise = rows[:, low] * (1 - weight) + rows[:, low + 1] * weight
    if rng.random() < 0.4:  # stripes under the noise
        across = np.arange(side) * np.float32(2 * np.pi / rng.uniform(8, 40))
        stripes = np.sin(across[:, None] * rng.uniform(-1, 1) + across[None, :] * rng.uniform(-1, 1))
        noise = 0.5 * noise + 0.25 + 0.25 * stripes.astype(np.float32)
    first, second = rng.uniform(40, 215, (2, 3)).astype(np.float32)
    texture = first + (second - first) * noise[..., None]

    pixel = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE - 0.5
    zoom = scene.camera.zoom[:, None]
    column = pixel / zoom + (scene.camera.x + scene.drift[0] * times)[:, None]
    row = pixel / zoom + (scene.camera.y + scene.drift[1] * times)[:, None]
    to_index = lambda position: np.clip((position / 3 + 0.5) * side, 0, side - 1).astype(int)  # noqa: E731
    return texture[to_index(row)[:, :, None], to_index(column)[:, None, :]]


def _inside(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance of (u, v) to the edge of a shape of radius 1; positive inside."""
    distance = np.hypot(u, v)
    if shape == "circle":
        return 1 - distance
    if shape == "square":
        return 0.85 - np.maximum(abs(u), abs(v))
    if shape == "diamond":
        return 0.75 - (abs(u) * 1.3 + abs(v)) / 1.4
    if shape == "triangle":
        return np.minimum(0.6 - v, (1.15 + v - 1.75 * abs(u)) / 2)
    if shape == "ring":
        return 0.28 - abs(distance - 0.72)
    if shape == "cross":
        narrow = np.minimum(abs(u), abs(v))
        return np.minimum(0.32 - narrow, 0.95 - np.maximum(abs(u), abs(v)))
    if shape == "crescent":
        return np.minimum(1 - distance, np.hypot(u - 0.5, v) - 0.75)
    angle = np.arctan2(v, u)  # star
    return (0.68 + 0.3 * np.cos(5 * angle)) - distance


def _texture(thing: Thing, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Share of the object's second colour at (u, v), in [0, 1]."""
    phase = 2 * np.pi * thing.phase
    if thing.texture == "striped":
        return (np.sin(9 * u + phase) > 0).astype(np.float32)
    if thing.texture == "dotted":
        return (np.sin(9 * u + phase) * np.sin(9 * v) > 0.35).astype(np.float32)
    if thing.texture == "checked":
        return ((np.sin(7 * u + phase) > 0) ^ (np.sin(7 * v + phase) > 0)).astype(np.float32)
    if thing.texture == "mottled":
        return 0.5 + 0.5 * np.sin(5 * u + 3 * np.sin(4 * v + phase)) * np.sin(6 * v + 2 * u)
    return np.zeros_like(u)


def _paint(canvas: np.ndarray, thing: Thing, track: Track, camera: Camera) -> None:
    """Draw one object onto the canvas."""
    pixel = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    x, y, radius = on_screen(track, camera)
    as_pixels = lambda value: np.asarray(value, np.float32)[:, None, None]  # noqa: E731
    dx, dy = pixel[None, None, :] - as_pixels(x), pixel[None, :, None] - as_pixels(y)
    cos, sin = as_pixels(np.cos(track.angle)), as_pixels(np.sin(track.angle))
    reach, stretch = as_pixels(np.maximum(radius, 1e-3)), as_pixels(track.stretch)
    u = (dx * cos + dy * sin) / (reach * stretch)
    v = (dy * cos - dx * sin) / (reach / stretch)
    edge = np.clip(_inside(thing.shape, u, v) * reach * SIZE + 0.5, 0, 1)  # soft over one pixel
    opacity = (edge * as_pixels(track.opacity))[..., None]
    colour = np.array(COLOURS[thing.colour], np.float32)
    second = np.where(colour.mean() > 128, colour * 0.45, colour * 0.5 + 110)
    surface = colour + (second - colour) * _texture(thing, u, v)[..., None]
    canvas += opacity * (surface - canvas)


def on_screen(track: Track, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute x, y and radius of an object in the picture, over frames, in units of the image side."""
    x = (track.x - 0.5 - camera.x) * camera.zoom + 0.5
    y = (track.y - 0.5 - camera.y) * camera.zoom + 0.5
    return x, y, track.radius * camera.zoom


def render_scene(scene: Scene, times: np.ndarray) -> np.ndarray:
    """Draw the frames of a scene: uint8 [frame, SIZE, SIZE, rgb]."""
    canvas = np.ascontiguousarray(_background(scene, times))
    for thing, track in zip(scene.things, scene.tracks, strict=True):
        _paint(canvas, thing, track, scene.camera)
    gain, along_x, along_y = scene.light
    slope = np.linspace(-1, 1, SIZE, dtype=np.float32)
    canvas *= (gain * (1 + along_x * slope[None, :] + along_y * slope[:, None]))[None, :, :, None]
    grain = _generator("grain", scene.background).normal(0, 4, (SIZE, SIZE, 1)).astype(np.float32)
    return np.clip(canvas + grain, 0, 255).astype(np.uint8)


def _place(x: float, y: float) -> str:
    column = "left" if x < 0.36 else "right" if x > 0.64 else ""
    row = "top" if y < 0.36 else "bottom" if y > 0.64 else ""
    return " ".join(filter(None, (row, column))) or "centre"


def _size(radius: float) -> str:
    for word, limit in (("tiny", 0.09), ("small", 0.14), ("medium", 0.2), ("large", 0.27)):
        if radius < limit:
            return word
    return "huge"


def describe_frame(scene: Scene, frame: int, looks: bool = True) -> str:
    """Caption one frame: each object, its place and its size.

    Args:
        scene: what `draw_scene` gave.
        frame: index of the frame.
        looks: name also texture, colour and shape.

    Returns:
        A sentence.
    """
    seen = []
    for thing, track in zip(scene.things, scene.tracks, strict=True):
        x, y, radius = (float(values[frame]) for values in on_screen(track, scene.camera))
        if track.opacity[frame] < 0.1 or not (-0.05 < x < 1.05 and -0.05 < y < 1.05):
            continue
        faint = "faint " if track.opacity[frame] < 0.5 else ""
        wide = "wide " if track.stretch[frame] > 1.4 else ""
        what = f"{thing.texture} {thing.colour} {thing.shape}" if looks else "thing"
        seen.append(f"a {faint}{_size(radius)} {wide}{what} at the {_place(x, y)}")
    return " in front of ".join(reversed(seen)) if _overlap(scene, frame) else " and ".join(seen) or "nothing"


def _overlap(scene: Scene, frame: int) -> bool:
    if len(scene.tracks) < 2:
        return False
    (x0, y0, r0), (x1, y1, r1) = ([v[frame] for v in on_screen(t, scene.camera)] for t in scene.tracks)
    return bool(np.hypot(x0 - x1, y0 - y1) < max(r0, r1))


def render_clip(action: Action, seed: int) -> np.ndarray:
    """Render one whole clip: uint8 [frame, SIZE, SIZE, rgb], 16 to 32 frames."""
    frames = int(_generator(VERSION, action.name, seed, "length").integers(16, 33))
    times = np.linspace(0, 1, frames)
    return render_scene(draw_scene(action, seed, times), times)


def render_world(folder: Path, clips_per_class: int = CLIPS_PER_CLASS, progress: bool = True) -> Path:
    """Render the clips that `folder` lacks, as H.264 files, and write its `labels.csv`.

    A clip is written under a temporary name and then renamed, so a killed run resumes.

    Args:
        folder: it is made if it does not exist.
        clips_per_class: how many clips each class shall have.
        progress: show a progress bar.

    Returns:
        `folder`.
    """
    jobs = [
        (folder / action.name / f"{action.name}_{index:03d}.mp4", action, index)
        for action in ACTIONS
        for index in range(clips_per_class)
    ]
    missing = [job for job in jobs if not job[0].exists()]
    for path, action, index in progress_bar(missing, "render", "clip", len(missing), progress and bool(missing)):
        write_video(path, render_clip(action, index), FRAMES_PER_SECOND)
    rows = [f"{action.name},{action.text},{action.split}" for action in ACTIONS]
    write_text_atomic(folder / "labels.csv", "\n".join(["folder,label,split", *rows]) + "\n")
    return folder
