"""The tree of errors is what its drawing says."""

from __future__ import annotations

import re

import pytest

from beforehand import errors

CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.BeforehandError)]
DRAWN = re.findall(r"[├└]── (\w+)\s+(BH\d+)?", errors.__doc__ or "")


def test_every_class_is_drawn_with_its_code() -> None:
    drawn = dict(DRAWN)
    assert set(drawn) == {c.__name__ for c in CLASSES} - {"BeforehandError"}
    for cls in CLASSES:
        if drawn.get(cls.__name__):
            assert cls.code == drawn[cls.__name__]


def test_codes_are_unique_and_every_class_has_its_page() -> None:
    codes = [cls.code for cls in CLASSES if "code" in vars(cls)]
    assert len(codes) == len(set(codes))
    assert all(cls.__doc__ for cls in CLASSES)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_text_has_its_parts_in_order(cls: type[errors.BeforehandError]) -> None:
    extra = {"cause": "failed"} if issubclass(cls, errors.BuildError) else {}
    error = cls("it happened", why="a reason", advice="did you mean `x`?", **extra)
    assert str(error) == f"{cls.code} it happened. a reason. Try: did you mean `x`?"


def test_the_last_error_is_kept() -> None:
    error = errors.EngineRunError("it happened")
    errors.record_error(error)
    assert errors.last_error() is error
