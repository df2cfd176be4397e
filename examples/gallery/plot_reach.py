"""
How far each state reaches
==========================

Three networks of one size read the same sequence. The map shows how strongly a change of state k moves a later state t,
‖∂state_t/∂state_k‖. Dark means that an error at step t says nothing about what happened at step k.
"""
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

import fastbptt as fb

x = np.random.default_rng(0).normal(size=(60, 1, 8))
networks = {
    "RNN, tanh, ‖W‖ = 0.6": (fb.RNN(8, 32), {"gain": 0.6}),
    "RNN, tanh, orthogonal W": (fb.RNN(8, 32), {}),
    "LSTM, biases for 60 steps": (fb.LSTM(8, 32), {"chrono": 60}),
}

# %%
# :py:obj:`fastbptt.gradient_flow` measures all of this in one call. ``report.states`` are the states of the map, and entry [k, t]
# of ``report.reach`` is the norm; it is NaN for t < k, as no state moves an earlier one.

figure, panels = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained", sharey=True)
for axes, (name, (cell, options)) in zip(panels, networks.items(), strict=True):
    params = cell.init(seed=0, dtype=np.float64, **options)
    tape = fb.forward(cell, params, x)
    report = fb.gradient_flow(cell, params, tape, np.ones_like(tape.h))
    shown = axes.pcolormesh(report.states, report.states, report.reach, norm=LogNorm(1e-8, 10, clip=True), cmap="magma")
    axes.set(title=f"{name}\n{report.verdict}", xlabel="t")
panels[0].set_ylabel("k")
panels[0].invert_yaxis()
figure.colorbar(shown, ax=panels, label="norm")
plt.show()
