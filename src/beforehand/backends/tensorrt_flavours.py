"""The two TensorRTs: one Python API, and what differs as data."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import re
from typing import Any


@dataclasses.dataclass(frozen=True)
class Flavour:
    """One TensorRT.

    Attributes:
        name: The backend's.
        title: The product's.
        modules: Names that its Python package goes by; the second where only the bindings are installed.
        distributions: Names that its packages go by, whose version is the release.
        advice: How to install it.
        builds_without_gpu: Whether engines can be built on a machine that has none.
        has_runtime_cache: Whether kernels are compiled on the GPU at first use, and that work can be kept.
        without_kernels: Types of layers that its builder takes, and has nothing to run by.
        where_else: What to do where it does not run on a GPU.
        int8_without_gpu: The first release that builds products of int8 on a machine that has no GPU.
        int8_convolutions: The first release that has convolutions of int8.
    """

    name: str
    title: str
    modules: tuple[str, ...]
    distributions: tuple[str, ...]
    advice: str
    builds_without_gpu: bool
    has_runtime_cache: bool
    without_kernels: tuple[str, ...]
    where_else: str
    int8_without_gpu: tuple[int, ...] = ()
    int8_convolutions: tuple[int, ...] = ()

    def find_module(self) -> str:
        """The name of the module that is installed; empty if there is none. Nothing is imported."""
        return next((name for name in self.modules if importlib.util.find_spec(name) is not None), "")

    def find_version(self) -> str:
        """The release that is installed; empty if there is none. Nothing is imported."""
        for name in self.distributions if self.find_module() else ():
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return ""

    def is_since(self, release: tuple[int, ...]) -> bool:
        """Whether the release that is installed is this one or a later one."""
        numbers = re.findall(r"\d+", self.find_version())
        return tuple(map(int, numbers[: len(release)])) >= release

    def list_int8_ops(self) -> frozenset[str]:
        """ONNX's types of nodes that may be quantised; none: all may."""
        return frozenset() if self.is_since(self.int8_convolutions) else frozenset({"Gemm", "MatMul"})

    def import_module(self) -> Any:
        """The module.

        Raises:
            ImportError: It is not installed, or its libraries cannot be loaded.
        """
        return importlib.import_module(self.find_module() or self.modules[0])


def _name_distributions(stem: str) -> tuple[str, ...]:
    # Each CUDA's wheel by itself, of bindings before what only gathers them.
    return (*(f"{stem}_{cuda}{part}" for part in ("_bindings", "") for cuda in ("cu13", "cu12")), stem)


RTX = Flavour(
    "tensorrt-rtx",
    "TensorRT-RTX",
    ("tensorrt_rtx", "tensorrt_rtx_bindings"),
    _name_distributions("tensorrt_rtx"),
    "pip install 'beforehand[tensorrt-rtx]'",
    builds_without_gpu=True,
    has_runtime_cache=True,
    without_kernels=("NMS", "NON_ZERO"),  # of 1.4.0.76: "has no runners that implement it"
    where_else="TensorRT (`beforehand[tensorrt]`, from the vendor's own index) is for data-centre GPUs such as Hopper's; of "
    "TensorRT-RTX, 1.4.0.76 was seen to run on an H100 and 1.7.1.116 refuses it",
    int8_without_gpu=(1, 5),  # 1.4.0.76 looks for the GPU of the machine
    int8_convolutions=(1, 7),  # 1.4.0.76, 1.5.0.114 and 1.6.1.120 fail: "cudnn_impl.cpp: CHECK(dtype == ...)"
)
DATA_CENTRE = Flavour(
    "tensorrt",
    "TensorRT",
    ("tensorrt", "tensorrt_bindings"),
    _name_distributions("tensorrt"),
    "pip install 'beforehand[tensorrt]'",
    builds_without_gpu=False,
    has_runtime_cache=False,
    without_kernels=(),
    where_else="TensorRT's release notes name its GPUs; TensorRT-RTX is for GeForce and RTX cards",
)
