"""The methods: one paper, one file. `METHODS` maps a name to its class; nothing is imported until asked."""

import dataclasses
import importlib
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from fsar.backbones import Backbone
from fsar.methods.base import Episode, Method, Prediction
from fsar.names import unknown

__all__ = ["METHODS", "Episode", "Method", "Prediction", "build_method", "method_class", "parse_method"]

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
        ValueError: unknown method or option, or a value that does not fit its type.
    """
    cls = method_class(name)
    known = {field.name for field in dataclasses.fields(cls.Config)}
    for option in options:
        if option not in known:
            raise ValueError(unknown(option, sorted(known), f"option of {name}"))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls.Config)
    try:
        checked = parser.parse_object(options).as_dict()
    except ArgumentError as error:
        raise ValueError(f"method {name}: {' '.join(str(error).split())}") from error
    return cls(backbone, cls.Config(**checked)).eval()


def parse_method(spec: str) -> tuple[str, dict[str, Any]]:
    """Split `name:option=value,option=value` into the name and its options, values read as YAML.

    Raises:
        ValueError: an option without `=`.
    """
    name, _, rest = spec.partition(":")
    options = {}
    for part in filter(None, rest.split(",")):
        option, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"cannot read {part!r} in {spec!r}; expected method:option=value,option=value")
        options[option] = yaml.safe_load(value)
    return name, options
