# % set score, direction = "eval/loss", "minimize"
# % include "search/search.py"
