"""Evaluation: the bank equals re-encoding, numbers carry what they rest on, and no label leaks."""

import json
import math
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from fsar.backbones import Backbone, load_backbone
from fsar.backbones.clip import load_tiny
from fsar.bank.fill import fill_bank
from fsar.bank.store import Bank, BankStore
from fsar.cli import main
from fsar.datasets import VideoDataset
from fsar.evaluation.episodes import Episodes, EpisodeSampler
from fsar.evaluation.loop import accuracy, confusion, evaluate
from fsar.evaluation.matching import Scores, match_from_bank, match_naively
from fsar.evaluation.trial import try_episode
from fsar.methods import METHODS, Method, Prediction, build_method
from fsar.results.result import Result
from fsar.results.tables import table


@pytest.fixture(scope="module")
def novel(world: VideoDataset) -> VideoDataset:
    return world.split("test")


@pytest.fixture(scope="module")
def few(novel: VideoDataset) -> VideoDataset:
    """Three clips of three classes: enough where every episode is encoded."""
    of_three = novel.only(novel.classes[:3])
    return replace(of_three, videos=tuple(video for video in of_three.videos if video.id[-1] in "012"))


@pytest.fixture(scope="module")
def bank(novel: VideoDataset, tiny: Backbone) -> Bank:
    return fill_bank(build_method("protonet", tiny), novel.videos, progress=False)


@pytest.fixture(scope="module")
def drawn(novel: VideoDataset) -> Episodes:
    return EpisodeSampler(dataset=novel, way=4, shot=2, query=2).draw(4)


@pytest.mark.parametrize("name", METHODS)
def test_bank_equals_encoding_every_episode(name: str, few: VideoDataset, tiny: Backbone) -> None:
    method = build_method(name, tiny, **({"out_dim": 16} if name == "trx" else {}))
    drawn = EpisodeSampler(dataset=few, way=2, shot=2).draw(3)
    own = fill_bank(method, few.videos, few.texts, progress=False)
    from_bank = match_from_bank(method, own, drawn, few.texts, progress=False)
    naive = match_naively(method, few, drawn, progress=False)
    np.testing.assert_allclose(from_bank.logits, naive.logits, atol=1e-4)
    assert (from_bank.predicted == naive.predicted).all()


