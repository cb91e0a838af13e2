"""The corpus of sub-actions: three stages for every class of every split, specific, ordered, short enough."""

import json
import re
from pathlib import Path

import open_clip
import pytest
import yaml

import fsar
from fsar.text.prompts import SUB_ACTION_PROMPT, dump_sub_actions, read_sub_actions, sub_actions
from fsar.text.words import class_text
from tests.conftest import SHARED, needs_shared

FOLDER = Path(fsar.__file__).parent / "text" / "subactions"
FILES = sorted(file.stem for file in FOLDER.glob("*.yaml"))
LISTS = {"kinetics100": "kinetics_CMN", "hmdb51": "hmdb_ARN", "ucf101": "ucf_ARN", "ssv2-small": "ssv2_CMN"}


def stages(name: str) -> dict[str, list[str]]:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))["classes"]


@pytest.mark.parametrize("name", FILES)
def test_every_class_has_three_distinct_sentences_within_clips_tokens(name: str) -> None:
    tokenize = open_clip.get_tokenizer("ViT-B-32")
    seen = set()
    for label, sentences in stages(name).items():
        assert label == class_text(label)
        assert len(sentences) == 3 and all(sentence.strip() for sentence in sentences)
        assert not seen & set(sentences) and len(set(sentences)) == 3, label
        seen |= set(sentences)
        for sentence in sentences:
            prompt = SUB_ACTION_PROMPT.format(label=label, sentence=sentence)
            tokens = tokenize([prompt], context_length=200)  # not cut at 77
            assert int(tokens.argmax()) < 77, sentence  # the end token has the highest id


NEGATIONS = re.compile(r"\b(not|never|without|no|nothing|nobody|nowhere|[a-z]+n't)\b", re.IGNORECASE)


@pytest.mark.parametrize("name", [name for name in FILES if name != "world"])
def test_no_sentence_rests_on_a_negation(name: str) -> None:
    """CLIP hardly reads one: it sees what is named. The generated world's sentences are as `tiny` was trained."""
    assert not [s for sentences in stages(name).values() for s in sentences if NEGATIONS.search(s)]


@needs_shared
@pytest.mark.parametrize("name", [name for name in FILES if name in LISTS])
def test_every_class_of_every_split_is_there(name: str) -> None:
    assert SHARED is not None
    folder = SHARED / "splits" / "trx" / LISTS[name]
    lines = [line for file in folder.iterdir() for line in file.read_text().splitlines() if line]
    assert stages(name).keys() == {class_text(line.rpartition("/")[0]) for line in lines}


@needs_shared
def test_ssv2_full_has_its_own_classes() -> None:
    assert SHARED is not None
    names = json.loads((SHARED / "splits" / "ssv2_full_class_names.json").read_text())
    values = names.values() if isinstance(names, dict) else names
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    full, small = stages("ssv2-full"), stages("ssv2-small")
    assert full.keys() <= {class_text(label) for label in flat} and len(full) == 100
    shared = full.keys() & small.keys()
    assert len(shared) == 55 and all(full[label] == small[label] for label in shared)


def test_the_world_has_its_own() -> None:
    from fsar.datasets.world_actions import ACTIONS

    assert stages("world").keys() == {class_text(action.text) for action in ACTIONS}


def test_a_class_has_the_same_sentences_in_any_company() -> None:
    """`fencing` is a class of HMDB51 and of UCF101, with other sentences in each."""
    assert sub_actions(["fencing", "yo yo"], "ucf101")[0] != sub_actions(["fencing"], "hmdb51")[0]
    with pytest.raises(ValueError, match="hmdb51 and ucf101 describe 'fencing' differently.*sub_actions: hmdb51"):
        sub_actions(["fencing", "yo yo"])
    assert sub_actions(["yo yo", "clap"]) == [*sub_actions(["yo yo"], "ucf101"), *sub_actions(["clap"], "hmdb51")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("classes: [", "not YAML"),
        ("a: b", "not a corpus of sub-actions"),
        ("version: 2\nclasses: {}", "version is 2; this fsar reads 1"),
        ("version: 1\nclasses: {wave: [a, b]}", "'wave' has .*three different sentences"),
        ("version: 1\nclasses: {wave: [a, b, b]}", "three different sentences"),
        ("version: 1\nclasses: {wave: [a, b, '']}", "three different sentences"),
        ("version: 1\nclasses: {clap: [a, b, c]}", "no sub-actions for 1 of 1 classes"),
    ],
)
def test_what_is_wrong_with_a_corpus_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        sub_actions(["wave"], str(file))
    with pytest.raises(ValueError, match="unknown corpus of sub-actions 'hmdb'"):
        sub_actions(["wave"], "hmdb")


def test_a_corpus_is_written_as_it_is_read(tmp_path: Path) -> None:
    corpus = {"wave: a hand": ("it rises", "it's swung", "42")}
    (tmp_path / "mine.yaml").write_text(dump_sub_actions(corpus, "by hand\nlater"))
    assert read_sub_actions(str(tmp_path / "mine.yaml")) == corpus


@pytest.mark.parametrize("form", ["{label: fence, sub_act_en_li: [salute, lunge, parry]}", "[salute, lunge, parry]"])
def test_the_public_codes_corpus_is_read(tmp_path: Path, form: str) -> None:
    """Classes at the top of the file, each with its sentences."""
    (tmp_path / "classes_hmdb51.yml").write_text(f"Fencing: {form}\nride_bike: {form}\n")
    read = read_sub_actions(str(tmp_path / "classes_hmdb51.yml"))
    assert read == dict.fromkeys(("fencing", "ride bike"), ("salute", "lunge", "parry"))
