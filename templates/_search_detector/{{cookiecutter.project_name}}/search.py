# % include "search/head.py"


@dataclass
class SearchConfig:
    """How to search."""

    trials: int = 30  # trials in the study, including those of earlier calls
    study: Path = Path("runs/search")  # folder of the study and its runs
    score: str = "eval/map"  # score to optimize, by its name in metrics.jsonl
    direction: Literal["minimize", "maximize"] = "maximize"  # whether a lower or a higher score is better
    startup_trials: int = 5  # random trials before the sampler and the pruner start
    fixed: Path | None = None  # TOML file with settings for all trials; None = the defaults of train.py


# % include "search/study.py"
