"""Which engines fit a machine, and what is said and done about those that do not."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import pathlib
import random

import pytest

from beforehand.backends.describe_cpu import LEVELS
from beforehand.errors import EngineMismatchError, last_error
from beforehand.records import Engine, ShapeSet
from beforehand.runtime.choose_engines import (
    Chosen,
    Fingerprint,
    answer_mismatch,
    choose_engines,
    describe_mismatch,
    find_fingerprint,
    find_fingerprints,
    fits,
)

FOLDER = pathlib.Path("model")
BACKENDS = ("openvino", "tensorrt")
VERSIONS = ("2026.4.0", "2026.4.1", "2026.4.1.dev1", "2026.4")
TARGETS = (*(f"cpu-x86_64+{level}" for level in LEVELS), "cpu-x86_64", "cpu-aarch64", "cpu-aarch64+sve")
ALL = [Fingerprint(*parts) for parts in itertools.product(BACKENDS, VERSIONS, TARGETS)]


def make_engine(made_for: Fingerprint, shapes: ShapeSet | int = 1, segment: int = 0) -> Engine:
    if isinstance(shapes, int):
        shapes = ShapeSet(("x",), ((shapes, 4),))
    facts = {"backend": made_for.backend, "backend_version": made_for.version, "target": made_for.target}
    names = {"segment": f"TRTEngineOp_000_{segment:03d}", "input_names": ("i",), "output_names": ("o",), "file": "f"}
    return Engine(
        segment_index=segment, shapes=shapes, precision="FP32", key="k", bytes=6, sha256="0", build_seconds=0.0,
        **facts, **names,
    )  # fmt: skip


def make_range(low: int, high: int) -> ShapeSet:
    return ShapeSet(("x",), ((low, 4),), ((high, 4),))


HERE = Fingerprint("openvino", "2026.4.1", "cpu-x86_64+avx512")
ELSEWHERE = dataclasses.replace(HERE, target="cpu-x86_64+amx")


def test_an_engine_fits_the_machine_it_was_built_for_and_no_other() -> None:
    """Over all pairs: the rule is an equivalence, and each part alone breaks it."""
    for made_for in ALL:
        found = [here for here in ALL if fits(make_engine(made_for), here)]
        assert found == [made_for]


def test_less_than_the_machine_has_does_not_fit_either() -> None:
    """OpenVINO 2026.4 refuses it: `isa=Intel AVX2` on a CPU of AVX-512 is a mismatch to it."""
    for level in LEVELS:
        engine = make_engine(dataclasses.replace(HERE, target=f"cpu-x86_64+{level}"))
        assert fits(engine, HERE) == (level == "avx512")


def test_a_machine_may_run_engines_of_several_targets() -> None:
    gpu = Fingerprint("tensorrt", "1.4", "cuda-ampere+, cuda-sm_90", ("cuda-ampere+", "cuda-sm_90"))
    for target, runs in (("cuda-ampere+", True), ("cuda-sm_90", True), ("cuda-sm_89", False), (gpu.target, False)):
        assert fits(make_engine(Fingerprint("tensorrt", "1.4", target)), gpu) is runs
    no_gpu = Fingerprint("tensorrt", "1.4", "no device that its engines run on")
    assert not fits(make_engine(Fingerprint("tensorrt", "1.4", "cuda-ampere+")), no_gpu)


def test_where_there_is_a_gpu_its_engines_come_before_those_of_the_cpu() -> None:
    gpu = Fingerprint("tensorrt", "1.4", "cuda-ampere+", ("cuda-ampere+",))
    own = make_engine(gpu, make_range(1, 8))
    inside, outside = make_engine(HERE, 2), make_engine(HERE, 9)
    elsewhere = make_engine(HERE, 2, segment=1)
    both = choose_engines([inside, outside, own, elsewhere], {"openvino": HERE, "tensorrt": gpu})
    assert both == Chosen((outside, own, elsewhere), ())
    no_gpu = dataclasses.replace(gpu, target="no device", accepted=())
    alone = choose_engines([inside, outside, own], {"openvino": HERE, "tensorrt": no_gpu})
    assert alone == Chosen((inside, outside), (own,))


def test_where_a_backend_is_not_installed_nothing_of_it_fits() -> None:
    absent = dataclasses.replace(HERE, version="")
    assert not fits(make_engine(HERE), absent)
    assert not fits(make_engine(absent), absent)
    assert choose_engines([make_engine(HERE)], {}).usable == ()


def test_every_engine_is_usable_or_foreign_or_not_missed() -> None:
    rng = random.Random(11)  # noqa: S311
    shapes = [1, 2, 8, make_range(1, 4), make_range(1, 8), make_range(2, 8)]
    for _ in range(300):
        engines = [
            make_engine(rng.choice(ALL[:8] + [HERE] * 4), rng.choice(shapes), rng.randrange(2))
            for _ in range(rng.randrange(8))
        ]
        chosen = choose_engines(engines, {"openvino": HERE})
        assert chosen.usable == tuple(engine for engine in engines if find_fingerprint(engine) == HERE)
        for engine in engines:
            served = {
                batch
                for own in chosen.usable
                for batch in range(1, 9)
                if own.segment_index == engine.segment_index and own.shapes.contains(((batch, 4),))
            }
            wanted = {batch for batch in range(1, 9) if engine.shapes.contains(((batch, 4),))}
            if engine in chosen.foreign:
                assert not wanted <= served or len(chosen.usable) > 1  # several may serve together what none does
                assert engine not in chosen.usable
            else:
                assert wanted <= served


def test_an_engine_of_another_target_is_not_missed_where_an_own_one_serves_its_shapes() -> None:
    own = [make_engine(HERE, 1), make_engine(HERE, make_range(2, 8))]
    others = [make_engine(ELSEWHERE, shapes) for shapes in (1, 4, make_range(2, 8), make_range(3, 5))]
    missed = [make_engine(ELSEWHERE, 9), make_engine(ELSEWHERE, make_range(1, 8)), make_engine(ELSEWHERE, 1, 1)]
    chosen = choose_engines([*others, *own, *missed], {"openvino": HERE})
    assert chosen == Chosen(tuple(own), tuple(missed))


def test_the_message_has_both_fingerprints_once_and_what_to_do() -> None:
    engines = [make_engine(ELSEWHERE, batch) for batch in range(1, 6)] + [make_engine(HERE, 9)]
    fingerprints = {"openvino": HERE}
    error = describe_mismatch(choose_engines(engines, fingerprints), fingerprints, FOLDER)
    assert str(error) == (
        "BH605 5 of 6 engines of model do not fit this machine: they were built for [openvino 2026.4.1, "
        "cpu-x86_64+amx], this machine is [openvino 2026.4.1, cpu-x86_64+avx512]. "
        "Try: `beforehand add-target model` here, which builds them for this machine too."
    )
    absent = {"openvino": Fingerprint("openvino", "", "cpu-x86_64+avx512")}
    assert "[openvino (not installed), " in str(describe_mismatch(choose_engines(engines, absent), absent, FOLDER))


class Builds:
    def __init__(self) -> None:
        self.asked: list[tuple[int, ShapeSet]] = []

    def request(self, segment: int, shapes: ShapeSet) -> None:
        self.asked.append((segment, shapes))


def test_each_policy_does_what_it_says_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    foreign = [make_engine(ELSEWHERE, batch, segment) for batch in (1, 2) for segment in (0, 1)]
    error = describe_mismatch(choose_engines(foreign, {"openvino": HERE}), {"openvino": HERE}, FOLDER)
    with caplog.at_level(logging.WARNING, "beforehand"):
        for policy, ending in (("native", "in TensorFlow."), ("rebuild", "run natively, in TensorFlow.")):
            builds = Builds()
            caplog.clear()
            answer_mismatch(foreign, error, policy, builds)
            [record] = caplog.records
            assert record.getMessage().endswith(ending)
            assert ("built in the background" in record.getMessage()) == (policy == "rebuild")
            asked = [(engine.segment_index, engine.shapes) for engine in foreign] if policy == "rebuild" else []
            assert builds.asked == asked
        caplog.clear()
        answer_mismatch(foreign, error, "rebuild", None)
        assert "it has no sources" in caplog.text
        caplog.clear()
        with pytest.raises(EngineMismatchError, match=r"^BH605 "):
            answer_mismatch(foreign, error, "error", Builds())
        assert not caplog.records
    assert last_error() is error


def test_this_machine_is_described_without_importing_a_backend() -> None:
    import subprocess
    import sys

    script = (
        "import sys; from beforehand.runtime.choose_engines import find_fingerprints; "
        "found = find_fingerprints(['openvino', 'openvino', 'other']); print(found['openvino'].describe()); "
        "assert found['other'].version == ''; assert 'openvino' not in sys.modules and 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == find_fingerprints(["openvino"])["openvino"].describe()
    assert "openvino 20" in done.stdout
    assert ", cpu-" in done.stdout
