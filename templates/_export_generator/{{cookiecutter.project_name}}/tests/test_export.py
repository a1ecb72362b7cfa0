# % set weight_files = "generator"
# % include "export/test.py"
