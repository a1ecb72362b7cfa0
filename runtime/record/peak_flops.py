"""The peak FLOPS of known GPUs, of which MFU is a fraction."""

# Dense peak TFLOPS of one device in bf16 and fp16, in TF32, and in fp32; data sheets "with sparsity" list twice as much.
# GeForce cards: with fp32 accumulation. The first matching name counts. Sources, all by NVIDIA:
# - H100, H200: nvidia.com/en-us/data-center/h100 and …/h200, and the data sheet of the H100 NVL (2024); with sparsity
# - A100: data sheet 1758950 (2021). A10: a10-datasheet.pdf (2021)
# - L40S, L4: nvidia.com/en-us/data-center/l40s and …/l4; the L4's with sparsity
# - V100: volta-v100-datasheet-update-us-1165301-r5.pdf. T4: t4-tensor-core-datasheet-951643.pdf; both fp16 only
# - RTX 4090: nvidia-ada-gpu-architecture.pdf, appendix A. RTX 3090: nvidia-ampere-ga-102-…-whitepaper-v2.pdf, appendix A
_PEAKS: tuple[tuple[str, float, float | None, float], ...] = (
    ("H100 PCIe", 756, 378, 51),
    ("H100 NVL", 835, 417, 60),
    ("H100", 989, 494, 67),
    ("H200 NVL", 835, 417, 60),
    ("H200", 989, 494, 67),
    ("A100", 312, 156, 19.5),
    ("L40S", 362, 183, 91.6),
    ("L4", 121, 60, 30.3),
    ("A10", 125, 62.5, 31.2),
    ("V100 PCIE", 112, None, 14),
    ("V100", 125, None, 15.7),
    ("T4", 65, None, 8.1),
    ("RTX 4090", 165, 82.6, 82.6),
    ("RTX 3090", 71, 35.6, 35.6),
)
_VARIANTS = {"Laptop", "Max", "MIG", "D", "Ti", "SUPER"}  # slower or faster than the name alone, or a slice of it


def known_peak_flops(device_name: str, precision: str, *, tf32: bool) -> float | None:
    """Peak FLOPS of a device in accelerate's `precision` (`no`, `bf16`, `fp16`); None if unknown."""
    words = device_name.replace("-", " ").split()
    if _VARIANTS & set(words):
        return None
    for name, half, tensor_float, full in _PEAKS:
        if all(word in words for word in name.split()):
            peak = half if precision in ("bf16", "fp16") else tensor_float if tf32 else full
            return (full if peak is None else peak) * 1e12
    return None
