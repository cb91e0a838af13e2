"""The methods: one paper, one file. `METHODS` maps a name to its class; nothing is imported until asked."""

import importlib
import re
import textwrap
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

import torch
import yaml

from fsar.backbones import Backbone
from fsar.config import describe_settings, parse_settings, read_yaml, settings_of
from fsar.methods.base import Method, Traits
from fsar.methods.episode import Episode, Prediction, Targets
from fsar.names import unknown
from fsar.own import Origin, entered, is_own, load_entered, load_own, name_files, split_spec

__all__ = [
    "METHODS",
    "Episode",
    "Method",
    "Prediction",
    "Targets",
    "Traits",
    "build_method",
    "default_traits",
    "describe_method",
    "effective_options",
    "list_methods",
    "method_class",
    "parse_method",
    "parse_options",
    "stored_options",
]

METHODS = {
    "zero-shot": "fsar.methods.zero_shot:ZeroShot",
    "protonet": "fsar.methods.protonet:ProtoNet",
    "otam": "fsar.methods.otam:Otam",
    "bi-mhm": "fsar.methods.bi_mhm:BiMhm",
    "trx": "fsar.methods.trx:Trx",
    "hyrsm": "fsar.methods.hyrsm:HyRsm",
    "hyrsm-pp": "fsar.methods.hyrsm_pp:HyRsmPlusPlus",
    "molo": "fsar.methods.molo:Molo",
    "strm": "fsar.methods.strm:Strm",
    "soap": "fsar.methods.soap:Soap",
    "ta2n": "fsar.methods.ta2n:Ta2n",
    "team": "fsar.methods.team:Team",
    "aim": "fsar.methods.aim:Aim",
    "ts-fsar": "fsar.methods.ts_fsar:TsFsar",
    "d2st-adapter": "fsar.methods.d2st_adapter:D2stAdapter",
    "clip-fsar": "fsar.methods.clip_fsar:ClipFsar",
    "clip-mdmf": "fsar.methods.clip_mdmf:ClipMdmf",
    "clip-mei": "fsar.methods.clip_mei:ClipMei",
    "clip-cpm2c": "fsar.methods.clip_cpm2c:ClipCpm2c",
    "ma-fsar": "fsar.methods.ma_fsar:MaFsar",
    "task-adapter": "fsar.methods.task_adapter:TaskAdapter",
    "task-adapter-pp": "fsar.methods.task_adapter_pp:TaskAdapterPlusPlus",
    "clip-spm": "fsar.methods.clip_spm:ClipSpm",
    "place-motion": "fsar.methods.place_motion:PlaceMotion",
    "ridge": "fsar.methods.ridge:Ridge",
    "logistic": "fsar.methods.logistic:Logistic",
    "nearest-mean": "fsar.methods.nearest_mean:NearestMean",
    "tip-adapter": "fsar.methods.tip_adapter:TipAdapter",
}


def method_class(name: str) -> type[Method]:
    """Look a method up by name.

    Args:
        name: a key of `METHODS`, a name that an installed package enters, or `FILE.py:NAME` (see `fsar.own`).

    Raises:
        ValueError: no such method (names the nearest one), or an own one that is no method.
    """
    return _found(name)[0]


def _found(name: str) -> tuple[type[Method], Origin | None]:
    """A method's class, and where it comes from if it is not of this package."""
    if name in METHODS:
        module, _, attribute = METHODS[name].partition(":")
        return getattr(importlib.import_module(module), attribute), None
    if is_own(name):
        found, origin = load_own(name)
    elif name in (others := entered("fsar.methods")):
        found, origin = load_entered(others[name])
    else:
        raise ValueError(f"{unknown(name, [*METHODS, *others], 'method')}, or FILE.py:NAME of your own")
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ValueError(f"{name} is {found!r}; expected a subclass of fsar.methods.Method")
    called = getattr(found, "name", None)
    if not isinstance(called, str) or called in METHODS:
        raise ValueError(f"{name}: its `name` is {called!r}; expected a name that no method of fsar has")
    return found, origin


_GROUPS = {
    "usual": "options",
    "variant": "options that follow `variant` unless they are given",
    "ablation": "options that only repeat ablations of the paper",
}


def default_traits(name: str) -> Traits:
    """Return the traits that a method has with its default options.

    Args:
        name: a key of `METHODS`.

    Raises:
        ValueError: no such method.

    Example:
        >>> default_traits("otam").trains
        ('visual',)
    """
    cls: Any = method_class(name)
    return _default_traits(cls)


@cache
def _default_traits(cls: type[Method]) -> Traits:
    return cls.traits_of(cls.Config())


