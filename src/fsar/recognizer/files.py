"""The file of a recogniser: one safetensors file whose header names everything but the backbone's weights.

The header is JSON under the key `fsar.recognizer`: format, backbone and hash of its weights, method, options, clip
settings, training, enrolled videos (action, name, hash of content), fit. The tensors are

    support.PART, query.PART    encodings of all examples [example, ...], float16; support only if the roles differ
    text                        class texts [way, ...], if the method reads them
    method.NAME                 the method's own state, and the trained part of the backbone

Format 3, which is still read, has float32 encodings, and hashes of content in a list of their own or not at all.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fsar.files import write_tensors_atomic
from fsar.methods import effective_options, parse_options
from fsar.methods.episode import Encoding
from fsar.recognizer.calibration import Fit, plain
from fsar.recognizer.examples import Action, Actions, Example

FORMAT = 4
READABLE = (3, 4)
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
    state: Mapping[str, Tensor]
    """The method's own parameters, and the trained ones of the backbone."""
    fit: Fit | None


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
        "options": contents.options,
        "frames": contents.frames,
        "sampling": contents.sampling,
        "trained": contents.trained,
        "examples": [
            [name, example.video, example.content]
            for name, action in contents.actions.items()
            for example in action.examples
        ],
        "fit": None if contents.fit is None else vars(contents.fit),
    }
    examples = [example for action in contents.actions.values() for example in action.examples]
    tensors = _stacked("query", [example.query for example in examples])
    if any(example.support is not example.query for example in examples):
        tensors |= _stacked("support", [example.support for example in examples])
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
    examples: dict[str, list[Example]] = {}
    listed = header.get("contents") or [None] * len(header["examples"])
    for i, (name, video, *content) in enumerate(header["examples"]):
        query = _unstacked("query", tensors, i)
        support = _unstacked("support", tensors, i) or query
        examples.setdefault(name, []).append(Example(video, content[0] if content else listed[i], support, query))
    texts = list(tensors["text"]) if "text" in tensors else [None] * len(examples)
    return Contents(
        backbone=header["backbone"],
        weights=header["weights"],
        method=header["method"],
        options=_options(header["method"], header["options"]),
        frames=header["frames"],
        sampling=header["sampling"],
        trained=header["trained"],
        actions={name: Action.of(group, text) for (name, group), text in zip(examples.items(), texts, strict=True)},
        state={key.removeprefix(METHOD): value for key, value in tensors.items() if key.startswith(METHOD)},
        fit=_fit(header["method"], header["fit"]) if header["fit"] else None,
    )


def _options(method: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a file, with those at their defaults that have no effect: older versions accepted such."""
    return asdict(parse_options(method, effective_options(method, stored)))


def _fit(method: str, stored: Mapping[str, Any]) -> Fit:
    return Fit(**{**stored, "options": plain(_options(method, stored["options"]))})


def read_parts(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read header and tensors of a recogniser's file, of any format.

    Raises:
        ValueError: no such file, another kind of file, or a damaged one.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such recogniser file; check the name")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})[KEY])
            return header, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a recogniser that fsar wrote, or cut short ({error}); copy it again") from error


def _stacked(role: str, encodings: Sequence[Encoding]) -> dict[str, Tensor]:
    parts = encodings[0] if encodings else ()
    return {f"{role}.{part}": torch.stack([encoding[part].half() for encoding in encodings]) for part in parts}


def _unstacked(role: str, tensors: Mapping[str, Tensor], i: int) -> Encoding:
    prefix = f"{role}."
    return {key.removeprefix(prefix): tensor[i] for key, tensor in tensors.items() if key.startswith(prefix)}
