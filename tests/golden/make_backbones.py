"""Writes backbones.npz: torch's answers on generated weights. For developers only.

    python -m tests.golden.make_backbones     (needs torch, which the tests do not)

The architectures are written here once more, in torch and from their papers; nothing of
ktn_jax is imported. Stored are names and shapes of every array and some outputs.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.golden import generated

OUT = Path(__file__).with_name("backbones.npz")


def conv_norm(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """A convolution without bias, and its BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Bottleneck(nn.Module):
    """ResNet's block."""

    def __init__(self, inputs: int, width: int, strides: tuple[int, int]) -> None:
        super().__init__()
        outputs, stride = 4 * width, max(strides)
        self.conv1, self.bn1 = conv_norm(inputs, width, 1, strides[0])
        self.conv2, self.bn2 = conv_norm(width, width, 3, strides[1])
        self.conv3, self.bn3 = conv_norm(width, outputs, 1)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = conv_norm(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (self.downsample(x) if self.downsample else x))


class ResNet(nn.Module):
    """He et al. 2016; MSRA's own weights stride in the first 1x1."""

    def __init__(self, depths: tuple[int, ...], stride_in_1x1: bool = False) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(3, 64, 7, 2)
        inputs = 64
        for i, depth in enumerate(depths):
            stride, width, blocks = (1 if i == 0 else 2), 64 * 2**i, []
            for number in range(depth):
                here = stride if number == 0 else 1
                strides = (here, 1) if stride_in_1x1 else (1, here)
                blocks.append(Bottleneck(inputs, width, strides))
                inputs = 4 * width
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Iterator[Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            yield x


class BasicBlock(nn.Module):
    """HRNet's block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(width, width, 3)
        self.conv2, self.bn2 = conv_norm(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


def bring(widths: list[int], i: int, j: int) -> nn.Module | None:
    """From branch j's resolution and channels to branch i's."""
    if j == i:
        return None
    if j > i:
        up = nn.Upsample(scale_factor=2 ** (j - i), mode="nearest")
        return nn.Sequential(*conv_norm(widths[j], widths[i], 1), up)
    steps = [
        nn.Sequential(*conv_norm(widths[j], widths[j], 3, 2), nn.ReLU())
        for _ in range(i - j - 1)
    ]
    return nn.Sequential(*steps, conv_norm(widths[j], widths[i], 3, 2))


class Exchange(nn.Module):
    """HRNet's module: four blocks a branch, then every branch from all."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        every = range(len(widths))
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(4))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(bring(widths, i, j) for j in every) for i in every
        )

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        return [
            F.relu(
                sum(x if way is None else way(x) for way, x in zip(ways, xs, strict=True))
            )
            for ways in self.fuse_layers
        ]


