# % set exported = '"weights.safetensors", "model.onnx"'
# % include "export/test.py"
