"""The file of a recogniser: one safetensors file whose header names everything but the backbone's weights.

The header is JSON under the key `fsar.recognizer`: format, backbone and hash of its weights, method, options, clip
settings, training, enrolled videos (action, name, hash of content, group), their lengths (seconds and frames per
second, or null), fit. The tensors are

    support.PART, query.PART    encodings of all examples [example, ...], float16; support only if the roles differ
    background.ROLE.PART        the same of background clips: the user's, then the generated ones
    text                        class texts [way, ...], if the method reads them
    method.NAME                 the method's own state, and the trained part of the backbone

Formats 3 and 4 are still read. They have no background, and their scores are logits. Format 3 has float32 encodings,
and hashes of content in a list of their own or not at all.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fsar.files import require_recognizer, write_tensors_atomic
from fsar.methods import parse_options, stored_options
from fsar.methods.episode import Encoding
from fsar.own import Origin, find_named
from fsar.recognizer.background import BACKGROUND
from fsar.recognizer.calibration import STRICTNESS, Fit, plain
from fsar.recognizer.examples import Action, Actions, Example, Length

FORMAT = 5
READABLE = (3, 4, 5)
KEY = "fsar.recognizer"
METHOD = "method."


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Everything that a recogniser's file holds."""

    backbone: str
    """Name for `load_backbone`."""
    weights: str
    """Hash of the backbone's weights."""
    method: str
    options: Mapping[str, Any]
    frames: int | None
    """Frames per clip; None for all."""
    sampling: str
    trained: Mapping[str, Any] | None
    """How the method was trained; None if it was not."""
    actions: Actions
    background: tuple[Example, ...] = ()
    """The user's background clips."""
    generated: tuple[Example, ...] = ()
    """The generated background clips, if they were needed."""
    strictness: float = STRICTNESS
    state: Mapping[str, Tensor]
    """The method's own parameters, and the trained ones of the backbone."""
    fit: Fit | None
    tuned: Mapping[str, Any] | None = None
    """Windows and rule that were chosen on annotated videos (`fsar.recognizer.tuning`)."""
    own: Mapping[str, str] = field(default_factory=dict)
    """Where the code of a `method` and `backbone` of one's own comes from."""


