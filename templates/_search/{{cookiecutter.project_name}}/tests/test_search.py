# % include "search/test.py"
