"""Every error that beforehand raises, as one tree; each class docstring is the page about it: cause, example, cure.

BeforehandError
├── UsageError                       the call is wrong; nothing was done
│   ├── UnknownOptionError    BH101  an option or field that does not exist (TypeError, ValueError)
│   ├── OptionValueError      BH102  an option with a value it cannot have (ValueError)
│   ├── PrecisionError        BH103  a precision that this backend and device do not have (ValueError)
│   ├── EagerError            BH104  eager execution is off (RuntimeError, AssertionError)
│   ├── RemovedApiError       BH105  a part of TF-TRT for TensorFlow 1 that does not come back (NotImplementedError)
│   ├── NotConvertedError     BH111  build, save or summary before convert (RuntimeError, AssertionError)
│   ├── ConvertedTwiceError   BH112  convert called a second time (AssertionError)
│   ├── NoSamplesError        BH121  input_fn missing, or it yielded nothing (RuntimeError)
│   ├── SampleError           BH122  a sample that does not fit the signature (ValueError, RuntimeError)
│   └── CalibrationError      BH123  calibration asked and not possible, or given and not needed (ValueError)
├── SourceError                      the source SavedModel cannot be converted
│   ├── SourceNotFoundError   BH201  there is no SavedModel (OSError)
│   ├── TagsError             BH202  no MetaGraph with these tags (ValueError)
│   ├── SignatureError        BH203  no such signature (KeyError)
│   ├── ConvertedSourceError  BH204  converted already, by beforehand or by TF-TRT (ValueError)
│   └── GraphError            BH205  a graph that beforehand cannot read (ValueError)
├── ConversionError                  reading went well, converting did not
│   ├── NothingConvertedError BH301  no node of the model can run in an engine (RuntimeError)
│   └── LoweringError         BH302  nodes that cannot be written as ONNX (RuntimeError)
├── BuildError                BH401  an engine could not be built (RuntimeError)
│   ├── BuildForbiddenError   BH402  a build was asked for while BEFOREHAND_FORBID_BUILD=1
│   └── BuildCancelledError   BH403  `cancel()` was called
├── AccuracyError             BH404  an engine differs from TensorFlow by more than it may (RuntimeError)
├── StoreError                       what is on disk
│   ├── OutputExistsError     BH501  the output folder cannot be replaced (FileExistsError)
│   ├── ManifestError         BH502  a manifest of an unknown version, or one that cannot be read (ValueError)
│   ├── IntegrityError        BH503  an engine file is missing or altered (RuntimeError)
│   ├── NoSourcesError        BH504  a converted SavedModel of which nothing more can be built (ValueError)
│   └── CacheError            BH505  the cache folder cannot be used, or has no such engine (OSError)
├── RunError                         a loaded model
│   ├── EngineRunError        BH601  a backend failed while it ran an engine (RuntimeError)
│   ├── NoEnginesError        BH602  an object that holds no engines (ValueError)
│   ├── ContractError         BH603  TensorFlow no longer carries the saved form (RuntimeError)
│   ├── UnseenShapeError      BH604  shapes that no engine serves, and on_unseen_shape="error" (ValueError)
│   ├── EngineMismatchError   BH605  engines for another machine or version, and on_mismatch="error" (RuntimeError)
│   └── NativePartsError      BH606  a signature that cannot run without TensorFlow (ValueError)
└── BackendError              BH701  a backend that is unknown or cannot be used here (RuntimeError)
"""

from __future__ import annotations

import threading
from typing import Any, ClassVar


class BeforehandError(Exception):
    """Root of the tree.

    The text reads: code, what happened; why, if known; `Try:` one line of advice; `Log:` a path.
    """

    code: ClassVar[str] = "BH000"

    def __init__(self, what: str, *, why: str = "", advice: str = "", log: str = "") -> None:
        self.what = what
        self.why = why
        self.advice = advice
        self.log = log
        super().__init__(self._write_message())

    def _write_message(self) -> str:
        parts = [f"{self.code} {_end_sentence(self.what)}"]
        if self.why:
            parts.append(_end_sentence(self.why))
        if self.advice:
            parts.append(f"Try: {_end_sentence(self.advice)}")
        if self.log:
            parts.append(f"Log: {self.log}")
        return " ".join(parts)

    def __str__(self) -> str:
        # KeyError would print the repr of its text; all of ours print the text.
        return self._write_message()


