"""Process 1 of a life cycle: makes models with seeded random weights and writes them as SavedModels.

Usage: python make_model.py FOLDER NAME...

Model NAME is written to FOLDER/NAME/source. The last line printed is JSON: {NAME: {INPUT: how it is drawn}}, see
draw_inputs.py. A model with Keras's own first weights answers 1/1000 for each of 1000 classes whatever it is given, so
weights are perturbed until it does not, and the makers check that.
"""

import importlib
import json
import pathlib
import pkgutil
import sys

import makers
from makers.registry import MAKERS

if __name__ == "__main__":
    for module in pkgutil.iter_modules(makers.__path__):
        importlib.import_module(f"makers.{module.name}")
    folder, *names = sys.argv[1:]
    made = {}
    for name in names:
        target = pathlib.Path(folder, name, "source")
        target.parent.mkdir(exist_ok=True)
        made[name] = MAKERS[name](str(target))
    print(json.dumps(made))
