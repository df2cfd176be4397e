"""
The full gradient within a memory budget
========================================

A tape holds the state of every step, so memory grows with the sequence. With a budget, ``forward`` keeps a few states and
``backward`` computes the others again. The gradient has the same bits.
"""
import tracemalloc

import matplotlib.pyplot as plt
import numpy as np

import fastbptt as fb

cell = fb.RNN(4, 64)
params = cell.init(seed=0)
rng = np.random.default_rng(0)
lengths = [1_000, 4_000, 16_000, 64_000]


def gradient(x, dh, budget):
    """The gradients, and the most memory that was in use at once, in MiB."""
    tracemalloc.start()
    tape = fb.forward(cell, params, x, memory_budget=budget)
    grads = fb.backward(cell, params, tape, dh)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return grads, (peak - grads.x.nbytes) / 2**20


# %%
# Both ways, for longer and longer sequences:

peaks = {"all states": [], "budget of 2 MiB": []}
for T in lengths:
    x = rng.normal(size=(T, 1, 4)).astype(np.float32)
    dh = rng.normal(size=(T, 1, 64)).astype(np.float32)
    full, most = gradient(x, dh, None)
    bounded, least = gradient(x, dh, "2 MiB")
    assert all(np.array_equal(a, b) for a, b in zip(full.params, bounded.params, strict=True))
    peaks["all states"].append(most)
    peaks["budget of 2 MiB"].append(least)

figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
for name, values in peaks.items():
    axes.loglog(lengths, values, "o-", label=name)
axes.set(xlabel="steps", ylabel="MiB, without the gradient of x")
axes.legend(frameon=False)
plt.show()
