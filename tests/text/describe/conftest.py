"""A running server of a language model."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.language_model import Server, running_server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A running server; the cache is the test's own, and no key is set."""
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with running_server() as running:
        yield running
