# % set direction = "minimize"
# % include "search/test.py"
