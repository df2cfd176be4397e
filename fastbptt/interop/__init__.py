"""Weights from and to other libraries. No module needs the library that it is named after."""

from . import keras, onnx, torch

__all__ = ["keras", "onnx", "torch"]
