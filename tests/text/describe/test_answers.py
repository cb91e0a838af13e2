"""Three sentences out of an answer."""

import json

import pytest

from fsar.text.describe import BadAnswer, clip_tokens, parse_answer


def test_a_list_is_found_in_its_surroundings() -> None:
    wanted = ("One.", "Two [sic].", "Three.")
    text = '["One.", "Two\\n [sic].", "Three."]'
    for answer in (
        text,
        f"```json\n{text}\n```",
        f"Sure [see 1]: {text}. Anything else?",
        f'<think>["a", "b", "c"] perhaps?</think>{text}',
        f'{{"stages": {text}}}',
        f"{text}\nAgain: {text}",
    ):
        assert parse_answer(answer, "wave") == wanted
    with pytest.raises(BadAnswer):
        parse_answer(f"[{text}]", "wave")


def test_sentences_are_measured_with_their_class_as_clip_does() -> None:
    assert clip_tokens("wave") == 3 and clip_tokens("wave" + " !" * 10) == 13 and clip_tokens("wave " * 500) == 200
    room = 77 - clip_tokens("A video of action about wave: ")
    answer = json.dumps(["One.", "Two.", " ".join(["wave"] * room)])
    assert parse_answer(answer, "wave")
    with pytest.raises(BadAnswer, match="is too long: 79 tokens"):
        parse_answer(answer, "long long wave")