def _end_sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!", ":", "\n")) else text + "."


class UsageError(BeforehandError):
    """The call itself is wrong. Nothing was read, built or written."""


class UnknownOptionError(UsageError, TypeError, ValueError):
    """An option or field that does not exist; the nearest existing name is in the text.

    Both a TypeError (as for any unknown argument) and a ValueError (as from `namedtuple._replace`).
    """

    code = "BH101"


class OptionValueError(UsageError, ValueError):
    """An option has a value that it cannot have; the allowed ones are in the text."""

    code = "BH102"


class PrecisionError(UsageError, ValueError):
    """The precision is known, but this backend cannot give it on this device. Use FP32, or another backend."""

    code = "BH103"


class EagerError(UsageError, RuntimeError, AssertionError):
    """The converter needs eager execution, TensorFlow 2's default. Remove `tf.compat.v1.disable_eager_execution()`."""

    code = "BH104"


class RemovedApiError(UsageError, NotImplementedError):
    """A part of TF-TRT that served TensorFlow 1 and does not come back. The text names its successor."""

    code = "BH105"


class NotConvertedError(UsageError, RuntimeError, AssertionError):
    """`build`, `save` or `summary` was called before `convert`. Call `convert()` first."""

    code = "BH111"


class ConvertedTwiceError(UsageError, AssertionError):
    """`convert` was called again on one converter. Make a new converter for another conversion."""

    code = "BH112"


class NoSamplesError(UsageError, RuntimeError):
    """`input_fn` is missing or yielded nothing, so the shapes to build for are unknown."""

    code = "BH121"


class SampleError(UsageError, ValueError, RuntimeError):
    """A sample does not fit the signature: an input is missing or extra, or has a wrong dtype, rank or dimension."""

    code = "BH122"


class CalibrationError(UsageError, ValueError):
    """INT8 calibration was asked without data, or data were given where none are needed."""

    code = "BH123"


class SourceError(BeforehandError):
    """The source cannot be converted as it stands."""


class SourceNotFoundError(SourceError, OSError):
    """No SavedModel at that path."""

    code = "BH201"


class TagsError(SourceError, ValueError):
    """The SavedModel has no MetaGraph with these tags."""

    code = "BH202"


class SignatureError(SourceError, KeyError):
    """The SavedModel has no such signature; those that it has are in the text."""

    code = "BH203"


class ConvertedSourceError(SourceError, ValueError):
    """The source was converted before, by beforehand or by TF-TRT. Convert the original SavedModel instead."""

    code = "BH204"


class GraphError(SourceError, ValueError):
    """The graph has a form that beforehand cannot read; the node is named in the text."""

    code = "BH205"


class ConversionError(BeforehandError):
    """The model was read, but not converted."""


class NothingConvertedError(ConversionError, RuntimeError):
    """No part of the model can run in an engine. Reasons are counted in the text, never silently ignored."""

    code = "BH301"


class LoweringError(ConversionError, RuntimeError):
    """Nodes that cannot be written as ONNX. `nodes` has their TensorFlow names."""

    code = "BH302"

    def __init__(self, what: str, *, nodes: tuple[str, ...] = (), why: str = "", advice: str = "") -> None:
        self.nodes = nodes
        super().__init__(what, why=why, advice=advice)


class BuildError(BeforehandError, RuntimeError):
    """An engine could not be built. The interpreter lives, finished engines are kept.

    `cause` is one word for programs, of those in causes.py; `segment` and `shapes` say which engine it was,
    `nodes` are the TensorFlow names of the nodes concerned: those that the backend blames, else all of the segment's.
    `failures` are all that one call of `build` had, this one first.
    """

    code = "BH401"

    def __init__(  # noqa: PLR0913 (each is a fact that the user needs)
        self,
        what: str,
        *,
        cause: str,
        segment: str = "",
        shapes: str = "",
        nodes: tuple[str, ...] = (),
        why: str = "",
        advice: str = "",
        log: str = "",
    ) -> None:
        self.cause = cause
        self.segment = segment
        self.shapes = shapes
        self.nodes = nodes
        self.failures: tuple[BuildError, ...] = (self,)
        super().__init__(what, why=why, advice=advice, log=log)

    def _write_message(self) -> str:
        others = [f"{error.segment} for {error.shapes} ({error.cause})" for error in self.failures if error is not self]
        return super()._write_message() + (f" Failed too: {'; '.join(others)}." if others else "")