def test_batches_do_not_matter(
    bank: Bank, tiny: Backbone, novel: VideoDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = build_method("otam", tiny)
    episodes = EpisodeSampler(dataset=novel).draw(50)
    together = match_from_bank(method, bank, episodes, progress=False)
    monkeypatch.setattr("fsar.evaluation.matching._BATCH_BYTES", 1)
    alone = match_from_bank(method, bank, episodes, progress=False)
    np.testing.assert_allclose(together.logits, alone.logits, atol=1e-5)


def test_no_label_reaches_the_logits(bank: Bank, tiny: Backbone, drawn: Episodes) -> None:
    """Other labels change nothing; another order of queries only reorders their scores."""
    rng = np.random.default_rng(0)
    order = rng.permutation(drawn.query.shape[1])
    for name in ("protonet", "otam", "bi-mhm"):
        method = build_method(name, tiny)
        scores = match_from_bank(method, bank, drawn, progress=False).logits
        relabelled = replace(drawn, target=rng.permutation(drawn.target.T).T)
        assert (match_from_bank(method, bank, relabelled, progress=False).logits == scores).all()
        reordered = replace(drawn, query=drawn.query[:, order], target=drawn.target[:, order])
        np.testing.assert_allclose(
            match_from_bank(method, bank, reordered, progress=False).logits, scores[:, order], atol=1e-5
        )


def test_accuracy_and_interval_by_hand() -> None:
    logits = np.zeros((3, 2, 2))
    logits[:, :, 1] = [[1, 1], [1, -1], [-1, -1]]  # named 1 1, 1 0, 0 0
    episodes = _episodes(target=[[1, 1], [1, 1], [1, 1]])
    mean, half = accuracy(Scores(logits, 0.0), episodes)
    assert mean == pytest.approx(0.5)
    assert half == pytest.approx(1.96 * 0.5 / math.sqrt(3))  # sigma of 1, 0.5, 0 is 0.5
    counts = confusion(Scores(logits, 0.0), episodes)
    assert counts.tolist() == [[0, 0], [3, 3]]


def _episodes(target: list[list[int]]) -> Episodes:
    count, queries = len(target), len(target[0])
    ways = np.tile([0, 1], (count, 1))
    return Episodes(
        ("a/1", "b/1", "b/2"), ("a", "b"), ways, ways[..., None], np.full((count, queries), 2), np.array(target)
    )


def test_random_logits_are_at_chance(novel: VideoDataset, tiny: Backbone, bank: Bank) -> None:
    """Guards the whole path: labels that match by accident would show here."""

    class Guess(Method):
        name = "guess"

        def match(self, episode):
            shape = (*episode.query["frames"].shape[:2], episode.shot_mask.shape[1])
            return Prediction(torch.rand(shape, generator=torch.Generator().manual_seed(shape[0])))

    episodes = EpisodeSampler(dataset=novel).draw(4000)
    mean, half = accuracy(match_from_bank(Guess(tiny, Guess.Config()), bank, episodes, progress=False), episodes)
    assert abs(mean - 0.2) < 2 * half


def test_result_carries_what_it_rests_on(world: VideoDataset, tiny: Backbone, bank: Bank, tmp_path: Path) -> None:
    method = build_method("otam", tiny, per="prototype")
    result = evaluate(method, world, way=3, shot=2, episodes=40, seed=5, bank=bank, progress=False)
    again = evaluate(method, world, way=3, shot=2, episodes=40, seed=5, bank=bank, progress=False)
    assert (result.accuracy, result.episodes_fingerprint) == (again.accuracy, again.episodes_fingerprint)
    result.save(tmp_path / "result.json")
    saved = json.loads((tmp_path / "result.json").read_text())
    assert saved["changed"] == {"per": "prototype"} and saved["options"]["smoothing"] is None
    assert saved["weights"] == tiny.fingerprint() and saved["split"] == "test" and saved["seed"] == 5
    assert saved["dataset_fingerprint"] == world.split("test").fingerprint()
    assert saved["clip"]["sampling"] == "tsn" and "torch" in saved["versions"]
    assert np.array(saved["confusion"]["counts"]).sum() == 40 * 3
    assert f"{100 * result.accuracy:.1f}" in table([result])


def test_rows_of_one_method_with_other_options_stay_apart(world: VideoDataset, tiny: Backbone, bank: Bank) -> None:
    methods = [build_method("otam", tiny), build_method("otam", tiny, direction="query-to-support")]
    rows = table([evaluate(m, world, episodes=5, bank=bank, progress=False) for m in methods]).splitlines()
    assert len(rows) == 4 and "direction=query-to-support" in rows[3]


def test_banks_are_shared_by_methods_with_one_encoder(tiny: Backbone) -> None:
    encoders = [build_method(name, tiny).encoder().key() for name in ("protonet", "otam", "bi-mhm", "trx")]
    assert all(encoder == encoders[0] for encoder in encoders)
    assert build_method("place-motion", tiny).encoder().key() != encoders[0]


def test_a_filled_bank_is_not_computed_again(novel: VideoDataset, tiny: Backbone, tmp_path: Path) -> None:
    method = build_method("protonet", tiny)
    first = fill_bank(method, novel.videos[:6], folder=tmp_path, progress=False)
    method.encode = None  # type: ignore[method-assign,assignment]
    second = fill_bank(method, novel.videos[:6], folder=tmp_path, progress=False)
    assert torch.equal(first.query["frames"], second.query["frames"])


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_do_not_change_a_bank(
    novel: VideoDataset, tiny: Backbone, tmp_path: Path, workers: int, bank: Bank
) -> None:
    some = novel.videos[:12]
    filled = fill_bank(build_method("protonet", tiny), some, folder=tmp_path, workers=workers, progress=False)
    assert filled.video_ids == bank.video_ids[:12]
    assert torch.equal(filled.query["frames"], bank.query["frames"][:12])


def test_a_damaged_encoding_is_made_again(novel: VideoDataset, tiny: Backbone, tmp_path: Path) -> None:
    method = build_method("protonet", tiny)
    first = fill_bank(method, novel.videos[:2], folder=tmp_path, progress=False)
    for file in tmp_path.rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    second = fill_bank(method, novel.videos[:2], folder=tmp_path, progress=False)
    assert torch.equal(first.query["frames"], second.query["frames"])


def test_a_bank_of_another_encoder_is_refused(tiny: Backbone, tmp_path: Path) -> None:
    BankStore(build_method("protonet", tiny).encoder().key(), tmp_path)
    with pytest.raises(ValueError, match="holds a bank of another encoder: encoding is 'frames' there"):
        BankStore(build_method("place-motion", tiny).encoder().key(), tmp_path)


def test_world_shows_what_order_is_worth(world: VideoDataset) -> None:
    """On an action and its reverse a method blind to order is near chance, alignment well above."""
    from fsar.report.demo import reversed_pairs

    every, trained = world.split("test"), load_tiny()
    novel = replace(every, videos=tuple(video for video in every.videos if video.id[-1] in "01234"))
    accuracies = {}
    for name in ("protonet", "bi-mhm", "otam", "place-motion"):
        method = build_method(name, trained)
        own = fill_bank(method, novel.videos, novel.texts, progress=False)
        accuracies[name] = reversed_pairs(method, novel, own, shot=3, episodes=60)
    assert abs(accuracies["protonet"] - 0.5) < 0.1 and abs(accuracies["bi-mhm"] - 0.5) < 0.1
    assert accuracies["otam"] > 0.55 and accuracies["place-motion"] > 0.8


def test_one_episode_has_the_widest_interval() -> None:
    assert accuracy(Scores(np.array([[[1.0, 0.0]]]), 0.0), _episodes(target=[[0]])) == (1.0, 1.0)


def test_both_modes_stand_side_by_side(
    little_world: VideoDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mode asked for first, then the other; a method with one way has one row."""
    home = str(little_world.videos[0].path.parent.parent)
    sets = ["--data", home, "--way", "3", "--shot", "1", "2", "--episodes", "10", "--device", "cpu"]
    methods = ["task-adapter:inductive=false,layers=1", "otam", "task-adapter:layers=0"]
    assert main(["evaluate", *sets, "--method", *methods, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "encode task-adapter" in printed.err and "match otam" in printed.err
    rows = printed.out.splitlines()[2:6]
    assert rows[0].startswith("| task-adapter layers=1 (tiny), transductive |")
    assert rows[1].startswith("| task-adapter layers=1 (tiny), inductive |")
    assert rows[2].startswith("| otam (tiny) |") and rows[3].startswith("| task-adapter layers=0 (tiny), inductive |")
    results = [json.loads(file.read_text()) for file in sorted(tmp_path.glob("task-adapter_*.json"))]
    assert sorted(result["transductive"] for result in results) == [False] * 4 + [True] * 2  # one has one mode
    assert len({result["episodes_fingerprint"] for result in results if result["shot"] == 1}) == 1


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("clip-cpm2c", "clip-cpm2c needs motion between at least 2 frames and got 1 per video; sample more frames, or "
         "leave the motion out: clip-cpm2c:motion_weight=0"),
        ("strm:cardinalities=[1]", "strm: the method was built for 8 frames per video and got 1"),
    ],
)  # fmt: skip
def test_a_method_that_does_not_fit_is_told_before_the_first_video(
    method: str, message: str, little_world: VideoDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was told after the methods before it were evaluated, and their results were lost."""
    home = str(little_world.videos[0].path.parent.parent)
    assert main(["evaluate", "--data", home, "--way", "3", "--method", "protonet", method, "--frames", "1"]) == 2
    errors = capsys.readouterr().err
    assert message in errors and "encode" not in errors


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_an_episode_of_noise(name: str, few: VideoDataset, tiny: Backbone) -> None:
    features = {"protonet", "otam", "bi-mhm", "trx", "hyrsm", "hyrsm-pp", "team", "ridge", "logistic", "nearest-mean"}
    texts = [few.texts[label] for label in few.classes]
    try_episode(build_method(name, tiny), texts, frames=8)
    if name in features:
        try_episode(build_method(name, load_backbone("features/16")), texts, frames=8)


def test_the_audit_of_a_leak_says_so_in_every_result(novel: VideoDataset, tiny: Backbone) -> None:
    """The public code's rule takes scores from the queries' order; the same weights without it do not."""
    makes = {
        v: build_method("task-adapter-pp", tiny, variant=v, layers=0, sub_actions="world", modality="text")
        for v in ("official", "official-leaky")
    }
    results = {v: evaluate(method, novel, "all", way=4, episodes=200, progress=False) for v, method in makes.items()}
    assert results["official"].protocol == "clean"
    assert results["official-leaky"].protocol == "leaky: labels reach the scores"
    assert "[leaky: labels reach the scores]" in table([results["official-leaky"]])
    drawn = EpisodeSampler(dataset=novel, way=4).draw(200)
    assert (drawn.in_class_order().target == np.arange(4)).all()
    assert results["official-leaky"].episodes_fingerprint != results["official"].episodes_fingerprint
    bank = fill_bank(makes["official"], novel.videos, progress=False)
    ordered = match_from_bank(makes["official"], bank, drawn.in_class_order(), novel.texts, progress=False)
    assert accuracy(ordered, drawn.in_class_order())[0] == pytest.approx(results["official"].accuracy)


def test_batches_are_bounded_by_what_is_gathered(novel: VideoDataset, tiny: Backbone) -> None:
    """A support video's tokens are 500 times as large as a query's frame features."""
    method = build_method("task-adapter", tiny, modality="visual")
    novel = novel.only(novel.classes[:5])
    own = fill_bank(method, novel.videos, novel.texts, progress=False)
    most = []
    match = method.match
    method.match = lambda episode: most.append(episode.support["tokens"].nbytes) or match(episode)
    match_from_bank(method, own, EpisodeSampler(dataset=novel, way=5, shot=5).draw(8), novel.texts, progress=False)
    assert max(most) <= 48 * 2**20


def test_every_answer_is_kept_on_request(novel: VideoDataset, bank: Bank, tiny: Backbone, tmp_path: Path) -> None:
    """Its file holds date, device and answers, and the accuracy follows from them."""
    method, episodes = build_method("protonet", tiny), 30
    plain = evaluate(method, novel, way=3, query=2, episodes=episodes, bank=bank, progress=False)
    kept = evaluate(method, novel, way=3, query=2, episodes=episodes, bank=bank, predictions=True, progress=False)
    kept.save(tmp_path / "kept.json")
    again = Result.load(tmp_path / "kept.json")
    assert again == kept and plain.predictions is None
    answers = list(again.answers())
    assert len(answers) == episodes * 6 and answers[-1][0] == episodes - 1
    assert all(video.startswith(f"{actual}/") for _, video, actual, _ in answers)
    right = [sum(a == p for number, _, a, p in answers if number == i) for i in range(episodes)]
    assert tuple(right) == kept.right == plain.right
    assert kept.device.startswith("cpu (") and datetime.fromisoformat(kept.date).tzinfo is not None
    with pytest.raises(ValueError, match="does not hold its answers; evaluate with --predictions"):
        next(plain.answers())


def test_a_bank_does_not_fill_a_folder_of_other_files(
    novel: VideoDataset, tiny: Backbone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    home = str(novel.videos[0].path.parent.parent)
    words = ["evaluate", "--data", home, "--method", "otam", "--episodes", "2", "--bank", str(tmp_path)]
    assert main(words) == 2
    assert f"{tmp_path} is no bank, and not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
