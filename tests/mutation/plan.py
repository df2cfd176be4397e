"""Which files are mutated, which tests have to notice, and why some mutants that survive may."""
from __future__ import annotations

ONE = ["tests/bptt/test_core.py", "-k", "gru_before and float64"]      # two kernels, with every part that a cell can have
MORE = ["tests/bptt/test_core.py", "tests/bptt/test_options.py", "-k",
        "rnn and float64 or lstm_peephole and float32 or ids or test_options"]
CALLS = ["tests/bptt/test_by_hand.py", "tests/bptt/test_stack.py", "tests/bptt/test_options.py", "tests/bptt/test_inputs.py",
         "tests/bptt/test_tape.py", "tests/bptt/test_truncation.py"]
BPTT = [CALLS, ["tests/bptt/test_checkpoint.py", "tests/bptt/test_memory.py", "tests/bptt/test_passes.py",
                "tests/bptt/test_foreign_arrays.py"], ["tests/test_copies.py", "-k", "Tape or tape or Stack"]]
JACOBIANS = ["tests/flow/test_jacobians.py"]
FLOW = ["tests/flow/test_norms.py", "tests/flow/test_horizon.py", "tests/flow/test_report.py",
        "tests/flow/test_lyapunov_singular.py", "tests/flow/test_plot.py"]
# The stages of tests for the files whose names begin so; the longest name counts.
TESTS = {
    "cells/": [ONE, MORE],
    "cells/rnn.py": [["tests/cells/test_forms.py", "tests/cells/test_init.py"],
                     ["tests/bptt/test_options.py", "tests/bptt/test_by_hand.py"],
                     ["tests/bptt/test_core.py", "-k", "rnn and float64"]],
    "cells/gru.py": [["tests/bptt/test_core.py", "-k", "gru and float64"]],
    "cells/lstm.py": [["tests/bptt/test_core.py", "-k", "lstm_peephole and float64"]],
    "cells/init.py": [["tests/cells", "-k", "init"], ["tests/bptt/test_options.py"], ["tests/engine/test_orthogonal.py"]],
    "cells/form.py": [["tests/cells/test_forms.py"], ONE, MORE],
    "cells/derivatives.py": [["tests/flow/test_jacobians.py", "-k", "reference"], ["tests/flow/test_jacobians.py"]],
    "cells/cell.py": [["tests/bptt/test_options.py"], ONE, MORE],
    "bptt/": BPTT,
    "bptt/kernels.py": [ONE, MORE, ["tests/bptt/test_memory.py", "-k", "hold_two"]],
    "bptt/checkpoints.py": [["tests/bptt/test_checkpoint.py"], ["tests/bptt/test_core.py", "-k", "checkpoints"]],
    "flow/": [JACOBIANS, FLOW],
    "flow/verdict.py": [["tests/flow/test_report.py"], JACOBIANS, FLOW],
    "flow/report.py": [["tests/flow/test_report.py"], FLOW, ["tests/cli/test_diagnose.py"]],
    "flow/lyapunov.py": [["tests/flow/test_norms.py", "tests/flow/test_lyapunov_singular.py"], FLOW],
    "flow/norms.py": [["tests/flow/test_norms.py"], FLOW],
}


# (file, its line before, after): why no test can tell them apart, or need not.
SURVIVORS: dict[tuple[str, str, str], str] = {
    ('cells/gru.py',
     'return (none, e * (old[0] - n) * sigmoid_grad(z), (e - kept) * tanh_grad(n), none), (kept,)',
     'return (none, e * (old[-1] - n) * sigmoid_grad(z), (e - kept) * tanh_grad(n), none), (kept,)'):
        'There is one state.',
    ('bptt/plan.py',
     'start: int = 0',
     'start: int = 1'):
        'Only SAVE and RESTORE leave it out, and they read no steps.',
    ('bptt/schedule.py',
     'if -(-T // unit) <= 2 ** levels: # more levels keep no fewer states',
     'if -(-T // unit) <= (2 * levels): # more levels keep no fewer states'):
        'Equal for one and two levels; with more, further levels keep more states and are not chosen: the search is longer.',
    ('flow/lyapunov.py',
     'count = max(1, min(most, (end - t) // length)) if length > 1 else 1',
     'count = max(1, min(most, (end - t) // length)) if length > 2 else 1'):
        'Stretches of two steps are then taken one after the other: the same numbers.',
    ('flow/lyapunov.py',
     'most = MOST_FLOATS // (steps.B * S * S) if S <= max(64, 4 * k) else 1',
     'most = MOST_FLOATS // (steps.B * S * S) if S <= max(64, 5 * k) else 1'):
        'Which of two ways is less work at a size in between: the same numbers.',
    ('flow/jacobians.py',
     'return np.ascontiguousarray(rows[0, :, 0])',
     'return np.ascontiguousarray(rows[-1, :, 0])'):
        'There is one row.',
    ('flow/verdict.py',
     'times = np.exp(min(float(report.rates.max()) * report.steps, 700))',
     'times = np.exp(min(float(report.rates.max()) * report.steps, 701))'):
        'Of growth beyond exp(700) a remedy names exp(700) or exp(701): either keeps the text finite.',
    ('bptt/execute.py',
     'self.dtype = self.params[0].dtype',
     'self.dtype = self.params[1].dtype'):
        'All parameters of a cell have one dtype; errors/cells.py refuses others.',
}


def stages_of(path: str) -> list[list[str]]:
    """The tests for a file, stage after stage."""
    stages: list[list[str]] = TESTS[max((name for name in TESTS if path.startswith(name)), key=len)]
    return stages
