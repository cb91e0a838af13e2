"""The instruction for a language model, and the three sentences of its answer.

The first sentence of the instruction is Task-Adapter++'s (section 3.5). The rest asks for the form of the answer and is
ours.
"""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import open_clip

from fsar.text.prompts import SUB_ACTION_PROMPT, SubActions

INSTRUCTION = (
    "Given an action label {label}, describe three stages of the action.\n"
    "Answer with nothing but a JSON list of exactly three short sentences: what the beginning of the action looks "
    "like, what its process looks like, and what its end looks like. Each sentence has at most 25 words and shows "
    "what can be seen."
)
CLIP_TOKENS = 77
LONGEST_ANSWER = 20_000
"""Longest answer in characters, without the thoughts before it."""

Ask = Callable[[str], str]
"""A language model: instruction -> answer."""


class TryAgain(ValueError):
    """A temporary failure: ask the model again.

    Args:
        reason: what failed.
        after: seconds to wait, if the server said so.
    """

    def __init__(self, reason: str, after: float | None = None):
        super().__init__(reason)
        self.after = after


class BadAnswer(TryAgain):
    """An answer without three usable sentences."""


def parse_answer(text: str, label: str) -> SubActions:
    """Read three sentences from an answer: one JSON list of three texts, whatever surrounds the list.

    Args:
        text: the answer; everything up to `</think>` is skipped.
        label: the class text, which counts towards CLIP's tokens.

    Returns:
        Beginning, process and end.

    Raises:
        BadAnswer: no such list, several different ones, or sentences that are empty, equal, or too long for CLIP.

    Example:
        >>> parse_answer('Sure: ["A hand rises.", "It swings.", "It sinks."]', "wave")
        ('A hand rises.', 'It swings.', 'It sinks.')
    """
    text = text.rpartition("</think>")[2]
    if len(text) > LONGEST_ANSWER:
        raise BadAnswer(f"the answer has {len(text)} characters; expected three short sentences")
    lists = _json_lists(text)
    if not lists:
        raise BadAnswer(f"the answer has no JSON list (it begins {shortened(text, 60)!r})")
    fitting = [found for found in lists if len(found) == 3 and all(isinstance(item, str) for item in found)]
    if len(fitting) > 1 and any(found != fitting[0] for found in fitting):
        raise BadAnswer(f"the answer has {len(fitting)} different lists of three sentences; expected one")
    return checked_stages(fitting[0] if fitting else lists[-1], label)


def checked_stages(found: Any, label: str) -> SubActions:
    """Check that a JSON value is three different sentences that CLIP can read.

    Args:
        found: the value.
        label: the class text, which counts towards CLIP's tokens.

    Returns:
        Beginning, process and end, with single spaces between words.

    Raises:
        BadAnswer: anything else.
    """
    if not isinstance(found, list) or len(found) != 3:
        number = len(found) if isinstance(found, list) else "no"
        raise BadAnswer(f"the list has {number} items; expected exactly three sentences")
    if not all(isinstance(item, str) and item.strip() for item in found):
        raise BadAnswer("an item of the list is empty or not a text; expected three sentences")
    sentences = [" ".join(item.split()) for item in found]
    if not all(sentence.isprintable() for sentence in sentences):
        raise BadAnswer("a sentence has characters that cannot be shown; expected plain text")
    if len({sentence.casefold() for sentence in sentences}) != 3:
        raise BadAnswer("two sentences are equal; expected three different stages")
    for sentence in sentences:
        if (tokens := clip_tokens(SUB_ACTION_PROMPT.format(label=label, sentence=sentence))) > CLIP_TOKENS:
            raise BadAnswer(
                f"the sentence {shortened(sentence, 60)!r} is too long: {tokens} tokens with the class; CLIP reads "
                f"{CLIP_TOKENS}"
            )
    return sentences[0], sentences[1], sentences[2]


def clip_tokens(text: str) -> int:
    """Count the tokens that CLIP makes of a text, with its start and end token; 200 means 200 or more.

    Example:
        >>> clip_tokens("wave")
        3
    """
    return int(_tokenizer()([text], context_length=200)[0].argmax()) + 1  # the end token has the highest id


def shortened(text: str, length: int = 200) -> str:
    """Turn any text into one line that is safe to print.

    Args:
        text: for example, an answer of a server.
        length: longest result, in characters.

    Returns:
        The text with unprintable characters and line breaks as spaces, cut to `length`.

    Example:
        >>> shortened("first line\\nsecond line", 16)
        'first line se...'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 10 * length]).split())
    return line if len(line) <= length else line[: length - 3] + "..."


def _json_lists(text: str) -> list[list[Any]]:
    """Find every outermost JSON list in a text."""
    decoder = json.JSONDecoder()
    lists = []
    start = text.find("[")
    while start >= 0:
        end = start + 1
        try:
            found, end = decoder.raw_decode(text, start)
            lists.append(found)
        except ValueError:
            pass  # a bracket of the surrounding text
        except RecursionError:
            break  # nothing but brackets
        start = text.find("[", end)
    return lists


@cache
def _tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.get_tokenizer("ViT-B-32")
