"""The file of a recogniser: half precision, short names, readable by others, older formats."""

import json
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fsar import Recognizer
from fsar.backbones import Backbone
from fsar.recognizer.files import KEY, read_file, read_parts
from fsar.video import probe
from tests.processes import child, waited
from tests.recognizer.conftest import Clips, moving


def test_a_file_holds_halves_and_no_paths(recognizer: Recognizer, clips: Clips, tmp_path: Path) -> None:
    recognizer.save(tmp_path / "mine.fsar")
    header, tensors = read_parts(tmp_path / "mine.fsar")
    assert {tensor.dtype for key, tensor in tensors.items() if key.startswith(("query.", "support."))} == {torch.half}
    home = str(clips["something_growing"][0].parent)
    assert home not in json.dumps(header)
    assert all("/" not in name for _, name, *_ in header["examples"])
    recognizer.save(tmp_path / "mine.fsar", paths=True)
    assert home in json.dumps(read_parts(tmp_path / "mine.fsar")[0])


def test_a_recognizer_is_printed_with_its_file_and_its_counts(small: Recognizer, tmp_path: Path) -> None:
    assert repr(small) == "Recognizer('tiny', 2 actions, 6 clips)"
    small.remove("right")
    small.save(tmp_path / "mine.fsar")
    assert repr(Recognizer.load(tmp_path / "mine.fsar")) == f"Recognizer('{tmp_path / 'mine.fsar'}', 1 action, 3 clips)"


def test_a_recognizer_is_not_saved_under_the_name_of_a_folder(tiny: Backbone, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a folder; give the name of a file that ends in .fsar, such as .*mine.fsar"):
        Recognizer(tiny).save(tmp_path)


def test_a_loaded_recognizer_goes_on_where_the_saved_one_was(
    recognizer: Recognizer, tiny: Backbone, clips: Clips, tmp_path: Path
) -> None:
    growing = clips["something_growing"]
    recognizer.fit()
    recognizer.save(tmp_path / "mine.fsar")
    loaded = Recognizer.load(tmp_path / "mine.fsar", tiny)
    assert loaded.fit() == recognizer.fit() and loaded.predict(growing[6]) == recognizer.predict(growing[6])
    for each in (recognizer, loaded):
        each.enroll("something_growing", growing[:5])  # four are known, by their content
        each.remove("something_growing", growing[1])
    assert loaded.actions == recognizer.actions and loaded.fit() == recognizer.fit()
    assert loaded.predict(growing[6]) == recognizer.predict(growing[6])


def test_a_file_may_be_read_as_umask_says(small: Recognizer, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        small.save(tmp_path / "mine.fsar")
    finally:
        os.umask(before)
    assert (tmp_path / "mine.fsar").stat().st_mode & 0o777 == 0o640


def test_format_3_is_read(small: Recognizer, tiny: Backbone, tmp_path: Path) -> None:
    """Float32, no content, no steepness, scores that are logits: as version 0.1.0 wrote it."""
    small.fit()
    small.save(tmp_path / "mine.fsar")
    header, tensors = read_parts(tmp_path / "mine.fsar")
    header |= {"format": 3, "examples": [example[:2] for example in header["examples"]]}
    kept = ("options", "scale", "left_out", "accuracy", "known_missed", "unknown_accepted")
    header["fit"] = {key: header["fit"][key] for key in kept} | {"threshold": -1.0}
    save_file(
        {key: tensor.float() for key, tensor in tensors.items()}, tmp_path / "old.fsar", {KEY: json.dumps(header)}
    )
    contents = read_file(tmp_path / "old.fsar")
    assert contents.fit is not None and contents.fit.steepness is None
    old, query = Recognizer.load(tmp_path / "old.fsar", tiny), moving(2, 46, 9)
    answer, expected = old.predict(query), small.predict(query)
    assert answer.action == expected.best and -1 < answer.score <= 1 < expected.score and answer.unknown is None
    assert sum(answer.probabilities.values()) - 1 < 1e-5
    old.enroll("left", moving(44, 0, 8))
    assert old.predict(query).unknown is not None
    old.save(tmp_path / "new.fsar")
    assert read_parts(tmp_path / "new.fsar")[0]["format"] == 5


def test_two_processes_edit_one_file_and_no_edit_is_lost(small: Recognizer, tmp_path: Path) -> None:
    """Each adds three actions, one edit at a time; meanwhile the file can always be read."""
    path = tmp_path / "mine.fsar"
    small.save(path)

    def add_three(name: str, seed: int) -> None:
        for turn in range(3):
            with Recognizer.edit(path, small.backbone) as recognizer:
                recognizer.enroll(f"{name} {turn}", moving(turn, 40, 100 + seed))

    first, second = (child(partial(add_three, name, seed)) for seed, name in enumerate(("up", "down")))
    seen = set()
    while not (ended := os.waitpid(first, os.WNOHANG))[0]:
        seen.add(len(Recognizer.load(path, small.backbone).actions))
    assert ended[1] == waited(second) == 0
    assert seen <= set(range(2, 9))
    assert sorted(Recognizer.load(path, small.backbone).actions) == [
        *(f"down {turn}" for turn in range(3)),
        "left",
        "right",
        *(f"up {turn}" for turn in range(3)),
    ]


def test_an_edit_that_fails_changes_nothing(small: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "mine.fsar"
    small.save(path)
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), Recognizer.edit(path, small.backbone) as recognizer:
        recognizer.remove("left")
        raise ZeroDivisionError
    assert path.read_bytes() == before


def test_an_edit_loads_the_backbone_only_to_encode(
    small: Recognizer, tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.fit()
    small.save(tmp_path / "mine.fsar")
    loaded: list[str] = []
    monkeypatch.setattr("fsar.recognizer.saving.load_fast", lambda name: loaded.append(name) or tiny)
    with Recognizer.edit(tmp_path / "mine.fsar") as edited:
        edited.remove("right", small.examples["right"][0])
        edited.fit()
    assert not loaded
    with Recognizer.edit(tmp_path / "mine.fsar") as edited:
        edited.enroll("right", [moving(0, 48, 7), moving(0, 48, 8)])
    assert loaded == [tiny.name]
    with monkeypatch.context() as other, pytest.raises(ValueError, match="use the same weights, or enrol again"):
        other.setattr(type(tiny), "fingerprint", lambda self: "0123")
        with Recognizer.edit(tmp_path / "mine.fsar") as edited:
            edited.enroll("left", moving(48, 0, 7))
    assert Recognizer.load(tmp_path / "mine.fsar", tiny).actions == {"right": 4, "left": 3}


def test_a_file_keeps_how_long_examples_last(small: Recognizer, clips: Clips, tmp_path: Path) -> None:
    path = clips["something_growing"][0]
    small.enroll("growing", [path, clips["something_growing"][1].read_bytes()])
    info = probe(path)
    small.save(tmp_path / "mine.fsar")
    actions = read_file(tmp_path / "mine.fsar").actions
    file, content = (example.length for example in actions["growing"].examples)
    assert file is not None and content is not None
    assert file == pytest.approx((info.duration, info.fps)) and content.fps == pytest.approx(info.fps)
    assert all(example.length is None for example in actions["left"].examples)  # frames in memory have no times
