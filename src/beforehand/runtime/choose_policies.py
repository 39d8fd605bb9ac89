"""The policies of a loaded model: those of the manifest, changed by the environment, changed by the user's call."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from beforehand import environment
from beforehand.errors import OptionValueError
from beforehand.options import check_names, make_options
from beforehand.records import Policies


def change_policies(policies: Policies, changes: Mapping[str, Any]) -> Policies:
    """The policies with these changes.

    Raises:
        UnknownOptionError: BH101, there is no such policy; the nearest is named.
        OptionValueError: BH102, a value that the policy cannot have.
    """
    check_names(changes, [field.name for field in dataclasses.fields(Policies)], what="policy")
    make_options(changes)  # for its checks: each policy is an option of the same name
    return dataclasses.replace(policies, **changes)


def follow_environment(policies: Policies) -> Policies:
    """The policies as BEFOREHAND_ON_UNSEEN_SHAPE and BEFOREHAND_ON_MISMATCH want them.

    Raises:
        OptionValueError: BH102. A policy that is misspelt would be found when it is needed, which is too late.
    """
    for name, (variable, value) in environment.read_policies().items():
        try:
            policies = change_policies(policies, {name: value})
        except OptionValueError as error:
            raise OptionValueError(
                f"the environment variable {variable} is {value!r}", why=error.what, advice=error.advice
            ) from None
    return policies
