"""Three bits in a network, and the fixed points that hold them (Sussillo & Barak, Neural Computation 25(3), 2013).

    python examples/flip_flop.py               # trains, finds the points, says what they are: about a minute
    python examples/flip_flop.py --write       # and draws docs/flip-flop.png

Each of three inputs is now and then a pulse of +1 or −1, else 0; each of three outputs is the sign of the last pulse of its
input. A network that has learned this keeps 2³ = 8 states apart while nothing comes in: 8 stable fixed points under the input 0,
and between them unstable ones, over which the pulses push the state.
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastbptt as fb

DOCS = Path(__file__).resolve().parents[1] / "docs"
BITS, HIDDEN, STEPS, SEQUENCES = 3, 64, 50, 64
Array = NDArray[Any]


def flip_flop(rng: np.random.Generator, T: int, B: int, pulses: float = 0.15) -> tuple[Array, Array]:
    """x (T, B, 3) of pulses, the first step one in every input, and y (T, B, 3), the sign of the last pulse."""
    x = np.where(rng.random((T, B, BITS)) < pulses, rng.choice([-1.0, 1.0], (T, B, BITS)), 0.0)
    x[0] = rng.choice([-1.0, 1.0], (B, BITS))
    last = np.maximum.accumulate(np.where(x != 0, np.arange(T)[:, None, None], 0), axis=0)
    y = np.take_along_axis(x, last, axis=0)
    return x.astype(np.float32), y.astype(np.float32)


class Learned(NamedTuple):
    """A trained network, and the states of a test batch."""

    model: fb.SequenceModel
    params: fb.ModelParams
    states: Array
    """(T, B, H)."""
    correct: float
    """Share of the outputs of the test batch with the right sign."""


def train(updates: int = 1500, seed: int = 0) -> Learned:
    """A tanh network, trained by Adam until its outputs are right."""
    rng = np.random.default_rng(seed)
    model = fb.SequenceModel(fb.RNN(BITS, HIDDEN), BITS, loss="squared_error")
    batches = ({"x": x, "y": y, "reduction": "mean"} for x, y in (flip_flop(rng, STEPS, SEQUENCES) for _ in range(updates)))
    params = fb.fit(model, model.init(seed=seed, gain=0.9), batches, fb.Adam(2e-3), clip=1.0,
                    schedule=fb.Cosine(updates, warmup=20)).params
    x, y = flip_flop(rng, 4 * STEPS, SEQUENCES)
    z = model.predict(params, x)
    return Learned(model, params, fb.forward(model.cell, params.cell, x).h, float((np.sign(z) == y).mean()))


def points_of(learned: Learned, starts: int = 2000, noise: float = 0.3, seed: int = 1) -> fb.FixedPoints:
    """Fixed and slow points under the input 0, from visited states and around them."""
    rng = np.random.default_rng(seed)
    states = learned.states.reshape(-1, HIDDEN)
    chosen = states[rng.choice(len(states), starts)]
    return fb.fixed_points(learned.model.cell, learned.params.cell, np.zeros(BITS, np.float32),
                           fb.RNNState(chosen + (noise * rng.normal(size=chosen.shape)).astype(np.float32)))


def bits_of(learned: Learned, found: fb.FixedPoints) -> Array:
    """(n, 3): the signs of the outputs at the stable points."""
    readout, h = learned.params.readout, found.states.h[found.fixed & found.stable]
    return np.sign(h @ readout.V.T + readout.c).astype(int)


def summary(learned: Learned, found: fb.FixedPoints) -> str:
    """What was found, in lines."""
    fixed = found.fixed
    unstable = (np.abs(found.eigenvalues[fixed & ~found.stable]) > 1).sum(axis=1)
    kinds = ", ".join(f"{(unstable == k).sum()} with {k} unstable direction{'s' if k > 1 else ''}" for k in np.unique(unstable))
    stable = bits_of(learned, found)
    return "\n".join([
        f"outputs with the right sign: {learned.correct:.2%}",
        f"stable fixed points: {len(stable)}, which hold {len(set(map(tuple, stable.tolist())))} different triples of bits",
        f"unstable fixed points: {len(unstable)} ({kinds})",
        f"slow points: {(~fixed).sum()}, largest speed of a fixed point: {found.speeds[fixed].max(initial=0):.0e}"])


def draw(learned: Learned, found: fb.FixedPoints, path: Path) -> None:
    """The states and the points in the plane of the two, and in the space of the three, largest principal components."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    states = learned.states.reshape(-1, HIDDEN)
    mean = states.mean(axis=0)
    axes = np.linalg.svd(states - mean, full_matrices=False)[2][:3].T
    figure = plt.figure(figsize=(6, 5.4))
    plot = figure.add_subplot(projection="3d")
    for b in range(20):
        plot.plot(*((learned.states[:, b] - mean) @ axes).T, color="0.75", lw=0.5)
    for kind, colour, marker, label in ((found.fixed & found.stable, "black", "o", "stable"),
                                        (found.fixed & ~found.stable, "tab:red", "x", "unstable")):
        plot.scatter(*((found.states.h[kind] - mean) @ axes).T, color=colour, marker=marker, label=f"{label} fixed points",
                     depthshade=False)
    plot.set(xlabel="PC 1", ylabel="PC 2", zlabel="PC 3")
    plot.legend(loc="upper left")
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--write", action="store_true", help="draw docs/flip-flop.png")
    chosen = parser.parse_args(arguments)
    learned = train(chosen.updates)
    found = points_of(learned)
    print(summary(learned, found))
    if chosen.write:
        draw(learned, found, DOCS / "flip-flop.png")


if __name__ == "__main__":
    main()
