@dataclass
class ExportConfig:
    """What to export."""

    run_dir: Path | None = None  # the run; None is the newest one under runs/
    weights: Literal["best", "final"] = "best"  # the best by the evaluation, or those at the end
    out_dir: Path | None = None  # where the files go; None is export/ in the run directory
    # % set formats = export_formats | default('"safetensors", "torch", "onnx"')
    formats: tuple[Literal[{{ formats }}], ...] = ({{ formats }})
    tolerance: float = 1e-4  # largest difference to the model's outputs, absolute, and relative to them
