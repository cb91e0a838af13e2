"""Do the work of shards on a Ray cluster: actors decode and encode in one place; only numbers of shards travel.

    driver: number of a shard -> actor: `fill_shard` -> files of the bank (a shared folder, or an object store)

Ray's plain actors are enough. Ray Data would add a stream of rows with its own batches, back-pressure and spilling, and
here the rows are numbers: frames and vectors never enter Ray's object store, so nothing spills and no pool can stall.
If an actor or its machine is lost, Ray starts another one, and gives it the same shard again. The files are those that
one machine writes, since a shard depends on its videos and the encoder alone.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fsar.bank.archive import Making, fill_shard
from fsar.datasets.shards import ShardedBank
from fsar.progress import progress_bar
from fsar.video.apart import Decoders

OBJECT_STORE = 100 * 2**20
"""Bytes of Ray's object store on this machine; nothing but small messages is in it."""
RETRIES = 5
"""How often the work of a shard is given to an actor again, if actors or machines are lost."""

Work = Callable[[int], object]
"""Does what one shard needs."""


@dataclass(frozen=True)
class Actors:
    """Which actors do the work, and on which cluster.

    Args:
        count: how many.
        cores: that Ray keeps for each actor.
        gpus: that Ray keeps for each actor.
        address: of the cluster, `auto` for the one that this machine belongs to; by default, a new one here.

    Raises:
        ValueError: no actor, no core, or less than no GPU.
    """

    count: int = 1
    cores: int = 1
    gpus: float = 0
    address: str | None = None

    def __post_init__(self) -> None:
        if min(self.count, self.cores) < 1 or self.gpus < 0:
            raise ValueError(
                f"{self.count} actors with {self.cores} cores and {self.gpus:g} GPUs each; expected 1 or more actors "
                "and cores"
            )


class ShardActor:
    """An actor, which does the work of one shard after another.

    Args:
        make: loads the model, and returns what does a shard.
        folder: in which the command was typed; relative paths start there, if this machine has it.
    """

    def __init__(self, make: Callable[[], Work], folder: str):
        self._make, self._folder = make, folder
        self._work: Work | None = None

    def do(self, number: int) -> int:
        """Do the work of a shard.

        Args:
            number: of the shard.
        """
        if self._work is None:  # not before: Ray tells an error here as it is, and not one at the actor's start
            with suppress(OSError):
                os.chdir(self._folder)
            self._work = self._make()
        self._work(number)
        return number


def fill_on_ray(
    bank: ShardedBank,
    build: Callable[[], Making],
    numbers: Iterable[int] | None = None,
    actors: Actors = Actors(),
    progress: bool = True,
) -> None:
    """Fill the shards that are missing, by actors on a cluster.

    Args:
        bank: with a list of videos; every machine must reach it by the same path or URL.
        build: called in each actor, to make the model.
        numbers: only these shards; by default all.
        actors: which do it.
        progress: show a progress bar.

    Raises:
        ValueError: Ray is not installed; the cluster has too few cores or GPUs; an actor's encoder is not the bank's.
        OSError: a shard cannot be written; there is no such cluster; a shard's actor was lost too often.
    """
    missing = bank.missing()
    wanted = missing if numbers is None else sorted({*missing} & {*numbers})
    on_ray(partial(filler, build, bank.place.url, actors.cores), wanted, actors, progress)


def filler(build: Callable[[], Making], url: str, cores: int) -> Work:
    """Make what fills a shard, in an actor.

    Args:
        build: makes the model.
        url: of the bank.
        cores: processes that decode, and copies of the model on a CPU.

    Raises:
        ValueError: the encoder differs from that of the bank, such as other weights of the same name.
    """
    bank = ShardedBank(url)
    making = replace(build(), workers=cores)
    ShardedBank.create(url, making.header(bank.size))  # refuses an encoder that differs on this machine
    decoders = Decoders(cores, making.seconds, fork=False)
    return lambda number: fill_shard(bank, number, making, decoders)


def on_ray(
    make: Callable[[], Work],
    numbers: Sequence[int],
    actors: Actors = Actors(),
    progress: bool = True,
) -> None:
    """Do the work of shards by actors on a cluster.

    Args:
        make: called in each actor; returns what does a shard.
        numbers: of the shards.
        actors: which do it.
        progress: show a progress bar.

    Raises:
        ValueError: Ray is not installed, or the cluster has too few cores or GPUs.
        OSError: the work failed for a reason that is not a user's; there is no such cluster; a shard's actor was lost
            too often.
    """
    if not numbers:
        return
    ray = _ray()
    there = ray.is_initialized()  # a program that uses Ray keeps its connection
    try:
        if not there:
            _connect(ray, actors)
        _require(ray, actors)
        needs = {"num_cpus": actors.cores, "num_gpus": actors.gpus}
        kind = ray.remote(**needs, max_restarts=-1, max_task_retries=RETRIES)(ShardActor)
        pool = ray.util.ActorPool([kind.remote(make, os.getcwd()) for _ in range(min(actors.count, len(numbers)))])
        made = pool.map_unordered(lambda actor, number: actor.do.remote(number), numbers)
        for _ in progress_bar(made, "shards", "shard", len(numbers), progress):
            pass
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, OSError | ValueError) else error from error
    except ray.exceptions.RayError as error:
        raise OSError(f"Ray: {error}") from error
    finally:
        if not there:
            ray.shutdown()


def _connect(ray: Any, actors: Actors) -> None:
    try:
        if actors.address is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
            here = max(actors.count * actors.cores, os.cpu_count() or 1)
            ray.init(num_cpus=here, object_store_memory=OBJECT_STORE, include_dashboard=False, logging_level="ERROR")
        else:
            ray.init(address=actors.address, logging_level="ERROR")
    except ConnectionError as error:
        raise OSError(f"Ray: no cluster at {actors.address}: {error}; start one with `ray start --head`") from error


def _require(ray: Any, actors: Actors) -> None:
    """Refuse actors that would wait for ever."""
    there = ray.cluster_resources()
    for name, each in (("CPU", float(actors.cores)), ("GPU", actors.gpus)):
        if actors.count * each > there.get(name, 0):
            raise ValueError(
                f"{actors.count} actors with {each:g} {name} each, and the cluster has {there.get(name, 0):g}; ask for "
                "less"
            )


def _ray() -> Any:
    try:
        import ray
        import ray.util
    except ImportError as error:
        raise ValueError("--ray needs Ray: pip install 'fsar[ray]'") from error
    return ray
