# % set inputs = "of compute_loss"
# % include "export/network.py"
