"""Random values and a time that are the same in every test, for snapshots of templates that use them."""

import random
from collections.abc import Callable
from string import ascii_letters
from uuid import UUID

from ..sandbox.draws import Draws

TIME = "2020-01-01T00:00:00+00:00"


class FixedDraws(Draws):
    """Draws that depend only on the template: on the line, and the number of draws before it."""

    def __init__(self) -> None:
        super().__init__({"time": TIME})
        self._count = 0

    def value(self, function: str, template: str, line: str, draw: Callable[[], str]) -> str:
        def fixed() -> str:
            self._count += 1
            seed = f"{function}: {line}: {self._count}"
            own = random.Random(seed)
            if function == "uuid4":
                return str(UUID(int=own.getrandbits(128), version=4))
            if function == "random_ascii_string":  # cookiecutter uses the system's generator, which has no seed
                return "".join(own.choice(ascii_letters) for _ in draw())
            state = random.getstate()
            random.seed(seed)
            try:
                return draw()
            finally:
                random.setstate(state)

        return super().value(function, template, line, fixed)
