"""
Which steps an error reaches
============================

The gradient of one loss with respect to every input before it: full BPTT, a window, and chunks. Where there is no mark, the error
did not arrive.
"""
import matplotlib.pyplot as plt
import numpy as np

import fastbptt as fb

T = 60
cell = fb.GRU(2, 32)
params = cell.init(seed=0, dtype=np.float64)
x = np.random.default_rng(0).normal(size=(T, 1, 2))
tape = fb.forward(cell, params, x)

# %%
# An error at step 55, and one at step 42. The window of 12 goes back twelve steps from each, its own included. Chunks of 12
# begin after the steps 12, 24, 36 and 48, so the first error goes back seven steps, the second six.

figure, panels = plt.subplots(2, 1, figsize=(9, 4.5), layout="constrained", sharex=True)
forms = {"full": None, "window of 12": fb.Truncation(12), "chunks of 12": fb.Truncation.chunks(12)}
steps = np.arange(1, T + 1)
for axes, at in zip(panels, (55, 42), strict=True):
    dh = np.zeros_like(tape.h)
    dh[at - 1] = 1
    for row, truncation in enumerate(forms.values()):
        size = np.linalg.norm(fb.backward(cell, params, tape, dh, truncation).x[:, 0], axis=1)
        there = size > 0
        colours = {"c": np.log10(size[there]), "vmin": -5, "vmax": 0, "cmap": "viridis_r"}
        shown = axes.scatter(steps[there], np.full(there.sum(), row), s=45, **colours)
    axes.set(title=f"an error at step {at}", yticks=range(3), yticklabels=forms, ylim=(2.5, -0.5))
    for end in range(12, T, 12):
        axes.axvline(end + 0.5, color="0.85", zorder=0)
panels[1].set_xlabel("step of the input")
figure.colorbar(shown, ax=panels, label="log₁₀ ‖∂L/∂x_t‖")
plt.show()
