"""The file of a recogniser: half precision, short names, readable by others, older formats."""

import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file

from fsar import Recognizer
from fsar.backbones import Backbone
from fsar.recognizer.files import KEY, read_file, read_parts
from tests.recognizer.conftest import Clips, moving


def test_a_file_holds_halves_and_no_paths(recognizer: Recognizer, clips: Clips, tmp_path: Path) -> None:
    recognizer.save(tmp_path / "mine.fsar")
    header, tensors = read_parts(tmp_path / "mine.fsar")
    assert {tensor.dtype for key, tensor in tensors.items() if key.startswith(("query.", "support."))} == {torch.half}
    home = str(clips["something_growing"][0].parent)
    assert home not in json.dumps(header)
    assert all("/" not in name for _, name, _ in header["examples"])
    recognizer.save(tmp_path / "mine.fsar", paths=True)
    assert home in json.dumps(read_parts(tmp_path / "mine.fsar")[0])


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
    """Float32, no content, no steepness: as version 0.1.0 wrote it."""
    small.fit()
    small.save(tmp_path / "mine.fsar")
    header, tensors = read_parts(tmp_path / "mine.fsar")
    header |= {"format": 3, "examples": [example[:2] for example in header["examples"]]}
    del header["fit"]["steepness"]
    save_file(
        {key: tensor.float() for key, tensor in tensors.items()}, tmp_path / "old.fsar", {KEY: json.dumps(header)}
    )
    contents = read_file(tmp_path / "old.fsar")
    assert contents.fit is not None and contents.fit.steepness is None
    old, query = Recognizer.load(tmp_path / "old.fsar", tiny), moving(2, 46, 9)
    answer, expected = old.predict(query), small.predict(query)
    assert answer.action == expected.action and answer.score == expected.score and answer.unknown is None
    assert sum(answer.probabilities.values()) - 1 < 1e-5
    old.enroll("left", moving(44, 0, 8))
    assert old.predict(query).unknown is not None
    old.save(tmp_path / "new.fsar")
    assert read_parts(tmp_path / "new.fsar")[0]["format"] == 4
