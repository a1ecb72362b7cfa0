"""Evaluate the network."""

from data import load
from metrics import scores
from model import count_parameters, make_network


def main() -> None:
    """Print the metrics of the test split."""
    network = make_network()
    print(count_parameters(network))
    for batch in load("test"):
        print(scores(network.forward(batch).logits))


if __name__ == "__main__":
    main()
