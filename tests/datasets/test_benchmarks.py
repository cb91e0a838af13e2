"""The registered benchmarks: what they are, getting their lists, and finding their videos."""

import os
import random
import re
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from fsar import cli
from fsar.backbones import Backbone
from fsar.cli.evaluate import _check
from fsar.cli.options import load_dataset
from fsar.datasets import SPLITS, VideoDataset, benchmarks, load_benchmark, splits
from fsar.datasets.benchmarks import BENCHMARKS, benchmark, refuse_mixing
from fsar.datasets.splits import Recognised, fetch_lists, import_lists, recognise
from fsar.methods import build_method
from fsar.text.words import class_text
from tests.conftest import SHARED, needs_shared

LISTS = (SHARED or Path()) / "splits"
COUNTS = {  # classes, videos: of the specification
    "ucf101@arn": ((70, 10, 21), (9154, 1421, 2745)),
    "hmdb51@arn": ((31, 10, 10), (4280, 1194, 1292)),
    "kinetics100@cmn": ((64, 12, 24), (6400, 1200, 2400)),
    "kinetics100@clip-fsar": ((64, 12, 24), (6400, 1200, 2400)),
    "ssv2-small@cmn": ((64, 12, 24), (6400, 1200, 2400)),
    "ssv2-full@otam-67k": ((64, 12, 24), (67013, 1926, 2857)),
    "ssv2-full@otam-77k": ((64, 12, 24), (77500, 1926, 2857)),
}
SETS = {  # what the shared folder has of each
    "ucf101@arn": ["trx/ucf_ARN/*.txt"],
    "hmdb51@arn": ["trx/hmdb_ARN/*.txt"],
    "kinetics100@cmn": ["trx/kinetics_CMN/*.txt"],
    "kinetics100@clip-fsar": ["clip-fsar/kinetics100/*.txt"],
    "ssv2-small@cmn": ["trx/ssv2_CMN/*.txt"],
    "ssv2-full@otam-67k": ["trx/ssv2_OTAM/*.txt"],
    "ssv2-full@otam-77k": ["clip-spm/ssv2_OTAM/train*.txt", "trx/ssv2_OTAM/[tv][ea][sl]*.txt"],
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lists that one test gets are in no other's way."""
    monkeypatch.setenv("FSAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files_of(name: str) -> list[Path]:
    return [file for pattern in SETS[name] for file in sorted(LISTS.glob(pattern))]


def touch(root: Path, *names: str) -> Path:
    for folder in {os.path.dirname(name) for name in names}:
        os.makedirs(root / folder, exist_ok=True)
    for name in names:  # thousands, and `Path.touch` is slow
        open(f"{root}/{name}", "ab").close()
    return root


# --------------------------------------------------------------------------- the registry


@pytest.mark.parametrize("name", BENCHMARKS)
def test_counts_are_those_of_the_specification(name: str) -> None:
    known = benchmark(name)
    classes, videos = COUNTS[name]
    assert tuple(len(known.classes[split]) for split in SPLITS) == classes
    assert tuple(known.counts[split] for split in SPLITS) == videos
    assert len(known.splits) == sum(classes)  # no class in two splits
    assert all(class_text(label) == label for label in known.splits)
    assert known.name == name and known.family == name.split("@")[0]


def test_versions_differ_where_they_should() -> None:
    small, large = benchmark("ssv2-full@otam-67k"), benchmark("ssv2-full@otam-77k")
    same = {split: small.hashes[split] == large.hashes[split] for split in SPLITS}
    assert same == {"train": False, "val": True, "test": True} and small.classes == large.classes
    cmn, other = benchmark("kinetics100@cmn"), benchmark("kinetics100@clip-fsar")
    assert all(cmn.hashes[split] != other.hashes[split] for split in SPLITS) and cmn.classes == other.classes


def test_names_of_benchmarks() -> None:
    assert benchmark("hmdb51").name == "hmdb51@arn"
    with pytest.raises(ValueError, match="several versions, .*: ssv2-full@otam-67k, ssv2-full@otam-77k; name one"):
        benchmark("ssv2-full")
    with pytest.raises(ValueError, match="unknown benchmark 'kinetics100@cnm'; did you mean 'kinetics100@cmn'"):
        benchmark("kinetics100@cnm")


def test_class_names_however_they_are_written() -> None:
    ucf = benchmark("ucf101@arn")
    assert {ucf.label(name) for name in ("HandstandPushups", "HandStandPushups", "handstand pushups")} == {
        "handstand pushups"
    }
    assert ucf.label("Juggling") is None


@needs_shared
def test_the_registry_is_what_the_published_lists_say() -> None:
    """Read again by other code: the hash of every file and of every list."""
    rows = re.findall(
        r"\| (\S+txt) \| (\S+) \| (\S+) \| (\d+) \| (\d+) \| (\w{64}) \|", (LISTS / "README.md").read_text()
    )
    local = {(repository, path, digest): (file, int(lines)) for file, repository, path, lines, _, digest in rows}
    assert len(local) == 22
    for name in BENCHMARKS:
        known = benchmark(name)
        everything = []
        for split in SPLITS:
            sources = [source for source in known.published if source.split == split]
            texts = []
            for source in sources:
                file, lines = local[source.repository, source.path, source.sha256]
                texts.append((LISTS / file).read_text().split("\n")[:-1])
                assert len(texts[-1]) == lines == known.counts[split]
            hashed = {_hash(plain := _plain(known, split, text)) for text in texts}
            assert hashed == {known.hashes[split]}, (name, split)
            everything += plain
        assert _hash(everything) == known.fingerprint


_words = lru_cache(maxsize=None)(class_text)


def _plain(known: benchmarks.Benchmark, split: str, lines: list[str]) -> list[str]:
    read = []
    for line in lines:
        label, video = line.rsplit("/", 1)
        video = video.removesuffix(".mp4")[: 11 if known.family == "kinetics100" else None]
        label = label.split("/")[-1]
        if label.removeprefix(split).isdigit():
            label = known.classes[split][int(label.removeprefix(split))]
        words = _words(label)
        read.append(f"{split}\t{words}\t{words}/{video}")
    return read


def _hash(lines: list[str]) -> str:
    return sha256("\n".join(sorted(lines)).encode()).hexdigest()


# --------------------------------------------------------------------------- list files that people have


@needs_shared
@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_set_of_files_names_its_version(name: str) -> None:
    found = import_lists(files_of(name))
    assert (found.name, found.versions) == (name, (name,))
    known = benchmark(name)
    listed = [(split, *entry) for split in SPLITS for entry in known.stored(split) or ()]
    assert len(listed) == sum(known.counts.values())


@needs_shared
def test_two_texts_of_one_list_are_one(cache: Path) -> None:
    ours = recognise(files_of("ssv2-small@cmn"))
    numbered = recognise(sorted((LISTS / "clip-fsar/ssv2_small").glob("*.txt")))
    assert numbered == ours and not cache.exists()  # recognising alone keeps nothing


@needs_shared
def test_lists_of_clip_spm_number_classes_over_all_splits(tmp_path: Path) -> None:
    known = benchmark("ssv2-small@cmn")
    first = {"test": 0, "train": 24, "val": 88}
    for file in sorted((LISTS / "clip-fsar/ssv2_small").glob("*.txt")):
        split = file.name.partition("_")[0]
        lines = (line.removeprefix(split).split("/") for line in file.read_text().splitlines())
        numbers = "\n".join(f"{split}{int(number) + first[split]}/{video}" for number, video in lines)
        (tmp_path / f"{split}list03.txt").write_text(numbers)
    assert recognise(sorted(tmp_path.glob("*.txt"))).versions == (known.name,)


@needs_shared
def test_order_line_ends_and_marks_do_not_matter(tmp_path: Path) -> None:
    lines = [line for file in files_of("kinetics100@cmn") for line in file.read_text().splitlines()]
    random.Random(0).shuffle(lines)
    text = "\r\n".join([*lines[:50], "", "   ", *lines[50:]])  # and no last line end
    (tmp_path / "all of it.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert recognise([tmp_path / "all of it.txt"]).name == "kinetics100@cmn"
    bare = [re.sub(r"(_\d{6}){2}$", ".mp4", line.replace(" ", "_")) for line in lines]  # as others write them
    (tmp_path / "bare.txt").write_text("\n".join(bare))
    assert recognise([tmp_path / "bare.txt"]).name == "kinetics100@cmn"


@needs_shared
def test_val_and_test_alone_leave_train_undecided(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    val, test, train = (LISTS / f"trx/ssv2_OTAM/{split}list07.txt" for split in ("val", "test", "train"))
    assert cli.main(["splits", "import", str(val), str(test)]) == 0
    told = capsys.readouterr().out
    assert "ssv2-full@otam: val (1,926 videos), test (2,857 videos)" in told
    assert "train not given, so the version is open: ssv2-full@otam-67k or ssv2-full@otam-77k" in told
    with pytest.raises(ValueError, match="ssv2-full@otam-77k: its train list is not here; `fsar splits fetch ssv2-ful"):
        load_benchmark("ssv2-full@otam-77k", tmp_path)
    assert cli.main(["splits", "import", str(train)]) == 0
    told = capsys.readouterr().out
    assert "ssv2-full@otam-67k: train (67,013 videos)" in told and "all lists are here" in told
    with pytest.raises(ValueError, match="none of the 71796 videos"):
        load_benchmark("ssv2-full@otam-67k", tmp_path)


CHANGES: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "lost": (lambda lines: lines[10:], r"has \d+ videos, not \d+.*\(10 missing: "),
    "doubled": (lambda lines: lines + lines[:10], r"has \d+ videos, not \d+"),
    "others": (
        lambda lines: [re.sub("/(?=[^/]*$).", "/@", line) for line in lines[:10]] + lines[10:],
        r"has other videos.*10 missing.*10 extra",
    ),
    "moved": (lambda lines: [_moved(lines, line) for line in lines[:10]] + lines[10:], r"has \d+ videos, not \d+"),
    "foreign": (
        lambda lines: [f"Juggling/{i}" for i in range(10)] + lines[10:],
        r"10 lines are of classes that it lacks",
    ),
}


def _moved(lines: list[str], line: str) -> str:
    """The video under another class of the list."""
    classes = sorted({other.rpartition("/")[0] for other in lines})
    label, _, video = line.rpartition("/")
    return f"{classes[(classes.index(label) + 1) % len(classes)]}/{video}"


@needs_shared
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["hmdb51@arn", "kinetics100@cmn", "ssv2-small@cmn", "ssv2-full@otam-67k"])
def test_ten_changed_lines_are_told_apart(name: str, change: str, tmp_path: Path) -> None:
    (test,) = (file for file in files_of(name) if file.name.startswith("test"))
    import_lists([test])
    kept = benchmark(name).file("test").read_bytes()
    lines = test.read_text().splitlines()
    random.Random(1).shuffle(lines)
    edit, message = CHANGES[change]
    (tmp_path / "test.txt").write_text("\n".join(edit(lines)))
    with pytest.raises(
        ValueError, match=f"not registered lists; the most similar are those of {name}.*{message}.*nothing was stored"
    ):
        import_lists([tmp_path / "test.txt"])
    assert benchmark(name).file("test").read_bytes() == kept


@needs_shared
def test_lists_of_two_versions_are_not_one(cache: Path) -> None:
    train, test = LISTS / "trx/kinetics_CMN/trainlist03.txt", LISTS / "clip-fsar/kinetics100/test_few_shot.txt"
    message = r"\(train is from kinetics100@cmn; test is from kinetics100@clip-fsar\)"
    with pytest.raises(ValueError, match=message):
        import_lists([train, test])
    assert not cache.exists()


@needs_shared
def test_classes_in_another_split_are_told(tmp_path: Path) -> None:
    val = LISTS / "trx/kinetics_CMN/vallist03.txt"
    (tmp_path / "test.txt").write_text(val.read_text())
    with pytest.raises(ValueError, match="'baking cookies' is in test, not in val"):
        recognise([tmp_path / "test.txt"])


def test_files_that_are_no_lists(tmp_path: Path) -> None:
    for text, message in (
        ("", "no lines; expected"),
        ("run", "line 1: cannot read 'run'"),
        ("Juggling/3", "no class of these files"),
    ):
        (tmp_path / "test.txt").write_text(text)
        with pytest.raises(ValueError, match=message):
            recognise([tmp_path / "test.txt"])
    with pytest.raises(ValueError, match="none.txt: cannot be read as a list"):
        recognise([tmp_path / "none.txt"])


# --------------------------------------------------------------------------- a registry of two small benchmarks

TOY = {
    "train": "Waving both hands/11111\nWaving both hands/22222\n",
    "val": "jump/33333\n",
    "test": "clap_hands/44444\nclap_hands/55555\nsit/66666\n",
}


def _entries(text: str) -> list[tuple[str, str]]:
    return [(class_text(label), video) for label, _, video in (line.rpartition("/") for line in text.splitlines())]


def _toy(lists: dict[str, str], ids: str, folder: Path) -> None:
    """Register the benchmark `toy@ids`."""
    lines = {s: [f"{s}\t{label}\t{label}/{v}" for label, v in _entries(text)] for s, text in lists.items()}
    classes: dict[str, dict[str, Any]] = {split: {} for split in lists}
    for split, text in lists.items():
        for label in dict(_entries(text)):
            own = [line for line in lines[split] if f"\t{label}\t" in line]
            classes[split][label] = [len(own), _hash(own)[:12]]
    hashes = {split: _hash(own) for split, own in lines.items()}
    hashes["all"] = _hash([line for own in lines.values() for line in own])
    published = [
        {
            "split": split,
            "repository": "a/b",
            "commit": "c" * 40,
            "path": f"lists/{split}.txt",
            "format": "class/id",
            "sha256": sha256(text.encode()).hexdigest(),
        }
        for split, text in lists.items()
    ]
    content = {
        "title": "Toy",
        "ids": ids,
        "versions": {"one": {"published": published, "hashes": hashes, "classes": classes}},
    }
    (folder / f"toy-{ids}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two benchmarks of a few made-up lines, in the registry's own format."""
    (tmp_path / "registry").mkdir()
    _toy(TOY, "number", tmp_path / "registry")
    stamps = {split: re.sub(r"(\d{5})", r"\1_-abcd", text) for split, text in TOY.items()}
    _toy(stamps, "youtube", tmp_path / "registry")
    names = ("toy-number@one", "toy-youtube@one")
    monkeypatch.setattr(benchmarks, "_PACKAGED", tmp_path / "registry")
    monkeypatch.setattr(benchmarks, "BENCHMARKS", names)
    monkeypatch.setattr(splits, "BENCHMARKS", names)
    for split, text in stamps.items():
        (tmp_path / f"{split}-youtube.txt").write_text(text)
    return tmp_path


@pytest.fixture
def served() -> Iterator[tuple[str, dict[str, Any]]]:
    """A server of the toy's lists: its address, and what it does (`how`) and did (`asked`)."""
    state: dict[str, Any] = {"how": "whole", "asked": []}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state["asked"].append(self.path)
            split = Path(self.path).stem
            body = TOY[split].encode()
            if state["how"] == "gone" and split == "test":
                return self.send_error(404)
            if state["how"] == "changed" and split == "test":
                body = body.replace(b"sit", b"sat")
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:10] if state["how"] == "cut" and split == "test" else body)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", state
    server.shutdown()
    server.server_close()


def kept(cache: Path) -> list[str]:
    """Files in the store."""
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_fetching(
    toys: Path, served: tuple[str, dict[str, Any]], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, state = served
    command = ["splits", "fetch", "toy-number@one", "--mirror", f"{address}/"]
    assert cli.main(command) == 0
    assert state["asked"] == [f"/a/b/{'c' * 40}/lists/{split}.txt" for split in SPLITS]
    assert kept(cache) == ["test.txt", "train.txt", "val.txt"]
    assert cli.main(command) == 0 and len(state["asked"]) == 3  # what is whole is not fetched again
    for changed in ("jump/33334\n", "jump"):
        benchmark("toy-number@one").file("val").write_text(changed)
        with pytest.raises(ValueError, match=r"val.txt: not the val list of toy-number@one, .* it was changed since"):
            benchmark("toy-number@one").stored("val")
    assert cli.main(command) == 0 and state["asked"][3:] == [f"/a/b/{'c' * 40}/lists/val.txt"]
    assert "already in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("changed", r"lists/test.txt: 44 bytes with sha256 \w{64} came, but the published file has \w{64}"),
        ("cut", r"lists/test.txt: could not be fetched \(.*10 bytes read, \d+ more expected"),
        ("gone", r"lists/test.txt: could not be fetched \(404"),
    ],
)
def test_fetching_that_fails(
    how: str,
    message: str,
    toys: Path,
    served: tuple[str, dict[str, Any]],
    cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address, state = served
    state["how"] = how
    assert cli.main(["splits", "fetch", "toy-number@one", "--mirror", address]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(message, error) and "`fsar splits import FILE...`" in error, error
    assert kept(cache) == ["train.txt", "val.txt"]  # whole, and nothing beside them
    state["how"] = "whole"
    assert len(fetch_lists("toy-number@one", address, progress=False)) == 1


def test_fetching_without_a_network(toys: Path, cache: Path) -> None:
    with pytest.raises(ValueError, match=r"train.txt: could not be fetched \(.*refused.*--mirror"):
        fetch_lists("toy-number@one", "http://127.0.0.1:9", progress=False)
    with pytest.raises(ValueError, match=r"could not be fetched \(Invalid URL"):
        fetch_lists("toy-number@one", "nowhere", progress=False)
    assert kept(cache) == []


# --------------------------------------------------------------------------- videos


def imported(toys: Path, name: str) -> Recognised:
    if name == "toy-youtube@one":
        return import_lists([toys / f"{split}-youtube.txt" for split in SPLITS])
    for split, text in TOY.items():
        (toys / f"{split}.txt").write_text(text)
    return import_lists([toys / f"{split}.txt" for split in SPLITS])


NUMBERS = ("11111", "22222", "33333", "44444", "55555", "66666")
FOLDERS = ("Waving both hands", "Waving both hands", "jump", "Clap_hands", "clap hands", "Sit")
LAYOUTS = {
    "flat": ("number", [f"{n}.webm" for n in NUMBERS]),
    "classes": ("number", [f"{f}/{n}.avi" for f, n in zip(FOLDERS, NUMBERS, strict=True)]),
    "frames": ("number", [f"frames/{n}/img_00001.jpg" for n in NUMBERS]),
    "stamped": ("youtube", [f"a/{f}/{n}_-abcd_000010_000020.mp4" for f, n in zip(FOLDERS, NUMBERS, strict=True)]),
    "unstamped": ("youtube", [f"{n}_-abcd.mkv" for n in NUMBERS]),
    "stamped frames": ("youtube", [f"a/{n}_-abcd_1_11/1.jpg" for n in NUMBERS]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_videos_are_found_in_every_layout(layout: str, toys: Path) -> None:
    kind, places = LAYOUTS[layout]
    name = f"toy-{kind}@one"
    assert imported(toys, name).versions == (name,)
    touch(toys / "data", *places, "other/99999.mp4")
    dataset = load_benchmark(name, toys / "data")
    assert dataset.name == name and dataset.absent == ()
    assert dataset.fingerprint() == benchmark(name).fingerprint
    assert dataset.split("test").fingerprint() == benchmark(name).hashes["test"]
    assert dataset.classes == ("clap hands", "jump", "sit", "waving both hands")
    assert dataset.texts["clap hands"] == "clap hands" and dataset.splits["sit"] == "test"
    assert dataset.videos[0].id == ("clap hands/44444" if kind == "number" else "clap hands/44444_-abcd") or (
        dataset.videos[0].label == "waving both hands"
    )
    found = {path.stem if path.is_file() else path.name for path in (video.path for video in dataset.videos)}
    assert len(found) == 6 and not any("99999" in name for name in found)


def test_missing_videos(toys: Path) -> None:
    imported(toys, "toy-number@one")
    touch(toys / "data", *(f"{n}.webm" for n in NUMBERS[:4]))
    message = (
        r"2 of 6 videos of toy-number@one are not below .*data, among them clap hands/55555, sit/66666; .*--skip-mis"
    )
    with pytest.raises(ValueError, match=message):
        load_benchmark("toy-number@one", toys / "data")
    dataset = load_benchmark("toy-number@one", toys / "data", skip_missing=True)
    assert dataset.absent == ("clap hands/55555", "sit/66666") and len(dataset.videos) == 4
    assert dataset.split("test").absent == dataset.absent  # also of a class that has no video left
    assert dataset.split("train").absent == ()
    assert dataset.only(["clap hands"]).absent == ("clap hands/55555",)
    with pytest.raises(ValueError, match="none of the 6 videos of toy-number@one is below"):
        load_benchmark("toy-number@one", touch(toys / "bare", "x.mp4"), skip_missing=True)
    with pytest.raises(ValueError, match="no such folder"):
        load_benchmark("toy-number@one", toys / "none")


def test_without_lists(tmp_path: Path) -> None:
    message = (
        r"kinetics100@cmn: its train, val, test list is not here; `fsar splits fetch kinetics100@cmn` downloads "
        r"it, `fsar splits import FILE...`"
    )
    with pytest.raises(ValueError, match=message):
        load_benchmark("kinetics100@cmn", tmp_path)


@needs_shared
@pytest.mark.parametrize(("name", "suffix"), [("hmdb51@arn", ".avi"), ("ucf101@arn", ".mp4")])
def test_lists_that_follow_from_the_folders(name: str, suffix: str, tmp_path: Path, cache: Path) -> None:
    lines = [line for file in files_of(name) for line in file.read_text().splitlines()]
    touch(tmp_path / "data", *(f"{line}{suffix}" for line in lines), "Juggling/a.avi")
    dataset = load_benchmark(name, tmp_path / "data")
    assert dataset.fingerprint() == benchmark(name).fingerprint and not cache.exists()
    if name == "ucf101@arn":
        return  # the rest is the same for both
    first = dataset.split("test").videos[0]
    first.path.unlink()
    with pytest.raises(
        ValueError,
        match=rf"1 of {len(lines)} videos .* among them 1 of '{first.label}' \(the folders do not say which; .*fetch",
    ):
        load_benchmark(name, tmp_path / "data")
    assert load_benchmark(name, tmp_path / "data", True).absent == (f"{first.label}/unnamed-1",)
    first.path.with_name(f"renamed{suffix}").touch()
    with pytest.raises(
        ValueError, match=f"{len(dataset.only([first.label]).videos)} videos of other names, but {name}"
    ):
        load_benchmark(name, tmp_path / "data")
    first.path.touch()
    with pytest.raises(ValueError, match=f"but {name} has .* of '{first.label}'; keep the published files"):
        load_benchmark(name, tmp_path / "data", skip_missing=True)
    import_lists(files_of(name))  # now the names decide
    assert load_benchmark(name, tmp_path / "data").fingerprint() == benchmark(name).fingerprint


def test_a_part_of_a_benchmark_whose_list_follows_from_the_folders(tmp_path: Path) -> None:
    touch(tmp_path, "brush_hair/brush_hair/a.avi", "Fencing/b/0001.jpg", "Juggling/c.avi")
    dataset = load_benchmark("hmdb51@arn", tmp_path, skip_missing=True)
    assert [video.id for video in dataset.videos] == ["brush hair/a", "fencing/b"]
    assert len(dataset.absent) == 6764 and len(dataset.split("test").absent) == 1291


# --------------------------------------------------------------------------- the command line


def test_listing_and_showing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["splits", "list"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows[1:]] == list(BENCHMARKS)
    assert "from the folders" in rows[1] and "not fetched" in rows[3]
    assert "67,013/1,926/2,857" in rows[6] and benchmark("ssv2-full@otam-67k").fingerprint[:12] in rows[6]
    assert cli.main(["splits", "show", "hmdb51"]) == 0
    told = capsys.readouterr().out
    assert "brush hair (107)" in told and "github.com/tobyperrett/trx/blob/390c20aa" in told
    for words, message in (
        (["shwo", "x"], "unknown verb of `fsar splits` 'shwo'; did you mean 'show'"),
        (["show", "hmbd51"], "unknown benchmark 'hmbd51'; did you mean 'hmdb51@arn'"),
        (["fetch", "x", "--miror", "y"], "unknown option of `fsar splits fetch` '--miror'; did you mean '--mirror'"),
        (["import", "none.txt"], "none.txt: cannot be read as a list"),
    ):
        assert cli.main(["splits", *words]) == 2
        assert message in capsys.readouterr().err


def test_options_that_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--benchmark", "hmdb51@arn", "--data", str(tmp_path)]
    assert cli.main([*words, "--lists", "test.txt"]) == 2
    assert "--benchmark has its own lists" in capsys.readouterr().err
    assert cli.main(words[:3]) == 2
    assert "no videos are named; add --data DIR (and --benchmark" in capsys.readouterr().err
    assert cli.main(words) == 2
    assert "none of the 6766 videos of hmdb51@arn is below" in capsys.readouterr().err
    train = ["train", "--config", "trx/world", "--out", str(tmp_path / "run"), *words[1:]]
    assert cli.main(train) == 2
    assert "none of the 6766 videos of hmdb51@arn is below" in capsys.readouterr().err
    touch(tmp_path, "fencing/a.mp4")
    assert load_dataset(str(tmp_path), None, None, True, "hmdb51").name == "hmdb51@arn"


def test_versions_are_not_mixed(tiny: Backbone) -> None:
    message = "trained on ssv2-full@otam-67k, .*evaluate it with --benchmark ssv2-full@otam-67k"
    with pytest.raises(ValueError, match=message):
        refuse_mixing("ssv2-full@otam-67k", "ssv2-full@otam-77k")
    for other in ("ssv2-full@otam-67k", "hmdb51@arn", "my_actions"):
        refuse_mixing("ssv2-full@otam-67k", other)
        refuse_mixing(other, "ssv2-full@otam-67k")
    method = build_method("protonet", tiny)
    method.provenance = SimpleNamespace(dataset="ssv2-full@otam-67k")
    entry: Any = SimpleNamespace(method=method)
    with pytest.raises(ValueError, match=message):  # where `fsar evaluate` has read a checkpoint
        _check(entry, VideoDataset("ssv2-full@otam-77k", (), {}, {}), Namespace())
