"""Settings classes: values checked against their types, and each field's docstring as text for a terminal or the docs.

A settings class is a frozen dataclass with a docstring under each field. `ablation(default)` marks a field that only
repeats an ablation of its paper, so that listings can show it apart from the options that users need.
"""

import ast
import dataclasses
import inspect
import re
import textwrap
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from fsar.names import meant, unknown

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

Value = TypeVar("Value")
AnySettings = TypeVar("AnySettings")
_ABLATION = "ablation"


def ablation(default: Value) -> Value:
    """Declare a field that only repeats an ablation of its paper.

    Args:
        default: the field's default.

    Example:
        >>> @dataclass(frozen=True)
        ... class Config:
        ...     norm: bool = ablation(True)
        >>> Config().norm
        True
        >>> [setting.group for setting in settings_of(Config)]
        ['ablation']
    """
    return dataclasses.field(default=default, metadata={_ABLATION: True})


@dataclass(frozen=True)
class Setting:
    """One field of a settings class, as text."""

    name: str
    type: str
    """Words for the type: `float`, `int or null`, `true or false`, or the choices of a `Literal`: `both | one`."""
    default: str
    """The default as YAML, for every variant if they differ; empty if a value must be given."""
    words: str
    """The docstring under the field; empty if there is none."""
    group: Literal["usual", "variant", "ablation"] = "usual"
    """`usual` is for users, `variant` follows the option `variant`, `ablation` repeats an ablation of the paper."""


def settings_of(cls: type) -> tuple[Setting, ...]:
    """Read the fields of a settings class with their docstrings, in order; inherited fields come first.

    Args:
        cls: a dataclass whose source file can be read.

    Returns:
        One `Setting` per field.

    Example:
        >>> [(s.name, s.type, s.default) for s in settings_of(Setting)][-1]
        ('group', 'usual | variant | ablation', 'usual')
    """
    hints = get_type_hints(cls)
    words: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            words |= _docstrings(base)
    settings = []
    for field in dataclasses.fields(cls):
        by_variant = {name: values[field.name] for name, values in _variants(cls).items() if field.name in values}
        default = "" if _default(field) is dataclasses.MISSING else as_yaml(_default(field))
        if by_variant:
            default = ", ".join(f"{as_yaml(value)} ({name})" for name, value in by_variant.items())
        group: Any = "ablation" if _ABLATION in field.metadata else "variant" if by_variant else "usual"
        settings.append(Setting(field.name, _type_words(hints[field.name]), default, words.get(field.name, ""), group))
    return tuple(settings)


