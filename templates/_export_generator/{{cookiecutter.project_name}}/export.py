# % set inputs, weight_files = "the batch", "generator"
# % include "export/network.py"
