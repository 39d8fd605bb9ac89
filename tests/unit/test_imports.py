"""What imports without TensorFlow, and what the package shows."""

from __future__ import annotations

import subprocess
import sys

import beforehand

BLOCKED = """
import importlib, pkgutil, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "keras", "onnx", "tf2onnx"):
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Block())
import beforehand
without = ("backends", "benchmark", "build_engines", "cli", "report", "store")
names = ["check_packages", "converter", "environment", "errors", "loaded", "options", "records", "trt_convert", "trt_params"]
names += ["runtime.models", "runtime.model_runtime", "runtime.loaded_engine", "saved_model.read_samples"]
for folder in without:
    package = importlib.import_module("beforehand." + folder)
    names += [folder + "." + module.name for module in pkgutil.iter_modules(package.__path__)]
skipped = ("cli.self_test", "cli.make_demo_models", "cli.demo_second_process", "cli.demo")
for name in names:
    if name not in skipped:
        importlib.import_module("beforehand." + name)
print(len(names))
"""


def test_all_but_conversion_imports_where_tensorflow_and_onnx_are_not_installed() -> None:
    result = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 20


def test_public_names_are_there_and_no_others() -> None:
    for name in beforehand.__all__:
        if name != "__version__":
            assert getattr(beforehand, name) is not None
    assert set(dir(beforehand)) == set(beforehand.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(beforehand, "convertor")
