"""Compare the bank with encoding videos again for every episode, and a cached clip with a decoded one; banks of shards.

python benchmarks/bank.py [--data DIR --split all --backbone lite0 --episodes 50]
python benchmarks/bank.py --backbone ViT-B-16/random --videos 20 --episodes 3 \\
    --method task-adapter:layers=2,temporal_embedding_at=first_adapted_block,half_tokens=true
python benchmarks/bank.py vectors --rows 1000000 --indexed 50000     # opening, scan, USearch: seconds, bytes, recall
python benchmarks/bank.py planted --folder DIR --shards 7            # 100 actions in 20,000 windows; again: continues
python benchmarks/bank.py ray --clips 2000                           # actors, halves, kills: equal shards, seconds
python benchmarks/bank.py batches --backbones lite0 RN50/random      # the same bits in any company; clips per second
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fsar.backbones import load_backbone
from fsar.bank.archive import Making
from fsar.bank.batches import encode_in_batches
from fsar.bank.fill import fill_bank, to_input
from fsar.bank.nearest import NearestIndex
from fsar.bank.pooled import pooled
from fsar.bank.search import Search
from fsar.datasets import Video, load_folder, load_world
from fsar.datasets.shards import POOLED, ShardedBank
from fsar.datasets.world import render_clip
from fsar.datasets.world_actions import ACTIONS
from fsar.devices import peak_memory
from fsar.evaluation.episodes import EpisodeSampler
from fsar.evaluation.matching import match_from_bank, match_naively
from fsar.methods import Method, build_method, parse_method
from fsar.methods.encoder import Encoder
from fsar.video.frame_cache import FrameCache
from fsar.video.reading import read_frames
from fsar.video.writing import write_video

WINDOWS = 16
"""Of a clip."""
SHARDS = 12
"""Of a bank that actors fill."""


def vectors(options: argparse.Namespace) -> None:
    """Time a bank of synthetic vectors: clusters of a hundred, so that neighbours mean something."""
    dim, size = 512, 1000
    rng = np.random.default_rng(0)
    spec = {"dtype": "float16", "shape": [dim]}
    with kept_or_temporary(options.folder) as folder:
        bank = ShardedBank.create(folder / "bank", {"tensors": {POOLED: spec}, "videos_per_shard": size})
        with timed("list"):
            bank.add(Video(f"{i}.mp4", Path(f"/{i}.mp4"), "") for i in range(options.rows))
        with timed("write"):
            for number in bank.missing():
                _write_clusters(bank, number, rng)
        for name in ("index", POOLED):
            files = [*(folder / "bank" / name).glob("*")]
            print(f"{name}: {len(files)} files, {sum(file.stat().st_size for file in files) / 1e6:,.0f} MB")
        method = build_method("protonet", load_backbone("tiny"))
        search = Search(bank, method)
        with timed("open"):
            print(f"{len(search):,} rows")
        queries = [
            torch.from_numpy(np.array(bank.part(POOLED, i)[7]).astype(np.float32)) for i in range(min(5, bank.shards))
        ]
        for query in queries:
            with timed("exact scan for 500"):
                search.shortlist(query, 500)
        print(f"peak memory {peak_memory():.2f} GB", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        _indexed(Path(folder), options.indexed, dim, method, rng)


def _write_clusters(bank: ShardedBank, number: int, rng: np.random.Generator) -> None:
    """Write a shard of unit vectors: ten clusters of a hundred."""
    rows = [row | {"row": i} for i, row in enumerate(bank.listed(number))]
    (dim,) = bank.header["tensors"][POOLED]["shape"]
    noise = rng.integers(0, 256, (len(rows), dim), np.uint8).astype(np.float32) / 73.9 - 1.725  # deviation 1
    made = rng.standard_normal((10, dim), np.float32)[np.arange(len(rows)) // 100 % 10] + noise
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    bank.write(number, {POOLED: made.astype(np.float16)}, rows)


def _indexed(folder: Path, rows: int, dim: int, method: Method, rng: np.random.Generator) -> None:
    """Compare the index of USearch with the exact scan."""
    spec = {"dtype": "float16", "shape": [dim]}
    bank = ShardedBank.create(folder / "bank", {"tensors": {POOLED: spec}, "videos_per_shard": 1000})
    bank.add(Video(f"{i}.mp4", Path(f"/{i}.mp4"), "") for i in range(rows))
    for number in range(bank.shards):
        _write_clusters(bank, number, rng)
    with timed(f"USearch: build {rows:,}"):
        NearestIndex(bank, progress=False)
    with timed("USearch: open"):
        index = NearestIndex(bank, progress=False)
    print(f"USearch: {(folder / 'bank' / 'pooled.usearch').stat().st_size / 1e6:,.0f} MB")
    exact, near, recalls = Search(bank, method), Search(bank, method, index), []
    for number in range(0, bank.shards, max(1, bank.shards // 20)):
        query = torch.from_numpy(np.array(bank.part(POOLED, number)[7]).astype(np.float32))
        begun = time.perf_counter()
        found = near.shortlist(query, 100)
        taken = time.perf_counter() - begun
        recalls.append((np.isin(exact.shortlist(query, 100), found).mean(), taken))
    recall, seconds = np.mean(recalls, 0)
    print(f"USearch: {1e3 * seconds:.1f} ms a query, recall at 100 {recall:.3f}")


def planted(options: argparse.Namespace) -> None:
    """Hide 100 clips of one action among 1,150 of others, 16 windows of each, and search for it by other examples."""
    making = Making(method=build_method("place-motion", load_backbone(options.backbone)), cache=FrameCache(), workers=1)
    encoder, by_name = making.method.encoder(), {action.name: action for action in ACTIONS}
    wanted = by_name["something_growing"]
    others = [action for action in ACTIONS if action is not wanted]
    clips = [(others[i % len(others)], i // len(others)) for i in range(1_150)]
    for i in range(100):
        clips.insert(12 * i + 7, (wanted, i))
    bank = ShardedBank.create(options.folder / "planted", making.header(size=50 * WINDOWS))
    bank.add(
        Video(f"{name}@{part}", Path(f"/{name}.mp4"), name.rpartition("_")[0], part / 12, (part + 16) / 12)
        for name in (f"{action.name}_{index}" for action, index in clips)
        for part in range(WINDOWS)
    )
    for number in bank.missing()[: options.shards]:
        rows, parts = bank.listed(number), []
        for action, index in clips[50 * number : 50 * number + 50]:
            parts.append(_windows(making, encoder, render_clip(action, index)))
        tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        tensors[POOLED] = pooled(tensors)
        bank.write(
            number,
            {name: tensor.half().numpy() for name, tensor in tensors.items()},
            [row | {"row": i} for i, row in enumerate(rows)],
        )
        print(f"shard {number} of {bank.shards}", flush=True)
    if bank.missing():
        return
    search = Search(bank, making.method)
    for shots in (1, 5):
        clips_of = [render_clip(wanted, 1000 + i) for i in range(shots)]
        whole = torch.cat([to_input(making.method, _eight(frames))[None] for frames in clips_of])
        with torch.no_grad():
            examples = encoder.encode(whole)
        for shortlist in (500, 2000):
            begun = time.perf_counter()
            answer = search(examples, top=100, shortlist=shortlist, exact=options.exact)
            seconds = time.perf_counter() - begun
            right = [one.label == wanted.name for one in answer.found]
            print(
                f"{shots} examples, shortlist {shortlist}: precision at 10 {np.mean(right[:10]):.2f}, at 100 "
                f"{np.mean(right):.2f}; recall of the shortlist at {answer.at}: {answer.recall:.2f} (of {answer.of} "
                f"rows); {seconds:.1f} s"
            )


def _eight(frames: np.ndarray) -> np.ndarray:
    """Eight frames, evenly."""
    return frames[np.linspace(0, len(frames) - 1, 8).round().astype(int)]


@torch.no_grad()
def _windows(making: Making, encoder: Encoder, frames: np.ndarray) -> dict[str, Tensor]:
    """Encode 16 windows of 16 frames (1.3 s), one frame apart; each frame once."""
    whole = encoder.of_frames(to_input(making.method, frames)[None])
    ends = np.linspace(0, 15, 8).round().astype(int)
    chosen = [np.minimum(part + ends, len(frames) - 1) for part in range(WINDOWS)]
    return dict(encoder.of_clip({name: torch.stack([each[0, i] for i in chosen]) for name, each in whole.items()}))


def ray(options: argparse.Namespace) -> None:
    """Fill a bank of small clips alone, by actors of Ray, and in two halves; also with a process that is killed."""
    with kept_or_temporary(options.folder) as folder:
        noise = np.random.default_rng(0)
        for i in range(options.clips):
            frames = noise.integers(0, 256, (8, 64, 64, 3), np.uint8)
            if not (folder / f"clips/{i}.mp4").exists():
                write_video(folder / f"clips/{i}.mp4", frames, 10.0)
        size = max(1, options.clips // SHARDS)
        words = ["bank", "fill", "--videos", f"{folder}/clips", "--videos-per-shard", str(size), "--device", "cpu"]
        words += ["--method", "protonet", "--backbone", options.backbone]
        alone = [*words, "--workers", "1"]
        runs: list[tuple[str, str, list[str], str | None]] = [
            ("alone", "1 core", alone, None),
            ("actor", "1 actor", [*words, "--ray"], None),
            ("actors", "2 actors", [*words, "--ray", "--actors", "2"], None),
            ("killed", "2 actors, one killed", [*words, "--ray", "--actors", "2"], "ray::ShardActor"),
            ("halves", "--shard 1/2, killed", [*alone, "--shard", "1/2"], "fsar.cli"),
            ("halves", "--shard 2/2", [*alone, "--shard", "2/2"], None),
            ("halves", "--shard 1/2, again", [*alone, "--shard", "1/2"], None),
        ]
        for number, (bank, name, command, kill) in enumerate(runs):
            if not (folder / f"run{number}").exists():  # what was cut off is measured again
                if bank not in [run[0] for run in runs[:number]]:
                    shutil.rmtree(folder / bank, ignore_errors=True)
                _filled(name, folder / bank, command, kill)
                (folder / f"run{number}").touch()
        contents = [_contents(folder / bank) for bank in dict.fromkeys(run[0] for run in runs)]
        print(f"{len(contents[0])} files, equal: {all(each == contents[0] for each in contents)}")


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def _filled(name: str, bank: Path, words: list[str], kill: str | None) -> None:
    """Run the command; kill a process of it, by its command line, when a third of the shards are there.

    Prints wall clock, processor seconds and the largest memory of all its processes.
    """
    begun, used, memory, done = time.perf_counter(), {}, 0.0, ""
    command = [sys.executable, "-m", "fsar.cli", *words, "--bank", str(bank)]
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stderr=said) as process:
        while process.poll() is None:
            tree = _descendants(process.pid)
            used |= {pid: seconds for pid, (seconds, _, _) in tree.items()}
            memory = max(memory, sum(each for _, each, _ in tree.values()))
            victims = [pid for pid, (_, _, line) in tree.items() if kill and kill in line]
            if victims and len([*(bank / "index").glob("*.parquet")]) >= SHARDS // 3:
                os.kill(min(victims), signal.SIGKILL)  # the oldest: not what it forked
                kill, done = None, ", one process killed"
            time.sleep(0.2)
        if process.returncode not in (0, -signal.SIGKILL):
            said.seek(0)
            print(said.read().decode())
    print(
        f"{name}: exit code {process.returncode}{done}; {time.perf_counter() - begun:.1f} s, "
        f"{sum(used.values()):.1f} processor seconds, {memory:.2f} GB",
        flush=True,
    )


def _descendants(pid: int) -> dict[int, tuple[float, float, str]]:
    """Processor seconds, GB of memory that it does not share, and command line of a process and all below it."""
    found, parents = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(fields[1])
            seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            pages = [int(number) for number in (folder / "statm").read_text().split()]
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found[int(folder.name)] = seconds, (pages[1] - pages[2]) * 4096 / 1e9, line
    wanted = {pid}
    while more := {child for child, parent in parents.items() if parent in wanted} - wanted:
        wanted |= more
    return {child: found[child] for child in wanted & found.keys()}


@torch.no_grad()
def batches(options: argparse.Namespace) -> None:
    """Encode clips in batches of one size, in any company, and one at a time: the same bits, and clips per second."""
    for name in options.backbones:
        backbone = load_backbone(name)
        encode, frames = build_method("protonet", backbone).encoder().encode, backbone.clip_frames or 4
        shape = (5, frames, 3, backbone.image_size, backbone.image_size)
        clips = [*torch.randn(shape, generator=torch.Generator().manual_seed(0))]
        cpu, rates = torch.device("cpu"), {}
        for size in (1, 4):
            begun = time.process_time()
            first = [*encode_in_batches(encode, clips[:4], size, cpu)]
            rates[size] = 4 / (time.process_time() - begun)
            for order in ([3, 1, 4, 0], [2]):
                made = [*encode_in_batches(encode, [clips[i] for i in order], size, cpu)]
                alike = [torch.equal(made[at]["frames"], first[i]["frames"]) for at, i in enumerate(order) if i < 4]
                print(f"{name}, batches of {size}, order {order}: the same bits: {all(alike)}", flush=True)
        words = ", ".join(f"{rate:.2f} in batches of {size}" for size, rate in rates.items())
        print(f"{name}, clips of {frames} x {backbone.image_size}: clips per processor second: {words}", flush=True)


@contextmanager
def kept_or_temporary(folder: Path | None) -> Iterator[Path]:
    """A folder that stays, so that a run that was cut off continues; or a temporary one."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a block took, and the processor seconds in it."""
    begun, used = time.perf_counter(), time.process_time()
    yield
    print(
        f"{what}: {time.perf_counter() - begun:.2f} s, {time.process_time() - used:.2f} processor seconds", flush=True
    )


