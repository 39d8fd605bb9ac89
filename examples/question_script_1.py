# The first script of the founding question. Only its import line has changed, and the two folders, which the question left
# undefined, come from the command line:
#
#     python question_script_1.py SOURCE_SAVED_MODEL OUTPUT_SAVED_MODEL
import sys

from beforehand import trt_convert as trt  # was: from tensorflow.python.compiler.tensorrt import trt_convert as trt

input_saved_model_dir, output_saved_model_dir = sys.argv[1:]

converter = trt.TrtGraphConverterV2(input_saved_model_dir=input_saved_model_dir)
converter.convert()
converter.save(output_saved_model_dir)
