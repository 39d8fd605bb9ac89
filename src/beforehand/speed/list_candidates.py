"""The precisions among which `precision_mode="auto"` chooses."""

from __future__ import annotations

from beforehand.backends.protocol import Backend
from beforehand.errors import OptionValueError, PrecisionError

# The most exact first: of two that are equally fast the earlier one is taken.
CANDIDATES = ("FP32", "TF32", "FP16", "BF16", "INT8")


def list_candidates(backend: Backend, target: str) -> tuple[str, ...]:
    """Those that engines for `target` can run in, the most exact first; FP16 that runs in BF16 is BF16.

    Args:
        backend: Who builds.
        target: As its `describe_target` writes it.
    """
    found = []
    for mode in CANDIDATES:
        try:
            found.append(backend.resolve_precision(mode, target))
        except PrecisionError:
            continue
    return tuple(mode for mode in CANDIDATES if mode in found)


def check_measurable(backend: Backend, target: str) -> None:
    """See that engines for `target` run on this machine.

    Raises:
        OptionValueError: BH102.
    """
    here = backend.list_targets_here()
    if target not in here:
        raise OptionValueError(
            f'precision_mode is "auto", and engines of {backend.name} for {target} do not run on this machine',
            why="it takes what is measured to be fastest; this machine runs engines for "
            + (", ".join(here) or "none of its targets"),
            advice="convert on a machine that runs them, or a precision_mode by its name",
        )
