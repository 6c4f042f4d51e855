"""Write the little torch files of this folder, and what they hold: needs torch and numpy.

    python tests/golden/make_weights.py

Not part of the tests: they read the files without torch. Made with torch 2.13.0.
"""

from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def main() -> None:
    """Write every file beside this one."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, generator=generator)
    layer = torch.nn.Conv2d(2, 3, 3)
    layer.weight.data.copy_(torch.randn(3, 2, 3, 3, generator=generator))
    layer.bias.data.copy_(torch.arange(3.0))
    plain = torch.nn.BatchNorm2d(3).state_dict()  # with torch's _metadata
    plain["running_var"].copy_(torch.tensor([0.5, 2.0, 3.0]))
    plain |= {
        "view": base[1:3, 1:6:2].t(),  # offset 7, strides 2 and 6
        "whole": base,  # of one storage with the view
        "columns": layer.weight.detach().to(memory_format=torch.channels_last),
        "scalar": torch.tensor(7.5),
        "none": torch.zeros(0, 3),
    }
    half = {
        "half": base[0].half(),
        "bfloat": base.bfloat16().t(),
        "double": base[1].double(),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
    }
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    layer(torch.ones(1, 2, 3, 3)).sum().backward()
    optimizer.step()
    wrapped = {
        "iteration": 3,
        "optimizer": optimizer.state_dict(),
        "model": dict(layer.named_parameters()) | {"step": 3},
    }
    expected = {}
    for name, document, state in (
        ("plain", plain, plain),
        ("half", half, half),
        ("wrapped", wrapped, layer.state_dict()),
    ):
        torch.save(document, HERE / f"{name}.pth")
        old = HERE / f"{name}_legacy.pth"
        torch.save(document, old, _use_new_zipfile_serialization=False)
        for key, tensor in state.items():
            wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
            expected[f"{name}/{key}"] = wide.numpy()
    np.savez_compressed(HERE / "expected.npz", **expected)


if __name__ == "__main__":
    main()
