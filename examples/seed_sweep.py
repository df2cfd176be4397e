"""A sweep over seeds: one model for each, in worker processes of joblib, and how much faster that is than one process.

    python examples/seed_sweep.py                              # 16 seeds, a worker for each core; then the same in one process
    python examples/seed_sweep.py --workers 4 --seeds 32
    python examples/seed_sweep.py --engine ray                 # the same on Ray, on one machine or on a cluster

A model this small gains little from a second core, and models of different seeds are independent of each other: a process for
each core, with one thread each (`fb.set_num_threads(1)`), is as fast as it gets. The task is that of adding: two numbers of a
sequence are marked, and the network has to give their sum at its end (Hochreiter and Schmidhuber, 1997). It needs joblib, or ray.
"""
from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import NamedTuple

import numpy as np

import fastbptt as fb

STEPS, BATCH, HIDDEN, UPDATES, SEEDS = 50, 32, 32, 1000, 16


class Trained(NamedTuple):
    """What comes back from a worker."""

    seed: int
    error: float
    """Mean squared error on sequences that were not trained on; 1/6 is that of always saying 1."""
    process: int


def sequences(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """x (T, count, 2): numbers in 0 … 1, and marks on two of them; y (count, 1): the sum of the marked ones."""
    x = np.zeros((STEPS, count, 2), np.float32)
    x[..., 0] = rng.random((STEPS, count))
    first, second = rng.integers(0, STEPS // 2, count), rng.integers(STEPS // 2, STEPS, count)
    each = np.arange(count)
    x[first, each, 1] = x[second, each, 1] = 1
    return x, (x[first, each, 0] + x[second, each, 0])[:, None]


def train_on_one_thread(seed: int, updates: int) -> Trained:
    """What a worker runs: the other cores have workers of their own."""
    fb.set_num_threads(1)
    return train(seed, updates)


def train(seed: int, updates: int) -> Trained:
    """One model, trained and tested."""
    model = fb.SequenceModel(fb.GRU(2, HIDDEN), 1, loss="squared_error", mode="many_to_one")
    rng = np.random.default_rng(seed)
    batches = ({"x": x, "y": y, "reduction": "mean"} for x, y in (sequences(rng, BATCH) for _ in range(updates)))
    fitted = fb.fit(model, model.init(seed=seed), batches, fb.Adam(3e-3), clip=1.0)
    x, y = sequences(np.random.default_rng([seed, 1]), 1000)
    return Trained(seed, float(np.mean((model.predict(fitted.params, x) - y) ** 2)), os.getpid())


def sweep_joblib(seeds: int, updates: int, workers: int) -> list[Trained]:
    """In processes of this machine."""
    from joblib import Parallel, delayed
    return Parallel(n_jobs=workers)(delayed(train_on_one_thread)(seed, updates) for seed in range(seeds))


def sweep_ray(seeds: int, updates: int, workers: int) -> list[Trained]:
    """In processes of a Ray cluster: that of RAY_ADDRESS, or one that begins here with so many workers."""
    import ray
    if not ray.is_initialized():
        ray.init(**({} if "RAY_ADDRESS" in os.environ else {"num_cpus": workers}))
    remote = ray.remote(num_cpus=1)(train_on_one_thread)
    return ray.get([remote.remote(seed, updates) for seed in range(seeds)])


def main(arguments: list[str] | None = None) -> None:
    """Sweeps with workers, then in one process, and prints models per second."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--updates", type=int, default=UPDATES)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
                        else os.cpu_count())
    parser.add_argument("--engine", choices=["joblib", "ray"], default="joblib")
    options = parser.parse_args(arguments)
    sweep = {"joblib": sweep_joblib, "ray": sweep_ray}[options.engine]
    train(0, 1)                                                    # kernels are compiled once, before all workers need them
    sweep(options.workers, 1, options.workers)                     # the workers start, which is not measured
    begun = time.perf_counter()
    found = sweep(options.seeds, options.updates, options.workers)
    together = options.seeds / (time.perf_counter() - begun)
    few = max(1, options.seeds // options.workers)
    begun = time.perf_counter()
    alone = [train(seed, options.updates) for seed in range(few)]
    one = few / (time.perf_counter() - begun)
    assert [run.error for run in alone] == [run.error for run in found[:few]], "a worker's model is another one"
    errors = [run.error for run in found]
    print(f"{options.seeds} seeds: mean squared error {min(errors):.4f} to {max(errors):.4f}, "
          f"median {statistics.median(errors):.4f}")
    print(f"{len({run.process for run in found})} workers of {options.engine}: {together:.2f} models a second")
    print(f"one process, {fb.get_num_threads()} threads: {one:.2f} models a second; "
          f"the workers are {together / one:.2f} times as fast")


if __name__ == "__main__":
    main()