def describe_settings(settings: Iterable[Setting], width: int = 100) -> str:
    """Lay settings out for a terminal: name, default and type on a line, the words below.

    Args:
        settings: from `settings_of`.
        width: characters of a line.

    Returns:
        Lines of text; nothing for no settings.

    Example:
        >>> print(describe_settings([Setting("eps", "float", "0.01", "Added to the product of norms.")]))
          eps = 0.01    float
              Added to the product of norms.
    """
    lines = []
    for setting in settings:
        lines.append(f"  {setting.name} = {setting.default or '(required)'}    {setting.type}")
        lines += textwrap.wrap(setting.words, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def parse_settings(cls: type[AnySettings], values: Mapping[str, Any], what: str, key: str) -> AnySettings:
    """Build a settings class from values as YAML, JSON or a command line gives them.

    Types are checked. Whole numbers become floats, and lists become tuples, if the field needs it. If YAML changed a
    word (`off` to false, `32` to a number), the word is restored.

    Args:
        cls: a dataclass.
        values: by name of the field.
        what: name of the whole in errors: `method otam`, `recipe`.
        key: name of one setting in errors: `option of otam`, `recipe key`.

    Raises:
        ValueError: an unknown name (the message names the nearest), a missing value, or a value of another type.

    Example:
        >>> parse_settings(Setting, {"name": "a", "type": "", "default": "", "words": 1}, "setting", "field")
        Traceback (most recent call last):
        ValueError: setting: words is 1; expected text
    """
    from jsonargparse import ArgumentError  # takes half a second

    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise ValueError(unknown(str(name), fields, key))
    for name, field in fields.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{what}: {key} {name!r} is missing; give it a value")
    for name, value in values.items():
        if value is None and hints[name] is not Any and types.NoneType not in get_args(hints[name]):
            raise ValueError(f"{what}: {name} is null; expected {_type_words(hints[name])}")
    try:
        written = {name: _as_written(as_list(value), hints[name]) for name, value in values.items()}
        checked = _parser(cls).parse_object(written, defaults=False)  # type: ignore[arg-type]  # `cls` fills them in
    except ArgumentError as error:
        found = re.search(r'Parser key "([^".]+)', str(error))
        if found is None or found[1] not in values:
            raise ValueError(f"{what}: {' '.join(str(error).split())}") from error
        name, got = found[1], as_yaml(values[found[1]])
        near = meant(got, list(map(as_yaml, choices_of(hints[name]))))
        raise ValueError(f"{what}: {name} is {got}; {near}expected {_type_words(hints[name])}") from error
    return cls(**checked.as_dict())


@cache
def _parser(cls: type) -> "ArgumentParser":
    """Build the reader of a settings class; cached, since building takes longer than reading."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls)
    return parser


def as_list(value: Any) -> Any:
    """Read a tuple as Python prints it, `(2, 3)` or `(2,)`, as the list that it is; leave anything else as it is.

    Example:
        >>> as_list("(2,)"), as_list("(a photo)"), as_list(3)
        ([2], '(a photo)', 3)
    """
    if not isinstance(value, str) or not re.fullmatch(r"\(\s*[\d.eE+-]+\s*(,\s*[\d.eE+-]+\s*)*,?\s*\)", value):
        return value
    return list(ast.literal_eval(value if "," in value else value[:-1] + ",)"))


def as_yaml(value: Any) -> str:
    """Write a value as YAML does, on one line: `true`, `null`, `[2, 3]`, `otam`.

    Example:
        >>> as_yaml((2, 3)), as_yaml(None), as_yaml(False), as_yaml({"own": 0.1}), as_yaml("otam")
        ('[2, 3]', 'null', 'false', '{own: 0.1}', 'otam')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_yaml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {as_yaml(one)}' for key, one in value.items())}}}"
    return str(value)


def read_yaml(text: str) -> Any:
    """Read YAML as `yaml.safe_load` does: only plain data. PyYAML's reader in C, if it is there, is ten times as fast.

    Args:
        text: of a file, or of one value.

    Returns:
        Dictionaries, lists, texts, numbers, true, false, None.

    Raises:
        yaml.YAMLError: it is no YAML.

    Example:
        >>> read_yaml("{way: 5, shots: [1, 5]}")
        {'way': 5, 'shots': [1, 5]}
    """
    import yaml

    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of settings classes that check their values when they are built.

    A subclass overrides `check` and `idle`. If it has `variants`, a field at None takes the value of the
    chosen `variant`.
    """

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Variant -> values of the fields that follow it; the field `variant` chooses."""
    before: ClassVar[Mapping[str, Any]] = {}
    """What files that lack a field mean by that, if it is not the field's default: they were written before it."""

    def __post_init__(self) -> None:
        for name, choices in _choices(type(self)).items():  # type: ignore[arg-type]
            if getattr(self, name) not in choices:
                got, known = as_yaml(getattr(self, name)), list(map(as_yaml, choices))
                expected = f"{meant(got, known)}expected one of: {', '.join(known)}"
                raise ValueError(f"{type(self).__qualname__}: {name} is {got}; {expected}")
        for name, value in self.followed().items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)  # the class is frozen
        self.check()

    def check(self) -> None:
        """Refuse values out of range.

        Raises:
            ValueError: names the field, what was expected, and the fix.
        """

    def idle(self) -> Iterable[tuple[bool, str, Sequence[str]]]:
        """List the settings that leave other fields without effect; by default none.

        Returns:
            For each such setting: whether it is chosen, its name in messages, and the fields without effect.
        """
        return ()

    def changed(self) -> dict[str, Any]:
        """Return the fields that differ from the defaults of the chosen variant, and the variant if it differs."""
        usual = {field.name: _default(field) for field in dataclasses.fields(self)} | dict(self.followed())
        return {name: value for name, value in dataclasses.asdict(self).items() if value != usual[name]}

    def refuse_idle(self, owner: str) -> None:
        """Refuse a changed field that has no effect beside another setting (`idle`).

        Args:
            owner: name of the whole, for the message: `clip-mdmf`.

        Raises:
            ValueError: the first field that has no effect.
        """
        for name, setting in self.without_effect().items():
            value = as_yaml(getattr(self, name))
            raise ValueError(f"{owner} got {name}: {value}, which has no effect with {setting}; leave one of them out")

    def without_effect(self) -> dict[str, str]:
        """Return the changed fields without effect, each with the setting that is the reason."""
        changed = self.changed()
        rules = (rule for rule in self.idle() if rule[0])
        return {name: setting for _, setting, names in rules for name in names if name in changed}

    def followed(self) -> Mapping[str, Any]:
        """Return the values of fields that were left at None; by default those of the chosen variant."""
        return self.variants[getattr(self, "variant")] if self.variants else {}  # noqa: B009


@cache
def _choices(cls: type) -> Mapping[str, tuple[Any, ...]]:
    """Fields of a class that allow only some values."""
    found = {name: choices_of(hint) for name, hint in get_type_hints(cls).items()}
    return {name: choices for name, choices in found.items() if choices}


def choices_of(hint: Any) -> tuple[Any, ...]:
    """Values that a `Literal` allows, with None if it is optional; nothing for another type.

    Example:
        >>> choices_of(Literal["both", "one"] | None), choices_of(float)
        (('both', 'one', None), ())
    """
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        parts = [choices_of(part) if part is not types.NoneType else (None,) for part in get_args(hint)]
        if all(parts) and any(part != (None,) for part in parts):
            return tuple(choice for part in parts for choice in part)
    return ()


def _as_written(value: Any, hint: Any) -> Any:
    """Restore a word that YAML changed: `off` to False, `on` to True, `32` to a number."""
    choices = choices_of(hint)
    if not choices or value in choices:
        return value
    word = ("on" if value else "off") if isinstance(value, bool) else str(value)
    return word if word in choices else value


def _variants(cls: type) -> Mapping[str, Mapping[str, Any]]:
    return cls.variants if issubclass(cls, Settings) else {}


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _type_words(hint: Any) -> str:
    choices = choices_of(hint)
    if choices:
        return " | ".join(map(as_yaml, choices))
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if part is types.NoneType else _type_words(part) for part in inside)
    if origin is tuple:
        count = "" if Ellipsis in inside else f"{len(inside)} "
        return f"list of {count}{_type_words(inside[0])}"
    if origin is dict:
        return f"mapping of {_type_words(inside[0])} to {_type_words(inside[1])}"
    return {bool: "true or false", str: "text", Any: "any value"}.get(hint, getattr(hint, "__name__", str(hint)))


def _docstrings(cls: type) -> dict[str, str]:
    """Return the docstrings under the fields of a class, without inherited fields."""
    from docstring_parser import parse_from_object

    if not inspect.isclass(cls) or cls.__module__ == "builtins":
        return {}
    found = parse_from_object(cls).params
    return {field.arg_name: " ".join((field.description or "").split()) for field in found}
