"""The backbone that config.model names, its pixels and its pyramid."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ktn_jax.errors import UserError
from ktn_jax.models.fpn import FPN, HRFPN
from ktn_jax.models.hrnet import HRNet
from ktn_jax.models.layers import NORMS
from ktn_jax.models.mobile import MOBILE, MobileBackbone
from ktn_jax.models.resnet import ResNet
from ktn_jax.models.small import SmallBackbone

Array = jax.Array

BACKBONES = (
    "small",
    "resnet50",
    "resnet101",
    "hrnet_w32",
    "hrnet_w48",
    *MOBILE,
)
PIXELS = ("imagenet", "msra", "lite", "unit")

PIXEL_MEAN = (123.675, 116.28, 103.53)  # RGB, of ImageNet
PIXEL_STD = (58.395, 57.12, 57.375)
USUAL_PIXELS = {"efficientnet_lite0": "lite", "mobilenetv2_150": "unit"}  # else imagenet
LITE_CENTER, LITE_SCALE = 127.0, 128.0  # of EfficientNet-Lite's published weights


def build_backbone(
    name: str,
    *,
    norm: str,
    widths: tuple[int, ...] = (),
    depths: tuple[int, ...] = (),
    stride_in_1x1: bool = False,
    remat: bool = False,
    dtype: Any = jnp.float32,
) -> nn.Module:
    """Image [B, H, W, 3] -> maps at strides 4, 8, 16, 32.

    name: one of BACKBONES.   norm: one of layers.NORMS.   widths, depths: of "small".
    stride_in_1x1: of ResNets.   Raises UserError for what it does not know.
    """
    if norm not in NORMS:
        raise UserError(f"model.norm={norm!r} is not one of {NORMS}")
    common: dict[str, Any] = {"remat": remat, "dtype": dtype, "name": "backbone"}
    match name:
        case "small":
            if norm != "group":
                raise UserError(
                    f"model.norm={norm!r} needs pretrained weights, and there are none of "
                    "backbone 'small'; set --config.model.norm=group"
                )
            return SmallBackbone(widths, depths, **common)
        case "resnet50":
            return ResNet((3, 4, 6, 3), norm, stride_in_1x1, **common)
        case "resnet101":
            return ResNet((3, 4, 23, 3), norm, stride_in_1x1, **common)
        case "hrnet_w32":
            return HRNet(32, norm, **common)
        case "hrnet_w48":
            return HRNet(48, norm, **common)
        case _ if name in MOBILE:
            return MobileBackbone(MOBILE[name], norm, **common)
    raise UserError(f"model.backbone={name!r} is not one of {BACKBONES}")


def build_prior(name: str, backbone: str, *, dtype: Any = jnp.float32) -> nn.Module:
    """A second backbone, for what it knows of people: image -> maps as the first's.

    name: a mobile network's; its norms are frozen.   backbone: the first.
    """
    if name not in MOBILE:
        raise UserError(f"model.prior={name!r} is not one of {tuple(MOBILE)}, or ''")
    if backbone.startswith("hrnet"):
        raise UserError(
            f"model.prior={name!r} joins an FPN, and backbone {backbone!r} has a pyramid "
            "of its own; set --config.model.prior="
        )
    return MobileBackbone(MOBILE[name], "frozen", dtype=dtype, name="prior")


def build_pyramid(
    name: str, width: int, *, first: int = 2, dtype: Any = jnp.float32
) -> nn.Module:
    """The pyramid that goes with a backbone: HRNet's own, or FPN. first: finest level."""
    pyramid = HRFPN if name.startswith("hrnet") else FPN
    return pyramid(width, first, dtype=dtype, name="fpn")


def normalise(image: Array, pixels: str, backbone: str) -> Array:
    """What the backbone sees of RGB in 0..255, float32.

    pixels: one of PIXELS, or "" for that of the backbone's usual weights. "msra" is
    BGR less the mean, what detectron2's Caffe weights were trained on; "unit" is -1..1.
    """
    if not pixels:
        pixels = USUAL_PIXELS.get(backbone, "imagenet")
    image, mean = image.astype(jnp.float32), jnp.array(PIXEL_MEAN)
    match pixels:
        case "imagenet":
            return (image - mean) / jnp.array(PIXEL_STD)
        case "msra":
            return (image - mean)[..., ::-1]
        case "lite":
            return (image - LITE_CENTER) / LITE_SCALE
        case "unit":
            return image / 127.5 - 1
    raise UserError(f"model.pixels={pixels!r} is not one of {PIXELS}, or ''")
