"""Agreement at a distance: in 'the writer of the books … is', the noun that determines the verb is D steps before it.

    python examples/agreement.py                                   # D = 100, five seeds, every network: about three minutes
    python examples/agreement.py --distance 30 --networks lstm gru --seeds 2

A sequence has D + 1 words: the subject, D − 1 words that say nothing about its number, other nouns among them, and a placeholder
for the verb, where 'is' or 'are' has to be predicted. The two forms of a noun start with the same weights, so the state does not
depend on the number of the subject until a gradient has travelled back D steps and separated them.
"""
from __future__ import annotations

import argparse
import sys
import time
from typing import NamedTuple

import numpy as np

import fastbptt as fb
from fastbptt.training.fit import Step

WORDS = ("writer", "writers", "book", "books", "of", "the", "old", "verb")
PLURALS = {1: 0, 3: 2}           # writers: writer, books: book
VERB = WORDS.index("verb")
HIDDEN, BATCH, EVERY, CHECKED, TESTED, SOLVED = 32, 32, 50, 500, 2000, 0.998


class Network(NamedTuple):
    """A cell, its initial weights, and how it is trained."""

    title: str
    cell: fb.RNN | fb.GRU | fb.LSTM
    options: dict[str, object]
    input_gain: float
    rate: float
    horizon: int | None          # None: full BPTT


def networks(distance: int, hidden: int = HIDDEN) -> dict[str, Network]:
    """The networks that are compared, by their names on the command line."""
    sizes = len(WORDS), hidden
    rnn, gru, lstm, D = fb.RNN(*sizes), fb.GRU(*sizes), fb.LSTM(*sizes), distance
    chrono = {"chrono": max(2, D)}
    return {
        "small": Network("RNN, tanh, ‖W‖ = 0.5", rnn, {"gain": 0.5}, 0.1, 1e-3, None),
        "orthogonal": Network("RNN, tanh, orthogonal W", rnn, {}, 0.1, 1e-3, None),
        "identity": Network("RNN, ReLU, W = identity", fb.RNN(*sizes, "relu"), {"recurrent": "identity"}, 0.1, 1e-3, None),
        "lstm": Network("LSTM, chrono", lstm, chrono, 1.0, 5e-3, None),
        "gru": Network("GRU, chrono", gru, chrono, 1.0, 5e-3, None),
        "lstm-1": Network("LSTM, forget bias 1", lstm, {"forget_bias": 1.0}, 1.0, 5e-3, None),
        "gru-1": Network("GRU, forget bias 1", gru, {"forget_bias": 1.0}, 1.0, 5e-3, None),
        "orthogonal-cut": Network(f"RNN, tanh, orthogonal W, horizon {D}", rnn, {}, 0.1, 1e-3, D),
        "lstm-cut": Network(f"LSTM, chrono, horizon {D}", lstm, chrono, 1.0, 5e-3, D),
        "gru-cut": Network(f"GRU, chrono, horizon {D}", gru, chrono, 1.0, 5e-3, D),
    }


def sentences(rng: np.random.Generator, distance: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Words (D + 1, count), and for each sequence the number of its subject: 0 singular, 1 plural."""
    number = rng.integers(0, 2, count)
    words = rng.integers(2, VERB, (distance + 1, count))
    words[0], words[-1] = number, VERB
    return words, number


def first_weights(model: fb.SequenceModel, network: Network, seed: int, apart: bool = False) -> fb.ModelParams:
    """Those of the cell, with U scaled, and with the same column for both forms of a noun unless `apart`."""
    params = model.init(seed=seed, **network.options)
    U = network.input_gain * params.cell.U
    for plural, singular in () if apart else PLURALS.items():
        U[:, plural] = U[:, singular]
    return params._replace(cell=params.cell._replace(U=U))


def accuracy(model: fb.SequenceModel, params: fb.ModelParams, words: np.ndarray, number: np.ndarray) -> float:
    """Fraction of the sequences whose verb is right."""
    return float((model.predict(params, words).argmax(axis=1) == number).mean())


def train(network: Network, distance: int, updates: int, seed: int, apart: bool = False) -> tuple[float, int]:
    """Accuracy on sequences that were not trained on, and the number of updates; stops when the task is learned."""
    model = fb.SequenceModel(network.cell, 2, mode="many_to_one")
    rng = np.random.default_rng([seed, 1])
    check, test = sentences(rng, distance, CHECKED), sentences(rng, distance, TESTED)
    # Only the last step has an error: its pass goes back `horizon` steps whatever the stride, and the largest stride costs least.
    truncation = None if network.horizon is None else fb.Truncation.chunks(network.horizon)

    def batches():
        while True:
            words, number = sentences(rng, distance, BATCH)
            yield {"x": words, "y": number, "reduction": "mean"}

    def learned(step: Step) -> bool:
        return step.number % EVERY == 0 and accuracy(model, step.params, *check) >= SOLVED

    fitted = fb.fit(model, first_weights(model, network, seed, apart), batches(), fb.Adam(network.rate), clip=1.0, steps=updates,
                    truncation=truncation, callback=learned)
    return accuracy(model, fitted.params, *test), len(fitted.losses)


def main(argv: list[str] | None = None) -> dict[str, list[float]]:
    """Train, print a table, and return the accuracies of all seeds by network."""
    parser = argparse.ArgumentParser(description="which networks remember the subject of a long sentence?")
    parser.add_argument("--distance", type=int, default=100, help="steps from the subject to the verb (default: 100)")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, 0 … n − 1 (default: 5)")
    parser.add_argument("--updates", type=int, default=2000, help="largest number of updates (default: 2000)")
    parser.add_argument("--hidden", type=int, default=HIDDEN, help=f"hidden units (default: {HIDDEN})")
    parser.add_argument("--networks", nargs="+", choices=list(networks(2)), default=list(networks(2)), metavar="NAME",
                        help=f"of {', '.join(networks(2))} (default: all)")
    parser.add_argument("--apart", action="store_true", help="each form of a noun starts with weights of its own")
    arguments = parser.parse_args(argv)
    if min(arguments.distance - 1, arguments.seeds, arguments.updates, arguments.hidden) < 1:
        parser.error("expected a distance of at least 2, and at least one seed, update and unit")
    table, found = networks(arguments.distance, arguments.hidden), {}
    print("| network | " + " | ".join(f"seed {s}" for s in range(arguments.seeds)) + " | updates | seconds |")
    print("| --- |" + " ---: |" * (arguments.seeds + 2), flush=True)
    for name in arguments.networks:
        began, runs = time.perf_counter(), []
        for seed in range(arguments.seeds):
            print(f"\r{name}, seed {seed} …".ljust(32), end="\r", file=sys.stderr, flush=True)
            runs.append(train(table[name], arguments.distance, arguments.updates, seed, arguments.apart))
        found[name] = [accuracy for accuracy, _ in runs]
        made = sorted({updates for _, updates in runs})
        span = f"{made[0]}" if len(made) == 1 else f"{made[0]} to {made[-1]}"
        cells = [table[name].title, *(f"{a:.3f}" for a in found[name]), span, f"{time.perf_counter() - began:.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    return found


if __name__ == "__main__":
    main()
