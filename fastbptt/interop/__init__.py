"""Weights of other libraries, in and out. Each module imports the library it is named after only where it needs it."""

from . import keras, onnx, torch

__all__ = ["keras", "onnx", "torch"]
