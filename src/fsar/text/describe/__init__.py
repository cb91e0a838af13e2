"""Sub-actions of your own classes, written by a language model.

    ask = endpoint("http://localhost:8000/v1", "my-model")       # or local_model("/models/my-model")
    corpus = describe(["long jump", "high jump"], ask)
    write_corpus(Path("mine.yaml"), corpus, credit("my-model"))

`answers` reads an answer, `endpoint` and `local` ask a model, `corpus` asks for all classes and writes the file.
"""

from fsar.text.describe.answers import INSTRUCTION, Ask, BadAnswer, TryAgain, clip_tokens, parse_answer
from fsar.text.describe.corpus import (
    BLANK,
    TEMPLATE_COMMENT,
    AnswerCache,
    credit,
    describe,
    distinct_labels,
    read_to_extend,
    write_corpus,
)
from fsar.text.describe.endpoint import checked_base_url, endpoint
from fsar.text.describe.local import local_model

__all__ = [
    "BLANK",
    "INSTRUCTION",
    "TEMPLATE_COMMENT",
    "AnswerCache",
    "Ask",
    "BadAnswer",
    "TryAgain",
    "checked_base_url",
    "clip_tokens",
    "credit",
    "describe",
    "distinct_labels",
    "endpoint",
    "local_model",
    "parse_answer",
    "read_to_extend",
    "write_corpus",
]
