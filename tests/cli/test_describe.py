"""`fsar describe`: a corpus, a template, an existing file, mistakes."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fsar import cli
from fsar.text.prompts import parse_sub_actions, read_sub_actions
from tests.language_model import KEY, Server, good, running_server, says, stages, status
from tests.processes import forked


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A running server; the cache is the test's own, and no key is set."""
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with running_server() as running:
        yield running


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fsar(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`fsar describe` within this process, in a folder of its own: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(["describe", *words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err and KEY not in said.out + said.err
        return code, said.out, said.err

    return run


def test_a_killed_run_resumes(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    for label in ("Long_Jump", "High_Jump", "Wave"):
        (tmp_path / "data" / label).mkdir(parents=True)
        (tmp_path / "data" / label / "1.mp4").touch()
    words = ("--data", "data", "--out", "new/mine.yaml", "--base-url", server.url, "--model", "tiny-llm")
    asking = tmp_path / "asking"  # the number of the process
    server.script = [good, good, lambda _: os.kill(int(asking.read_text()), signal.SIGKILL)]
    first = forked("describe", *words, before=lambda: asking.write_text(str(os.getpid())))
    assert first.returncode == -signal.SIGKILL
    assert KEY not in first.stdout + first.stderr and not (tmp_path / "new").exists()

    second = forked("describe", *words)
    said, wrong = second.stdout, second.stderr
    assert second.returncode == 0 and "Traceback" not in wrong and KEY not in said + wrong
    assert server.asked == ["high jump", "long jump", "wave", "wave"]
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    file = tmp_path / "new" / "mine.yaml"
    assert read_sub_actions(str(file)) == {label: tuple(stages(label)) for label in ("high jump", "long jump", "wave")}
    head = file.read_text().splitlines()[:2]
    assert f"written by tiny-llm ({server.url})" in head[0]
    assert "Read the sentences and edit them: their order and facts are the model's" in head[1]
    assert said.splitlines()[-1] == (
        "then: fsar evaluate --data data --method task-adapter-pp:sub_actions=new/mine.yaml"
    )
    assert "Someone is done with wave." in said
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(kept) == 3 and not any(KEY in path.read_text() for path in (*kept, file))


def test_a_failed_run_says_what_it_keeps(server: Server, fsar: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    words = ("a", "b", "c", "--out", "f.yaml", "--base-url", server.url, "--model", "m", "--retries", "0")
    server.script = [good, says(f"no, {KEY}")]
    code, said, wrong = fsar(*words)
    assert code == 2 and not said and not Path("f.yaml").exists()
    message = wrong.splitlines()[-1]
    assert message.startswith(
        "fsar: error: no usable answer for 'b' after 1 try; the last one: the answer has no JSON list"
    )
    assert message.endswith("1 of the 3 classes are described and kept; run the same command again to resume")
    assert fsar(*words)[0] == 0
    assert server.asked == ["a", "b", "b", "c"]
    server.script = [status(401, f"bad key {KEY}")]
    code, _, wrong = fsar("d", *words[3:8], "m2", "--force")
    assert code == 2 and "bad key [key]; set OPENAI_API_KEY" in wrong and "kept" not in wrong


def test_without_a_model_there_is_a_template_to_fill_in(fsar: Run) -> None:
    code, said, _ = fsar("LongJump", "wave", "--out", "mine.yaml")
    assert code == 0 and "a template, because no model was given" in said and "--base-url URL --model NAME" in said
    text = Path("mine.yaml").read_text()
    assert text.startswith("# Fill in three sentences for every class")
    with pytest.raises(
        ValueError, match=r"mine\.yaml: 'long jump' has \['', '', ''\]; expected three different sentenc"
    ):
        read_sub_actions("mine.yaml")
    for place, sentence in enumerate((*stages("long jump"), *stages("wave"))):
        assert text.count("''") == 6 - place
        text = text.replace("''", sentence, 1)
    assert parse_sub_actions(text, "mine.yaml") == {
        "long jump": tuple(stages("long jump")),
        "wave": tuple(stages("wave")),
    }


def test_an_existing_file_is_refused_replaced_or_extended(server: Server, fsar: Run) -> None:
    model = ("--base-url", server.url, "--model", "m")
    own = "# Mine.\nversion: 1\nclasses:\n  Wave: [Up., To and fro., Down.]\n  clap: ['', '', '']\n"
    file = Path("mine.yaml")
    file.write_text(own)
    code, _, wrong = fsar("wave", "clap", "bow", "--out", "mine.yaml", *model)
    assert code == 2 and "mine.yaml exists; add --extend" in wrong and "--force" in wrong
    assert file.read_text() == own and not server.bodies

    code, said, _ = fsar("wave", "clap", "bow", "--out", "mine.yaml", *model, "--extend")
    assert code == 0 and "2 new classes" in said and server.asked == ["clap", "bow"]
    assert list(read_sub_actions("mine.yaml").items()) == [
        ("wave", ("Up.", "To and fro.", "Down.")),
        ("clap", tuple(stages("clap"))),
        ("bow", tuple(stages("bow"))),
    ]
    head = file.read_text().splitlines()[:3]
    assert head[0] == "# Mine." and f"written by m ({server.url})" in head[1]

    before = file.read_text()
    assert "nothing to describe: mine.yaml has all" in fsar("bow", "--out", "mine.yaml", *model, "--extend")[1]
    assert file.read_text() == before
    assert fsar("hop", "--out", "mine.yaml", *model, "--extend")[0] == 0
    assert file.read_text().count("written by") == 1 and list(read_sub_actions("mine.yaml"))[-1] == "hop"
    assert fsar("hop", "--out", "mine.yaml", *model, "--force")[0] == 0
    assert list(read_sub_actions("mine.yaml")) == ["hop"] and "Mine." not in file.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not YAML"),
        (b"\xff", "not YAML"),
        ("a: b", "not a corpus"),
        ("version: 2\nclasses: {}\n", "version is 2"),
        ("version: 1\nclasses: {a: [b, '', c]}", "'a' has"),
    ],
)
def test_what_is_no_corpus_is_not_extended(fsar: Run, text: str | bytes, message: str) -> None:
    content = text if isinstance(text, bytes) else text.encode()
    Path("f.yaml").write_bytes(content)
    code, _, wrong = fsar("wave", "--out", "f.yaml", "--extend")
    assert code == 2 and f"f.yaml: {message}" in wrong and Path("f.yaml").read_bytes() == content


SERVED = ("--base-url", "http://localhost:9/v1", "--model", "m")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "f.yaml"), "give either the names of classes, or --data"),
        (("wave", "--data", "d", "--out", "f.yaml"), "give either the names of classes, or --data"),
        (("--data", "nowhere", "--out", "f.yaml"), "nowhere: no such folder"),
        (("wave", "--out", "hmdb51"), "expected a name that ends in .yaml"),
        (("wave", "--out", "folder.yaml", "--force"), "folder.yaml is a folder"),
        (("Wave", "wave", "--out", "f.yaml"), "'Wave' and 'wave' are both read as 'wave'"),
        (("wave", "--out", "f.yaml", "--force", "--extend"), "give one of them"),
        (("wave", "--out", "f.yaml", "--local", "x", *SERVED), "give one of them"),
        (("wave", "--out", "f.yaml", *SERVED[:2]), "--base-url needs --model NAME"),
        (("wave", "--out", "f.yaml", "--model", "m"), "--model has no effect without --base-url"),
        (("wave", "--out", "f.yaml", "--local", "x", "--timeout", "3"), "--timeout has no effect without --base-url"),
        (("wave", "--out", "f.yaml", "--refresh"), "--refresh has no effect without --base-url URL or --local"),
        (("wave", "--out", "f.yaml", "--skip-missing"), "--skip-missing has no effect without --lists"),
        (("wave", "--out", "f.yaml", *SERVED, "--retries", "-1"), "retries is -1"),
        (("wave", "--out", "f.yaml", "--base-url", "file:///etc/passwd", "--model", "m"), "expected http(s)://HOST"),
        (("wave", "--out", "f.yaml", "--base-urls", "x"), "did you mean '--base-url'"),
    ],
)
def test_mistakes_are_named(fsar: Run, words: tuple[str, ...], message: str) -> None:
    Path("folder.yaml").mkdir()
    code, said, wrong = fsar(*words)
    assert code == 2 and not said and message in wrong and not Path("f.yaml").exists()


def test_two_folders_with_the_same_words_are_named(fsar: Run) -> None:
    for label in ("Long_Jump", "LongJump"):
        Path("data", label).mkdir(parents=True)
        Path("data", label, "1.mp4").touch()
    code, _, wrong = fsar("--data", "data", "--out", "f.yaml")
    assert code == 2 and "the classes 'LongJump' and 'Long_Jump' are both read as 'long jump'" in wrong
