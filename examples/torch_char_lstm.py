"""A character model in PyTorch, with torch.nn.LSTM and with fastbptt.torch.LSTM: the same losses, times side by side.

    python examples/torch_char_lstm.py                              # both modules, 60 updates: some seconds
    python examples/torch_char_lstm.py --module fastbptt            # one of them: --module torch, --module fastbptt
    python examples/torch_char_lstm.py --double                     # in float64, where the losses agree to many digits
    python examples/torch_char_lstm.py --compile                    # the model through torch.compile
    python examples/torch_char_lstm.py --ddp                        # two processes over gloo, half of each batch each

Embedding, two LSTM layers with dropout in between, packed batches of lines, AdamW, clipping. The text is Python's own
documentation, so nothing is downloaded.
"""
from __future__ import annotations

import argparse
import pydoc_data.topics
import socket
import statistics
import time
from typing import Any

import torch
import torch._inductor.config
import torch.distributed as dist
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

SHORTEST, LONGEST, PROCESSES = 20, 80, 2


class CharModel(nn.Module):
    """Logits of the next character for packed ids."""

    def __init__(self, lstm: type[nn.Module], characters: int, hidden: int):
        super().__init__()
        self.embedding = nn.Embedding(characters, 32)
        self.lstm = lstm(32, hidden, num_layers=2, dropout=0.2)
        self.readout = nn.Linear(hidden, characters)

    def forward(self, ids: PackedSequence) -> torch.Tensor:
        """(N, characters) for N packed ids."""
        out, _ = self.lstm(ids._replace(data=self.embedding(ids.data)))
        return self.readout(out.data)


def lines_of_text() -> tuple[list[torch.Tensor], int]:
    """Lines as ids, and the number of different characters."""
    text = "\n".join(pydoc_data.topics.topics.values())
    index = {character: i for i, character in enumerate(sorted(set(text)))}
    lines = [line.strip()[:LONGEST] for line in text.split("\n")]
    return [torch.tensor([index[c] for c in line]) for line in lines if len(line) >= SHORTEST], len(index)


def pack(lines: list[torch.Tensor]) -> tuple[PackedSequence, torch.Tensor]:
    """Packed ids, and the ids that follow them."""
    lengths = torch.tensor([len(line) - 1 for line in lines])
    padded = nn.utils.rnn.pad_sequence(lines)
    inputs, targets = (pack_padded_sequence(part, lengths, enforce_sorted=False) for part in (padded[:-1], padded[1:]))
    return inputs, targets.data


def train(name: str, options: argparse.Namespace, rank: int = 0, processes: int = 1) -> tuple[list[float], float]:
    """The losses of all updates, and the median time of one."""
    lines, characters = lines_of_text()
    torch.manual_seed(options.seed)
    if name == "torch":
        lstm: Any = nn.LSTM
    else:
        from fastbptt.torch import LSTM as lstm  # noqa: N813
    model: Any = CharModel(lstm, characters, options.hidden)
    if options.double:
        model.double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    if processes > 1:
        model = nn.parallel.DistributedDataParallel(model)
    if options.compile:
        # Dropout of ours is compiled with the model, that of torch.nn.LSTM is not: by default their numbers would differ.
        torch._inductor.config.fallback_random = True
        model = torch.compile(model)
    draw = torch.Generator().manual_seed(options.seed)
    losses, times = [], []
    for _ in range(options.updates):
        chosen = torch.randint(len(lines), (options.batch,), generator=draw).tolist()
        inputs, targets = pack([lines[i] for i in chosen[rank::processes]])
        total = sum(len(lines[i]) - 1 for i in chosen)
        start = time.perf_counter()
        optimizer.zero_grad()
        # DistributedDataParallel takes the mean over processes: the sum of each, times their number, over all characters.
        loss = nn.functional.cross_entropy(model(inputs), targets, reduction="sum") * (processes / total)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        times.append(time.perf_counter() - start)
        shown = loss.detach() / processes
        if processes > 1:
            dist.all_reduce(shown)
        losses.append(float(shown))
    return losses, statistics.median(times)


def worker(rank: int, name: str, options: argparse.Namespace, port: int, results: Any) -> None:
    """One of several processes; the first one reports."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=PROCESSES)
    found = train(name, options, rank, PROCESSES)
    if rank == 0:
        results.put(found)
    dist.barrier()
    dist.destroy_process_group()


def train_in_processes(name: str, options: argparse.Namespace) -> tuple[list[float], float]:
    """`train` in two processes of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = torch.multiprocessing.get_context("spawn").SimpleQueue()
    torch.multiprocessing.spawn(worker, (name, options, port, results), nprocs=PROCESSES)
    return results.get()


def main(arguments: list[str] | None = None) -> None:
    """Trains with each module, and prints losses and times."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--module", choices=["torch", "fastbptt", "both"], default="both")
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--double", action="store_true", help="float64: what rounding does to the losses grows with every update")
    parser.add_argument("--compile", action="store_true", help="run the model through torch.compile")
    parser.add_argument("--ddp", action="store_true", help="two processes over gloo")
    options = parser.parse_args(arguments)
    names = ["torch", "fastbptt"] if options.module == "both" else [options.module]
    found = {name: (train_in_processes if options.ddp else train)(name, options) for name in names}
    print("update  " + "  ".join(f"{name:>10}" for name in names))
    for i in sorted({*range(0, options.updates, max(1, options.updates // 6)), options.updates - 1}):
        print(f"{i + 1:6}  " + "  ".join(f"{found[name][0][i]:10.6f}" for name in names))
    print("ms      " + "  ".join(f"{1e3 * found[name][1]:10.2f}" for name in names) + "   median of an update")
    if len(names) == 2:
        difference = max(abs(a / b - 1) for a, b in zip(found["torch"][0], found["fastbptt"][0], strict=True))
        print(f"largest relative difference of the losses: {difference:.1e}")


if __name__ == "__main__":
    main()
