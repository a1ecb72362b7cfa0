# % set score, direction = "eval/frechet_distance", "minimize"
# % include "search/search.py"
