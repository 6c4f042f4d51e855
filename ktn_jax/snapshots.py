"""What a network in training makes of its own batch, as one picture for TensorBoard."""

from collections.abc import Callable

import jax
import numpy as np

from ktn_jax import inference, pictures
from ktn_jax.codec import Codec
from ktn_jax.geometry import STRIDE
from ktn_jax.models.network import KTN
from ktn_jax.structs import Batch, Instances, Targets, TrainState

ROWS = 3  # images of a picture
POINT = 1  # pixels to each side of an annotated point
FADED = 0.4  # of the photograph behind what is drawn


def build_show(network: KTN, codec: Codec) -> Callable[[TrainState, Batch], np.ndarray]:
    """A function of a state and a host's batch: [rows * H, 4 * W, 3] u8.

    From the left: input, predicted charts, annotated points in their charts' colours over
    the annotated masks, predicted people. It compiles when it is first called.
    """

    @jax.jit
    def predict(variables: dict, image: jax.Array) -> Instances:
        return inference.predict(
            variables, image, network=network, codec=codec, flip_test=False
        )

    def show(state: TrainState, batch: Batch) -> np.ndarray:
        variables = jax.device_get({"params": state.params, "frozen": state.frozen})
        found = inference.host(predict(variables, batch.image[:ROWS]))
        rows = [
            draw_row(batch.image[i], jax.tree.map(lambda x, i=i: x[i], batch.targets),
                     inference.one_image(found, i))
            for i in range(len(batch.image[:ROWS]))
        ]  # fmt: skip
        return np.concatenate(rows)

    return show


def draw_row(image: np.ndarray, targets: Targets, found: Instances) -> np.ndarray:
    """[H, 4 W, 3] u8 of one image. image: [H, W, 3] u8; the others without batch axis."""
    faded = (FADED * image.mean(-1, keepdims=True)).repeat(3, -1).astype(np.uint8)
    colors = pictures.chart_colors()
    charts = np.where(found.chart[..., None] > 0, colors[found.chart], faded)
    owner = np.kron(targets.owner, np.ones((STRIDE, STRIDE), targets.owner.dtype))
    annotated = np.where(owner[..., None] >= 0, 2 * faded, faded)
    for (y, x), chart in zip(
        targets.points_yx[targets.points_valid],
        targets.points_chart[targets.points_valid],
        strict=True,
    ):
        top, left = max(int(y) - POINT, 0), max(int(x) - POINT, 0)
        annotated[top : int(y) + POINT + 1, left : int(x) + POINT + 1] = colors[chart]
    # neighbours in rank get colours far apart: there are 24, and 7 shares nothing with it
    people = colors[1 + 7 * found.owner.astype(int) % (len(colors) - 1)]
    people = np.where(found.owner[..., None] >= 0, people, faded)
    return np.concatenate([image, charts, annotated, people], axis=1)
