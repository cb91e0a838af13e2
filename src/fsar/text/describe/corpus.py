"""Ask a language model for the sub-actions of every class, and write them to a YAML file.

Each class is one request. After an unusable answer, the next request says what was wrong; otherwise, a model at
temperature 0 would repeat its answer.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import yaml

from fsar.config import read_yaml
from fsar.files import cache_dir, write_text_atomic
from fsar.progress import progress_bar
from fsar.text.describe.answers import INSTRUCTION, Ask, BadAnswer, TryAgain, checked_stages, parse_answer, shortened
from fsar.text.prompts import SubActions, dump_sub_actions, parse_sub_actions
from fsar.text.words import class_text

LONGEST_DELAY = 60.0
"""Seconds between two requests, unless the server asks for more."""
LONGEST_WAIT = 600.0
"""Seconds that a server may ask to wait; beyond that, the class fails."""
BLANK: SubActions = ("", "", "")
"""Sentences of a class in a template; a corpus that still has them is refused with the name of the class."""
TEMPLATE_COMMENT = "Fill in three sentences for every class: what its beginning, its process and its end look like."


@dataclass(frozen=True)
class AnswerCache:
    """Good answers of one model, one file per class, so that a failed or killed run can resume."""

    source: str
    """Base URL of the server, or `local`."""
    model: str

    def read(self, label: str) -> SubActions | None:
        """Read the sentences of a class text; None if they are missing or damaged."""
        try:
            return checked_stages(json.loads(self._file(label).read_text(encoding="utf-8"))["stages"], label)
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            return None

    def write(self, label: str, stages: SubActions) -> None:
        """Write the sentences of a class text."""
        write_text_atomic(self._file(label), json.dumps({"label": label, "stages": stages}, indent=1))

    def _file(self, label: str) -> Path:
        key = json.dumps([self.source, self.model, INSTRUCTION, label])
        return cache_dir() / "describe" / f"{sha256(key.encode()).hexdigest()[:32]}.json"


def describe(
    names: Sequence[str],
    ask: Ask,
    cache: AnswerCache | None = None,
    refresh: bool = False,
    retries: int = 5,
    sleep: Callable[[float], object] = time.sleep,
    progress: bool = False,
) -> dict[str, SubActions]:
    """Ask a language model for three sentences on every class: its beginning, its process and its end.

    Args:
        names: classes, in any form that `class_text` reads.
        ask: the model, as `endpoint` or `local_model` gives it.
        cache: keeps good answers; None keeps none.
        refresh: also ask for classes that the cache has.
        retries: how often to ask again for a class. The delay doubles each time.
        sleep: function that waits for some seconds.
        progress: show a progress bar.

    Returns:
        Class text -> beginning, process, end, in the order of `names`.

    Raises:
        ValueError: a name without words, two names with the same words, a model that cannot be asked, or a class
            without a good answer after the last retry. The message names the class and the last reason.

    Example:
        >>> describe(["Wave_Hand"], lambda instruction: '["A hand rises.", "It swings.", "It sinks."]')
        {'wave hand': ('A hand rises.', 'It swings.', 'It sinks.')}
    """
    if retries < 0:
        raise ValueError(f"retries is {retries}; expected 0 or more")
    labels = distinct_labels((name, class_text(name)) for name in names)
    corpus = {}
    with progress_bar(labels, "describe", "class", len(labels), progress) as bar:
        for label in bar:
            stages = None if cache is None or refresh else cache.read(label)
            if stages is None:
                stages = _ask_until_good(label, ask, retries, sleep, bar.set_postfix_str)
                if cache is not None:
                    cache.write(label, stages)
            corpus[label] = stages
    return corpus


def distinct_labels(classes: Iterable[tuple[str, str]]) -> list[str]:
    """Check that class texts have words and differ.

    Args:
        classes: (name, text) pairs; the name appears in messages.

    Returns:
        The texts.

    Raises:
        ValueError: a text without words, with unprintable characters, or with the words of another name.

    Example:
        >>> distinct_labels([("Long_Jump", "long jump"), ("wave", "wave")])
        ['long jump', 'wave']
    """
    names: dict[str, str] = {}
    for name, text in classes:
        if not text or not text.isprintable():
            raise ValueError(f"class {name!r} has no readable words; expected a name like 'long jump'")
        if text in names:
            raise ValueError(
                f"the classes {names[text]!r} and {name!r} are both read as {text!r}; rename one of them, or leave it "
                f"out"
            )
        names[text] = name
    return list(names)


def _ask_until_good(
    label: str, ask: Ask, retries: int, sleep: Callable[[float], object], note: Callable[[str], object]
) -> SubActions:
    """Ask until three usable sentences come back; `note` shows the reason of a retry."""
    instruction = INSTRUCTION.replace("{label}", label)
    complaint = ""
    for attempt in range(retries + 1):
        try:
            stages = parse_answer(ask(instruction + complaint), label)
        except TryAgain as error:
            if isinstance(error, BadAnswer):
                complaint = f"\nAn earlier answer could not be used: {error}."
            delay = min(2.0 ** min(attempt, 10), LONGEST_DELAY) if error.after is None else error.after
            if attempt == retries or delay > LONGEST_WAIT:
                wait = f"; the server asks to wait {delay:.0f} s" if delay > LONGEST_WAIT else ""
                tries = "try" if attempt == 0 else "tries"
                raise ValueError(
                    f"no usable answer for {label!r} after {attempt + 1} {tries}; the last one: {error}{wait}"
                ) from error
            note(f"{label}, again in {delay:g} s: {error}")
            sleep(delay)
        else:
            note("")
            return stages
    raise AssertionError("the last try returns or raises")


# --------------------------------------------------------------------------- files


def credit(model: str) -> str:
    """Comment at the head of a corpus that `model` wrote."""
    return (
        f"Beginning, process and end of every class, written by {model}.\n"
        f"Read the sentences and edit them: their order and facts are the model's."
    )


def read_to_extend(file: Path) -> tuple[str, dict[str, SubActions]]:
    """Read the head comment and the classes of a corpus, without classes that a template left blank.

    Args:
        file: a YAML file as `write_corpus` wrote it.

    Returns:
        The comment without its `#`, and class text -> beginning, process, end.

    Raises:
        ValueError: not a corpus.
    """
    try:
        text = file.read_text(encoding="utf-8")
        content = read_yaml(text)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: not YAML ({shortened(str(error))}); correct the file, or replace it") from error
    if isinstance(content, dict) and isinstance(content.get("classes"), dict):
        content["classes"] = {name: stages for name, stages in content["classes"].items() if stages != list(BLANK)}
        corpus = parse_sub_actions(yaml.safe_dump(content, sort_keys=False), str(file))
    else:
        corpus = parse_sub_actions(text, str(file))  # raises an error that says what is missing
    head = re.match(r"(?:#.*\n)*", text)
    return "\n".join(line[1:].strip() for line in (head[0] if head else "").splitlines()), corpus


def write_corpus(file: Path, corpus: dict[str, SubActions], comment: str) -> None:
    """Write a corpus, whole or not at all.

    Args:
        file: the YAML file.
        corpus: class text -> beginning, process, end.
        comment: lines for the head of the file.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_corpus(Path(folder) / "mine.yaml", {"wave": ("Up.", "To and fro.", "Down.")}, "Mine.")
        ...     read_to_extend(Path(folder) / "mine.yaml")
        ('Mine.', {'wave': ('Up.', 'To and fro.', 'Down.')})
    """
    write_text_atomic(file, dump_sub_actions(corpus, comment))
