"""Weights of PyTorch's safetensors files, read without PyTorch."""
from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import fastbptt as fb

pytest.importorskip("safetensors")
from safetensors.numpy import save_file  # noqa: E402

from fastbptt.interop import safetensors  # noqa: E402


def test_prefix_and_dtypes(tmp_path):
    path = tmp_path / "m.safetensors"
    arrays = {"a.w": np.ones((2, 3)), "a.b": np.zeros(2, np.float32), "ab": np.ones(1, np.float16), "n": np.array([3])}
    save_file(arrays, path)
    found = safetensors.read(path, "a.")
    assert set(found) == {"w", "b"} and found["w"].dtype == np.float64 and found["b"].dtype == np.float32
    np.testing.assert_array_equal(found["w"], arrays["a.w"])
    path.unlink()
    found["w"][:] = 2      # of its own memory
    save_file(arrays, path)
    with pytest.raises(fb.FileError, match=r"m.safetensors: ab: expected float32 or float64, got F16; convert it with .float"):
        safetensors.read(path)
    with pytest.raises(fb.FileError, match="n: expected float32 or float64, got I64"):
        safetensors.read(path, "n")
    with pytest.raises(fb.FileError, match="expected arrays whose names begin with 'c.', got a.b, a.w, ab, n"):
        safetensors.read(path, "c.")
    with pytest.raises(TypeError, match="prefix: expected a str"):
        safetensors.read(path, 3)
    path.write_bytes(b"\x08")
    with pytest.raises(fb.FileError, match="m.safetensors: expected a safetensors file, got a damaged or foreign file"):
        safetensors.read(path)
    with pytest.raises(FileNotFoundError):
        safetensors.read(tmp_path / "none.safetensors")


READ = """
import sys
sys.modules["torch"] = None
import numpy as np
import fastbptt as fb
cell = fb.Stack([fb.LSTM(3, 5), fb.LSTM(10, 5)], bidirectional=True)
weights = fb.interop.safetensors.read("m.safetensors", "encoder.")
tape = fb.forward(cell, fb.interop.torch.from_state_dict(cell, weights), np.load("x.npy"))
np.testing.assert_allclose(tape.h, np.load("h.npy"), rtol=1e-5, atol=1e-6)
print("equal")
"""


def test_a_module_of_pytorch_read_in_a_process_that_has_no_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_model

    torch.manual_seed(0)
    encoder = torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True)
    model = torch.nn.ModuleDict({"encoder": encoder, "head": torch.nn.Linear(10, 2).to(torch.bfloat16)})
    save_model(model, str(tmp_path / "m.safetensors"))
    x = torch.randn(7, 4, 3)
    np.save(tmp_path / "x.npy", x.numpy())
    np.save(tmp_path / "h.npy", encoder(x)[0].detach().numpy())
    done = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "equal\n", done.stderr
    with pytest.raises(fb.FileError, match="expected float32 or float64, got BF16"):
        safetensors.read(tmp_path / "m.safetensors", "head.")
