"""A package that is not installed is an error with advice, before anything is read, in Python and on the command line."""

from __future__ import annotations

import pathlib
import sys

import pytest

import beforehand
from beforehand.check_packages import CONVERTING, check_packages
from beforehand.cli.main import main
from beforehand.errors import BackendError

CONVERT_EXTRA = "pip install 'beforehand[convert]'"
TENSORFLOW = "pip install tensorflow-cpu (or any other TensorFlow wheel, 2.18 or newer)"


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """What Python itself takes for "not there"."""
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def test_packages_that_are_there_give_no_error() -> None:
    check_packages("this", (*CONVERTING, "sklearn"))


@pytest.mark.parametrize(
    ("missing", "advice"),
    [
        (("onnx",), CONVERT_EXTRA),
        (("onnx", "tf2onnx"), CONVERT_EXTRA),
        (("tensorflow",), TENSORFLOW),
        (("tensorflow", "tf2onnx"), f"{TENSORFLOW}; {CONVERT_EXTRA}"),
        (("sklearn",), "pip install scikit-learn"),
    ],
)
def test_all_packages_that_are_missing_are_named_with_one_advice_for_each(
    missing: tuple[str, ...], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, *missing)
    with pytest.raises(BackendError) as caught:
        check_packages("the demo", (*CONVERTING, "sklearn"))
    names = ", ".join(missing)
    assert str(caught.value) == f"BH701 the demo needs packages that are not installed: {names}. Try: {advice}."


def test_a_module_without_a_spec_counts_as_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", type(sys)("onnx"))
    check_packages("this", ("onnx",))


def test_a_converter_says_so_before_it_looks_at_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    converter = beforehand.Converter("nowhere")
    hide(monkeypatch, "tf2onnx")
    with pytest.raises(BackendError, match=r"^BH701 converting needs packages that are not installed: tf2onnx"):
        converter.convert()


@pytest.mark.parametrize("verb", ["convert", "demo"])
def test_the_command_line_says_so_without_a_traceback(
    verb: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "saved_model.pb").touch()
    hide(monkeypatch, "tf2onnx")
    options = {"convert": [str(tmp_path), "-o", str(tmp_path / "out")], "demo": ["--workdir", str(tmp_path / "work")]}
    assert main([verb, *options[verb]]) == 2
    told = capsys.readouterr().err
    assert "BH701" in told
    assert f"needs packages that are not installed: tf2onnx. Try: {CONVERT_EXTRA}." in told
    assert "Traceback" not in told
    assert not (tmp_path / "out").exists()
