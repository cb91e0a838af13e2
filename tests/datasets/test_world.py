"""The generated world: its classes, its pairs, and that it renders the same for everyone."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fsar.datasets import load_folder, load_world
from fsar.datasets import world as module
from fsar.datasets.world import (
    COLOURS,
    SHAPES,
    SIZE,
    TEXTURES,
    describe_frame,
    draw_scene,
    render_clip,
    render_scene,
    render_world,
)
from fsar.datasets.world_actions import ACTIONS, PAIRS, Action
from fsar.video.reading import probe, read_frames

TIMES = np.linspace(0, 1, 9)
PLACES = [
    *(f"{row} {column}" for row in ("top", "bottom") for column in ("left", "right")),
    *("top", "bottom", "left", "right", "centre"),
]


@pytest.fixture
def few_actions(monkeypatch: pytest.MonkeyPatch) -> tuple[Action, ...]:
    """A world of three classes, one of every split."""
    few = tuple(next(action for action in ACTIONS if action.split == split) for split in ("train", "val", "test"))
    monkeypatch.setattr(module, "ACTIONS", few)
    return few


def test_there_are_forty_classes_with_disjoint_splits() -> None:
    assert len(ACTIONS) >= 40
    assert Counter(action.split for action in ACTIONS) == {"train": 24, "val": 6, "test": 10}
    for unique in ({action.name for action in ACTIONS}, {action.text for action in ACTIONS}):
        assert len(unique) == len(ACTIONS)
    assert len({action.name.casefold() for action in ACTIONS}) == len(ACTIONS)


def test_a_script_belongs_to_one_split() -> None:
    """No motion of the test classes is seen in training, under whatever name."""
    splits: dict[int, set[str]] = {}
    for action in ACTIONS:
        splits.setdefault(id(action.script), set()).add(action.split)
    assert all(len(found) == 1 for found in splits.values())


def test_pairs_are_each_others_time_reverse() -> None:
    assert len(PAIRS) == 17
    for forward, backward in PAIRS:
        assert forward in ACTIONS and backward in ACTIONS
        assert (forward.reversed, backward.reversed) == (False, True)
        assert forward.split == backward.split and forward.script is backward.script


@pytest.mark.parametrize("forward", [forward for forward, _ in PAIRS], ids=lambda action: action.name)
def test_the_reversed_class_plays_the_tracks_backwards(forward: Action, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything drawn alike, and progress even in time, one is the other from its end."""

    class Even(np.random.Generator):
        """Draws no pause and no change of pace; anything else by chance."""

        def uniform(self, low: float = 0.0, high: float = 1.0, size: int | None = None) -> object:
            fixed = {(0.0, 0.2): 0.0, (0.75, 1.0): 1.0, (0.75, 1.35): 1.0}
            return fixed[low, high] if (low, high) in fixed else super().uniform(low, high, size)

    monkeypatch.setattr(module, "_generator", lambda *key: Even(np.random.PCG64(0)))
    ahead, back = (draw_scene(replace(forward, reversed=way), 0, TIMES) for way in (False, True))
    assert ahead.things == back.things
    moved = []
    for one, other in zip(ahead.tracks, back.tracks, strict=True):
        for values, reverse in zip(vars(one).values(), vars(other).values(), strict=True):
            np.testing.assert_allclose(values, reverse[::-1], atol=1e-9)
            moved.append(np.ptp(values))
    np.testing.assert_allclose(ahead.camera.zoom, back.camera.zoom[::-1])
    moved += [np.ptp(ahead.camera.zoom), np.ptp(ahead.camera.x)]
    assert max(moved) > 0.1  # something happens


