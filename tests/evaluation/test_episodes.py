"""Episodes: what an episode is, and that it is a pure function of (dataset, seed, number)."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fsar.datasets import Video, VideoDataset
from fsar.evaluation import episodes as episodes_module
from fsar.evaluation.episodes import Episodes, EpisodeSampler


def dataset_of(classes: int = 8, videos: int = 9, name: str = "made") -> VideoDataset:
    labels = [f"class {i}" for i in range(classes)]
    made = tuple(Video(f"{label}/{i}", Path(label, f"{i}.mp4"), label) for label in labels for i in range(videos))
    return VideoDataset(name, made, {label: label for label in labels}, {})


def label_of(episodes: Episodes, video: int) -> str:
    return episodes.video_ids[video].rpartition("/")[0]


def concatenated(parts: list[Episodes]) -> Episodes:
    names = ("way_class", "support", "query", "target")
    arrays = [np.concatenate([getattr(part, name) for part in parts]) for name in names]
    return Episodes(parts[0].video_ids, parts[0].classes, *arrays)


@pytest.fixture(scope="module")
def drawn() -> Episodes:
    return EpisodeSampler(dataset=dataset_of(), way=5, shot=2, query=3, seed=1).draw(4000)


def test_shapes(drawn: Episodes) -> None:
    assert len(drawn) == 4000
    assert drawn.way_class.shape == (4000, 5) and drawn.support.shape == (4000, 5, 2)
    assert drawn.query.shape == drawn.target.shape == (4000, 15)
    assert len(drawn[10:12]) == 2 and np.array_equal(drawn[10:12].query, drawn.query[10:12])


def test_episodes_are_what_they_claim(drawn: Episodes) -> None:
    for i in range(0, 4000, 10):
        labels = [drawn.classes[c] for c in drawn.way_class[i]]
        assert len(set(labels)) == 5
        used = [*drawn.support[i].flatten(), *drawn.query[i]]
        assert len(set(used)) == len(used)  # support and query disjoint, no video twice
        for label, videos in zip(labels, drawn.support[i], strict=True):
            assert {label_of(drawn, video) for video in videos} == {label}
        for video, way in zip(drawn.query[i], drawn.target[i], strict=True):
            assert label_of(drawn, video) == labels[way]
        assert np.bincount(drawn.target[i], minlength=5).tolist() == [3] * 5


def test_the_order_of_the_dataset_does_not_matter(drawn: Episodes) -> None:
    dataset = dataset_of()
    order = np.random.default_rng(0).permutation(len(dataset.videos))
    shuffled = VideoDataset("other", tuple(dataset.videos[i] for i in order), dataset.texts, {})
    again = EpisodeSampler(dataset=shuffled, way=5, shot=2, query=3, seed=1).draw(100)
    assert again.fingerprint() == drawn[:100].fingerprint()


def test_drawing_in_parts_changes_nothing(drawn: Episodes, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = EpisodeSampler(dataset=dataset_of(), way=5, shot=2, query=3, seed=1)
    parts = [sampler.draw(count, start) for start, count in ((0, 1), (1, 7), (8, 92))]
    assert concatenated(parts).fingerprint() == drawn[:100].fingerprint()
    assert sampler.draw(1, start=3999).fingerprint() == drawn[3999:].fingerprint()
    monkeypatch.setattr(episodes_module, "_CHUNK", 7)
    assert sampler.draw(100).fingerprint() == drawn[:100].fingerprint()


def test_episodes_are_the_same_in_every_version(drawn: Episodes) -> None:
    """Results name their episodes by this hash: a change of it breaks what was published."""
    assert drawn.fingerprint()[:16] == "c5bdf8aa92ed8e04"


def test_seeds_and_numbers_give_other_episodes(drawn: Episodes) -> None:
    def draw(seed: int) -> Episodes:
        return EpisodeSampler(dataset=dataset_of(), way=5, shot=2, query=3, seed=seed).draw(100)

    assert draw(1).fingerprint() == drawn[:100].fingerprint()
    assert len({draw(seed).fingerprint() for seed in (0, 1, 2, 3, -1)}) == 5
    assert len({drawn[i : i + 1].fingerprint() for i in range(4000)}) == 4000
    # neighbouring seeds share no episodes, shifted or not
    own = {drawn[i : i + 1].fingerprint() for i in range(100)}
    assert not own & {draw(2)[i : i + 1].fingerprint() for i in range(100)}


def test_a_class_left_out_changes_only_the_episodes_that_had_it() -> None:
    dataset = dataset_of()
    whole = EpisodeSampler(dataset=dataset, way=3, seed=4).draw(200)
    without = EpisodeSampler(dataset=dataset.only(dataset.classes[:-1]), way=3, seed=4).draw(200)
    kept = 0
    for i in range(200):
        labels = [whole.classes[c] for c in whole.way_class[i]]
        if "class 7" not in labels:
            kept += 1
            assert labels == [without.classes[c] for c in without.way_class[i]]
            assert [whole.video_ids[v] for v in whole.query[i]] == [without.video_ids[v] for v in without.query[i]]
    assert 80 < kept < 170  # 125 expected


def test_classes_videos_and_places_are_uniform(drawn: Episodes) -> None:
    def spread(values: np.ndarray, kinds: int) -> float:
        """Largest deviation from the expected count, in standard deviations."""
        counts = np.bincount(values.flatten(), minlength=kinds)
        expected = values.size / kinds
        return float(np.abs(counts - expected).max() / np.sqrt(expected))

    assert spread(drawn.way_class, 8) < 4
    assert all(spread(drawn.way_class[:, way], 8) < 4 for way in range(5))
    assert spread(drawn.support, 72) < 4.5
    assert spread(drawn.query, 72) < 4.5
    pairs = drawn.way_class[:, 0] * 8 + drawn.way_class[:, 1]
    assert len(set(pairs.tolist())) == 56
    unequal = np.array([a * 8 + b for a in range(8) for b in range(8) if a != b])
    assert spread(np.searchsorted(unequal, pairs), 56) < 4.5


def test_query_order_says_nothing_of_the_class(drawn: Episodes) -> None:
    for place in range(15):
        counts = np.bincount(drawn.target[:, place], minlength=5)
        assert np.abs(counts - 800).max() < 4 * np.sqrt(800)
    # nor do neighbours: a class follows itself in 2 of 14 other places
    same = (drawn.target[:, 1:] == drawn.target[:, :-1]).mean()
    assert same == pytest.approx(2 / 14, abs=0.01)


def test_classes_of_unequal_size() -> None:
    videos = tuple(Video(f"{c}/{i}", Path(f"{c}{i}.mp4"), c) for c, n in (("a", 2), ("b", 40)) for i in range(n))
    drawn = EpisodeSampler(dataset=VideoDataset("d", videos, {}, {}), way=2).draw(500)
    assert len(set(drawn.support[drawn.way_class == 1].flatten().tolist())) == 40
    for i in range(500):
        assert {label_of(drawn, video) for video in drawn.query[i]} == {"a", "b"}


# --------------------------------------------------------------------------- manifests


def test_manifest_replays_the_episodes(drawn: Episodes, tmp_path: Path) -> None:
    file = tmp_path / "made here" / "episodes.json"
    drawn[:50].save(file)
    replayed = Episodes.load(file, dataset_of(name="elsewhere"))
    assert replayed.fingerprint() == drawn[:50].fingerprint()
    assert replayed.video_ids == drawn.video_ids and replayed.classes == drawn.classes
    for name in ("way_class", "support", "query", "target"):
        assert np.array_equal(getattr(replayed, name), getattr(drawn[:50], name))
    larger = dataset_of(classes=9, videos=10)
    assert Episodes.load(file, larger).fingerprint() == replayed.fingerprint()


def test_fingerprint_sees_every_part(drawn: Episodes) -> None:
    first = drawn[:2]
    arrays = {name: getattr(first, name) for name in ("way_class", "support", "query", "target")}
    changed = [Episodes(first.video_ids, first.classes, **arrays | {k: v[::-1]}) for k, v in arrays.items()]
    changed += [Episodes(first.video_ids[::-1], first.classes, **arrays)]
    changed += [Episodes(first.video_ids, first.classes[::-1], **arrays)]
    assert len({episodes.fingerprint() for episodes in (first, *changed)}) == 7
    wide = {name: array.astype(np.int32) for name, array in arrays.items()}
    assert Episodes(first.video_ids, first.classes, **wide).fingerprint() == first.fingerprint()


@pytest.mark.parametrize("part", ["way_class", "support", "query", "target", "video_ids", "classes", "fingerprint"])
def test_tampered_manifest_is_refused(drawn: Episodes, tmp_path: Path, part: str) -> None:
    file = tmp_path / "episodes.json"
    drawn[:2].save(file)
    content = json.loads(file.read_text())
    content[part] = content[part][::-1]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="do not match its fingerprint; it was changed or cut short"):
        Episodes.load(file, dataset_of())


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"way_class": [[0, 1], [0]]}', "not JSON"])
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "episodes.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"episodes\.json: not an episode manifest that fsar wrote"):
        Episodes.load(file, dataset_of())
    with pytest.raises(ValueError, match=r"none\.json: not an episode manifest"):
        Episodes.load(tmp_path / "none.json", dataset_of())


def test_manifest_of_another_dataset_is_refused(drawn: Episodes, tmp_path: Path) -> None:
    file = tmp_path / "episodes.json"
    drawn[:2].save(file)
    with pytest.raises(ValueError, match=r"9 of its videos are not in dataset made, among them class 7/0, "):
        Episodes.load(file, dataset_of(classes=7))


# --------------------------------------------------------------------------- what cannot be drawn


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"way": 9}, "9-way episodes need 9 classes; made has 8 here: class 0, class 1"),
        (
            {"shot": 9},
            "9-shot episodes with 1 query per class need 10 videos in every class; class 0 has 9",
        ),
        ({"shot": 1, "query": 9}, "need 10 videos in every class"),
        ({"way": 0}, "at least one way, shot and query; got way 0"),
        ({"shot": 0}, "got way 5, shot 0"),
        ({"query": -1}, "query -1"),
    ],
)
def test_asking_for_more_than_there_is(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EpisodeSampler(dataset=dataset_of(), **options)


def test_only_the_classes_that_are_short_are_named() -> None:
    dataset = dataset_of().without(["class 3/0", "class 3/1"])
    with pytest.raises(ValueError, match=r"need 8 videos in every class; class 3 has 7\. Lower shot or query"):
        EpisodeSampler(dataset=dataset, shot=7)
    assert len(EpisodeSampler(dataset=dataset, shot=6).draw(3)) == 3


def test_everything_there_is_can_be_drawn() -> None:
    drawn = EpisodeSampler(dataset=dataset_of(classes=3, videos=2), way=3).draw(20)
    assert all(len({*drawn.support[i].flatten(), *drawn.query[i]}) == 6 for i in range(20))


@pytest.mark.parametrize(("count", "start"), [(0, 0), (-1, 0), (1, -1)])
def test_no_episodes_are_refused(count: int, start: int) -> None:
    with pytest.raises(ValueError, match=f"cannot draw {count} episodes from number {start} on"):
        EpisodeSampler(dataset=dataset_of()).draw(count, start)


def test_draws_depend_on_the_episode_the_query_and_the_class_alone() -> None:
    sampler = EpisodeSampler(dataset=dataset_of(), way=4, shot=2, query=2)
    drawn = sampler.draw(200)
    draws = drawn.draws()
    assert draws.shape == (200, 8, 4) and draws.min() > 0 and draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.02 and len(np.unique(draws)) > 0.9 * draws.size
    np.testing.assert_array_equal(drawn[50:60].draws(), draws[50:60])
    order = [2, 0, 3, 1]
    permuted = replace(drawn, way_class=drawn.way_class[:, order], support=drawn.support[:, order, ::-1])
    np.testing.assert_array_equal(permuted.draws(), draws[..., order])
    turned = replace(drawn, query=drawn.query[:, ::-1])
    np.testing.assert_array_equal(turned.draws(), draws[:, ::-1])
