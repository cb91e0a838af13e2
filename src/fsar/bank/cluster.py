"""Fill a bank of shards on a Ray cluster: actors decode and encode in one place; only numbers of shards travel.

    driver: number of a shard -> actor: `fill_shard` -> files of the bank (a shared folder, or an object store)

Frames and vectors never enter Ray's object store, so nothing spills and no pool can stall. Ray starts an actor that
was killed again, and gives it the same shard again; the files are those that one machine would write.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from fsar.bank.archive import Making, fill_shard
from fsar.datasets.shards import ShardedBank
from fsar.progress import progress_bar
from fsar.video.apart import Decoders

OBJECT_STORE = 100 * 2**20
"""Bytes of Ray's object store on this machine; nothing but small messages is in it."""


class ShardActor:
    """An actor, which does the work of one shard after another.

    Args:
        make: loads the model here, and returns what does a shard.
    """

    def __init__(self, make: Callable[[], Callable[[int], object]]):
        self._do = make()

    def do(self, number: int) -> int:
        """Do the work of a shard.

        Args:
            number: of the shard.
        """
        self._do(number)
        return number


def fill_on_ray(
    bank: ShardedBank,
    build: Callable[[], Making],
    numbers: Iterable[int] | None = None,
    *,
    address: str | None = None,
    workers: int = 1,
    gpus: float = 0,
    progress: bool = True,
) -> None:
    """Fill the shards that are missing, by actors on a cluster.

    Args:
        bank: with a list of videos; every machine must reach it by the same path or URL.
        build: called in each actor, to make the model.
        numbers: only these shards; by default all.
        address: as for `on_ray`.
        workers: as for `on_ray`.
        gpus: as for `on_ray`.
        progress: show a progress bar.

    Raises:
        ValueError: Ray is not installed, or the cluster has too few cores or GPUs.
        OSError: a shard cannot be written; there is no such cluster.
    """
    missing = bank.missing()
    wanted = missing if numbers is None else sorted({*missing} & {*numbers})
    on_ray(
        partial(_filler, build, bank.place.url), wanted, address=address, workers=workers, gpus=gpus, progress=progress
    )


def _filler(build: Callable[[], Making], url: str) -> Callable[[int], object]:
    making = build()
    # the process of an actor has threads, so it cannot simply be forked
    decoders = Decoders(making.workers or os.cpu_count() or 1, making.seconds, fork=False)
    return lambda number: fill_shard(ShardedBank(url), number, making, decoders)


def on_ray(
    make: Callable[[], Callable[[int], object]],
    numbers: Sequence[int],
    *,
    address: str | None = None,
    workers: int = 1,
    gpus: float = 0,
    progress: bool = True,
) -> None:
    """Do the work of shards by actors on a cluster.

    Args:
        make: called in each actor; returns what does a shard.
        numbers: of the shards.
        address: of the cluster, `auto` for the one that this machine belongs to; by default, a new one here.
        workers: number of actors; Ray keeps a core for each.
        gpus: GPUs that Ray keeps for each actor.
        progress: show a progress bar.

    Raises:
        ValueError: Ray is not installed, or the cluster has too few cores or GPUs.
        OSError: the work failed for a reason that is not a user's; there is no such cluster.
    """
    if not numbers:
        return
    ray = _ray()
    _connect(ray, address, workers)
    try:
        _require(ray, workers, gpus)
        kind = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=-1)(ShardActor)
        pool = ray.util.ActorPool([kind.remote(make) for _ in range(min(workers, len(numbers)))])
        made = pool.map_unordered(lambda actor, number: actor.do.remote(number), numbers)
        for _ in progress_bar(made, "shards", "shard", len(numbers), progress):
            pass
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, OSError | ValueError) else error from error
    except ray.exceptions.RayError as error:
        raise OSError(f"Ray: {error}") from error
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str | None, workers: int) -> None:
    try:
        if address is None:
            here = max(workers, os.cpu_count() or 1)
            ray.init(num_cpus=here, object_store_memory=OBJECT_STORE, include_dashboard=False, logging_level="ERROR")
        else:
            ray.init(address=address, logging_level="ERROR")
    except ConnectionError as error:
        raise OSError(f"Ray: no cluster at {address}: {error}; start one with `ray start --head`") from error


def _require(ray: Any, workers: int, gpus: float) -> None:
    """Refuse actors that would wait for ever."""
    there = ray.cluster_resources()
    for name, each in (("CPU", 1.0), ("GPU", gpus)):
        if workers * each > there.get(name, 0):
            raise ValueError(
                f"{workers} workers with {each:g} {name} each, and the cluster has {there.get(name, 0):g}; ask for less"
            )


def _ray() -> Any:
    try:
        import ray
        import ray.util
    except ImportError as error:
        raise ValueError("--ray needs Ray: pip install 'fsar[ray]'") from error
    return ray
