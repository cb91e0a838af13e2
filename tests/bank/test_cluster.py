"""A bank that actors of Ray fill, at an object store: the files of one machine, also if an actor is killed."""

import os
import signal
from pathlib import Path

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from fsar.backbones import load_backbone
from fsar.bank.archive import Making, fill
from fsar.bank.cluster import fill_on_ray
from fsar.bank.listing import videos_at
from fsar.datasets.shards import ShardedBank
from fsar.methods import build_method
from fsar.video.frame_cache import FrameCache
from fsar.video.writing import write_video

pytest.importorskip("ray")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket of an object store on this machine."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    for name, value in {"ENDPOINT_URL": address, "ACCESS_KEY_ID": "me", "SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="clips")
    yield "s3://clips"
    server.stop()


def test_a_killed_actor_and_an_object_store_change_nothing(bucket: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    store = boto3.client("s3", region_name="us-east-1")
    for i in range(3):
        write_video(tmp_path / f"{i}.mp4", noise.integers(0, 256, (6, 32, 32, 3), np.uint8), 10.0)
        store.upload_file(str(tmp_path / f"{i}.mp4"), "clips", f"{i}.mp4")
    (tmp_path / "list.csv").write_text("\n".join(["path", *(f"{bucket}/{i}.mp4" for i in (0, 1, 2, 9))]))
    videos = videos_at([str(tmp_path / "list.csv")])
    marker = tmp_path / "killed"

    def build() -> Making:
        method = build_method("protonet", load_backbone("tiny"))
        return Making(method=method, cache=FrameCache(frames=2), workers=1)

    def build_and_die() -> Making:
        write = ShardedBank._write_index

        def killed(bank: ShardedBank, number: int, rows: object) -> None:
            if number == 1 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            write(bank, number, rows)  # type: ignore[arg-type]

        ShardedBank._write_index = killed  # type: ignore[method-assign, assignment]
        return build()

    here = ShardedBank.create(tmp_path / "here", build().header(size=2))
    there = ShardedBank.create(f"{bucket}/bank", build().header(size=2))
    for bank in (here, there):
        assert bank.add(videos) == 4
    fill(here, build(), progress=False)
    fill_on_ray(there, build_and_die, progress=False)
    assert marker.exists()
    files = {str(file.relative_to(tmp_path / "here")): file.read_bytes() for file in (tmp_path / "here").rglob("*.*")}
    listed = store.list_objects_v2(Bucket="clips", Prefix="bank/")["Contents"]
    stored = {
        item["Key"].removeprefix("bank/"): store.get_object(Bucket="clips", Key=item["Key"])["Body"].read()
        for item in listed
    }
    assert stored == files and len(files) == 8
    table = ShardedBank(f"{bucket}/bank").index()
    assert table["row"].to_pylist() == [0, 1, 0, None] and "9.mp4: no such file" in table["error"][3].as_py()
