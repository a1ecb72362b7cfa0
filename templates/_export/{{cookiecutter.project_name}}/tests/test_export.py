# % include "export/test.py"
