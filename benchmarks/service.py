"""Load, memory and hostile files: what a running `fsar serve` does with them.

    python benchmarks/service.py load [--backbone lite0] [--requests 200]      # requests per second, delay
    python benchmarks/service.py memory [--requests 10000]                     # memory before and after
    python benchmarks/service.py hostile [--requests 1000]                     # broken videos, as in benchmarks/fuzz.py

The clips are small (64 x 64 pixels, 12 frames). An uncached request brings content that the service never saw; a cached
one brings a clip that was decoded and encoded before.
"""

import argparse
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    PORT = free.getsockname()[1]
URL = f"http://127.0.0.1:{PORT}/v1/recognizers/bench"


def clip(start: int, end: int) -> bytes:
    """The content of a video of a square that moves from one column to another."""
    from fsar.video.writing import write_video

    frames = np.zeros((12, 64, 64, 3), np.uint8)
    for frame, column in zip(frames, np.linspace(start, end, 12).astype(int), strict=True):
        frame[24:40, column : column + 16] = 255
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / "clip.mp4", frames, 10.0)
        return (Path(folder) / "clip.mp4").read_bytes()


def unlike(content: bytes, number: int) -> bytes:
    """The same pictures in another file: with a box that players ignore."""
    return content + struct.pack(">I4sQ", 16, b"free", number)


@contextmanager
def served(backbone: str) -> Iterator[int]:
    """Run a service with a recogniser of two actions; yield its process id."""
    import httpx

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fsar.cli", "serve", folder, "--port", str(PORT), "--backbone", backbone]
        environment = os.environ | {"FSAR_CACHE": f"{folder}/.cache"}
        process = subprocess.Popen([*command, "--places", "64"], env=environment)
        try:
            while True:
                try:
                    httpx.put(URL, timeout=300).raise_for_status()
                    break
                except httpx.ConnectError:
                    time.sleep(0.2)
            for i in range(3):
                for action, ends in (("right", (i, 48 - i)), ("left", (48 - i, i))):
                    httpx.post(f"{URL}/actions/{action}/examples", content=clip(*ends), timeout=300).raise_for_status()
            yield process.pid
        finally:
            process.terminate()
            process.wait()


def asked(
    clients: int, bodies: list[bytes], allowed: tuple[int, ...] = (200,)
) -> tuple[float, list[float], Counter[int]]:
    """Send predictions from several clients; give seconds in all, seconds of each, and the statuses."""
    import httpx

    statuses: Counter[int] = Counter()

    def one(client: httpx.Client, body: bytes) -> float:
        begun = time.perf_counter()
        status = client.post(f"{URL}/predict", content=body).status_code
        statuses[status] += 1
        if status not in allowed:
            raise SystemExit(f"status {status}")
        return time.perf_counter() - begun

    def some(bodies: list[bytes]) -> list[float]:
        with httpx.Client(timeout=300) as client:
            return [one(client, body) for body in bodies]

    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        times = [each for part in pool.map(some, [bodies[i::clients] for i in range(clients)]) for each in part]
    return time.perf_counter() - begun, times, statuses


def load(options: argparse.Namespace) -> None:
    numbers, base = count(), clip(2, 44)
    cases: dict[str, Callable[[], bytes]] = {"uncached": lambda: unlike(base, next(numbers)), "cached": lambda: base}
    with served(options.backbone):
        asked(1, [base])
        print(f"load of the machine {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {options.backbone}")
        print("| | clients | requests/s | median ms | 95 % ms |\n|---|---:|---:|---:|---:|")
        for case, body in cases.items():
            for clients in (1, 4, 16):
                wall, times, _ = asked(clients, [body() for _ in range(options.requests)])
                middle, high = statistics.median(times), statistics.quantiles(times, n=20)[-1]
                rate = options.requests / wall
                print(f"| {case} | {clients} | {rate:.1f} | {1000 * middle:.0f} | {1000 * high:.0f} |", flush=True)


def megabytes(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def memory(options: argparse.Namespace) -> None:
    base = clip(2, 44)
    with served(options.backbone) as pid:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for step in range(11):
            if step:  # one in ten brings new content
                few = options.requests // 10
                asked(4, [unlike(base, few * step + i) if i % 10 == 0 else base for i in range(few)])
            decoders = ", ".join(f"{megabytes(int(child)):.0f}" for child in children)
            done = step * options.requests // 10
            print(f"{done} requests: service {megabytes(pid):.0f} MB; decoders {decoders} MB", flush=True)


def hostile(options: argparse.Namespace) -> None:
    import httpx

    sys.path.insert(0, str(Path(__file__).parent))
    from fuzz import mutated, write_seeds

    with tempfile.TemporaryDirectory() as folder, served(options.backbone) as pid:
        seeds = {name: content for name, content in write_seeds(Path(folder)).items() if "/" not in name}
        bodies = [mutated(seeds, number)[1] for number in range(options.requests)]
        _, times, statuses = asked(4, bodies, (200, 400, 415, 422))
        answer = httpx.post(f"{URL}/predict", content=clip(2, 44), timeout=300).json()
        metrics = httpx.get(f"http://127.0.0.1:{PORT}/metrics").text
        replaced = metrics.partition("\nfsar_decoders_replaced ")[2].split()[0]
        print(f"statuses {dict(statuses)}; slowest {max(times):.1f} s; decoders replaced: {replaced}")
        print(f"memory {megabytes(pid):.0f} MB; the next answer: {answer['best']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = {"load": (load, 200), "memory": (memory, 10_000), "hostile": (hostile, 1000)}
    parser.add_argument("verb", choices=verbs)
    parser.add_argument("--backbone", default="lite0")
    parser.add_argument("--requests", type=int)
    options = parser.parse_args()
    run, usual = verbs[options.verb]
    options.requests = options.requests or usual
    run(options)


if __name__ == "__main__":
    main()