def write_file(path: Path, contents: Contents) -> None:
    """Write a recogniser's file, whole or not at all.

    Args:
        path: where to.
        contents: what the file holds.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    header = {
        "format": FORMAT,
        "backbone": contents.backbone,
        "weights": contents.weights,
        "method": contents.method,
        "own": contents.own,
        "options": contents.options,
        "frames": contents.frames,
        "sampling": contents.sampling,
        "trained": contents.trained,
        "examples": [
            [name, example.video, example.content, example.group]
            for name, action in contents.actions.items()
            for example in action.examples
        ],
        "lengths": [example.length for action in contents.actions.values() for example in action.examples],
        "background": [[example.video, example.content] for example in contents.background],
        "generated": [example.video for example in contents.generated],
        "strictness": contents.strictness,
        "fit": None if contents.fit is None else vars(contents.fit),
        "tuned": contents.tuned,
    }
    examples = [example for action in contents.actions.values() for example in action.examples]
    tensors = _encodings(examples) | {
        f"{BACKGROUND}.{key}": value for key, value in _encodings((*contents.background, *contents.generated)).items()
    }
    texts = [action.text for action in contents.actions.values() if action.text is not None]
    if texts:
        tensors["text"] = torch.stack(texts)
    tensors |= {f"{METHOD}{key}": value for key, value in contents.state.items()}
    write_tensors_atomic(path, tensors, {KEY: json.dumps(header)})


def read_file(path: Path) -> Contents:
    """Read a recogniser's file.

    Args:
        path: a file that `write_file` wrote.

    Returns:
        What the file holds.

    Raises:
        ValueError: no such file, another kind of file, a damaged one, or another format.
    """
    header, tensors = read_parts(path)
    if header.get("format") not in READABLE:
        raise ValueError(
            f"{path}: written in format {header.get('format')}, this version reads {READABLE[0]} to {READABLE[-1]}; "
            f"enrol the examples again, or use the version of fsar that wrote the file"
        )
    own = {part: find_named(Origin.read(origin), str(path)) for part, origin in header.get("own", {}).items()}
    method = own.get("method", header["method"])
    examples: dict[str, list[Example]] = {}
    lengths = [each and Length(*each) for each in header.get("lengths", [None] * len(header["examples"]))]
    listed = header.get("contents") or [None] * len(header["examples"])
    for i, (name, video, *rest) in enumerate(header["examples"]):
        content, group = rest[0] if rest else listed[i], rest[1] if len(rest) > 1 else None
        query = _unstacked("query", tensors, i)
        support = _unstacked("support", tensors, i) or query
        examples.setdefault(name, []).append(Example(video, content, support, query, group, lengths[i]))
    texts = list(tensors["text"]) if "text" in tensors else [None] * len(examples)
    background, generated = _background(header, tensors)
    return Contents(
        backbone=own.get("backbone", header["backbone"]),
        weights=header["weights"],
        method=method,
        options=_options(method, header["options"]),
        frames=header["frames"],
        sampling=header["sampling"],
        trained=header["trained"],
        actions={name: Action.of(group, text) for (name, group), text in zip(examples.items(), texts, strict=True)},
        background=background,
        generated=generated,
        strictness=header.get("strictness", STRICTNESS),
        state={key.removeprefix(METHOD): value for key, value in tensors.items() if key.startswith(METHOD)},
        fit=_fit(method, header["fit"]) if header["fit"] else None,
        tuned=header.get("tuned"),
    )


def _options(method: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a file, with those at their defaults that have no effect: older versions accepted such."""
    return asdict(parse_options(method, stored_options(method, stored)))


def _fit(method: str, stored: Mapping[str, Any]) -> Fit:
    expected = stored.get("expected")
    kept = {"options": plain(_options(method, stored["options"])), "expected": expected and tuple(expected)}
    return Fit(**{**stored, **kept})


def read_parts(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read header and tensors of a recogniser's file, of any format.

    Raises:
        ValueError: no such file, another kind of file, or a damaged one.
    """
    require_recognizer(path)
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})[KEY])
            return header, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: not a recogniser that fsar wrote, or cut short; copy it again, or enrol the examples again"
        ) from error


def _encodings(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Stack encodings; of the support role only if the roles differ."""
    tensors = _stacked("query", [example.query for example in examples])
    if any(example.support is not example.query for example in examples):
        tensors |= _stacked("support", [example.support for example in examples])
    return tensors


def _background(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[tuple[Example, ...], ...]:
    """Read the user's background clips, and the generated ones."""
    listed = header.get("background", []), [(name, name) for name in header.get("generated", [])]
    inner = {
        key.removeprefix(f"{BACKGROUND}."): value for key, value in tensors.items() if key.startswith(f"{BACKGROUND}.")
    }
    made = []
    for i, (video, content) in enumerate((*listed[0], *listed[1])):
        query = _unstacked("query", inner, i)
        made.append(Example(video, content, _unstacked("support", inner, i) or query, query))
    return tuple(made[: len(listed[0])]), tuple(made[len(listed[0]) :])


def _stacked(role: str, encodings: Sequence[Encoding]) -> dict[str, Tensor]:
    parts = encodings[0] if encodings else ()
    return {f"{role}.{part}": torch.stack([encoding[part].half() for encoding in encodings]) for part in parts}


def _unstacked(role: str, tensors: Mapping[str, Tensor], i: int) -> Encoding:
    prefix = f"{role}."
    return {key.removeprefix(prefix): tensor[i] for key, tensor in tensors.items() if key.startswith(prefix)}
