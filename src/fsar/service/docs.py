"""Examples for the description of the routes, and a page that shows it and loads nothing from elsewhere."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any


def _shows(example: object, status: int = 200) -> dict[int | str, dict[str, Any]]:
    return {status: {"content": {"application/json": {"example": example}}}}


_DESCRIBED = {
    "name": "gestures",
    "backbone": "lite0",
    "method": "place-motion",
    "actions": {"clap": ["2c1f0b7a.webm", "9d3e11c0.webm"], "wave": ["5b7e9a44.webm", "e01277cd.mp4"]},
    "background": [],
    "absent": [],
    "lacking": None,
    "expected": [0.45, 1.0],
    "fit": "4 of 4 left-out examples were answered right",
    "undo": 4,
    "state": "9f1c22ab03d4e57a",
}
EXAMPLES = {
    "health": _shows(
        {"status": "ok", "in_work": 1, "places": 32, "disk": {"used": 7400000, "limit": 20000000000, "warning": None}}
    ),
    "list": _shows(["gestures", "exercises"]),
    "created": _shows(_DESCRIBED | {"actions": {}, "lacking": "no action is enrolled; enrol examples first"}, 201),
    "described": _shows(_DESCRIBED),
    "check": _shows(
        {
            "actions": {"wave": 3, "clap": 2},
            "findings": ["2c1f0b7a.webm: enrolled as 'clap', but the other examples say 'wave'; is it right?"],
            "curve": {"1": 0.6, "2": 0.8},
            "wanted": "clap",
            "confusion": {"wave": {"wave": 3, "clap": 0}, "clap": {"wave": 1, "clap": 1}},
            "certainty": {"wave": 0.8, "clap": 0.5},
            "growth": [{"examples": 4, "accuracy": 0.5}, {"examples": 5, "accuracy": 0.8}],
        }
    ),
    "answer": _shows(
        {
            "video": "77aa01f3.webm",
            "action": "wave",
            "best": "wave",
            "probabilities": {"wave": 0.7, "unknown": 0.2, "clap": 0.1},
            "unknown": 0.2,
            "score": 3.1,
            "threshold": 1.9,
            "nearest": [{"action": "wave", "video": "5b7e9a44.webm", "similarity": 0.9, "frames": [0, 1, 2, 3]}],
            "disagreement": None,
            "seconds": 0.08,
        }
    ),
    "choices": _shows({"methods": ["place-motion", "bi-mhm", "otam", "protonet"], "backbones": ["lite0", "tiny"]}),
    "task": _shows({"task": "c02d9b17", "state": "running", "progress": 0.4, "result": None}),
    "live": _shows({"live": "0a4c7d1e", "rate": 24.0, "side": 256, "most": 32, "seconds": 1.6}, 201),
    "shown": _shows(
        {
            "action": "wave",
            "probabilities": {"wave": 0.7, "clap": 0.1, "unknown": 0.2},
            "events": [{"kind": "begin", "action": "wave", "start": 3.2, "end": 4.1, "probability": 0.8}],
            "rate": 24.0,
            "side": 256,
            "most": 32,
            "seconds": 1.6,
        }
    ),
    "timeline": _shows(
        {"duration": 61.3, "segments": [{"start": 3.2, "end": 4.9, "action": "wave", "probability": 0.81}]}
    ),
    "enrolled": _shows({"action": "wave", "clip": "5b7e9a44.webm", "added": True, "fault": None}),
    "corrected": _shows(
        {
            "action": "wave",
            "clip": "5b7e9a44.webm",
            "added": True,
            "was": "clap",
            "fault": None,
            "effect": {
                "before": {"right": 3, "of": 5},
                "after": {"right": 5, "of": 6},
                "changed": [{"action": "wave", "clip": "e01277cd.mp4", "before": "clap", "after": "wave"}],
            },
        }
    ),
}
"""Responses of the routes, by what they show."""
VIDEO = {
    "requestBody": {
        "required": True,
        "description": "The bytes of a video: mp4, mov, webm, mkv, avi, mpg, ts or gif.",
        "content": {"video/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""The body of a request that takes a video."""
FILE = {
    "requestBody": {
        "required": True,
        "description": "The bytes of a recogniser's file.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""The body of a request that takes a recogniser."""

PIXELS = {
    "requestBody": {
        "required": True,
        "description": "Pictures, the oldest first: four bytes per pixel (red, green, blue, and one that is ignored).",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""The body of a request that takes pictures of a camera."""


def docs_page(openapi: Mapping[str, Any]) -> str:
    """Write the page that explains all routes.

    Args:
        openapi: their description, as FastAPI makes it.

    Returns:
        HTML without any script, font or picture.
    """
    style = (
        "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}pre{overflow:auto;padding:.6rem;"
    )
    style += "background:#8881}h2{font:600 1rem monospace;margin-top:2rem}"
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>fsar</title><style>{style}"
    intro = (
        f"<h1>fsar</h1><p>{escape(openapi['info']['summary'])} A video is the body of its request. An error is a JSON "
        f"object with <code>detail</code>; with status 429 or 503, wait as long as <code>Retry-After</code> says. "
        f"Tools read the same description from <a href='/openapi.json'>openapi.json</a>.</p>"
    )
    body = "".join((intro, *_routes(openapi)))
    return f"<!doctype html><html lang=en><head>{head}</style></head><body>{body}</body></html>"


def _routes(openapi: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in openapi["paths"].items():
        for method, route in methods.items():
            names = [each["name"] for each in route.get("parameters", ()) if each["in"] == "query"]
            query = "?" + "&".join(f"{name}=" for name in names) if names else ""
            yield f"<h2>{method.upper()} {escape(path)}{escape(query)}</h2>"
            yield f"<p>{escape(route.get('description', ''))}</p>"
            yield f"<pre>{escape(_command(method, path, 'requestBody' in route))}</pre>"
            for response in route["responses"].values():
                example = response.get("content", {}).get("application/json", {}).get("example")
                if example is not None:
                    yield f"<pre>{escape(json.dumps(example, indent=1))}</pre>"


def _file_for(path: str) -> str:
    if path.endswith("/file"):
        return "gestures.fsar"
    return "pictures.rgba" if path.endswith(("/{live}", "/pixels")) else "wave.mp4"


def _command(method: str, path: str, has_body: bool) -> str:
    """The request as a command of curl."""
    usual = "post" if has_body else "get"
    words = ["curl"] if method == usual else ["curl", "-X", method.upper()]
    words += ["--data-binary", f"@{_file_for(path)}"] if has_body else []
    filled = path.format(name="gestures", action="wave", clip="5b7e9a44.webm", live="0a4c7d1e", task="c02d9b17")
    return " ".join([*words, f"http://127.0.0.1:8000{filled}"])
