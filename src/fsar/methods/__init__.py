"""The methods: one paper, one file. `METHODS` maps a name to its class; nothing is imported until asked."""

import dataclasses
import importlib
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from fsar.backbones import Backbone
from fsar.methods.base import Episode, Method, Prediction, Targets
from fsar.names import unknown

__all__ = [
    "METHODS",
    "Episode",
    "Method",
    "Prediction",
    "Targets",
    "build_method",
    "method_class",
    "metric_head",
    "parse_method",
]

METHODS = {
    "zero-shot": "fsar.methods.zero_shot:ZeroShot",
    "protonet": "fsar.methods.protonet:ProtoNet",
    "otam": "fsar.methods.otam:Otam",
    "bi-mhm": "fsar.methods.bi_mhm:BiMhm",
    "trx": "fsar.methods.trx:Trx",
    "hyrsm": "fsar.methods.hyrsm:HyRsm",
    "aim": "fsar.methods.aim:Aim",
    "clip-fsar": "fsar.methods.clip_fsar:ClipFsar",
    "clip-mdmf": "fsar.methods.clip_mdmf:ClipMdmf",
    "ma-fsar": "fsar.methods.ma_fsar:MaFsar",
    "task-adapter": "fsar.methods.task_adapter:TaskAdapter",
    "task-adapter-pp": "fsar.methods.task_adapter_pp:TaskAdapterPlusPlus",
    "clip-spm": "fsar.methods.clip_spm:ClipSpm",
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


def build_method(name: str, backbone: Backbone, *, init_seed: int = 0, **options: Any) -> Method:
    """Build a method over a backbone; `options` are fields of its `Config`.

    `init_seed` fixes the initial values of what the method adds.

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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(init_seed)
        return cls(backbone, cls.Config(**checked)).eval()


def metric_head(name: str, dim: int, **options: Any) -> Method:
    """Build a frame-feature method for its `match` alone, as the metric of another method.

    It has a backbone without parameters that only says the features' `dim`; `match` reads `frames`.
    """
    features = Backbone("features")
    features.dim = dim
    cls = method_class(name)
    return cls(features, cls.Config(**options))


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
