"""The detector: torchvision's Faster R-CNN on a small backbone, written out. Shapes: B images, H height, W width."""

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

if TYPE_CHECKING:  # train.py imports this file
    from data import Splits
    from train import Config

FEATURES = 64  # channels of the backbone output


def stage(channels: int, width: int) -> nn.Sequential:
    """A strided and a plain convolution: (B, channels, H, W) -> (B, width, H/2, W/2)."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False),
        nn.GroupNorm(8, width),  # unlike BatchNorm, the same for any number of processes and micro-batches
        nn.SiLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.GroupNorm(8, width),
        nn.SiLU(),
    )


class Backbone(nn.Module):
    """Three downsampling stages and one top-down connection, as in a feature pyramid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_channels = FEATURES  # required by FasterRCNN
        self.near = nn.Sequential(stage(3, width), stage(width, 2 * width))
        self.far = stage(2 * width, 4 * width)
        self.from_near = nn.Conv2d(2 * width, FEATURES, 1)
        self.from_far = nn.Conv2d(4 * width, FEATURES, 1)
        self.smooth = nn.Conv2d(FEATURES, FEATURES, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, H, W) to features (B, FEATURES, H/4, W/4)."""
        near = self.near(images)
        far = F.interpolate(self.from_far(self.far(near)), size=near.shape[-2:])
        return self.smooth(self.from_near(near) + far)


def make_model(config: "Config", splits: "Splits") -> nn.Module:
    """Build a detector for the classes of the data and the background.

    In training mode it takes a list of images (3, H, W) and a list of targets, and returns losses by name. In eval
    mode it takes the images and returns boxes, labels and scores for each. Label 0 is the background.
    """
    image_size = config.image_size
    return FasterRCNN(
        Backbone(config.width),
        min_size=image_size,
        max_size=2 * image_size,
        # Anchor sizes in pixels, and aspect ratios (height / width).
        rpn_anchor_generator=AnchorGenerator(
            sizes=((image_size // 5, image_size // 3),), aspect_ratios=((0.7, 1.0, 1.4),)
        ),
        rpn_pre_nms_top_n_train=200,
        rpn_pre_nms_top_n_test=200,
        rpn_post_nms_top_n_train=64,
        rpn_post_nms_top_n_test=64,
        rpn_batch_size_per_image=64,
        box_roi_pool=MultiScaleRoIAlign(featmap_names=["0"], output_size=5, sampling_ratio=2),
        box_head=TwoMLPHead(FEATURES * 5 * 5, 128),
        box_predictor=FastRCNNPredictor(128, len(splits.classes) + 1),
        box_batch_size_per_image=32,
        box_detections_per_img=20,
    )
