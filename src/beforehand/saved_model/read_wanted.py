"""What `build` was given, in whichever way, as ranges of samples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from beforehand.errors import OptionValueError
from beforehand.records import Signature
from beforehand.saved_model.read_profiles import read_profiles
from beforehand.saved_model.read_samples import read_samples
from beforehand.saved_model.read_shapes import read_shapes
from beforehand.saved_model.sample_range import SampleRange, merge_batches, take_singly


def read_wanted(
    signature: Signature, input_fn: Any, shapes: Any, profiles: Any, *, batch_range: bool
) -> Iterable[SampleRange]:
    """Checked ranges of samples; see `Converter.build` for what each argument may be.

    Raises:
        OptionValueError: BH102, several were given of which one must be chosen.
        NoSamplesError: BH121. SampleError: BH122.
    """
    ways = {"input_fn": input_fn, "shapes": shapes, "profiles": profiles}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise OptionValueError(f"build() was given {' and '.join(given)}", advice="one call of build() for each")
    if profiles is not None:
        return read_profiles(profiles, signature)
    samples = take_singly(read_samples(input_fn, signature)) if shapes is None else read_shapes(shapes, signature)
    return merge_batches(samples, signature) if batch_range else samples
