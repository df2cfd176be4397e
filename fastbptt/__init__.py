"""fastbptt: Numba kernels for backpropagation through time, and what gradients do on the way."""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .commands import interrupt as _interrupt  # noqa: F401   (before all that takes time)

# isort: split
from .arrays import Grads
from .bptt.api import backward, forward, step
from .bptt.stack import Directions, Stack
from .bptt.tape import Tape
from .bptt.truncation import Truncation
from .cells.gru import GRU, GRUBeforeParams, GRUParams, GRUState
from .cells.lstm import LSTM, LSTMParams, LSTMPeepholeParams, LSTMState
from .cells.rnn import RNN, RNNParams, RNNState
from .engine.threads import get_num_threads, set_num_threads
from .errors import FileError
from .training.clip import clip_by_norm, clip_by_value
from .training.fit import evaluate, fit
from .training.model import ModelParams, SequenceModel
from .training.optim import SGD, Adam
from .training.readout import ReadoutParams
from .training.sampling import sample
from .training.schedule import Cosine
from .training.sequences import Vocabulary, pad
from .training.storage import SavedModel, load_model, save_model
from .training.stream import Stream, stream
from .training.text import TextFile

if TYPE_CHECKING:
    from . import cuda, distributed, interop, tasks
    from .flow.fixed_points import FixedPoints, fixed_points
    from .flow.horizon import Horizons, suggest_horizon, suggest_horizons
    from .flow.jacobians import jacobian_product, jacobian_vector, jacobians, vector_jacobian
    from .flow.lags import LagNorms, StepGradients, lag_gradients, lag_norms, step_gradients
    from .flow.lyapunov import lyapunov_spectrum
    from .flow.norms import JacobianNorms, jacobian_norms
    from .flow.report import GradientFlow, gradient_flow
    from .tangent.jvp import Tangent, jvp
    from .tangent.per_sequence import per_sequence_gradients, per_sequence_norms

__version__ = "0.1.0"

# What a process that only trains does not need is loaded when it is first asked for.
_LATER = {
    "flow.jacobians": ("jacobian_product", "jacobian_vector", "jacobians", "vector_jacobian"),
    "flow.fixed_points": ("FixedPoints", "fixed_points"),
    "flow.horizon": ("Horizons", "suggest_horizon", "suggest_horizons"),
    "flow.lags": ("LagNorms", "StepGradients", "lag_gradients", "lag_norms", "step_gradients"),
    "flow.lyapunov": ("lyapunov_spectrum",),
    "flow.norms": ("JacobianNorms", "jacobian_norms"),
    "flow.report": ("GradientFlow", "gradient_flow"),
    "tangent.jvp": ("Tangent", "jvp"),
    "tangent.per_sequence": ("per_sequence_gradients", "per_sequence_norms"),
}


def __getattr__(name: str) -> Any:
    if name in ("cuda", "distributed", "interop", "tasks"):
        return import_module(f"fastbptt.{name}")
    for module, names in _LATER.items():
        if name in names:
            return getattr(import_module(f"fastbptt.{module}"), name)
    raise AttributeError(f"module 'fastbptt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "SGD",
    "Adam",
    "Cosine",
    "Directions",
    "FileError",
    "FixedPoints",
    "GRUBeforeParams",
    "GRUParams",
    "GRUState",
    "GradientFlow",
    "Grads",
    "Horizons",
    "JacobianNorms",
    "LSTMParams",
    "LSTMPeepholeParams",
    "LSTMState",
    "LagNorms",
    "ModelParams",
    "RNNParams",
    "RNNState",
    "ReadoutParams",
    "SavedModel",
    "SequenceModel",
    "Stack",
    "StepGradients",
    "Stream",
    "Tangent",
    "Tape",
    "TextFile",
    "Truncation",
    "Vocabulary",
    "backward",
    "clip_by_norm",
    "clip_by_value",
    "cuda",
    "distributed",
    "evaluate",
    "fit",
    "fixed_points",
    "forward",
    "get_num_threads",
    "gradient_flow",
    "interop",
    "jacobian_norms",
    "jacobian_product",
    "jacobian_vector",
    "jacobians",
    "jvp",
    "lag_gradients",
    "lag_norms",
    "load_model",
    "lyapunov_spectrum",
    "pad",
    "per_sequence_gradients",
    "per_sequence_norms",
    "sample",
    "save_model",
    "set_num_threads",
    "step",
    "step_gradients",
    "stream",
    "suggest_horizon",
    "suggest_horizons",
    "tasks",
    "vector_jacobian",
]
