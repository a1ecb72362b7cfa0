"""What an upgrade should do: a user's edit, a template's change, and the outcome that a careful person would want.

Written before the merge engine was tuned, and without regard to any tool. A scenario names one of three outcomes:

    clean     exactly these files, and no conflict
    conflict  both texts are there to choose from, and the tool says so
    either    a conflict is fine; so is the one right merge, which is given

Contents are edits of `BASE`, a small training project: path -> text, bytes, `Mode`, `Link`, or None for no file.
"""

from merge_choices import EITHER
from merge_corners import CORNERS
from merge_files import BYTES, FILES, PLAIN
from merge_hostile import HOSTILE
from merge_meaning import FORMAT, MEANING
from merge_real import REAL
from merge_trial import TRIAL
from merge_words import Scenario

__all__ = ["REAL", "SCENARIOS", "Scenario"]

SCENARIOS: list[Scenario] = [*PLAIN, *FILES, *BYTES, *EITHER, *FORMAT, *MEANING, *HOSTILE, *CORNERS, *REAL, *TRIAL]