class BuildForbiddenError(BuildError):
    """BEFOREHAND_FORBID_BUILD=1 is set and something asked for a build. That is the switch's whole purpose."""

    code = "BH402"


class BuildCancelledError(BuildError):
    """`cancel()` ended the build. What was finished is kept, and is not built again."""

    code = "BH403"


class AccuracyError(BeforehandError, RuntimeError):
    """An engine differs from TensorFlow by more than it may, and `on_inaccurate` is "error".

    `engines` are those; each has the numbers in `accuracy`. The others of the build are kept. A larger `max_error` takes them,
    a higher `precision_mode` brings them nearer, and with `on_inaccurate="native"` TensorFlow answers in their stead.
    """

    code = "BH404"

    def __init__(self, what: str, *, engines: tuple[Any, ...] = (), why: str = "", advice: str = "") -> None:
        self.engines = engines
        super().__init__(what, why=why, advice=advice)


class StoreError(BeforehandError):
    """Something about what is on disk."""


class OutputExistsError(StoreError, FileExistsError):
    """The output folder holds something that must not be replaced: the source, or files of another kind."""

    code = "BH501"


class ManifestError(StoreError, ValueError):
    """The manifest has an unknown format version, or cannot be read."""

    code = "BH502"


class IntegrityError(StoreError, RuntimeError):
    """An engine file is missing, truncated or altered: its hash is not the one in the manifest."""

    code = "BH503"


class NoSourcesError(StoreError, ValueError):
    """A converted SavedModel does not hold what its engines are built of, so that no more can be built of it alone."""

    code = "BH504"


class CacheError(StoreError, OSError):
    """The cache folder cannot be written or read, or has no such engine. BEFOREHAND_CACHE names another folder."""

    code = "BH505"


class RunError(BeforehandError):
    """Something about a loaded model."""


class EngineRunError(RunError, RuntimeError):
    """The backend failed while it loaded or ran an engine. By default the call is answered natively."""

    code = "BH601"


class NoEnginesError(RunError, ValueError):
    """The object given holds no engines of beforehand: it was not converted, or not loaded by TensorFlow."""

    code = "BH602"


class ContractError(RunError, RuntimeError):
    """This TensorFlow does not carry the saved form any more. `beforehand doctor` shows which part."""

    code = "BH603"


class UnseenShapeError(RunError, ValueError):
    """No engine serves the shapes of a call, and the policy `on_unseen_shape` is "error".

    Build for these shapes, or let TensorFlow answer: `beforehand.set_policies(loaded, on_unseen_shape="native")`.
    """

    code = "BH604"


class EngineMismatchError(RunError, RuntimeError):
    """Engines were built for another CPU, or by another version of the backend, than this process has.

    Raised from `tf.saved_model.load` if the policy `on_mismatch` is "error"; else it is one line in the log, and
    TensorFlow answers. `beforehand add-target DIR` builds the engines for this machine too.
    """

    code = "BH605"


class NativePartsError(RunError, ValueError):
    """A signature of a model opened by `beforehand.load` has parts that only TensorFlow can run; `nodes` has their names."""

    code = "BH606"

    def __init__(self, what: str, *, nodes: tuple[str, ...] = (), why: str = "", advice: str = "") -> None:
        self.nodes = nodes
        super().__init__(what, why=why, advice=advice)


class BackendError(BeforehandError, RuntimeError):
    """A backend that is not known, not installed, or not usable on this machine; the text says what to install."""

    code = "BH701"


_last_error: BaseException | None = None
_lock = threading.Lock()


def record_error(error: BaseException) -> None:
    """Keep `error` for `last_error`: under a TensorFlow graph only its text survives."""
    global _last_error  # noqa: PLW0603 (process-wide by its promise)
    with _lock:
        _last_error = error


def last_error() -> BaseException | None:
    """The newest error that arose inside an engine call, with its class and traceback; None if there was none.

    Under a TensorFlow graph an error of Python arrives as a `tf.errors` class, whose text starts with our code.
    """
    return _last_error
