@dataclass
class ExportConfig:
    """What to export."""

    run_dir: Path | None = None  # run to export; None = the newest under runs/
    weights: Literal["best", "final"] = "best"  # best: of all evaluations; final: at the end of training
    out_dir: Path | None = None  # output folder; None = export/ in the run directory
    formats: tuple[Literal["safetensors", "torch", "onnx"], ...] = ("safetensors", "torch", "onnx")
    tolerance: float = 1e-4  # largest allowed difference from the model's outputs, absolute and relative