def test_a_clip_is_a_pure_function_of_action_and_seed() -> None:
    action = ACTIONS[0]
    first, again, other = (render_clip(action, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.uint8 and first.shape[1:] == (SIZE, SIZE, 3) and 16 <= len(first) <= 32
    assert first.shape != other.shape or (first != other).mean() > 0.5
    twin = render_clip(ACTIONS[1], 3)
    assert twin.shape != first.shape or (twin != first).mean() > 0.5


def test_seeds_draw_different_things() -> None:
    scenes = [draw_scene(ACTIONS[0], seed, TIMES) for seed in range(60)]
    things = [scene.things[0] for scene in scenes]
    assert {thing.shape for thing in things} == set(SHAPES)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.texture for thing in things} == set(TEXTURES)
    assert len({scene.background for scene in scenes}) == 60
    assert len({float(scene.tracks[0].x[0]) for scene in scenes}) == 60


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_captions_tell_what_is_where(action: Action) -> None:
    scene = draw_scene(action, 0, TIMES)
    captions = [describe_frame(scene, frame) for frame in range(len(TIMES))]
    seen = [caption for caption in captions if caption != "nothing"]
    assert seen
    for caption in seen:
        assert any(f"at the {place}" in caption for place in PLACES), caption
        assert any(f"{thing.texture} {thing.colour} {thing.shape}" in caption for thing in scene.things), caption
    assert not any(word in describe_frame(scene, 4, looks=False).split() for word in (*SHAPES, *COLOURS))


def test_every_frame_of_a_clip_shows_movement_or_light() -> None:
    frames = render_scene(draw_scene(ACTIONS[0], 0, TIMES), TIMES)
    assert frames.std(axis=(1, 2, 3)).min() > 2
    assert (np.abs(np.diff(frames.astype(int), axis=0)).mean(axis=(1, 2, 3)) > 0).any()


def test_the_files_are_the_same_bytes_for_everyone(tmp_path: Path, few_actions: tuple[Action, ...]) -> None:
    one, two = (render_world(tmp_path / name, 2, progress=False) for name in ("one", "two"))
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert len(files) == 2 * len(few_actions) + 1
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file
    video = one / few_actions[0].name / f"{few_actions[0].name}_001.mp4"
    drawn = render_clip(few_actions[0], 1)
    assert probe(video).frames == len(drawn) and probe(video).fps == 12
    assert np.abs(read_frames(video, None).astype(int) - drawn).mean() < 12  # what H.264 loses


def test_a_file_does_not_depend_on_what_was_encoded_before(tmp_path: Path) -> None:
    """In a fresh process, since x264's macroblock tree reads memory that earlier encodings leave behind."""
    script = """if True:
        import sys
        from pathlib import Path
        from fsar.datasets.world import render_clip
        from fsar.datasets.world_actions import ACTIONS
        from fsar.video.writing import write_video
        clips = {f"{action.name}{i}.mp4": render_clip(action, i) for action in ACTIONS[::4] for i in (0, 1)}
        for name in clips:
            write_video(Path(sys.argv[1], "forward", name), clips[name], 12.0)
        for name in reversed(clips):
            write_video(Path(sys.argv[1], "backward", name), clips[name], 12.0)
    """
    subprocess.run([sys.executable, "-c", script, os.fspath(tmp_path)], check=True)
    written = [
        {path.name: path.read_bytes() for path in (tmp_path / order).iterdir()} for order in ("forward", "backward")
    ]
    assert len(written[0]) == 20
    assert [name for name in written[0] if written[0][name] != written[1][name]] == []


def test_rendering_again_restores_only_what_is_missing(tmp_path: Path, few_actions: tuple[Action, ...]) -> None:
    folder = render_world(tmp_path / "world", 2, progress=False)
    clips = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.rglob("*.mp4"))}
    lost, *kept = clips
    lost.unlink()
    (lost.parent / ".writing-killed.mp4").write_bytes(b"half a clip")
    render_world(folder, 2, progress=False)
    assert lost.read_bytes() == clips[lost][0]
    assert all(path.stat().st_mtime_ns == clips[path][1] for path in kept)
    assert len(load_folder(folder).videos) == 6
    render_world(folder, 3, progress=False)
    assert all(path.stat().st_mtime_ns == clips[path][1] for path in kept)
    assert len(load_folder(folder).videos) == 9


def test_a_folder_of_the_world_is_a_dataset(tmp_path: Path, few_actions: tuple[Action, ...]) -> None:
    dataset = load_folder(render_world(tmp_path / "world", 1, progress=False))
    assert dict(dataset.splits) == {action.name: action.split for action in few_actions}
    assert dict(dataset.texts) == {action.name: action.text for action in few_actions}
    assert [dataset.split(split).classes for split in ("train", "val", "test")] == [
        (action.name,) for action in few_actions
    ]


def test_the_whole_world_has_its_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "render_clip", lambda action, index: np.zeros((4, 64, 64, 3), np.uint8))
    world = load_folder(render_world(tmp_path, clips_per_class=2, progress=False), "world")
    assert dict(world.splits) == {action.name: action.split for action in ACTIONS}
    assert dict(world.texts) == {action.name: action.text for action in ACTIONS}
    assert [len(world.split(split).classes) for split in ("train", "val", "test")] == [24, 6, 10]
    assert set(world.counts.values()) == {2}


def test_the_default_world_lies_in_the_cache(
    tmp_path: Path, few_actions: tuple[Action, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "render_world", lambda folder, progress: render_world(folder, 1, progress))
    dataset = load_world(progress=False)
    assert dataset.name == "world" and len(dataset.videos) == 3
    assert {video.path.parents[1] for video in dataset.videos} == {tmp_path / f"world-{module.VERSION}"}
