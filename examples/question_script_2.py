# The second script of the founding question. Its import line has changed, its two typos are mended (maximum_cached_engiens;
# Inp1 made and inp1 yielded), and what it left undefined is defined here:
#
#     python question_script_2.py SOURCE_SAVED_MODEL OUTPUT_SAVED_MODEL
#
# `make_models.py` makes a model that fits.
import sys

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants
from tensorflow.python.saved_model import signature_constants, tag_constants

from beforehand import trt_convert as trt  # was: from tensorflow.python.compiler.tensorrt import trt_convert as trt

input_saved_model_dir, output_saved_model_dir = sys.argv[1:]
num_runs = 2

conversion_params = trt.DEFAULT_TRT_CONVERSION_PARAMS
conversion_params = conversion_params._replace(
    max_workspace_size_bytes=(1<<32))
# The question has FP16 here. A CPU without units for half precision refuses that with BH103, rather than answer in another
# precision than the one asked for; FP32 runs on all of them.
conversion_params = conversion_params._replace(precision_mode="FP32")
conversion_params = conversion_params._replace(
    maximum_cached_engines=100)

converter = trt.TrtGraphConverterV2(
    input_saved_model_dir=input_saved_model_dir,
    conversion_params=conversion_params)
converter.convert()
def my_input_fn():
  for _ in range(num_runs):
    inp1 = np.random.normal(size=(8, 16, 16, 3)).astype(np.float32)
    inp2 = np.random.normal(size=(8, 16, 16, 3)).astype(np.float32)
    yield inp1, inp2
converter.build(input_fn=my_input_fn)
converter.save(output_saved_model_dir)

saved_model_loaded = tf.saved_model.load(
    output_saved_model_dir, tags=[tag_constants.SERVING])
graph_func = saved_model_loaded.signatures[
    signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY]
frozen_func = convert_to_constants.convert_variables_to_constants_v2(
    graph_func)
# The model has two inputs, so the question's `input_data` is two tensors.
inp1, inp2 = (tf.constant(array) for array in next(my_input_fn()))
output = frozen_func(inp1, inp2)[0].numpy()
print(output.shape)
