"""Loads a SavedModel through TensorFlow's C API, with no Python TensorFlow in the process, and runs it.

It stands for TF Serving: core operations only, so no kernel for PyFunc.

    python c_api_load.py FOLDER INPUTS.npz "OUTPUT_OP:INDEX,..." OUTPUTS.npz

INPUTS.npz has float32 arrays under the names of the graph's placeholders; OUTPUTS.npz gets arrays named by `OP:INDEX`.
"""

import ctypes
import pathlib
import sys
import sysconfig

import numpy as np
import numpy.random

PTR, INT = ctypes.c_void_p, ctypes.c_int


class Output(ctypes.Structure):
    _fields_ = (("oper", PTR), ("index", INT))


def find_library(name):
    [path] = pathlib.Path(sysconfig.get_paths()["purelib"], "tensorflow").glob(f"lib{name}.so.2")
    return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def bind(library, name, result, *arguments):
    function = getattr(library, name)
    function.restype, function.argtypes = result, list(arguments)
    return function


def main(folder, inputs_file, outputs, outputs_file):
    framework, library = find_library("tensorflow_framework"), find_library("tensorflow_cc")
    status = bind(framework, "TF_NewStatus", PTR)()

    def check(step):
        if bind(framework, "TF_GetCode", INT, PTR)(status):
            sys.exit(f"{step}: {bind(framework, 'TF_Message', ctypes.c_char_p, PTR)(status).decode()}")

    graph, options = bind(library, "TF_NewGraph", PTR)(), bind(library, "TF_NewSessionOptions", PTR)()
    tags = ctypes.POINTER(ctypes.c_char_p)
    load = bind(
        *(library, "TF_LoadSessionFromSavedModel", PTR, PTR, PTR, ctypes.c_char_p, tags, INT, PTR, PTR, PTR),
    )
    session = load(options, None, folder.encode(), (ctypes.c_char_p * 1)(b"serve"), 1, graph, None, status)
    check("load")
    find = bind(library, "TF_GraphOperationByName", PTR, PTR, ctypes.c_char_p)
    dims = ctypes.POINTER(ctypes.c_int64)
    allocate = bind(framework, "TF_AllocateTensor", PTR, INT, dims, INT, ctypes.c_size_t)
    address = bind(framework, "TF_TensorData", PTR, PTR)
    arrays = np.load(inputs_file)
    sources, values = [], []
    for name in arrays.files:
        array = np.ascontiguousarray(arrays[name], np.float32)
        tensor = allocate(1, (ctypes.c_int64 * array.ndim)(*array.shape), array.ndim, array.nbytes)  # 1 is DT_FLOAT
        ctypes.memmove(address(tensor), array.ctypes.data, array.nbytes)
        sources.append(Output(find(graph, name.encode()), 0))
        values.append(tensor)
    names = outputs.split(",")
    sinks = [Output(find(graph, name.partition(":")[0].encode()), int(name.partition(":")[2])) for name in names]
    results = (PTR * len(sinks))()
    many = (ctypes.POINTER(Output), ctypes.POINTER(PTR), INT)
    run = bind(library, "TF_SessionRun", None, PTR, PTR, *many, *many, PTR, INT, PTR, PTR)
    run(
        *(session, None, (Output * len(sources))(*sources), (PTR * len(values))(*values), len(values)),
        *((Output * len(sinks))(*sinks), results, len(sinks), None, 0, None, status),
    )
    check("run")
    rank, size = bind(framework, "TF_NumDims", INT, PTR), bind(framework, "TF_Dim", ctypes.c_int64, PTR, INT)
    found = {}
    for name, tensor in zip(names, results, strict=True):
        shape = [size(tensor, axis) for axis in range(rank(tensor))]
        data = ctypes.string_at(address(tensor), 4 * int(np.prod(shape)))
        found[name] = np.frombuffer(data, np.float32).reshape(shape)
    np.savez(outputs_file, **found)
    assert "tensorflow" not in sys.modules


if __name__ == "__main__":
    main(*sys.argv[1:])
