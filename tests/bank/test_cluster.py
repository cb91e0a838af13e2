"""What actors of Ray write: the files of one machine, also if an actor is killed; banks and videos in object stores.

Actors are processes of their own, which load the real `tiny`; so this module does not use the small one.
"""

import os
import signal
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fsar.backbones import Backbone, load_backbone
from fsar.bank.archive import Making
from fsar.bank.cluster import filler
from fsar.bank.listing import videos_at
from fsar.cli import main
from fsar.cli.bank import making
from fsar.datasets.shards import ShardedBank
from fsar.methods import build_method
from fsar.video import apart
from fsar.video.frame_cache import FrameCache
from fsar.video.writing import write_video
from tests.bank.test_archive import contents
from tests.video.test_apart import answer_or_not

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'fsar[ray]'")
boto3 = pytest.importorskip("boto3", reason="needs moto: pip install 'moto[server]'")

PROGRAM = """
import sys
import fsar.video.transforms
from fsar.video.apart import MEMORY
from fsar.video.processes import serve_at
from tests.video.test_apart import answer_or_not
serve_at(int(sys.argv[1]), answer_or_not, MEMORY)
"""


@pytest.fixture(autouse=True, scope="module")
def tiny() -> Backbone:
    """The real one, instead of the small one of this folder."""
    return load_backbone("tiny")


@pytest.fixture(scope="module")
def cluster(bucket: str) -> Iterator[None]:
    """A cluster on this machine, which knows the bucket."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
        ray.init(num_cpus=1, object_store_memory=2**27, include_dashboard=False, logging_level="ERROR")
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An empty bucket of an object store on this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"ENDPOINT_URL": address, "ACCESS_KEY_ID": "me", "SECRET_ACCESS_KEY": "secret"}.items():
            patch.setenv(f"AWS_{name}", value)
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="clips")
        yield "s3://clips"
    server.stop()


@pytest.fixture(scope="module")
def listed(bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of two videos and a missing one in the bucket, and of a broken one and one that hangs its decoder here."""
    folder = tmp_path_factory.mktemp("clips")
    noise = np.random.default_rng(0)
    store = boto3.client("s3", region_name="us-east-1")
    for name in ("0", "1", "hang"):
        write_video(folder / f"{name}.mp4", noise.integers(0, 256, (6, 32, 32, 3), np.uint8), 10.0)
        store.upload_file(str(folder / f"{name}.mp4"), "clips", f"{name}.mp4")
    (folder / "junk.mp4").write_bytes(b"no video" * 50)
    paths = [f"{bucket}/0.mp4", "hang.mp4", f"{bucket}/1.mp4", "junk.mp4", f"{bucket}/9.mp4"]
    (folder / "list.csv").write_text("\n".join(["path", *paths]))
    return folder / "list.csv"


def words(bank: object, listed: Path, *more: str) -> list[str]:
    fill = ["bank", "fill", "--bank", str(bank), "--videos", str(listed), "--method", "protonet", "--backbone", "tiny"]
    return [*fill, "--frames", "2", "--workers", "1", "--device", "cpu", *more]


def stored(prefix: str) -> dict[str, bytes]:
    """Name and content of all objects below a prefix of the bucket."""
    store = boto3.client("s3", region_name="us-east-1")
    keys = [item["Key"] for item in store.list_objects_v2(Bucket="clips", Prefix=prefix)["Contents"]]
    return {key.removeprefix(prefix): store.get_object(Bucket="clips", Key=key)["Body"].read() for key in keys}


def test_a_killed_actor_changes_no_bit(
    cluster: None, bucket: str, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "answer", answer_or_not)  # in forks of this process; those of the actor run `program`
    program, marker, here = tmp_path / "program.py", tmp_path / "killed", os.getpid()
    program.write_text(PROGRAM)

    def making_until_killed(options: Namespace) -> Making:
        """Runs here, and in the actor, which is killed when it has written the tensors of the second shard."""
        if os.getpid() != here:
            write = ShardedBank._write_index

            def killed(bank: ShardedBank, number: int, rows: object) -> None:
                if number == 1 and not marker.exists():
                    marker.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                write(bank, number, rows)  # type: ignore[arg-type]

            ShardedBank._write_index = killed  # type: ignore[method-assign, assignment]
            apart.PROGRAM = (str(program),)
        return making(options)

    monkeypatch.setattr("fsar.cli.bank.making", making_until_killed)
    size = ("--videos-per-shard", "2")
    assert main(words(tmp_path / "here", listed, *size)) == 1
    assert main(words(f"{bucket}/bank", listed, *size, "--ray")) == 1
    assert marker.exists()
    assert stored("bank/") == contents(tmp_path / "here") and len(stored("bank/")) == 2 + 3 * 3
    table = ShardedBank(f"{bucket}/bank").index()
    assert table["row"].to_pylist() == [0, None, 0, None, None]
    errors = table["error"].to_pylist()
    assert "hang.mp4: decoding it takes more than 60 s" in errors[1] and "9.mp4: no such file" in errors[4]


def test_an_actor_with_another_encoder_is_refused(listed: Path, tmp_path: Path, tiny: Backbone) -> None:
    two, three = (Making(method=build_method("protonet", tiny), cache=FrameCache(frames=count)) for count in (2, 3))
    bank = ShardedBank.create(tmp_path / "bank", two.header())
    bank.add(videos_at([str(listed)]))
    with pytest.raises(ValueError, match="holds another bank: encoder is"):
        filler(lambda: three, bank.place.url, 1)


def test_moments_of_videos_in_an_object_store_are_rows(bucket: str, tmp_path: Path, listed: Path) -> None:
    (tmp_path / "list.csv").write_text(f"path\n{bucket}/0.mp4")
    assert main(words(f"{bucket}/moments", tmp_path / "list.csv", "--windows", "0.3", "--hop", "0.2")) == 0
    table = ShardedBank(f"{bucket}/moments").index()
    spans = [*zip(table["start"].to_pylist(), table["end"].to_pylist(), strict=True)]
    assert spans == [(0.0, 0.3), (0.2, 0.5), (0.4, 0.6)] and table["error"].null_count == 3
