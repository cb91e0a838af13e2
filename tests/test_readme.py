"""Every command and line of Python in the README and the documentation runs."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from fsar import Recognizer, cli
from fsar.backbones import Backbone, load_backbone
from fsar.bank import fill_bank
from fsar.datasets import SPLITS, VideoDataset, load_folder
from fsar.datasets.join import join_clips
from fsar.methods import build_method
from fsar.results.identity import save_result
from fsar.video.reading import read_frames
from tests.results.test_results import RESULT
from tests.test_own import BACKBONE, METHOD

PROJECT = Path(__file__).parents[1]
FIRST_PAGES = ("first-recogniser", "good-examples", "answer")
"""These repeat commands of the others, so they have a test of their own."""
PAGES = [path for path in sorted((PROJECT / "docs").glob("*.md")) if path.stem not in FIRST_PAGES]
README = "\n".join(path.read_text(encoding="utf-8") for path in [PROJECT / "README.md", *PAGES])


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def commands(part: str) -> list[list[str]]:
    """Words of every `fsar` line of the one block that has this part."""
    (block,) = [block for block in blocks("bash") if part in block]
    return lines_of(block)


@pytest.fixture(autouse=True, scope="module")
def tiny(small_for_tiny: Backbone) -> Backbone:
    """In this file, the small encoder stands in for `tiny`."""
    return small_for_tiny


@pytest.fixture
def folder(tmp_path: Path, world: VideoDataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the README names, made of clips of the world."""
    monkeypatch.chdir(tmp_path)
    by_class = [[v.path for v in world.videos if v.label == label] for label in world.split("test").classes[:2]]
    for name, paths in zip(("wave", "clap"), by_class, strict=True):
        for i, path in enumerate(paths, start=1):
            (tmp_path / "my_actions" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "my_actions" / name / f"{i}.mp4")
            shutil.copy(path, tmp_path / f"{name}{i}.mp4")
    (tmp_path / "new_clips").mkdir()
    for place in ("new.mp4", "new_clips/new.mp4"):
        shutil.copy(by_class[0][6], tmp_path / place)
    return tmp_path


def test_the_python_lines(folder: Path) -> None:
    """The first block enrols and saves; the second loads the file."""
    first, second = (block for block in blocks("python") if "Recognizer" in block and ".explain()" not in block)
    names: dict[str, object] = {}
    exec(first.replace("lite0", "tiny"), names)
    assert (folder / "mine.fsar").is_file()
    (folder / "my_actions").rename(folder / "tests")
    (folder / "my_actions" / "wave").mkdir(parents=True)
    shutil.copy(folder / "tests" / "wave" / "3.mp4", folder / "my_actions" / "wave")
    exec(second, names | {"frames": read_frames(folder / "new.mp4", None)})


