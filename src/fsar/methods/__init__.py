"""The methods: one paper, one file. `METHODS` maps a name to its class; nothing is imported until asked."""

import dataclasses
import importlib
from typing import Any

from fsar.backbones import Backbone
from fsar.methods.base import Episode, Method, Prediction
from fsar.names import unknown

__all__ = ["METHODS", "Episode", "Method", "Prediction", "build_method", "method_class"]

METHODS = {
    "zero-shot": "fsar.methods.zero_shot:ZeroShot",
    "protonet": "fsar.methods.protonet:ProtoNet",
    "otam": "fsar.methods.otam:Otam",
    "bi-mhm": "fsar.methods.bi_mhm:BiMhm",
    "trx": "fsar.methods.trx:Trx",
    "place-motion": "fsar.methods.place_motion:PlaceMotion",
}


def method_class(name: str) -> type[Method]:
    """Look a method up by name.

    Raises:
        ValueError: no such method; names the nearest one.
    """
    if name not in METHODS:
        raise ValueError(unknown(name, METHODS, "method"))
    module, _, attribute = METHODS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def build_method(name: str, backbone: Backbone, **options: Any) -> Method:
    """Build a method over a backbone; `options` are fields of its `Config`.

    Raises:
        ValueError: unknown method or option, or a value that does not fit.
    """
    cls = method_class(name)
    known = {field.name for field in dataclasses.fields(cls.Config)}
    for option in options:
        if option not in known:
            raise ValueError(unknown(option, sorted(known), f"option of {name}"))
    return cls(backbone, cls.Config(**options)).eval()
