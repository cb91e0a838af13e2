"""Write this folder's files. It runs only with the version that the README names: a later one would test nothing.

python tests/old_files/write.py
"""

import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import fields
from pathlib import Path

import fsar.train
import torch
from fsar.checkpoint import load_pretrained
from fsar.features import fill_bank
from fsar.frame_cache import FrameCache
from fsar.parameters import kept_state
from inputs import TEXTS, clips, weight
from safetensors.torch import save_file

from fsar import Recognizer
from fsar.backbones import load_backbone
from fsar.cli import main
from fsar.datasets import load_folder
from fsar.datasets.world import render_clip
from fsar.datasets.world_actions import ACTIONS
from fsar.methods import METHODS, build_method, method_class
from fsar.video import write_video

HOME = Path(__file__).parent
LABELS = {
    "train": ("something_growing", "something_shrinking", "something_appearing"),
    "val": ("shaking_something_left_and_right", "something_blinking_on_and_off"),
    "test": ("something_pulsing", "something_bouncing_up_and_down", "two_things_swapping_places"),
}
RECIPE = {
    "method": "trx",
    "options": {"out_dim": 8, "cardinalities": [2]},
    "backbone": "tiny",
    "data": "videos",
    "way": 2,
    "frames": 4,
    "episodes": 8,
    "episodes_per_step": 2,
    "lr": {"own": 1e-3},
    "val_every": 4,
    "val_episodes": 10,
    "accelerator": "cpu",
    "clip_norm": 1.0,
    "workers": 1,
}
CHANGED = {"hidden": 16, "out_dim": 8, "head_dim": 16}
"""Options that keep a method small, of methods that have them."""
CLIP = FrameCache(frames=4)


class Killed(Exception):
    """Stands in for a kill."""


def write_videos() -> None:
    by_name = {action.name: action for action in ACTIONS}
    for names in LABELS.values():
        for name in names:
            for index in range(2):
                frames = render_clip(by_name[name], index)[::2, ::2, ::2]
                write_video(HOME / "videos" / name / f"{index}.mp4", frames, 6.0)
    rows = [f"{name},{by_name[name].text},{split}" for split, names in LABELS.items() for name in names]
    (HOME / "videos" / "labels.csv").write_text("\n".join(["folder,label,split", *rows]) + "\n")


def write_runs() -> None:
    """Two runs of one recipe: a finished one, and one that was killed in its third step."""
    (HOME / "recipe.yaml").write_text(json.dumps(RECIPE, indent=1) + "\n")
    train = ["train", "--config", "recipe.yaml", "--out"]
    assert main([*train, "runs/finished"]) == 0
    take_step = fsar.train._Run._take_step

    def killed(self, step, loaded):
        if step == 3:
            raise Killed
        return take_step(self, step, loaded)

    fsar.train._Run._take_step = killed
    with contextlib.suppress(Killed):
        main([*train, "runs/killed"])
    for run in ("finished", "killed"):
        shutil.rmtree(HOME / "runs" / run / "tensorboard")


def write_results_and_bank() -> None:
    common = ["evaluate", "--data", "videos", "--way", "2", "--episodes", "20", "--device", "cpu"]
    assert main([*common, "--checkpoint", "runs/finished", "--add-to-card"]) == 0
    assert main([*common, "--method", "otam", "protonet", "--frames", "4", "--bank", "bank", "--out", "results"]) == 0


def recognizers() -> dict[str, Recognizer]:
    cache = CLIP
    return {
        "place-motion": Recognizer("tiny", cache=cache),
        "zero-shot": Recognizer("tiny", "zero-shot", cache=cache),
        "trx": Recognizer(method=load_pretrained(HOME / "runs/finished"), cache=cache),
    }


def write_recognizers() -> dict[str, dict]:
    """Each is fitted; returns what they answer about the first video of each class."""
    answers = {}
    for name, recognizer in recognizers().items():
        for label in LABELS["test"][:2]:
            recognizer.enroll(label, sorted((HOME / "videos" / label).glob("*.mp4")))
        recognizer.fit()
        recognizer.save(HOME / f"{name}.fsar")
        answers[name] = {}
        for label in (*LABELS["train"], *LABELS["test"]):
            answer = recognizer.predict(HOME / "videos" / label / "0.mp4")
            answers[name][label] = [answer.action, answer.probabilities, answer.score, answer.threshold]
    return answers


def write_methods() -> dict[str, dict]:
    """Of each method: options, what its bank and its checkpoint are keyed by, and logits with weights from names."""
    tiny, said = load_backbone("tiny"), {}
    support, query = clips()
    for name in METHODS:
        known = {field.name for field in fields(method_class(name).Config)}
        changed = {key: value for key, value in CHANGED.items() if key in known}
        method = build_method(name, tiny, **changed)
        state = kept_state(method, ("own",))
        method.load_state_dict({key: weight(key, value) for key, value in state.items()}, strict=False)
        text = method.encode_text(list(TEXTS))[None] if method.needs_text else None
        draws = torch.full((1, 3, 2), 0.5) if method.draws else None
        with torch.no_grad():
            logits = method.match(method.encode_episode(support, query, text, draws)).logits
        said[name] = {
            "options": json.loads(json.dumps(method.options())),
            "changed": changed,
            "encoder": json.loads(json.dumps(method.banked().encoder())),
            "state": {key: list(value.shape) for key, value in state.items()},
            "logits": logits[0].tolist(),
        }
    return said


if __name__ == "__main__":
    os.chdir(HOME)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["FSAR_CACHE"] = cache
        write_videos()
        write_runs()
        write_results_and_bank()
        answers = write_recognizers()
        dataset = load_folder(HOME / "videos")
        test = dataset.split("test").videos
        bank = fill_bank(build_method("protonet", load_backbone("tiny")), test, None, CLIP, progress=False, keep=False)
        save_file(dict(bank.query), HOME / "encodings.safetensors")
        said = {"answers": answers, "methods": write_methods(), "videos": dataset.fingerprint()}
        (HOME / "expected.json").write_text(json.dumps(said, indent=1) + "\n")