class HRNet(nn.Module):
    """Sun et al. 2019, without classifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(3, 64, 3, 2)
        self.conv2, self.bn2 = conv_norm(64, 64, 3, 2)
        self.layer1 = nn.Sequential(
            *(Bottleneck(64 if i == 0 else 256, 64, (1, 1)) for i in range(4))
        )
        before = [256]
        for stage, modules in ((2, 1), (3, 4), (4, 3)):
            widths = [width * 2**i for i in range(stage)]
            transition = nn.ModuleList(None for _ in widths)
            if stage == 2:
                transition[0] = nn.Sequential(*conv_norm(256, width, 3), nn.ReLU())
            new = nn.Sequential(*conv_norm(before[-1], widths[-1], 3, 2), nn.ReLU())
            transition[-1] = nn.Sequential(new)
            setattr(self, f"transition{stage - 1}", transition)
            setattr(
                self,
                f"stage{stage}",
                nn.Sequential(*(Exchange(widths) for _ in range(modules))),
            )
            before = widths

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(x)))
        xs = [self.layer1(F.relu(self.bn2(self.conv2(x))))]
        for stage in (2, 3, 4):
            ways = getattr(self, f"transition{stage - 1}")
            new = ways[-1](xs[-1])
            xs = [x if way is None else way(x) for way, x in zip(ways, xs, strict=False)]
            xs = getattr(self, f"stage{stage}")([*xs[: stage - 1], new])
        return xs


class SameConv(nn.Conv2d):
    """A convolution that pads as TensorFlow does."""

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for length in (x.shape[3], x.shape[2]):
            stride, size = self.stride[0], self.kernel_size[0]
            total = max((-(-length // stride) - 1) * stride + size - length, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


class InvertedBottleneck(nn.Module):
    """MobileNetV2's block, and EfficientNet-Lite's."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int, expand: int
    ) -> None:
        super().__init__()
        inner = inputs * expand
        if expand > 1:
            self._expand_conv = SameConv(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=1e-3)
        self._depthwise_conv = SameConv(
            inner, inner, size, stride, groups=inner, bias=False
        )
        self._bn1 = nn.BatchNorm2d(inner, eps=1e-3)
        self._project_conv = SameConv(inner, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=1e-3)
        self.expands, self.adds = expand > 1, stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class Mobile(nn.Module):
    """Inverted bottlenecks: (repeats, kernel, stride, expansion, channels) a stage."""

    def __init__(self, stem: int, *stages: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, stem, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(stem, eps=1e-3)
        self._blocks, self.last = nn.ModuleList(), []
        inputs = stem
        for repeats, size, stride, expand, outputs in stages:
            if stride == 2 and self._blocks:
                self.last.append(len(self._blocks) - 1)
            for i in range(repeats):
                block = InvertedBottleneck(
                    inputs, outputs, size, stride if i == 0 else 1, expand
                )
                self._blocks.append(block)
                inputs = outputs
        self.last = [*self.last[1:], len(self._blocks) - 1]  # before each halving

    def forward(self, x: Tensor) -> Iterator[Tensor]:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in self.last:
                yield x


def lite0() -> Mobile:
    """Liu 2020: EfficientNet-B0 without squeeze-excite, ReLU6."""
    return Mobile(
        32,
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )


def mobilenetv2(width: float) -> Mobile:
    """Sandler et al. 2018, table 2; channels times width, to the nearest 8."""
    rows = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    stem, *channels = (int(width * c + 4) // 8 * 8 for c in (32, *(r[1] for r in rows)))
    stages = (
        (n, 3, stride, expand, c)
        for (expand, _, n, stride), c in zip(rows, channels, strict=True)
    )
    return Mobile(stem, *stages)


NETWORKS = {
    "resnet50": lambda: ResNet((3, 4, 6, 3)),
    "resnet50_msra": lambda: ResNet((3, 4, 6, 3), stride_in_1x1=True),
    "resnet101": lambda: ResNet((3, 4, 23, 3)),
    "hrnet_w32": lambda: HRNet(32),
    "hrnet_w48": lambda: HRNet(48),
    "efficientnet_lite0": lite0,
    "mobilenetv2_150": lambda: mobilenetv2(1.5),
}


def answer(network: nn.Module) -> dict[str, np.ndarray]:
    """Names, shapes and sampled outputs of a network with generated weights."""
    shapes = {name: tuple(x.shape) for name, x in network.state_dict().items()}
    state = {k: torch.from_numpy(v) for k, v in generated.state(shapes).items()}
    network.load_state_dict(state)
    image = torch.from_numpy(generated.image()).permute(0, 3, 1, 2)
    with torch.no_grad():
        outputs = [x.permute(0, 2, 3, 1).numpy() for x in network.eval()(image)]
    lines = "\n".join(" ".join(map(str, (name, *s))) for name, s in shapes.items())
    return {
        "arrays": np.frombuffer(lines.encode(), np.uint8),
        **{f"c{level}": generated.sample(x) for level, x in enumerate(outputs, 2)},
    }


def main() -> None:
    """Write the file."""
    answers = {
        f"{name}/{part}": value
        for name, build in NETWORKS.items()
        for part, value in answer(build()).items()
    }
    np.savez_compressed(OUT, **answers)
    print(f"{OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
