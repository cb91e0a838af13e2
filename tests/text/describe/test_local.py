"""A local model, by a stand-in for `transformers`."""

import json
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from fsar.text.describe import INSTRUCTION, TryAgain, describe, local_model
from tests.language_model import stages


def stand_in(monkeypatch: pytest.MonkeyPatch, template: str | None, answer: str | Exception) -> list[Any]:
    """Put a module `transformers` in place that answers; returns what its pipeline is given."""
    given: list[Any] = []

    def pipeline(task: str, model: str, device: int) -> Callable[..., list[dict[str, str]]]:
        if model == "missing":
            raise OSError("missing is not a local folder\nand is not a valid model identifier")

        def generate(inputs: Any, **options: Any) -> list[dict[str, str]]:
            given.append((task, inputs, options["do_sample"], options["return_full_text"]))
            if isinstance(answer, Exception):
                raise answer
            return [{"generated_text": answer}]

        generate.tokenizer = types.SimpleNamespace(chat_template=template)  # type: ignore[attr-defined]
        return generate

    module = types.ModuleType("transformers")
    module.pipeline = pipeline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", module)
    return given


def test_a_local_model_is_asked_by_its_chat_template(monkeypatch: pytest.MonkeyPatch) -> None:
    given = stand_in(monkeypatch, "{{ messages }}", json.dumps(stages("wave")))
    assert describe(["wave"], local_model("folder")) == {"wave": tuple(stages("wave"))}
    instruction = INSTRUCTION.replace("{label}", "wave")
    assert given == [("text-generation", [{"role": "user", "content": instruction}], False, False)]
    given = stand_in(monkeypatch, None, json.dumps(stages("wave")))
    describe(["wave"], local_model("folder"))
    assert given[0][1] == f"{instruction}\nAnswer: "


def test_a_local_model_that_is_not_there_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, None, RuntimeError("CUDA out of memory.\nTried to allocate"))
    with pytest.raises(ValueError, match="could not load 'missing': missing is not a local folder and is not a valid"):
        local_model("missing")
    with pytest.raises(
        ValueError, match="'folder' failed: CUDA out of memory. Tried to allocate; try a smaller"
    ) as raised:
        describe(["wave"], local_model("folder"))
    assert not isinstance(raised.value, TryAgain)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"needs the package transformers .*; pip install 'fsar\[describe\]'"):
        local_model("folder")
