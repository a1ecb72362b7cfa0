# % set score, direction = "eval/map", "maximize"
# % include "search/search.py"
