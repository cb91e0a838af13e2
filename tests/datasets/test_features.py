"""Features made elsewhere: three kinds of files, one dataset; the whole road from a file to a comparison."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from fsar.backbones import Backbone, load_backbone
from fsar.bank.export import export_features
from fsar.bank.fill import fill_bank
from fsar.cli import main
from fsar.datasets import VideoDataset, load_features
from fsar.evaluation.episodes import EpisodeSampler
from fsar.evaluation.loop import evaluate
from fsar.methods import METHODS, build_method, default_traits, parse_method
from fsar.methods.options import ON_FEATURES
from fsar.results.identity import recipe_key
from fsar.results.result import Result, load_results
from fsar.training.checkpoint import load_pretrained
from fsar.training.loop import train
from fsar.training.recipes import load_recipe
from fsar.training.setup import for_features
from tests.conftest import SHARED, needs_shared

CLASSES = {"wave": "train", "clap": "train", "sit": "train", "run": "val", "hop": "val", "bow": "test", "nod": "test"}
DIM, FRAMES, EACH = 16, 4, 6


@pytest.fixture(autouse=True, scope="module")
def tiny(small_for_tiny: Backbone) -> Backbone:
    """In this file, the small encoder stands in for `tiny`."""
    return small_for_tiny


def entries(frames: int = FRAMES, noise: float = 0.5, seed: int = 0) -> dict[str, np.ndarray]:
    """Videos near a mean of their class, so that names can be learned."""
    rng = np.random.default_rng(seed)
    label = np.repeat(list(CLASSES), EACH)
    means = {name: rng.normal(size=(frames, DIM)) for name in CLASSES}
    features = np.stack([means[name] + noise * rng.normal(size=(frames, DIM)) for name in label]).astype(np.float32)
    ids = np.array([f"{name}_{i % EACH}" for i, name in enumerate(label)])
    return {"features": features, "label": label, "id": ids, "split": np.array([CLASSES[name] for name in label])}


def save(path: Path, content: dict[str, np.ndarray]) -> Path:
    if path.suffix == ".npz":
        np.savez_compressed(path, **content)
    elif path.suffix == ".safetensors":
        words = {name: json.dumps(values.tolist()) for name, values in content.items() if name != "features"}
        save_file({"features": content["features"]}, path, words)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({name: values.tolist() for name, values in content.items()}), path)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("features") / "mine.npz", entries())


@pytest.fixture(scope="module")
def mine(file: Path) -> VideoDataset:
    return load_features(file)


def hashes(dataset: VideoDataset) -> list[tuple[str, str]]:
    return [(video.id, video.content) for video in dataset.videos]


# --------------------------------------------------------------------------- files


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
def test_every_kind_of_file_gives_the_same_dataset(suffix: str, mine: VideoDataset, tmp_path: Path) -> None:
    """The order of rows, and half precision of a file that can hold it, change nothing either."""
    content = {name: values[::-1] for name, values in entries().items()}
    content = {name: np.ascontiguousarray(values) for name, values in content.items()}
    again = load_features(save(tmp_path / f"mine{suffix}", content))
    assert hashes(again) == hashes(mine) and again.fingerprint() == mine.fingerprint()
    assert again.splits == CLASSES and again.texts["wave"] == "wave"
    assert all(np.array_equal(a.features, b.features) for a, b in zip(again.videos, mine.videos, strict=True))


def test_one_feature_a_video_is_one_frame(tmp_path: Path) -> None:
    content = entries(frames=1)
    whole = load_features(save(tmp_path / "whole.npz", content))
    flat = load_features(save(tmp_path / "flat.npz", content | {"features": content["features"][:, 0]}))
    assert hashes(whole) == hashes(flat) and flat.videos[0].features.shape == (1, DIM)
    method = build_method("otam", load_backbone(f"features/{DIM}"))
    assert evaluate(method, flat, way=2, episodes=20, progress=False).clip == {"frames": 1, "sampling": "given"}
    with pytest.raises(ValueError, match="trx joins 3 frames and got 1 per video"):
        evaluate(build_method("trx", load_backbone(f"features/{DIM}"), out_dim=8), flat, way=2, episodes=2)


def test_ids_and_splits_may_be_left_out(tmp_path: Path) -> None:
    content = {name: values for name, values in entries().items() if name in ("features", "label")}
    dataset = load_features(save(tmp_path / "few.npz", content))
    assert dataset.splits == {} and "wave/0" in {video.id for video in dataset.videos}
    with pytest.raises(ValueError, match="no class in split 'test'"):
        dataset.split("test")
    named = load_features(save(tmp_path / "named.npz", content | {"video": entries()["id"]}))
    assert "wave/wave_0" in {video.id for video in named.videos}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": None}, "no entry `features`; the file has id, label, split"),
        ({"label": None}, "no entry `label`; expected the class of each of its 42 videos"),
        ({"features": np.zeros((42, 2, 2, 2))}, r"`features` is float64 \[42, 2, 2, 2\]; expected .*video, frame, dim"),
        ({"features": np.zeros((42, 2, 2), int)}, "`features` is int64"),
        ({"features": np.full((42, 2, 2), np.nan)}, "42 videos have numbers that are not finite, the first in row 0"),
        ({"label": np.array(["a"] * 41)}, r"`label` is <U1 \[41\]; expected 42 words or whole numbers"),
        ({"label": np.array(["a/b"] * 42)}, "label of row 0 is 'a/b'; expected a name without a slash"),
        ({"id": np.array(["same"] * 42)}, "two rows have the id '.*/same'"),
        ({"split": np.array(["dev"] * 42)}, "row 0: unknown split 'dev'; .*train, val, test, or nothing"),
        ({"split": np.array(["train", "test"] * 21)}, "class wave is in the splits train and test"),
        ({"label": np.array([{"a": 1}] * 42, dtype=object)}, "`label` holds Python objects, which are not read"),
    ],
)
def test_what_does_not_fit_is_named(change: dict, message: str, tmp_path: Path) -> None:
    content = {name: values for name, values in (entries() | change).items() if values is not None}
    np.savez(tmp_path / "wrong.npz", **content)
    with pytest.raises(ValueError, match=message):
        load_features(tmp_path / "wrong.npz")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
def test_a_damaged_file_is_named(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"cut{suffix}", entries())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"cut{suffix}: no .* file, or cut short"):
        load_features(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "features.pkl").touch()
    with pytest.raises(ValueError, match=r"features.pkl: features are read from .npz, .safetensors, .parquet"):
        load_features(tmp_path / "features.pkl")
    with pytest.raises(ValueError, match="no such file"):
        load_features(tmp_path / "absent.npz")


# --------------------------------------------------------------------------- evaluation


def test_features_of_a_file_match_as_those_of_a_bank(little_world: VideoDataset, tiny, tmp_path: Path) -> None:
    """Features that `tiny` made, read from a file, give the result of evaluating the videos."""
    test = little_world.split("test")
    bank = fill_bank(build_method("otam", tiny), test.videos, progress=False)
    label = {video.id: video.label for video in test.videos}
    content = {"features": bank.query["frames"].numpy(), "id": np.array(bank.video_ids)}
    content |= {"label": np.array([label[i] for i in bank.video_ids]), "split": np.array(["test"] * len(label))}
    given = load_features(save(tmp_path / "world.npz", content))
    for name in ("protonet", "otam", "bi-mhm"):
        seen = evaluate(build_method(name, tiny), little_world, episodes=50, progress=False)
        made = evaluate(build_method(name, load_backbone("features/32")), given, episodes=50, progress=False)
        assert made.right == seen.right and made.episodes_fingerprint == seen.episodes_fingerprint


def test_another_file_of_the_same_videos_is_other_data(mine: VideoDataset, tmp_path: Path) -> None:
    other = load_features(save(tmp_path / "mine.npz", entries(seed=1)))
    method = build_method("protonet", load_backbone(f"features/{DIM}"))
    results = [evaluate(method, dataset, way=2, episodes=5, progress=False) for dataset in (mine, other)]
    assert results[0].files != results[1].files
    assert results[0].episodes_fingerprint == results[1].episodes_fingerprint  # so the two can be compared


def test_equal_rows_count_once(tmp_path: Path) -> None:
    content = entries()
    content["features"][1] = content["features"][0]
    dataset = load_features(save(tmp_path / "twice.npz", content))
    method = build_method("protonet", load_backbone(f"features/{DIM}"))
    result = evaluate(method, dataset, "train", way=3, episodes=5, progress=False)
    assert result.copies == 1 and result.videos == 3 * EACH - 1


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_features_or_says_why_not(name: str, mine: VideoDataset) -> None:
    works = {"protonet", "otam", "bi-mhm", "trx", "hyrsm", "hyrsm-pp", "team", "ridge", "logistic", "nearest-mean"}
    reasons = "reads class names|adapters between the blocks|reads more of a video than one feature per frame"
    if name in works:
        method = build_method(name, load_backbone(f"features/{DIM}"))
        assert 0 <= evaluate(method, mine, way=2, episodes=5, progress=False).accuracy <= 1
        return
    with pytest.raises(ValueError, match=reasons):
        evaluate(build_method(name, load_backbone(f"features/{DIM}")), mine, way=2, episodes=5, progress=False)


def test_methods_with_their_texts_off_take_features(mine: VideoDataset) -> None:
    backbone = load_backbone(f"features/{DIM}")
    options = {"clip-spm": {"spm": False, "head_dim": 8, "hidden": 16}}
    options |= {"ma-fsar": {"text": False, "fgma": False, "hidden": 16}}
    for name, chosen in options.items():
        assert evaluate(build_method(name, backbone, **chosen), mine, way=2, episodes=5, progress=False).way == 2
        assert default_traits(name).reads_text


@pytest.mark.parametrize("spec", ON_FEATURES)
def test_what_messages_say_takes_features_does(spec: str, mine: VideoDataset) -> None:
    name, options = parse_method(spec)
    method = build_method(name, load_backbone(f"features/{DIM}"), **options)
    assert evaluate(method, mine, way=2, episodes=2, progress=False).way == 2
    for other in {name} & {"clip-mei", "clip-spm", "tip-adapter"}:
        with pytest.raises(ValueError, match=rf"or what reads no text: {spec}, protonet"):
            build_method(other, load_backbone(f"features/{DIM}"))


def test_a_method_without_parameters_computes_where_it_is_sent() -> None:
    method = build_method("otam", load_backbone(f"features/{DIM}"))
    assert not list(method.parameters()) and not method.state_dict()  # old checkpoints fit
    assert method.to("meta").device.type == "meta"


def test_features_and_backbone_must_fit(mine: VideoDataset, little_world: VideoDataset, tiny) -> None:
    with pytest.raises(ValueError, match=r"protonet is built for tiny, and .*mine.npz holds features of 16 numbers"):
        evaluate(build_method("protonet", tiny), mine, way=2, episodes=2)
    given = build_method("protonet", load_backbone("features/32"))
    with pytest.raises(ValueError, match="takes features made elsewhere, not videos; give --features FILE"):
        evaluate(given, little_world, episodes=2)
    with pytest.raises(ValueError, match="takes features made elsewhere, not videos"):
        fill_bank(given, little_world.videos[:1], keep=False, progress=False)
    with pytest.raises(ValueError, match="takes features made elsewhere and cannot encode videos"):
        given.encode(torch.zeros(1, 1, 3, 8, 8))
    with pytest.raises(ValueError, match="not encoded again"):
        evaluate(build_method("otam", load_backbone("features/16")), mine, way=2, episodes=2, naive=True)
    for name in ("features/", "features/0", "features/many"):
        with pytest.raises(ValueError, match="expected features/DIM"):
            load_backbone(name)


# --------------------------------------------------------------------------- features out


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
def test_features_that_are_written_are_read_again(
    suffix: str, little_world: VideoDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line: the same episodes have the same answers as on the videos."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    home, file = str(little_world.videos[0].path.parent.parent), tmp_path / f"out{suffix}"
    assert main(["features", "--data", home, "--out", str(file), "--device", "cpu"]) == 0
    assert f"{len(little_world.videos)} videos, features" in capsys.readouterr().out
    given = load_features(file)
    assert given.splits == little_world.splits and given.fingerprint() == little_world.fingerprint()
    seen = evaluate(build_method("otam", load_backbone("tiny")), little_world, way=3, episodes=30, progress=False)
    made = evaluate(build_method("otam", load_backbone("features/32")), given, way=3, episodes=30, progress=False)
    assert seen.right == made.right


def test_what_a_method_makes_is_written_in_both_roles(little_world: VideoDataset, tiny, tmp_path: Path) -> None:
    method = build_method("clip-fsar", tiny, hidden=16)
    test = little_world.split("test")
    bank = fill_bank(method, test.videos, test.texts, progress=False)
    assert export_features(method, test, bank, tmp_path / "out.npz", "enhanced") == ["features", "frames"]
    with np.load(tmp_path / "out.npz") as file:
        count = len(test.videos)
        assert file["role"].tolist() == ["query"] * count + ["support"] * count
        assert np.array_equal(file["features"][:count], bank.query["enhanced"].numpy())
        assert np.array_equal(file["features"][count:], bank.support["enhanced"].numpy())
        assert json.loads(file["made_by"][0])["backbone"] == "tiny"
    again = load_features(tmp_path / "out.npz")
    assert len(again.videos) == count
    by_id = {video.id: video.features for video in again.videos}
    assert np.array_equal(by_id[bank.video_ids[0]], bank.query["enhanced"][0].numpy())
    with pytest.raises(ValueError, match="gives no 'other'.*expected one of: frames, enhanced"):
        export_features(method, test, bank, tmp_path / "out.npz", "other")
    with pytest.raises(ValueError, match=r"out.csv: features are written to .npz, .safetensors, .parquet"):
        export_features(method, test, bank, tmp_path / "out.csv")


# --------------------------------------------------------------------------- training

SHORT = ["way=3", "val_way=2", "episodes=64", "episodes_per_step=4", "val_every=32", "val_episodes=20", "workers=1",
         "options.out_dim=16", "accelerator=cpu"]  # fmt: skip


def test_the_road_from_a_file_to_a_comparison(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, given = str(tmp_path / "runs" / "trx"), ["--features", str(file)]
    assert main(["train", "--config", "trx/features", *given, "--out", run, "--set", *SHORT]) == 0
    assert f"fsar evaluate --checkpoint {run} --features {file}" in capsys.readouterr().out
    measured = ["--way", "2", "--episodes", "30", "--out", str(tmp_path / "runs" / "results"), "--device", "cpu"]
    assert main(["evaluate", *given, "--checkpoint", run, *measured, "--method", "protonet", "trx:out_dim=16"]) == 0
    assert "trained on mine 3-way 1-shot" in capsys.readouterr().out
    stored = [one.result for one in load_results([tmp_path / "runs"])]
    (trained,) = (result for result in stored if result.training)
    assert trained.backbone == f"features/{DIM}" and trained.clip == {"frames": FRAMES, "sampling": "given"}
    assert trained.training["recipe"]["features"] == str(file) and len(trained.training["files"]) == 16
    assert main(["results", str(tmp_path / "runs"), "--table"]) == 0
    assert f"protonet (features/{DIM})" in capsys.readouterr().out
    files = {one.result.method + str(bool(one.result.training)): one.path for one in load_results([tmp_path / "runs"])}
    assert main(["results", "--compare", str(files["trxTrue"]), str(files["protonetFalse"])]) == 0
    assert main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "report.html")]) == 0
    assert f"features/{DIM}" in (tmp_path / "report.html").read_text()


def test_training_on_other_features_is_another_run(mine: VideoDataset, tmp_path: Path) -> None:
    recipe = load_recipe("trx/features", SHORT)
    train(recipe, mine, tmp_path / "run", progress=False)
    other = load_features(save(tmp_path / "mine.npz", entries(seed=1)))
    with pytest.raises(ValueError, match="holds a run on other training videos"):
        train(recipe, other, tmp_path / "run", progress=False)
    train(recipe, other, tmp_path / "other", progress=False)
    methods = [load_pretrained(tmp_path / name) for name in ("run", "other")]
    results = [evaluate(method, mine, way=2, episodes=5, progress=False) for method in methods]
    assert recipe_key(results[0]) != recipe_key(results[1])
    longer = load_features(save(tmp_path / "longer.npz", entries(frames=5)))
    with pytest.raises(ValueError, match=r"trained with 4 features per video, and .*longer.npz has 5"):
        evaluate(methods[0], longer, way=2, episodes=5)


def test_training_learns_what_the_features_tell(tmp_path: Path) -> None:
    """Half of the numbers say nothing: a trained map leaves them out."""
    content = entries(noise=0.1)
    content["features"][..., DIM // 2 :] = 4 * np.random.default_rng(0).normal(size=(42, FRAMES, DIM // 2))
    dataset = load_features(save(tmp_path / "noisy.npz", content))
    changes = [*SHORT, "episodes=60", "val_every=0", "lr.own=1e-2"]
    train(load_recipe("trx/features", changes), dataset, tmp_path / "run", progress=False)
    untrained = build_method("trx", load_backbone(f"features/{DIM}"), out_dim=16)
    before, after = (
        evaluate(method, dataset, "train", way=3, episodes=100, progress=False).accuracy
        for method in (untrained, load_pretrained(tmp_path / "run"))
    )
    assert after > before + 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("lr.visual=1e-4", "lr.visual is 0.0001, but with features made elsewhere there are no videos and no encoder"),
        ("flip=true", "flip is True, but with features"),
        ("benchmark=ucf101@arn", "benchmark is ucf101@arn, but with features"),
    ],
)
def test_a_recipe_for_videos_is_refused(change: str, message: str, mine: VideoDataset) -> None:
    with pytest.raises(ValueError, match=message):
        for_features(load_recipe("trx/features", [change]), mine)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backbone", "tiny"], "--backbone has no effect on features made elsewhere"),
        (["--frames", "4"], "--frames has no effect"),
        (["--naive"], "--naive has no effect"),
        (["--data", "world"], "takes the place of videos; leave --data out"),
        (["--method", "zero-shot"], "reads class names"),
        (["--method", "otam", "place-motion"], "reads more of a video than one feature per frame"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    words: list[str], message: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--features", str(file), "--way", "2", "--episodes", "2", *words]) == 2
    assert message in capsys.readouterr().err


def test_accuracy_below_chance_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three persons show each of two actions once, and a feature tells the person alone."""
    persons = np.eye(3, DIM, dtype=np.float32)
    rows = {
        "features": np.concatenate([persons, persons])[:, None].repeat(FRAMES, 1),
        "label": np.repeat(["clap", "wave"], 3),
        "split": np.repeat("test", 6),
        "id": np.array([f"{label}{i}" for label in ("clap", "wave") for i in range(3)]),
    }
    file = save(tmp_path / "a.npz", rows)
    words = ["evaluate", "--features", str(file), "--way", "2", "--shot", "2", "--episodes", "50"]
    assert main([*words, "--method", "protonet"]) == 0
    said = capsys.readouterr().out
    assert "below chance: protonet 2-way 2-shot; there, clips of different classes resemble each other" in said


def test_the_default_methods_of_videos_say_which_data_are_used(
    little_world: VideoDataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fsar.datasets.load_world", lambda: little_world)
    assert main(["evaluate", "--split", "nowhere", "--method", "otam"]) == 2
    assert "neither --data nor --features is given; this evaluates the generated world" in capsys.readouterr().err


@needs_shared
def test_real_features() -> None:
    """VGG16 features of UCF101 videos: far above chance, and 12 of the 1,865 videos are there twice."""
    assert SHARED is not None
    dataset = load_features(SHARED / "features" / "ucf101_14.npz")
    method = build_method("otam", load_backbone("features/512"))
    result: Result = evaluate(method, dataset, episodes=100, progress=False)
    assert len(dataset.videos) == 1865 and result.copies == 6 and result.accuracy > 0.75
    assert EpisodeSampler(dataset=dataset.split("val"), way=3).draw(1).support.shape == (1, 3, 1)
    assert torch.tensor(dataset.videos[0].features).shape == (8, 512)
