"""All classes of a corpus: told apart, kept, asked for once."""

from pathlib import Path

import pytest

from fsar.text.describe import AnswerCache, describe, endpoint
from tests.language_model import Server, good, status


def test_names_are_told_apart_by_their_words() -> None:
    with pytest.raises(ValueError, match="'Long_Jump' and 'long jump' are both read as 'long jump'; rename one"):
        describe(["Long_Jump", "wave", "long jump"], lambda _: "")
    for name in ("", "__", "a\x00b", "a\udcffb"):
        with pytest.raises(ValueError, match="has no readable words"):
            describe([name], lambda _: "")


def test_a_failed_run_resumes(server: Server) -> None:
    cache = AnswerCache(server.url, "m")
    ask = endpoint(server.url, "m")
    server.script = [good, good, status(401, "expired")]
    with pytest.raises(ValueError, match="401: expired"):
        describe(["a", "b", "c", "d"], ask, cache)
    corpus = describe(["a", "b", "c", "d"], ask, cache)
    assert list(corpus) == ["a", "b", "c", "d"] and server.asked == ["a", "b", "c", "c", "d"]
    describe(["d", "a"], ask, cache, refresh=True)
    assert server.asked[5:] == ["d", "a"]
    describe(["a"], ask, AnswerCache(server.url, "other"))
    describe(["a"], ask, AnswerCache("http://elsewhere", "m"))
    describe(["a"], ask)
    assert server.asked[7:] == ["a", "a", "a"]


def test_a_spoilt_cache_is_asked_for_again(server: Server, tmp_path: Path) -> None:
    cache, ask = AnswerCache(server.url, "m"), endpoint(server.url, "m")
    for spoilt in ("", "[]", '{"stages": ["a", "b"]}', '{"stages": "abc"}'):
        describe(["a"], ask, cache)
        (file,) = (tmp_path / "cache" / "describe").iterdir()
        file.write_text(spoilt)
        assert cache.read("a") is None
    assert server.asked == ["a"] * 4
