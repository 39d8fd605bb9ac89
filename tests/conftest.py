"""What all tests share: a cache folder of their own, so that none reads or writes the user's; and no engine left out for its speed.

Engines of the tests' small models are no faster than TensorFlow: tests of that set `min_speedup` by themselves.
"""

from __future__ import annotations

import os
import pathlib

import pytest


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("cache")
    os.environ["BEFOREHAND_CACHE"] = str(folder)
    os.environ["BEFOREHAND_MIN_SPEEDUP"] = "0"
    return folder
