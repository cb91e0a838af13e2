"""Methods and backbones in files outside the package: checked, trained, evaluated, recognised; run only if named."""

import copy
import json
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml

from fsar import own
from fsar.backbones import Backbone, load_backbone
from fsar.cli import main
from fsar.datasets import VideoDataset
from fsar.evaluation.loop import evaluate
from fsar.methods import build_method
from fsar.recognizer import Recognizer
from fsar.results.identity import recipe_key
from fsar.results.result import load_results
from fsar.training.checkpoint import load_pretrained
from fsar.training.contract import RULES, check_method
from fsar.training.loop import train
from fsar.training.recipes import load_recipe

METHOD = '''
"""A metric with one trained map."""
from dataclasses import dataclass
from pathlib import Path
import torch
from torch import nn
from fsar.methods.base import Method, Traits
from fsar.methods.episode import Prediction, mean_over_shots

Path(__file__).with_suffix(".ran").touch()

class Mine(Method):
    """Cosine of mapped mean frames."""

    name = "mine"

    @dataclass(frozen=True, kw_only=True)
    class Config(Method.Config):
        """Options."""

        width: int = 8
        """Channels of the map."""

    def __init__(self, backbone, config):
        super().__init__(backbone, config)
        self.map = nn.Linear(backbone.dim, config.width)

    @classmethod
    def traits_of(cls, config):
        return Traits(trains=("own",), independent_ways=True)

    def match(self, episode):
        query, support = (self.map(part["frames"].mean(-2)) for part in (episode.query, episode.support))
        prototype = mean_over_shots(support, episode.shot_mask)
        return Prediction(torch.cosine_similarity(query[:, :, None], prototype[:, None], -1))
'''
BACKBONE = """
import torch
from fsar.backbones.base import Backbone, ImageEncoding

class Colours(Backbone):
    dim, image_size, mean, std = 12, 32, (0.5,) * 3, (0.25,) * 3

    def __init__(self):
        super().__init__("colours")
        self.scale = torch.nn.Parameter(torch.ones(()))

    def encode_images(self, images):
        cells = self.scale * torch.nn.functional.adaptive_avg_pool2d(images, 2)
        return ImageEncoding(cells.flatten(1), cells.permute(0, 2, 3, 1))

def build():
    return Colours()
"""
SHORT = ["way=3", "shot=1", "episodes=8", "episodes_per_step=2", "val_every=4", "val_episodes=10", "accelerator=cpu",
         "workers=1", "options={width: 4}", "lr={own: 1e-2}"]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def tiny(small_for_tiny: Backbone) -> Backbone:
    """In this file, the small encoder stands in for `tiny`."""
    return small_for_tiny


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two files that no test has named yet."""
    monkeypatch.setattr(own, "_named", {})
    (tmp_path / "my_metric.py").write_text(METHOD)
    (tmp_path / "my_net.py").write_text(BACKBONE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("fsar_own_")]:
        del sys.modules[name]


@pytest.fixture
def home(little_world: VideoDataset) -> str:
    return str(little_world.videos[0].path.parent.parent)


def ran(files: Path) -> bool:
    return (files / "my_metric.ran").exists()


def test_from_the_command_line_to_the_report(files: Path, home: str, capsys: pytest.CaptureFixture[str]) -> None:
    parts = ["--set", "method=my_metric.py:Mine", *SHORT, "--backbone", "my_net.py:build"]
    assert main(["train", "--config", "trx/world", "--data", home, "--out", "runs/mine", *parts]) == 0
    measured = ["--data", home, "--way", "3", "--episodes", "10", "--device", "cpu", "--out", "runs/results"]
    untrained = ["--method", "my_metric.py:Mine:width=4", "otam", "--backbone", "my_net.py:build"]
    assert main(["evaluate", *measured, "--checkpoint", "runs/mine", *untrained]) == 0
    said = capsys.readouterr().out
    assert "mine width=4 (my_net.py:build)" in said and "mine width=4 (my_net.py:build, trained on " in said
    assert "otam (my_net.py:build)" in said
    for result in (one.result for one in load_results([Path("runs")])):
        assert result.own["backbone"].startswith("my_net.py:build ") and len(result.own["backbone"]) == 32
        assert ("method" in result.own) == (result.method == "mine")
        assert str(files) not in json.dumps(result.own)
    assert main(["report", "runs", "--out", "report.html"]) == 0
    assert "mine width=4" in Path("report.html").read_text()


def test_a_checkpoint_runs_nothing_unasked(files: Path, little_world: VideoDataset) -> None:
    recipe = load_recipe("trx/world", ["method=my_metric.py:Mine", *SHORT])
    train(recipe, little_world, files / "run", progress=False)
    trained = load_pretrained(files / "run")
    assert trained.name == "mine" and str(trained.origin).startswith("my_metric.py:Mine ")
    forget(files)
    with pytest.raises(ValueError, match=r"code of its author, my_metric.py:Mine \(hash .*add --own my_metric.py"):
        load_pretrained(files / "run")
    with pytest.raises(ValueError, match="code of a file that you have not named"):
        train(recipe, little_world, files / "run", progress=False)
    assert not ran(files)
    own.name_files(["my_metric.py"])
    again = load_pretrained(files / "run")
    assert ran(files) and evaluate_both(again, trained, little_world)
    (files / "my_metric.py").write_text(METHOD + "\n# changed\n")
    forget(files)
    own.name_files(["my_metric.py"])
    with pytest.raises(ValueError, match=r"made with my_metric.py of hash .*has changed since"):
        load_pretrained(files / "run")
    with pytest.raises(ValueError, match="holds a run of other code"):
        train(recipe, little_world, files / "run", progress=False)


def forget(files: Path) -> None:
    own._named.clear()
    (files / "my_metric.ran").unlink(missing_ok=True)
    for name in [name for name in sys.modules if name.startswith("fsar_own_")]:
        del sys.modules[name]


def evaluate_both(one, other, dataset: VideoDataset) -> bool:
    results = [evaluate(method, dataset, way=3, episodes=20, progress=False) for method in (one, other)]
    return results[0].right == results[1].right


def test_a_recipe_of_somebody_runs_nothing_unasked(files: Path, home: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"method": "my_metric.py:Mine", "lr": {"own": 0.01}, "episodes": 4, "episodes_per_step": 2, "way": 3,
                "val_every": 0, "from_bank": True, "accelerator": "cpu"}  # fmt: skip
    Path("theirs.yaml").write_text(yaml.safe_dump(settings))
    command = ["train", "--config", "theirs.yaml", "--data", home, "--out", "run"]
    assert main(command) == 2 and not ran(files)
    assert "my_metric.py:Mine is code of a file that you have not named, so it is not run" in capsys.readouterr().err
    assert main([*command, "--own", "my_metric.py"]) == 0 and ran(files)


def test_other_code_is_another_row(files: Path, little_world: VideoDataset, tiny: Backbone) -> None:
    first = evaluate(build_method("my_metric.py:Mine", tiny), little_world, way=3, episodes=5, progress=False)
    (files / "my_metric.py").write_text(METHOD.replace("cosine_similarity(", "cosine_similarity(1.0 * "))
    second = evaluate(build_method("my_metric.py:Mine", tiny), little_world, way=3, episodes=5, progress=False)
    assert first.accuracy == second.accuracy and recipe_key(first) != recipe_key(second)


def test_a_recogniser_names_its_code(files: Path, little_world: VideoDataset) -> None:
    recognizer = Recognizer("my_net.py:build", "my_metric.py:Mine")
    for video in little_world.videos[:6]:
        recognizer.enroll(video.label, video.path)
    answer = recognizer.predict(little_world.videos[0].path)
    recognizer.save(files / "mine.fsar")
    forget(files)
    with pytest.raises(ValueError, match=r"mine.fsar was made with code of its author"):
        Recognizer.load(files / "mine.fsar")
    assert not ran(files)
    own.name_files(["my_metric.py", "my_net.py"])
    again = Recognizer.load(files / "mine.fsar").predict(little_world.videos[0].path)
    assert again.action == answer.action and again.probabilities == pytest.approx(answer.probabilities, abs=1e-3)


def test_parts_of_installed_packages(files: Path, monkeypatch: pytest.MonkeyPatch, tiny: Backbone) -> None:
    monkeypatch.syspath_prepend(str(files))
    entries = {
        "fsar.methods": [EntryPoint("theirs", "my_metric:Mine", "fsar.methods")],
        "fsar.backbones": [EntryPoint("their-net", "my_net:build", "fsar.backbones")],
    }
    monkeypatch.setattr("fsar.own.entry_points", lambda group: entries[group])
    assert build_method("theirs", load_backbone("their-net")).name == "mine"
    with pytest.raises(ValueError, match="unknown method 'their'; did you mean 'theirs'"):
        build_method("their", tiny)
    entries["fsar.methods"] = [EntryPoint("lost", "no_such_module:Mine", "fsar.methods")]
    with pytest.raises(ValueError, match="lost of package unknown cannot be imported: ModuleNotFoundError"):
        build_method("lost", tiny)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("absent.py:Mine", "absent.py: no such Python file"),
        ("my_metric.py:Other", "my_metric.py has no 'Other'; it has Mine"),
        ("my_net.py:build", "expected a subclass of fsar.methods.Method"),
        ("broken.py:Mine", "broken.py fails when it is imported: ZeroDivisionError: division by zero"),
        ("taken.py:Mine", "its `name` is 'otam'; expected a name that no method of fsar has"),
        ("my_metric.py:Mine:size=3", "size"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    spec: str, message: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "broken.py").write_text("1 / 0")
    (files / "taken.py").write_text(METHOD.replace('name = "mine"', 'name = "otam"'))
    assert main(["check-method", spec]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def build(): return 3", "gave int; expected a fsar.backbones.Backbone"),
        ("build = 3", "expected a function without arguments that gives a Backbone"),
        ("from fsar.backbones import Backbone\ndef build(): return Backbone('x')", "lacks dim, image_size, mean, std"),
    ],
)
def test_what_is_wrong_with_a_backbone_is_said(code: str, message: str, files: Path) -> None:
    (files / "net.py").write_text(code)
    with pytest.raises(ValueError, match=message):
        load_backbone("net.py:build")


def test_a_bank_knows_the_code_of_its_backbone(files: Path, little_world: VideoDataset) -> None:
    """The same parameters in other code are another encoder."""
    before = evaluate(build_method("otam", load_backbone("my_net.py:build")), little_world, way=3, episodes=20)
    (files / "my_net.py").write_text(BACKBONE.replace("cells = self.scale *", "cells = -1 + 0 *"))
    after = evaluate(build_method("otam", load_backbone("my_net.py:build")), little_world, way=3, episodes=20)
    assert before.weights == after.weights and before.accuracy > after.accuracy  # a constant tells nothing apart


# --------------------------------------------------------------------------- the contract

BREAKS = {
    "a video is encoded by itself": ("    def match", "    def enhance(self, encoding, role, text=None):\n"
        "        return {'frames': encoding['frames'] - encoding['frames'].mean(0, keepdim=True)}\n\n    def match"),
    "no label of a query reaches a score": ("return Prediction(",
        "query = query.cumsum(1)\n        return Prediction("),
    "the order of the classes changes no score": ("prototype = mean_over_shots(support, episode.shot_mask)",
        "prototype = mean_over_shots(support, episode.shot_mask).cumsum(1)"),
    "the order of the shots changes no score": ("prototype = mean_over_shots(support, episode.shot_mask)",
        "prototype = support[:, :, 0]"),
    "missing shots change no score": ("prototype = mean_over_shots(support, episode.shot_mask)",
        "prototype = support.mean(2)"),
    "queries see each other only if the traits say so": ("return Prediction(",
        "query = query - query.mean(1, keepdim=True)\n        return Prediction("),
    "episodes do not see each other": ("return Prediction(",
        "query = query + query[:1, :1]\n        return Prediction("),
    "the traits are true": ('Traits(trains=("own",), independent_ways=True)',
        'Traits(trains=("own",), matches_means=True)'),
    "it says what it is": ('        """Channels of the map."""\n', ""),
    "it trains, the same way each time": ('trains=("own",)', "trains=()"),
    "a checkpoint brings it back": ("self.map = nn.Linear(backbone.dim, config.width)",
        "self.map = nn.Linear(backbone.dim, config.width)\n        self.hidden = torch.rand(config.width)"),
    "the backbone stays as it is": ("return Prediction(",
        "next(self.backbone.parameters()).data.add_(1)\n        return Prediction("),
    "logits are finite, [episode, query, way]": ("prototype[:, None], -1))", "prototype[:, None], -1).sub(2).log())"),
    "it encodes videos": ("    def match", "    def enhance(self, encoding, role, text=None):\n"
        "        return {'frames': encoding['frames'][0]}\n\n    def match"),
    "encodings can be kept in a bank": ("    def match", "    def encode(self, clips, role='query', text=None):\n"
        "        return {'frames': 2 * super().encode(clips, role, text)['frames']}\n\n    def match"),
    "the bank's key names what encodes": ("    def match", "    def encoder(self):\n"
        "        made, add = super().encoder(), self.map\n        old = made.encode\n"
        "        made.encode = lambda *a: {'frames': old(*a)['frames'] + add.bias.detach().sum()}\n"
        "        return made\n\n    def match"),
}  # fmt: skip
"""Rule -> text of the file, and what it becomes to break this rule."""


def test_a_good_method_holds_every_rule(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-method", "my_metric.py:Mine", "--backbone", "my_net.py:build"]) == 0
    out = capsys.readouterr().out
    assert "my_metric.py:Mine holds all 16 rules" in out and "broken" not in out


@pytest.mark.parametrize("rule", BREAKS)
def test_a_broken_rule_is_found(rule: str, files: Path, tiny: Backbone) -> None:
    before, after = BREAKS[rule]
    code = METHOD.replace(before, after)
    if rule == "a checkpoint brings it back":
        code = code.replace("query[:, :, None]", "query[:, :, None] + self.hidden")
    if rule == "the traits are true":
        code = code.replace("self.map(part", "torch.sin(100 * self.map(part").replace("mean(-2))", "mean(-2)))")
    assert code != METHOD
    (files / "my_metric.py").write_text(code)
    findings = check_method("my_metric.py:Mine", copy.deepcopy(tiny))
    broken = [finding for finding in findings if finding.broken]
    assert rule in [finding.rule for finding in broken], broken


def test_every_rule_is_broken_once(tiny: Backbone) -> None:
    assert [finding.rule for finding in check_method("otam", tiny)] == list(RULES)
    assert set(RULES) == set(BREAKS)
