"""Pretrained weights without a download: train a small model on letters drawn in matplotlib's fonts.

`train.py` calls `make` if the weights do not exist; `python pretrain.py` does the same.
"""

from pathlib import Path
import shutil
import string

import matplotlib
from PIL import Image, ImageFont, ImageOps
import timm
import torch
from torch.nn import functional as F

FOLDER = Path("data/pretrained")  # weights and configuration, in timm's format
NORM = "groupnorm1"  # not BatchNorm: independent of the number of processes
SIZE = 32  # height and width of the images, in pixels
FONTS = ("DejaVuSans", "DejaVuSerif", "STIXGeneral", "cmb", "cmr", "cmss", "cmti", "cmtt")  # fonts with letters


def draw_letters() -> tuple[torch.Tensor, torch.Tensor]:
    """Draw each letter in each font: images (N, 1, 32, 32) float32 with pixels in [0, 1], and labels (N,)."""
    images, labels = [], []
    for path in sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("*.ttf")):
        if path.name.startswith(FONTS) and "Display" not in path.name:
            font = ImageFont.truetype(path, 40)
            for label, letter in enumerate(string.ascii_letters):
                mask = font.getmask(letter)
                glyph = ImageOps.pad(Image.frombytes("L", mask.size, bytes(mask)), (32, 32))
                images.append(torch.frombuffer(bytearray(glyph.tobytes()), dtype=torch.uint8).view(1, 32, 32))
                labels.append(label)
    return torch.stack(images) / 255, torch.tensor(labels)


def distort(images: torch.Tensor) -> torch.Tensor:
    """Apply a random affine transform to each image and downsample it to 8 by 8 pixels, like the digits."""

    def up_to(limit: float) -> torch.Tensor:
        return (2 * torch.rand(len(images)) - 1) * limit

    angle, shear = up_to(0.35), up_to(0.2)
    across = torch.stack([angle.cos() * (1 + up_to(0.2)), shear - angle.sin(), up_to(0.12)], 1)
    down = torch.stack([angle.sin(), angle.cos() * (1 + up_to(0.2)), up_to(0.12)], 1)
    grid = F.affine_grid(torch.stack([across, down], 1), list(images.shape), align_corners=False)
    coarse = F.avg_pool2d(F.grid_sample(images, grid, align_corners=False), 4)
    return (coarse * (1.3 + up_to(0.3)).view(-1, 1, 1, 1)).clamp(0, 1)


def make(folder: Path = FOLDER, steps: int = 800) -> None:
    """Train the model and write the folder, unless it exists. Takes about 30 seconds on the CPU."""
    if folder.exists():
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # reproducible, and fast enough for a small model
    seen = {"input_size": (3, SIZE, SIZE), "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear"}
    with torch.random.fork_rng(devices=[]):  # the random state of the calling run is not affected
        torch.manual_seed(0)
        letters, labels = draw_letters()
        classes = len(string.ascii_letters)
        model = timm.create_model("test_resnet", num_classes=classes, norm_layer=NORM, pretrained_cfg_overlay=seen)
        mean, std = 0.5, 0.5
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
        for _ in range(steps):
            chosen = torch.randint(len(letters), (64,))
            images = F.interpolate(distort(letters[chosen]), SIZE, mode="bilinear").expand(-1, 3, -1, -1)
            loss = F.cross_entropy(model((images - mean) / std), labels[chosen])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    torch.set_num_threads(threads)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    timm.models.save_for_hf(model, str(partial), model_args={"norm_layer": NORM}, safe_serialization=True)
    partial.rename(folder)  # so that an existing folder is complete


if __name__ == "__main__":
    make()
