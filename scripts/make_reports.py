"""Make the reports of docs/reports/: four models of the tests, converted, built, measured where that can be, each as one HTML file.

Usage: python scripts/make_reports.py [--no-timings] [NAME...]
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

from beforehand.cli.main import VERBS

ROOT = pathlib.Path(__file__).resolve().parents[1]
REPORTS = ROOT / "docs" / "reports"
MOST_BYTES = 400_000
TEXTS = ("The quick, brown fox", "jumps over a lazy dog again", "dog eats unknown FOX!", "a")
# Of each model, the inputs that engines are built for and that it is measured with, by batch size.
SAMPLES = {
    "resnet50": lambda rng, n: {"image": rng.uniform(0, 1, (n, 224, 224, 3)).astype(np.float32)},
    "bert": lambda rng, n: {
        "input_ids": rng.integers(1, 200, (n, 64)).astype(np.int32),
        "attention_mask": np.ones((n, 64), np.int32),
    },
    "detector": lambda rng, n: {"image": rng.uniform(0, 1, (n, 32, 32, 3)).astype(np.float32)},
    "text_vectorization": lambda rng, n: {"text": rng.choice(np.array(TEXTS), (n, 1))},
}
BATCHES = (1, 8)


def main() -> None:
    """Make the reports named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--no-timings", action="store_true", help="neither engines nor calls are timed: for a machine that is not quiet"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="models: " + ", ".join(SAMPLES))
    arguments = parser.parse_args()
    names = arguments.names or list(SAMPLES)
    if unknown := set(names) - set(SAMPLES):
        parser.error("no such model: " + ", ".join(sorted(unknown)))
    REPORTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        work = pathlib.Path(scratch)
        run(str(ROOT / "tests" / "models" / "make_model.py"), str(work), *names)
        for name in names:
            make_report(work / name, name, timings=not arguments.no_timings)


def make_report(work: pathlib.Path, name: str, *, timings: bool) -> None:
    """One model, from its source to its page."""
    source, converted, samples = work / name, work / f"{name}_converted", work / "samples"
    (work / "source").rename(source)
    write_samples(samples, name)
    if not timings:
        os.environ["BEFOREHAND_MIN_SPEEDUP"] = "0"
    run_verb("convert", str(source), "-o", str(converted), "--samples", str(samples))
    for verb in ("verify", "bench") if timings else ("verify",):
        if verb in VERBS:
            run_verb(verb, str(converted), "--against", str(source), "--samples", str(samples), "--keep")
    page = REPORTS / f"{name}.html"
    run_verb("report", str(converted), "--output", str(page))
    check_page(page, work)
    shutil.rmtree(work)


def write_samples(folder: pathlib.Path, name: str) -> None:
    """A file for each batch size."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for batch in BATCHES:
        np.savez(folder / f"batch_{batch}.npz", **SAMPLES[name](rng, batch))


def check_page(page: pathlib.Path, work: pathlib.Path) -> None:
    """A page that is committed must be small, and name no folder of this machine."""
    text = page.read_text()
    if len(text.encode()) > MOST_BYTES:
        raise SystemExit(f"{page} has {len(text.encode())} bytes, more than {MOST_BYTES}")
    for secret in (str(work.parent), str(ROOT), str(pathlib.Path.home())):
        if len(secret) > 1 and secret in text:
            raise SystemExit(f"{page} names the folder {secret}")
    print(json.dumps({"page": page.name, "bytes": len(text.encode())}))


def run_verb(verb: str, *words: str) -> None:
    """`beforehand VERB ...`; an exit code of 1 is the verb's own "no", which the report shows."""
    done = subprocess.run([sys.executable, "-m", "beforehand", verb, *words], check=False)
    if done.returncode > 1:
        raise SystemExit(f"beforehand {verb} ended with {done.returncode}")


def run(*words: str) -> None:
    """A script, by this Python."""
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
