"""`fastbptt train` as one would write it in PyTorch: the same text, split, stream, cell, batches, optimiser, clipping and time.

    python -m benchmarks.train_torch --text FILE --cell lstm --hidden 256 --seconds 600

Prints bits per character on the held-out tenth, as `fastbptt train` does. The weights begin as PyTorch's modules begin.
"""
from __future__ import annotations

import argparse
import math
import time

import torch
from torch.nn.functional import cross_entropy, one_hot

import fastbptt as fb


class Model(torch.nn.Module):
    """A recurrent layer over one-hot characters, and a linear readout."""

    def __init__(self, cell: str, size: int, hidden: int):
        super().__init__()
        self.size = size
        self.layer = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell](size, hidden)
        self.readout = torch.nn.Linear(hidden, size)

    def forward(self, ids: torch.Tensor, state: object) -> tuple[torch.Tensor, object]:
        h, state = self.layer(one_hot(ids, self.size).float(), state)
        return self.readout(h), state


def detached(state: object) -> object:
    return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()      # type: ignore[attr-defined]


def loss_of(model: Model, window: object, state: object, reduction: str) -> tuple[torch.Tensor, object]:
    x, y, fresh = window      # type: ignore[misc]
    z, state = model(torch.from_numpy(x), None if fresh else state)
    return cross_entropy(z.flatten(0, 1), torch.from_numpy(y).flatten(), reduction=reduction), detached(state)


def held_out_bits(model: Model, text: object, batch: int, window: int) -> float:
    state, total, count = None, 0.0, 0
    with torch.no_grad():
        for each in fb.stream(text, batch, window):
            loss, state = loss_of(model, each, state, "sum")
            total, count = total + loss.item(), count + each.x.size
    return total / count / math.log(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", required=True)
    parser.add_argument("--cell", default="gru")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=600.0)
    given = parser.parse_args()
    torch.manual_seed(0)
    text = fb.TextFile(given.text)
    kept = len(text) - len(text) // 10
    train, held_out = text.part(0, kept), text.part(kept, len(text))
    model = Model(given.cell, len(text.vocabulary), given.hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=given.lr)
    state, updates, start = None, 0, time.perf_counter()
    for window in fb.stream(train, given.batch, given.window, epochs=None):
        optimizer.zero_grad()
        loss, state = loss_of(model, window, state, "mean")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), given.clip)
        optimizer.step()
        updates += 1
        spent = time.perf_counter() - start
        if updates % 500 == 0 or spent > given.seconds:
            bits = held_out_bits(model, held_out, given.batch, given.window)
            print(f"update {updates:>7,}  {spent:8.1f} s   held out {bits:.4f} bits per character", flush=True)
        if spent > given.seconds:
            break


if __name__ == "__main__":
    main()
