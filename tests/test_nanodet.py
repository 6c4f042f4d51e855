"""The detector: read from its published graph, mirrored, resized, and in scores."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ktn_jax import advice, export, mirror, scales
from ktn_jax.errors import UserError
from ktn_jax.geometry import STRIDE
from ktn_jax.initialise import fill
from ktn_jax.models import pretrained
from ktn_jax.models.nanodet import NANODET, NanoDet
from ktn_jax.models.network import init_variables
from tests.scenes import CODEC, perfect_fields, scene
from tests.test_models import small_network

BOXES = [(4, 4, 60, 28), (10, 36, 58, 60)]  # two people apart
# Convolutions of the published graph: number -> kernel; of the biases' names see BIAS.
STAGES = ((32, 1, 1), (64, 5, 2), (128, 11, 2), (256, 17, 3))  # width, first, rounds
KERNELS = {
    0: (3, 3, 3, 32),
    25: (1, 1, 128, 128), 26: (1, 1, 256, 128), 27: (1, 1, 512, 128),
    28: (3, 3, 128, 128), 29: (1, 1, 128, 124),
    30: (3, 3, 128, 128), 31: (1, 1, 128, 124),
    32: (3, 3, 128, 128), 33: (1, 1, 128, 124),
}  # fmt: skip
for width, first, rounds in STAGES:
    KERNELS[first] = (3, 3, width, width)
    for k in range(rounds):
        KERNELS[first + 1 + 2 * k] = (3, 3, width, width // 2)
        KERNELS[first + 2 + 2 * k] = (3, 3, width // 2, width // 2)
    KERNELS[first + 1 + 2 * rounds] = (3, 3, width, width)
BIAS = {i: 2 * i for i in range(28)} | {28: 60, 29: 62, 30: 66, 31: 68, 32: 70, 33: 72}


def name_of(i):
    return "PartitionedCall/split" + (f"_{i}" if i else "")


@pytest.fixture(scope="module")
def state():
    rng = np.random.default_rng(0)
    made = {"PartitionedCall/PadV2/constant_values": np.zeros((), np.float16)}
    for i, shape in KERNELS.items():
        spread = 1.3 / np.sqrt(np.prod(shape[:-1]))
        made[name_of(i)] = rng.normal(0, spread, shape).astype(np.float16)
        made[f"unknown_{BIAS[i]}"] = rng.normal(0, 0.3, shape[-1:]).astype(np.float16)
    return made


def boxes_of(state, image):
    """The graph, as TensorFlow would run it: per level [h, w, 5] logit, y0, x0, y1, x1."""

    def conv(x, i, strides=1):
        kernel = state[name_of(i)].astype(np.float32)
        pad = kernel.shape[0] // 2
        x = jax.lax.conv_general_dilated(
            x, kernel, (strides, strides), ((pad, pad), (pad, pad)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        return x + state[f"unknown_{BIAS[i]}"].astype(np.float32)

    def leaky(x):
        return jnp.where(x > 0, x, 0.1 * x)

    x = image[..., ::-1].astype(np.float32) - np.float32([103.53, 116.28, 123.675])
    x = leaky(conv(x / np.float32([57.375, 57.12, 58.395]), 0, 2))
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")
    outs = []
    for width, first, rounds in STAGES:
        head = x = leaky(conv(x, first, 1 if width == 32 else 2))
        for k in range(rounds):
            one = leaky(conv(x, first + 1 + 2 * k))
            two = leaky(conv(one, first + 2 + 2 * k))
            x = jnp.concatenate([two, one], -1)
        x = jnp.concatenate([leaky(conv(x, first + 1 + 2 * rounds)), head], -1)
        outs.append(x)

    def resize(x, factor):
        shape = (1, int(x.shape[1] * factor), int(x.shape[2] * factor), x.shape[3])
        return jax.image.resize(x, shape, "bilinear", antialias=False)

    p3, p4, p5 = (conv(x, i) for x, i in zip(outs[1:], (25, 26, 27), strict=True))
    p4 = p4 + resize(p5, 2)
    p3 = p3 + resize(p4, 2)
    p4 = p4 + resize(p3, 0.5)
    p5 = p5 + resize(p4, 0.5)
    found = []
    for x, i, stride in ((p3, 28, 8), (p4, 30, 16), (p5, 32, 32)):
        out = np.asarray(conv(leaky(conv(x, i)), i + 1))[0]
        boxes = np.zeros((*out.shape[:2], 5))
        for y, x_ in np.ndindex(*out.shape[:2]):
            shares = np.exp(out[y, x_, 80:].reshape(4, 11).astype(np.float64))
            left, up, right, down = (shares / shares.sum(1, keepdims=True)) @ range(11)
            cy, cx = (y + 0.5) * stride, (x_ + 0.5) * stride
            boxes[y, x_] = (
                out[y, x_, 0],
                cy - up * stride, cx - left * stride,
                cy + down * stride, cx + right * stride,
            )  # fmt: skip
        found.append((stride, boxes))
    return found


def absolute(detected):
    """[h, w, 3, 5] of Fields -> the same with y0, x0, y1, x1 in canvas pixels."""
    detected = np.array(detected, np.float64)
    for y, x in np.ndindex(*detected.shape[:2]):
        center = (np.array([y, x]) + 0.5) * STRIDE
        detected[y, x, :, 1:3] = center - detected[y, x, :, 1:3]
        detected[y, x, :, 3:5] = center + detected[y, x, :, 3:5]
    return detected


def test_the_detector_is_the_published_graph_s(state):
    image = np.random.default_rng(1).integers(0, 256, (1, 64, 96, 3)).astype(np.uint8)
    found = NanoDet().apply(pretrained.detector_variables(state), image)
    assert found.shape == (1, 16, 24, 3, 5)
    found = absolute(found[0])
    for level, (stride, boxes) in enumerate(boxes_of(state, image)):
        assert boxes[..., 0].std() > 0.1
        each = stride // STRIDE
        wide = boxes.repeat(each, 0).repeat(each, 1)
        np.testing.assert_allclose(found[:, :, level], wide, rtol=1e-3, atol=2e-3)


def test_a_file_of_something_else_is_refused(state):
    lacking = {k: v for k, v in state.items() if k != name_of(7)}
    lacking["unknown_62"] = np.zeros(80, np.float16)
    with pytest.raises(UserError, match=r"NanoDet-g 3 arrays are .*split_7"):
        pretrained.detector_variables(lacking)


def test_a_run_starts_with_the_detector_and_an_export_can_get_it(state, tmp_path):
    network, with_it = small_network(), small_network(detector=NANODET)
    variables = init_variables(with_it, 0, 64)
    file = tmp_path / "nanodet.npz"
    np.savez(file, **state)
    init = {
        "checkpoint": "",
        "backbone": "",
        "prior": "",
        "detector": str(file),
        "skip": (),
    }
    model = {"norm": "group", "prior": "", "detector": NANODET}
    filled = fill(variables, init, model)
    wanted = pretrained.detector_variables(state)["params"]
    jax.tree.map(np.testing.assert_array_equal, filled["params"]["detector"], wanted)
    for refused, message in (
        (({**init, "detector": ""}, model), r"config\.init\.detector=FILE"),
        ((init, {**model, "detector": ""}), r"config\.model\.detector=nanodet_g"),
    ):
        with pytest.raises(UserError, match=message):
            fill(variables, *refused)
    image = jax.random.randint(jax.random.key(1), (1, 64, 96, 3), 0, 255)
    seen = with_it.apply(filled, image)
    plain = {k: v for k, v in filled["params"].items() if k != "detector"}
    without = {**filled, "params": plain}
    assert network.apply(without, image).detected is None
    given = export.see_people(network, without, str(file)).apply(without, image)
    assert given.detected.shape == (1, 16, 24, 3, 5)
    jax.tree.map(np.testing.assert_array_equal, given, seen)


def test_another_detector_is_refused():
    with pytest.raises(UserError, match=r"detector='yolo' is not 'nanodet_g'"):
        small_network(detector="yolo")


@pytest.fixture
def fields():
    targets = CODEC.encode(scene(BOXES, 64), (64, 64))
    made = perfect_fields(targets, BOXES)
    reach = jax.random.uniform(jax.random.key(0), (1, 16, 16, 3, 5), maxval=30.0)
    return made.replace(detected=reach)


def test_boxes_are_mirrored_with_the_image(fields):
    before = absolute(fields.detected[0])
    after = absolute(mirror.mirror_fields(fields).detected[0])[:, ::-1]
    np.testing.assert_allclose(after[..., [0, 1, 3]], before[..., [0, 1, 3]], rtol=1e-5)
    np.testing.assert_allclose(after[..., [2, 4]], 64 - before[..., [4, 2]], rtol=1e-5)


def test_boxes_of_a_smaller_canvas_are_brought_in_canvas_pixels(fields):
    """One box, as every cell of a canvas at half the height and a quarter of the width."""
    box = np.array([6.0, 3.0, 30.0, 14.0])
    height, width = 8, 4
    center = (np.indices((height, width)).transpose(1, 2, 0) + 0.5) * STRIDE
    reach = np.concatenate([center - box[:2], box[2:] - center], -1)
    logit = np.full((height, width, 1), 2.0)
    small = jax.tree.map(lambda x: jnp.zeros((1, height, width, *x.shape[3:])), fields)
    detected = np.concatenate([logit, reach], -1)[None, :, :, None].repeat(3, 3)
    small = small.replace(detected=jnp.array(detected, jnp.float32))
    brought = absolute(scales.bring_large(small, fields).detected[0])[2:-2, 4:-4]
    np.testing.assert_allclose(brought[..., 0], 2.0, rtol=1e-5)
    expected = np.broadcast_to(box * [2, 4, 2, 4], brought[..., 1:].shape)
    np.testing.assert_allclose(brought[..., 1:], expected, rtol=1e-4)


def test_a_score_is_its_root_and_falls_where_no_box_is_like_the_person():
    rng = np.random.default_rng(3)
    height, width = 7, 9
    belongs = np.zeros((4, height, width))
    belongs[0, 1:6, 2:5], belongs[1, 0:3, 5:9], belongs[2, 4:7, 6:9] = 0.9, 0.8, 0.7
    belongs[3] = 0.4  # nobody's cells
    score = np.array([0.7, 0.3, 0.1, 0.2])
    detected = rng.uniform(2, 12, (height, width, 3, 5))
    detected[..., 0] = rng.normal(-4, 1, detected.shape[:-1])
    detected[3, 3, 1] = 5.0, 9.0, 6.5, 9.5, 6.0  # nearly the first
    boxes = absolute(detected).reshape(-1, 5)
    boxes[:, 1:] = np.clip(boxes[:, 1:], 0, [28, 36, 28, 36])
    expected = []
    for own, old in zip(belongs, score, strict=True):
        cells, seen = np.argwhere(own > 0.5), 0.0
        if len(cells):
            y0, x0 = cells.min(0) * STRIDE
            y1, x1 = (cells.max(0) + 1) * STRIDE
            for logit, *b in boxes:
                high = max(0, min(y1, b[2]) - max(y0, b[0]))
                shared = high * max(0, min(x1, b[3]) - max(x0, b[1]))
                union = (y1 - y0) * (x1 - x0) + (b[2] - b[0]) * (b[3] - b[1]) - shared
                seen = max(seen, shared / union / (1 + np.exp(-logit)))
        expected.append(np.sqrt(old) * min(seen / 0.5, 1))
    found = advice.detect(jnp.array(score), jnp.array(detected), jnp.array(belongs), 0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert expected[0] == np.sqrt(0.7) and 0 < expected[1] < np.sqrt(0.3)
    assert expected[3] == 0


def test_what_no_box_holds_is_doubted():
    rng = np.random.default_rng(5)
    own = [rng.normal(-3, 2, (32 // k, 24 // k, 5)) for k in (2, 4, 8)]
    detected, boxes = np.zeros((32, 24, 3, 5)), []
    for level, one in enumerate(own):
        step = 2 << level
        one[..., 1:] = rng.uniform(-4, 30, one[..., 1:].shape)
        # the same box as each cell within the level's own one sees it
        for y, x in np.ndindex(32, 24):
            logit, up, left, down, right = one[y // step, x // step]
            dy, dx = ((i % step + 0.5) * STRIDE - step * STRIDE / 2 for i in (y, x))
            detected[y, x, level] = logit, up + dy, left + dx, down - dy, right - dx
        for i, j in np.ndindex(*one.shape[:2]):
            logit, up, left, down, right = one[i, j]
            y, x = ((k + 0.5) * step * STRIDE for k in (i, j))
            boxes.append((1 / (1 + np.exp(-logit)), y - up, x - left, y + down, x + right))
    expected = np.zeros((32, 24))
    for y, x in np.ndindex(32, 24):
        at, sure = ((y + 0.5) * STRIDE, (x + 0.5) * STRIDE), 0.02
        for p, y0, x0, y1, x1 in boxes:
            if y0 < at[0] < y1 and x0 < at[1] < x1:
                sure = max(sure, p)
        expected[y, x] = max(np.log(0.3 / sure), 0)
    assert (expected > 0).mean() > 0.1 and (expected == 0).mean() > 0.1
    found = advice.outside(jnp.array(detected))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_mask_falls_where_no_box_is(fields):
    heeding = dataclasses.replace(CODEC, detector_mask=1.5)
    with pytest.raises(UserError, match=r"detector_mask need a network with a detector"):
        heeding.decode(fields.replace(detected=None))
    with pytest.raises(UserError, match=r"detector_mask -1 must be 0 or more"):
        dataclasses.replace(CODEC, detector_mask=-1)
    fewer = fields.detected * 0.4 - jnp.array([10.0, 0, 0, 0, 0])  # and smaller ones
    falls = jax.vmap(advice.outside)(fewer)
    assert falls.max() > 1 and falls.min() == 0
    told = fields.replace(detected=fewer)
    wanted = jax.jit(CODEC.decode)(told.replace(mask=fields.mask - 1.5 * falls))
    blind = told.replace(center=jnp.full_like(fields.center, -8.0))
    for looks in ([told], [blind, told]):
        found = jax.jit(heeding.decode)(*looks)
        np.testing.assert_array_equal(found.owner >= 0, wanted.owner >= 0)
    assert np.any((wanted.owner >= 0) != (jax.jit(CODEC.decode)(told).owner >= 0))


def test_who_is_not_detected_scores_less(fields):
    counting = dataclasses.replace(CODEC, detector_score=True, min_score=0.001)
    with pytest.raises(UserError, match=r"detector_score and .*detector=nanodet_g"):
        counting.decode(fields.replace(detected=None))
    center = (np.indices((16, 16)).transpose(1, 2, 0) + 0.5) * STRIDE
    box = np.array(BOXES[0])  # the first person's, whom alone the detector sees
    reach = np.concatenate([center - box[:2], box[2:] - center], -1)
    detected = np.concatenate([np.full((16, 16, 1), 4.0), reach], -1)[None, :, :, None]
    seen = fields.replace(detected=jnp.array(detected, jnp.float32))
    plain, found = jax.jit(CODEC.decode)(fields), jax.jit(counting.decode)(seen)
    for person, confirmed in ((BOXES[0], True), (BOXES[1], False)):
        y, x = (person[0] + person[2]) // 2, (person[1] + person[3]) // 2
        old, new = (f.score[0, int(f.owner[0, y, x])] for f in (plain, found))
        if confirmed:
            assert np.isclose(new, np.sqrt(old), rtol=1e-3)
        else:
            assert new < 0.3 * np.sqrt(old)
