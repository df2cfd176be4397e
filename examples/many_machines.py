"""One model, trained by several processes: the same steps as one process takes with as many lanes.

    python examples/many_machines.py                                             # alone
    torchrun --nproc-per-node 2 examples/many_machines.py                        # two processes, over gloo
    mpirun -n 2 python -m mpi4py examples/many_machines.py                       # two processes, over MPI
    python examples/many_machines.py --lanes 64 --hidden 256 --updates 500

A character model of Python's own documentation. Whatever the number of workers, the losses are the same but for rounding.
"""
from __future__ import annotations

import argparse
import pydoc_data.topics
import time

import numpy as np

import fastbptt as fb

WINDOW, HELD_OUT = 64, 20_000


def read() -> tuple[np.ndarray, int]:
    """Ids of the characters, and how many different ones there are."""
    text = "\n".join(pydoc_data.topics.topics[key] for key in sorted(pydoc_data.topics.topics))
    vocabulary = fb.Vocabulary.from_text(text)
    return vocabulary.encode(text), len(vocabulary)


def main(arguments: list[str] | None = None) -> None:
    """Trains, as one of several workers if a launcher has started them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lanes", type=int, default=32, help="of all workers")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--updates", type=int, default=100)
    options = parser.parse_args(arguments)
    workers = fb.distributed.launched()
    rank, size = (0, 1) if workers is None else (workers.rank, workers.size)
    if options.lanes % size:
        parser.error(f"--lanes: expected a multiple of the {size} workers, got {options.lanes}")

    ids, characters = read()
    model = fb.SequenceModel(fb.GRU(characters, options.hidden), characters)
    stream = fb.stream(ids[:-HELD_OUT], options.lanes // size, WINDOW, epochs=None, shard=(rank, size))
    begun = time.perf_counter()
    fitted = fb.fit(model, model.init(seed=0), stream, fb.Adam(3e-3), clip=1.0, steps=options.updates, reduce=workers)
    seconds = time.perf_counter() - begun
    if rank == 0:
        for i in sorted({*range(0, options.updates, max(1, options.updates // 5)), options.updates - 1}):
            print(f"update {i + 1:5}   loss {fitted.losses[i]:.5f}")
        held_out = fb.evaluate(model, fitted.params, fb.stream(ids[-HELD_OUT:], 8, WINDOW))
        speed = options.updates * options.lanes * WINDOW / seconds
        print(f"held out {held_out:.5f}; {size} workers, {speed:,.0f} characters a second")
    if workers is not None:
        workers.close()


if __name__ == "__main__":
    main()
