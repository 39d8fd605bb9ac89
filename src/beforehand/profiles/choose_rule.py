"""By which rule shapes become profiles."""

from __future__ import annotations

from typing import Any

from beforehand.errors import OptionValueError
from beforehand.options import Options
from beforehand.profiles.plan_buckets import read_limit
from beforehand.profiles.plan_profiles import BUCKETS, EXACT, STATIC, Rule


def choose_rule(options: Options, buckets: Any, *, has_profiles: bool, batch_range: bool) -> Rule:
    """The rule of the arguments of `Converter.build`, or else of the options. Ranges that are named stay as they are.

    Raises:
        OptionValueError: BH102, arguments that exclude each other, or no limit in `buckets`.
    """
    given = {"profiles": has_profiles, "buckets": buckets is not None, "batch_range": batch_range}
    names = [name for name, is_given in given.items() if is_given]
    if len(names) > 1:
        raise OptionValueError(f"build() was given {' and '.join(names)}", advice="one of them")
    if buckets is not None:
        return Rule(BUCKETS, read_limit(buckets))
    if names:
        return Rule(EXACT)
    if options.use_dynamic_shape:
        return Rule(options.dynamic_shape_profile_strategy)
    return Rule(STATIC if options.serve_smaller_batches else EXACT)
