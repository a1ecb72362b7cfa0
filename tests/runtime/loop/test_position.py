"""The position of a run, and whether the run is over."""

import pytest

from paccel.runtime.loop.position import Position


@pytest.mark.parametrize(
    ("is_over", "place"),
    [
        (False, Position(epochs=1)),
        (False, Position(6, 1, 3, epoch_is_over=False, epochs=1)),  # the last step is still to be evaluated or saved
        (True, Position(6, 1, 3, epochs=1)),
        (False, Position(6, 1, 3, epochs=2)),
        (True, Position(6, 1, 3, max_steps=6)),
        (False, Position(6, 1, 3, epoch_is_over=False, max_steps=6)),
        (False, Position(6, 1, 3, max_steps=7)),
        (True, Position(2, 1, 2, epoch_is_cut=True, epochs=1, max_steps=2)),
        (False, Position(2, 1, 2, epoch_is_cut=True, epochs=1, max_steps=4)),  # resumed with more steps
        (True, Position(2, 1, 2, epoch_is_over=False, finished="no lower loss", epochs=9)),
    ],
)
def test_a_run_is_over_after_its_last_epoch_or_step_or_when_the_loop_says_so(is_over: bool, place: Position) -> None:
    assert place.is_over() is is_over


def test_limits_are_not_saved_and_stay_when_a_place_is_loaded() -> None:
    saved = Position(6, 2, 3, stream={"place": 48}, epochs=2, max_steps=6).state_dict()
    assert not {"epochs", "max_steps"} & set(saved)
    position = Position(epochs=4)
    position.load_state_dict(saved)
    assert position == Position(6, 2, 3, stream={"place": 48}, epochs=4)
