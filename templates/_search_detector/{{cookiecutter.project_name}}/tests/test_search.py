# % set direction = "maximize"
# % include "search/test.py"
