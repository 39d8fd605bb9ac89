"""Tests that need an NVIDIA GPU. A GPU run in which everything skipped is a failure: BEFOREHAND_NEED_GPU=1 makes it one."""

from __future__ import annotations

import os

import pytest

from beforehand.backends import cuda
from beforehand.backends.registry import find_backend

BACKEND = "tensorrt-rtx"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/gpu" in str(item.path):
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session", autouse=True)
def gpu() -> cuda.Gpu:
    gpus, why_none = cuda.find_gpus()
    version = find_backend(BACKEND).find_version()
    reason = why_none or ("" if version else "TensorRT-RTX is not installed")
    if reason:
        if os.environ.get("BEFOREHAND_NEED_GPU") == "1":
            pytest.fail(f"this run was to be on a GPU: {reason}")
        pytest.skip(reason)
    return gpus[0]
