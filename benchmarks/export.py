"""An exported recogniser beside the recogniser itself: right answers, equal answers, processor time, size.

    python benchmarks/export.py CLIPS ACTION... --examples 5 --out DIR

CLIPS holds one folder of clips per action. The first clips of each action are enrolled; all others are named by the
recogniser, and by the exported folder with each of its encoders. Times are of processor, user and system together.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fsar import Recognizer
from fsar.export import export

KINDS: dict[str, tuple[str, ...]] = {"float32": (), "int8": ("--int8",), "openvino": ("--openvino",)}


def answers(folder: Path, videos: Sequence[Path], words: Sequence[str]) -> tuple[list[dict[str, object]], float]:
    """Let the folder's program name videos: its answers, and seconds of processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(folder / "run.py"), *words, *map(str, videos)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [json.loads(line) for line in said.splitlines()], seconds


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("actions", nargs="+")
    parser.add_argument("--examples", type=int, default=5)
    parser.add_argument("--most", type=int, default=15, help="clips of each action that are named; default: 15")
    parser.add_argument("--backbone", default="lite0")
    parser.add_argument("--out", type=Path, required=True, help="for the exported folder")
    options = parser.parse_args()
    recognizer, new = Recognizer(options.backbone), []
    for action in options.actions:
        videos = sorted((options.clips / action).iterdir())
        recognizer.enroll(action, videos[: options.examples])
        new += [(action, video) for video in videos[options.examples :][: options.most]]
    recognizer.fit()
    begin = time.process_time()
    folder = export(recognizer, options.out)
    print(f"{len(new)} clips, {len(options.actions)} actions; export {time.process_time() - begin:.1f} s of processor")
    for file in sorted(folder.glob("*.onnx")):
        print(f"{file.name} {file.stat().st_size / 1e6:.1f} MB")
    os.environ["FSAR_CACHE"] = str(options.out / "cache")  # nothing is known of the new clips
    truth, videos = [action for action, _ in new], [video for _, video in new]
    recognizer.predict(videos[0].read_bytes())  # loads and compiles
    begin = time.process_time()
    own = [recognizer.predict(video.read_bytes()) for video in videos]
    cost = 1000 * (time.process_time() - begin) / len(videos)
    right = sum(answer.action == action for answer, action in zip(own, truth, strict=True))
    print(f"recogniser: {right} right, {cost:.0f} ms a clip")
    for kind, words in KINDS.items():
        found, whole = answers(folder, videos, words)
        one = answers(folder, videos[:1], words)[1]
        cost = 1000 * (whole - one) / (len(videos) - 1)
        right = sum(each["action"] == action for each, action in zip(found, truth, strict=True))
        equal = sum(each["action"] == answer.action for each, answer in zip(found, own, strict=True))
        apart = max(
            abs(share - answer.probabilities[name])
            for each, answer in zip(found, own, strict=True)
            for name, share in each["probabilities"].items()  # type: ignore[attr-defined]
        )
        words_of = f"{right} right, {equal} as the recogniser, probabilities differ by at most {apart:.1e}"
        print(f"{kind}: {words_of}, {cost:.0f} ms a clip, {one:.1f} s for the first")


if __name__ == "__main__":
    main()