def test_the_life_of_a_recogniser(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every line, in order, on the files that the lines before left."""
    (block,) = [block for block in blocks("bash") if "fsar correct" in block]
    lines = lines_of(block)
    assert len(lines) == 10
    shutil.copytree(folder / "my_actions", folder / "tests")
    for name in ("wave", "clap"):
        (folder / "more_actions" / name).mkdir(parents=True)
        for number in (4, 5, 6, 7):
            (folder / "my_actions" / name / f"{number}.mp4").rename(folder / "more_actions" / name / f"{number}.mp4")
    (folder / "more_actions" / "wave" / "7.mp4").unlink()  # new.mp4, which becomes an example of clap
    for words in lines:
        words = words[1:]
        if words[0] == "check-examples" or ("--examples" in words and words[0] == "recognize"):
            words += ["--backbone", "tiny"]
        assert cli.main(words) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "new_clips/new.mp4 is now an example of clap" in said and "clips left out" in said


def test_the_lines_of_the_first_pages(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From clips to a recogniser, an answer and a count, as the documentation tells it."""
    for name in ("wave", "clap"):
        (folder / "tests" / name).mkdir(parents=True)
        for number in (4, 5, 6, 7):
            (folder / "my_actions" / name / f"{number}.mp4").rename(folder / "tests" / name / f"{number}.mp4")
    ran = []
    for page in FIRST_PAGES:
        text = (PROJECT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        for words in lines_of("".join(re.findall(r"```bash\n(.*?)```", text, re.S))):
            if words[0] == "fsar" and words[1] != "doctor":
                words = ["tiny" if word == "lite0" else word for word in words[1:]]
                words += ["--backbone", "tiny"] if "--examples" in words else []
                assert cli.main(words) == 0, capsys.readouterr().err
                ran.append(words[0])
    assert ran == ["recognize", "recognize", "correct", "check-examples", "recognize", "test"]


def test_the_lines_on_long_videos(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two actions are enrolled; the other clips are joined to long videos."""
    lines = commands("fsar spot --tune")
    assert [words[1] for words in lines] == [*["spot"] * 5, "data", "evaluate", "spot"]
    for name in ("wave", "clap"):
        (folder / "more_actions" / name).mkdir(parents=True)
        (folder / "my_actions" / name / "4.mp4").rename(folder / "more_actions" / name / "4.mp4")
        for number in (3, 5, 6, 7):
            (folder / "my_actions" / name / f"{number}.mp4").unlink()
    recognizer = Recognizer("tiny")
    recognizer.enroll_folder(folder / "my_actions")
    recognizer.save(folder / "mine.fsar")
    (folder / "recordings").mkdir()
    shutil.copy(folder / "new.mp4", folder / "recordings")
    join_clips(load_folder(folder / "more_actions", "more").videos, folder / "long.mp4")
    for words in lines:
        words = words[1 : words.index(">")] if ">" in words else words[1:]
        assert cli.main(words) == 0, capsys.readouterr().err
    assert "tIoU 0.25: F1" in capsys.readouterr().out
    assert (folder / "timeline.html").is_file() and (folder / "subtitles" / "long.vtt").is_file()


def test_the_lines_on_live_sources(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recognizer = Recognizer("tiny")
    recognizer.enroll_folder(folder / "my_actions")
    recognizer.save(folder / "mine.fsar")
    for name in ("street.mp4", "training.mp4"):
        shutil.copy(folder / "new.mp4", folder / name)
    camera, file, count = commands("fsar live")
    assert cli.main(["997" if word == "0" else word for word in camera[1:]]) == 2
    assert "there is no such camera" in capsys.readouterr().err
    with _model() as url:
        assert cli.main([url if word.startswith("http") else word for word in file[1:]]) == 0
    assert '"event": "end"' in capsys.readouterr().out
    assert cli.main(count[1:]) == 0
    assert "training.mp4: wave, 1 time" in capsys.readouterr().out


def test_ten_lines_from_videos_to_a_comparison(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (block for block in blocks("python") if "load_dataset" in block)
    assert len([line for line in block.splitlines() if line and not line.startswith(("from", "print"))]) <= 10
    names: dict[str, object] = {}
    exec(block.replace("lite0", "tiny").replace("1000", "50"), names)
    assert names["features"].shape == (14, 8, 32)  # type: ignore[attr-defined]
    assert "over episodes: " in capsys.readouterr().out


def test_the_lines_on_own_parts_and_features(
    folder: Path, capsys: pytest.CaptureFixture[str], world: VideoDataset, little_world: VideoDataset
) -> None:
    (own,) = (block for block in blocks("bash") if "check-method" in block)
    (folder / "my_metric.py").write_text(METHOD)
    (folder / "my_net.py").write_text(BACKBONE)
    few = ["episodes=2", "episodes_per_step=1", "val_every=0", "shot=1", "accelerator=cpu"]
    home = str(little_world.videos[0].path.parents[1])
    for words in lines_of(own):
        words = [home if word == "world" else word for word in words[1:]]
        words += {"train": ["--data", home, "--set", *few], "evaluate": ["--episodes", "20"]}.get(words[0], [])
        words += ["--backbone", "tiny"] if words[0] == "recognize" else []
        assert cli.main(_one_set(words)) == 0, capsys.readouterr().err
    (block,) = (block for block in blocks("bash") if "trx/features" in block)
    world = world.only([label for split in SPLITS for label in world.split(split).classes[:5]])
    videos = fill_bank(build_method("otam", load_backbone("tiny")), world.videos, progress=False)
    label = {video.id: video.label for video in world.videos}
    labels = [label[video_id] for video_id in videos.video_ids]
    names = {"features": videos.query["frames"].numpy(), "labels": labels, "names": list(videos.video_ids)}
    (save,) = (block for block in blocks("python") if "np.savez" in block)
    exec(save, {"np": np, "splits": [world.splits[label] for label in labels], **names})
    for words in lines_of(block):
        more = ["--set", *few] if words[1] == "train" else ["--episodes", "20"]
        assert cli.main([*words[1:], *more]) == 0, capsys.readouterr().err


def test_the_lines_on_banks(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsar.bank.plan.SECONDS", 1)  # shorter clips measure faster, and fewer of them
    monkeypatch.setattr("fsar.bank.plan.FILLING", 0)
    lines = commands("fsar bank fill")
    assert [words[1] for words in lines] == ["bank", "bank", "search", "bank", "evaluate"]
    for words in lines:
        more = {"bank": ["--backbone", "tiny"], "evaluate": ["--episodes", "20"], "search": []}
        assert cli.main([*words[1:], *more[words[1]]]) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert "14 videos in 1 shard, 0 broken" in said.out and "10,000,000 clips: " in said.out
    assert "recall of the shortlist at 1: 1.00" in said.err


def _one_set(words: list[str]) -> list[str]:
    """Join two `--set`, of which the last would win."""
    if words.count("--set") < 2:
        return words
    second = len(words) - 1 - words[::-1].index("--set")
    first = words.index("--set") + 1
    return [*words[:first], *words[second + 1 :], *words[first:second]]


def lines_of(block: str) -> list[list[str]]:
    """Words of every `fsar` line; continued lines are joined."""
    lines = re.sub(r"\\\n", "", re.sub(r" +#.*", "", block)).splitlines()
    return [shlex.split(line) for line in lines if line.startswith("fsar")]


def test_the_command_lines(folder: Path, capsys: pytest.CaptureFixture[str], world: VideoDataset) -> None:
    lines = commands("fsar train --config trx/world --out runs/trx")
    assert [words[1] for words in lines] == ["recognize", "evaluate", "evaluate", "train", "evaluate"]
    home = str(world.videos[0].path.parents[1])
    for words in lines:
        words = [{"lite0": "tiny", "10000": "20", "world": home}.get(word, word) for word in words[1:]]
        if words[0] == "recognize":
            words += ["--backbone", "tiny"]
        elif words[0] == "train":
            words += ["--data", home, "--set", "episodes=1", "episodes_per_step=1", "val_every=0", "shot=1"]
            words += ["options.out_dim=16"]
        elif "--episodes" not in words:
            words += ["--episodes", "20"]
        assert cli.main(words) == 0, capsys.readouterr().err


def test_the_lines_on_own_videos(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "talks").mkdir()
    rows = ["file,start,end,label"]
    for action in ("wave", "clap"):
        for i in range(1, 4):
            shutil.copy(folder / f"{action}{i}.mp4", folder / "talks")
            rows.append(f"{action}{i}.mp4,0.1,1.2,{action}")
    (folder / "talks" / "segments.csv").write_text("\n".join(rows))
    (folder / "lists").mkdir()
    (folder / "lists" / "test.txt").write_text("\n".join(f"{a}/{i}.mp4" for a in ("wave", "clap") for i in (1, 2, 3)))
    lines = commands("fsar probe")
    assert [words[1] for words in lines] == ["evaluate", "recognize", "recognize", "evaluate", "probe"]
    more = {"evaluate": ["--episodes", "20"], "recognize": ["--backbone", "tiny"], "probe": []}
    for words in lines:
        assert cli.main([*words[1:], *more[words[1]]]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "segments all (2 classes, 6 videos" in said and "talks/wave1.mp4 0.1-1.2 s" in said


def test_the_lines_on_papers(capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands("fsar papers"):
        assert cli.main(words[1:]) == 0, capsys.readouterr().err
    assert "fsar train --config trx/hmdb51 --data HMDB51/" in capsys.readouterr().out


def test_the_lines_on_describing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    template, asks, evaluates = commands("fsar describe")
    assert cli.main(template[1:]) == 0
    blank = (folder / "mine.yaml").read_text()
    assert cli.main(evaluates[1:]) == 2 and "three different sentences" in capsys.readouterr().err
    with _model("a hand rises", "it swings", "it sinks") as url:
        assert cli.main([url if word.startswith("http") else word for word in asks[1:]]) == 0
    assert "a hand rises" in (folder / "mine.yaml").read_text() != blank
    assert cli.main([*evaluates[1:], "--episodes", "20"]) == 0, capsys.readouterr().err


@contextmanager
def _model(*sentences: str) -> Iterator[str]:
    """A server that answers every class with the same stages."""
    answer = {"choices": [{"message": {"content": json.dumps(sentences)}}]}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_the_lines_on_training(
    folder: Path, capsys: pytest.CaptureFixture[str], world: VideoDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = commands("fsar recipes")
    assert [words[1] for words in lines] == ["recipes", "train", "evaluate", "recognize", "push"]
    home = str(world.videos[0].path.parents[1])
    for split in ("train", "val", "test"):
        of_split = world.split(split)
        videos = of_split.only(of_split.classes[:5]).videos
        (folder / f"{split}.txt").write_text("\n".join(f"{v.label}/{v.path.stem}" for v in videos))
    monkeypatch.setattr("fsar.training.checkpoint.HfApi", _Hub)
    for words in lines:
        words = [{"SSV2/videos": home}.get(word, word) for word in words[1:]]
        if words[0] == "train":
            words += ["--backbone", "tiny", "--set", "episodes=1", "episodes_per_step=1", "val_every=0", "frames=4"]
            words += ["options.hidden=16", "options.frames=4", "way=3", "shot=1", "accelerator=cpu"]
        elif words[0] == "evaluate":
            words += ["--episodes", "20"]
        assert cli.main(words) == 0, capsys.readouterr().err
    assert "wrote runs/ma" in capsys.readouterr().out


def test_the_lines_on_results(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run, method in (("ma", "ma-fsar"), ("otam", "otam")):
        for shot in (1, 5):
            result = replace(RESULT, method=method, shot=shot)
            save_result(result, folder / "runs" / run)
    for words in commands("fsar results"):
        assert cli.main(words[1:]) == 0, capsys.readouterr().err
    assert "no difference shown" in capsys.readouterr().out and (folder / "table.tex").is_file()


def test_the_lines_on_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = commands("fsar explain attention")
    kinds = [words[2] if words[1] in ("explain", "benchmark") else words[1] for words in lines]
    assert kinds == ["attention", "alignment", "gradcam", "evaluate", "curves", "methods"]
    for words in lines:
        more = {"evaluate": ["--episodes", "20"], "benchmark": ["--way", "2", "--frames", "2"]}.get(words[1], [])
        more += ["--frames", "4"] if words[2] in ("attention", "alignment", "gradcam") else []
        assert cli.main([*words[1:], *more]) == 0, capsys.readouterr().err
    for name in ("looks.png", "looks.npz", "alignment.png", "gradcam.svg", "runs/curve.png", "runs/curve.csv"):
        assert (folder / name).is_file()
    (block,) = (block for block in blocks("python") if ".explain()" in block)
    exec(block.replace("Recognizer()", 'Recognizer("tiny")'), {})
    assert "Nearest: " in capsys.readouterr().out and (folder / "why.png").is_file()


def test_the_lines_on_benchmarks(
    folder: Path, capsys: pytest.CaptureFixture[str], world: VideoDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists, fetch, take, evaluates = commands("fsar splits list")
    monkeypatch.setenv("FSAR_CACHE", str(folder / "cache"))
    assert cli.main(lists[1:]) == 0 and "kinetics100@cmn" in capsys.readouterr().out
    assert cli.main([*fetch[1:], "--mirror", "http://127.0.0.1:9"]) == 2
    assert "trainlist03.txt: could not be fetched" in capsys.readouterr().err
    for name in take[3:]:
        (folder / name).write_text("Juggling/1")
    assert cli.main(take[1:]) == 2 and "no class of these files ('Juggling')" in capsys.readouterr().err
    for i, label in enumerate(("fencing", "kick", "kick_ball", "pick", "pour")):
        for clip in world.split("test").videos[7 * i : 7 * i + 6]:
            (folder / "HMDB51" / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(clip.path, folder / "HMDB51" / label)
    assert cli.main(evaluates[1:]) == 2 and "`fsar splits fetch hmdb51@arn` gets lists" in capsys.readouterr().err
    assert cli.main([*evaluates[1:], "--skip-missing", "--episodes", "20"]) == 0, capsys.readouterr().err
    assert "hmdb51@arn test (5 classes, 30 videos" in capsys.readouterr().out


class _Hub:
    """Stands in for the hub."""

    def create_repo(self, *words: object, **options: object) -> None:
        pass

    def upload_folder(self, **options: object) -> str:
        return "commit"


@pytest.mark.parametrize("name", ["own_clips", "compare_methods", "spot_in_a_long_video"])
def test_the_notebooks_run(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cell by cell, as a notebook runs them; on the clips of this file."""
    for path in (folder / "my_actions").glob("*/[5-7].mp4"):
        path.unlink()
    if name.startswith("spot"):
        join_clips(load_folder(folder / "my_actions", "mine").videos[:4], folder / "long.mp4")
    cells = (PROJECT / "notebooks" / f"{name}.py").read_text(encoding="utf-8").split("# %%")
    names: dict[str, object] = {}
    for cell in cells:
        if not cell.startswith(" [markdown]"):
            exec(cell.replace("lite0", "tiny").replace("1000", "50"), names)
    end = {
        "own_clips": "{'clap': 3, 'wave': 3}",
        "compare_methods": "wave: place-motion",
        "spot_in_a_long_video": "begin 0.1",
    }
    assert end[name] in capsys.readouterr().out


def test_the_lines_on_export(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx", reason="the extra `export` is not installed")
    monkeypatch.setattr("fsar.export.bundle.write_int8", lambda *_: None)  # takes long, and has its own test
    recognizer = Recognizer("tiny")
    recognizer.enroll_folder(folder / "my_actions")
    recognizer.save(folder / "mine.fsar")
    (block,) = [block for block in blocks("bash") if "fsar export" in block]
    (line,) = lines_of(block)
    assert cli.main(line[1:]) == 0, capsys.readouterr().err
    assert "python exported/run.py new.mp4" in block and "exported/run.py VIDEO" in capsys.readouterr().out
    done = subprocess.run([sys.executable, "exported/run.py", "new.mp4"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["action"] in ("wave", "clap", "unknown")
