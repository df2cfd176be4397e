"""Draws docs/design.png, the layers of the package and the way of one call through them: python docs/design_picture.py."""
from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

ROOMS = [
    ("commands/  runs/  bench/  demo/", "command line"),
    ("interop/ torch/ sklearn/ cuda/ distributed/", "where users live: libraries, GPUs, clusters"),
    ("flow/ tangent/ training/ tasks/", "gradients as data; trained models"),
    ("bptt/", "through time, for any cell"),
    ("cells/", "one file per cell; the scans"),
    ("engine/", "how loops get fast; knows no cell"),
    ("errors/   tree.py   arrays.py", "checks; shapes and tuples"),
]
CALL = [
    ("api.py", "check the arguments", 3),
    ("plan.py", "actions: segments × layers × passes", 3),
    ("execute.py", "the one loop over the plan", 3),
    ("kernels.py", "two compiled entry points", 3),
    ("forward.py  backward.py", "the loops over time", 4),
    ("step.py", "product with W, point function", 4),
    ("rnn.py  gru.py  lstm.py", "one unit: value and vjp", 4),
    ("gemm.py  simd.py  pool.py", "tiles, vectors, threads that share pieces", 5),
]
BLUE, GREEN, INK = "#dbe7f5", "#dff0e0", "#203040"


def box(axis, x, y, width, height, title, text, colour):
    axis.add_patch(plt.Rectangle((x, y), width, height, facecolor=colour, edgecolor=INK, linewidth=0.8))
    axis.text(x + 0.15, y + height * 0.62, title, family="monospace", fontsize=min(9.5, 330 / len(title)), color=INK, va="center")
    axis.text(x + 0.15, y + height * 0.24, text, fontsize=8.5, color=INK, va="center")


def draw(path: Path) -> None:
    figure, axis = plt.subplots(figsize=(9, 5.6))
    axis.set_xlim(0, 11.2)
    axis.set_ylim(-0.1, 9.1)
    axis.axis("off")
    axis.text(0.2, 8.75, "Layers: imports point down", fontsize=11, color=INK)
    axis.text(6.2, 8.75, "One call: fb.backward(…)", fontsize=11, color=INK)
    for i, (title, text) in enumerate(ROOMS):
        box(axis, 0.2, 7.4 - 1.2 * i, 4.6, 0.95, title, text, BLUE)
    for i, (title, text, room) in enumerate(CALL):
        y = 7.5 - 1.06 * i
        box(axis, 6.2, y, 4.8, 0.86, title, text, GREEN)
        axis.annotate("", (4.8, 7.4 - 1.2 * room + 0.48), (6.2, y + 0.43),
                      arrowprops={"arrowstyle": "-", "color": "#9fb0c0", "linewidth": 0.8})
        if i:
            axis.annotate("", (8.6, y + 0.86), (8.6, y + 1.06), arrowprops={"arrowstyle": "->", "color": INK})
    figure.savefig(path, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    draw(Path(__file__).with_name("design.png"))