def build_method(name: str, backbone: Backbone, *, init_seed: int = 0, **options: Any) -> Method:
    """Build a method over a backbone.

    Args:
        name: a key of `METHODS`, a name that an installed package enters, or `FILE.py:NAME`, which runs that file.
        backbone: it is used as it is, not copied.
        init_seed: fixes the initial values of the parameters that the method adds.
        options: fields of the method's `Config` (`fsar methods NAME` prints them).

    Returns:
        The method in evaluation mode.

    Raises:
        ValueError: unknown method or option, or a value that does not fit.

    Example:
        >>> from fsar.backbones import load_backbone
        >>> build_method("otam", load_backbone("tiny"), per="prototype").config.per
        'prototype'
    """
    if is_own(name):
        name_files([name])
    (cls, origin), config = _found(name), parse_options(name, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(init_seed)
        method = cls(backbone, config).eval()
    method.origin = origin
    return method


def parse_options(name: str, options: Mapping[str, Any]) -> Any:
    """Check options as YAML, JSON or a command line gives them.

    Args:
        name: a key of `METHODS`.
        options: some of the fields of the method's `Config`.

    Returns:
        The method's `Config`.

    Raises:
        ValueError: unknown method or option, or a value that does not fit.

    Example:
        >>> parse_options("trx", {"cardinalities": [2]}).cardinalities
        (2,)
    """
    return parse_settings(method_class(name).Config, options, f"method {name}", f"option of {name}")


def effective_options(name: str, options: Mapping[str, Any], keep: Collection[str] = ()) -> dict[str, Any]:
    """Leave out options that have no effect beside the others; a method would refuse them.

    Files of older versions may hold such options, and an override can make a recipe's options idle.

    Args:
        name: a key of `METHODS`.
        options: some of the fields of the method's `Config`.
        keep: options that stay in any case.

    Raises:
        ValueError: unknown method or option, or a value that does not fit.

    Example:
        >>> effective_options("clip-mdmf", {"pps": "off", "pps_score": "best-frames"})
        {'pps': 'off'}
    """
    options = dict(options)
    while idle := parse_options(name, options).without_effect().keys() & options.keys() - set(keep):
        options = {key: value for key, value in options.items() if key not in idle}
    return options


def stored_options(name: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Complete and clear options that a file holds, so that they mean what they meant when it was written.

    Args:
        name: a key of `METHODS`.
        stored: all options of the version that wrote the file.

    Returns:
        The same, with the older meaning of options that came later, and without options that have no effect.

    Raises:
        ValueError: unknown method or option, or a value that does not fit.

    Example:
        >>> stored_options("task-adapter-pp", {"variant": "official"})["framing"]
        'short-side'
    """
    return effective_options(name, {**method_class(name).Config.before, **stored})


def describe_method(name: str) -> str:
    """Describe a method and its options: type, choices, default and words.

    Args:
        name: a key of `METHODS`.

    Returns:
        The text that `fsar methods NAME` prints.

    Raises:
        ValueError: no such method.

    Example:
        >>> print(describe_method("bi-mhm"))
        bi-mhm: Nearest frames in both directions; ignores the order of frames. (no text, inductive)
        <BLANKLINE>
        options
          per = prototype    prototype | video
              Compare with the class mean, or with each support video and take the mean distance.
    """
    cls = method_class(name)
    settings = settings_of(cls.Config)
    parts = [_summary(name)]
    for group, title in _GROUPS.items():
        shown = [setting for setting in settings if setting.group == group]
        if shown:
            parts.append(f"{title}\n{describe_settings(shown)}")
    return "\n\n".join(parts)


def list_methods() -> str:
    """List all methods, each with the defaults of its options.

    Returns:
        The text that `fsar methods` prints.
    """
    lines = []
    for name in METHODS:
        options = (f"{s.name}={s.default}" for s in settings_of(method_class(name).Config) if s.group == "usual")
        lines.append(_summary(name))
        lines += textwrap.wrap("  ".join(options), 110, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(
        [*lines, "", "`fsar methods NAME` explains a method's options, and those of its variants and ablations."]
    )


def _summary(name: str) -> str:
    cls = method_class(name)
    text = "reads class names" if default_traits(name).reads_text else "no text"
    modes = "inductive or transductive" if hasattr(cls.Config, "inductive") else "inductive"
    return f"{name}: {(cls.__doc__ or '').splitlines()[0]} ({text}, {modes})"


def parse_method(spec: str) -> tuple[str, dict[str, Any]]:
    """Split `name:option=value,option=value` into the name and its options, values read as YAML.

    A comma inside brackets belongs to the value.

    Raises:
        ValueError: an option without `=`, or a value that is no YAML.

    Example:
        >>> parse_method("trx:cardinalities=[2, 3],out_dim=16")
        ('trx', {'cardinalities': [2, 3], 'out_dim': 16})
    """
    name, rest = split_spec(spec)
    options = {}
    for part in filter(None, re.split(r",(?![^\[({]*[\])}])", rest)):
        option, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"cannot read {part!r} in {spec!r}; expected method:option=value,option=value")
        try:
            options[option.strip()] = read_yaml(value)
        except yaml.YAMLError as error:
            raise ValueError(
                f"cannot read the value in {part!r} as YAML; expected option=value, as in k=[2, 3]"
            ) from error
    return name, options