SHOWS = {"vectors": vectors, "planted": planted, "ray": ray, "batches": batches}


def main() -> None:
    """Print what is asked for; by default, both comparisons."""
    if len(sys.argv) > 1 and sys.argv[1] in SHOWS:
        parser = argparse.ArgumentParser(description=SHOWS[sys.argv[1]].__doc__)
        parser.add_argument("show", choices=SHOWS)
        parser.add_argument("--rows", type=int, default=1_000_000)
        parser.add_argument("--indexed", type=int, default=50_000)
        parser.add_argument("--clips", type=int, default=1000)
        parser.add_argument("--shards", type=int, default=100, help="at most so many in this run")
        parser.add_argument("--exact", action="store_true", help="rank all rows, to measure recall")
        parser.add_argument("--folder", type=Path, help="for what is written; default: a temporary one")
        parser.add_argument("--backbone", default="tiny")
        parser.add_argument("--backbones", nargs="+", default=["lite0", "RN50/random", "ViT-B-16/random"])
        options = parser.parse_args()
        SHOWS[options.show](options)
    else:
        compare()


def compare() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="default: the generated world")
    parser.add_argument("--split", default="test")
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--method", default="otam", help="NAME[:OPTION=VALUE,...]")
    parser.add_argument("--videos", type=int, help="videos per class, at most")
    parser.add_argument("--episodes", type=int, default=100)
    options = parser.parse_args()

    dataset = (load_folder(options.data) if options.data else load_world()).split(options.split)
    if options.videos:
        rank = {v.id: sum(w.label == v.label for w in dataset.videos[:i]) for i, v in enumerate(dataset.videos)}
        dataset = dataset.without([video_id for video_id, place in rank.items() if place >= options.videos])
    with tempfile.TemporaryDirectory() as folder:
        cache = FrameCache(Path(folder) / "frames")
        decoded, cached = [], []
        for video in dataset.videos[:100]:
            start = time.perf_counter()
            read_frames(video.path)
            decoded.append(time.perf_counter() - start)
            cache.read(video.path)
            start = time.perf_counter()
            cache.read(video.path)
            cached.append(time.perf_counter() - start)
        slow, fast = (1e3 * statistics.median(times) for times in (decoded, cached))
        print(f"a clip: decoded {slow:.2f} ms, cached {fast:.2f} ms")

        name, chosen = parse_method(options.method)
        method = build_method(name, load_backbone(options.backbone), **chosen)
        episodes = EpisodeSampler(dataset=dataset).draw(options.episodes)
        place = Path(folder) / "bank"
        fill = partial(fill_bank, method, dataset.videos, dataset.texts, cache=cache, folder=place, progress=False)
        start = time.perf_counter()
        bank = fill()
        filled = time.perf_counter() - start
        start = time.perf_counter()
        fill()
        again = time.perf_counter() - start
        size = sum(file.stat().st_size for file in (Path(folder) / "bank").rglob("*.safetensors"))
        banked = match_from_bank(method, bank, episodes, dataset.texts, progress=False)
        anew = match_naively(method, dataset, episodes, cache=cache, progress=False)
        per_episode = anew.seconds / options.episodes
        print(f"{options.method} on {options.backbone}, {len(dataset.videos)} videos, {options.episodes} episodes")
        print(
            f"bank {filled:.1f} s to fill ({again:.1f} s from disk, {size / 1e6:.0f} MB) + {banked.seconds:.2f} s, "
            f"anew {anew.seconds:.1f} s; same predictions: "
            f"{(banked.predicted == anew.predicted).all()}, largest difference of logits "
            f"{np.abs(banked.logits - anew.logits).max():.1e}"
        )
        full = filled + 10_000 * banked.seconds / options.episodes
        print(
            f"10,000 episodes at these rates: bank {full:.0f} s, anew {10_000 * per_episode:,.0f} s, "
            f"ratio {10_000 * per_episode / full:.0f}"
        )


if __name__ == "__main__":
    main()
