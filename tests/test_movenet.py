"""MoveNet's own keypoint head: read from the graph's names, and what scores make of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ktn_jax import advice, export, mirror
from ktn_jax.anatomy import KEYPOINTS, MIRRORED_KEYPOINT
from ktn_jax.errors import UserError
from ktn_jax.geometry import STRIDE
from ktn_jax.initialise import fill
from ktn_jax.models import pretrained
from ktn_jax.models.mobile import MOBILE
from ktn_jax.models.movenet import MOVENET, MoveNetKeypoints
from ktn_jax.models.network import init_variables
from tests.scenes import CODEC, perfect_fields, scene
from tests.test_models import small_network

NECK = "StatefulPartitionedCall/center_net_mobile_net_v2fpn_feature_extractor/model_1/"
HEAD = "StatefulPartitionedCall/kpt_heatmap_0/"
BOXES = [(4, 4, 60, 28), (10, 36, 58, 60)]  # two people apart
READ, BIAS = "/ReadVariableOp", "/BiasAdd/ReadVariableOp"
SHAPES = {  # as TensorFlow has them in the published graph
    NECK + "model/Conv_1/Conv2D_weights": (1, 1, 480, 1280),
    NECK + "model/Conv_1/Conv2D_bn_offset": (1280,),
    NECK + "conv2d/Conv2D" + READ: (1, 1, 1280, 64),
    NECK + "conv2d" + BIAS: (64,),
    NECK + "conv2d_1/Conv2D" + READ: (1, 1, 96, 64),
    NECK + "conv2d_1" + BIAS: (64,),
    NECK + "conv2d_2/Conv2D" + READ: (1, 1, 48, 32),
    NECK + "conv2d_2" + BIAS: (32,),
    NECK + "conv2d_3/Conv2D" + READ: (1, 1, 40, 24),
    NECK + "conv2d_3" + BIAS: (24,),
    NECK + "separable_conv2d/separable_conv2d" + READ: (3, 3, 64, 1),
    NECK + "separable_conv2d/separable_conv2d_weights": (1, 1, 64, 32),
    NECK + "separable_conv2d/separable_conv2d_bn_offset": (32,),
    NECK + "separable_conv2d_1/separable_conv2d" + READ: (3, 3, 32, 1),
    NECK + "separable_conv2d_1/separable_conv2d_weights": (1, 1, 32, 24),
    NECK + "separable_conv2d_1/separable_conv2d_bn_offset": (24,),
    NECK + "separable_conv2d_2/separable_conv2d" + READ: (3, 3, 24, 1),
    NECK + "separable_conv2d_2/separable_conv2d_weights": (1, 1, 24, 24),
    NECK + "separable_conv2d_2/separable_conv2d_bn_offset": (24,),
    HEAD + "separable_conv2d_6/separable_conv2d" + READ: (3, 3, 24, 1),
    HEAD + "separable_conv2d_6/separable_conv2d" + READ + "_1": (1, 1, 24, 96),
    HEAD + "separable_conv2d_6" + BIAS: (96,),
    HEAD + "conv2d_7/Conv2D" + READ: (1, 1, 96, 17),
    HEAD + "conv2d_7" + BIAS: (17,),
    "StatefulPartitionedCall/box_scale_0/conv2d_5" + BIAS: (2,),  # not ours
}


@pytest.fixture(scope="module")
def state():
    rng = np.random.default_rng(0)
    made = {}
    for name, shape in SHAPES.items():
        spread = 0.3 if len(shape) == 1 else 1 / np.sqrt(np.prod(shape[:-1]))
        made[name] = rng.normal(0, spread, shape).astype(np.float16)
    return made


def heat_of(state, stages):
    """The graph, operation by operation, as TensorFlow would run it."""
    layout = ("NHWC", "HWIO", "NHWC")

    def conv(x, name, bias, deep=""):
        if deep:
            kernel = state[deep].astype(np.float32).transpose(0, 1, 3, 2)
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME",
                dimension_numbers=layout, feature_group_count=x.shape[-1],
            )  # fmt: skip
        kernel = state[name].astype(np.float32)
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=layout
        )
        return x + state[bias].astype(np.float32)

    plain = {5: "conv2d", 4: "conv2d_1", 3: "conv2d_2", 2: "conv2d_3"}
    lateral = {k: (f"{NECK}{v}/Conv2D{READ}", f"{NECK}{v}{BIAS}") for k, v in plain.items()}
    top = NECK + "model/Conv_1/Conv2D_"
    x = jnp.clip(conv(stages[6], top + "weights", top + "bn_offset"), 0, 6)
    x = conv(x, *lateral[5])
    for level, place, stage in ((4, "", 3), (3, "_1", 2), (2, "_2", 1)):
        b, h, w, c = x.shape
        x = jax.image.resize(x, (b, 2 * h, 2 * w, c), "bilinear")
        x = x + conv(stages[stage], *lateral[level])
        smooth = f"{NECK}separable_conv2d{place}/separable_conv2d"
        x = jax.nn.relu(
            conv(x, smooth + "_weights", smooth + "_bn_offset", deep=smooth + READ)
        )
    last = HEAD + "separable_conv2d_6/separable_conv2d" + READ
    x = jax.nn.relu(conv(x, last + "_1", HEAD + "separable_conv2d_6" + BIAS, deep=last))
    return conv(x, f"{HEAD}conv2d_7/Conv2D{READ}", f"{HEAD}conv2d_7{BIAS}")


def test_the_head_is_the_published_graph_s(state):
    rng, stride, stages = np.random.default_rng(1), 2, []
    for stage in MOBILE[MOVENET].stages:
        stride *= stage.strides
        shape = (2, 64 // stride, 96 // stride, stage.width)
        stages.append(jnp.asarray(rng.normal(0, 4, shape), jnp.float32))
    found = MoveNetKeypoints().apply(pretrained.keypoint_variables(state), stages)
    assert found.shape == (2, 16, 24, len(KEYPOINTS))
    expected = heat_of(state, stages)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_file_without_the_head_is_refused(state):
    lacking = {k: v for k, v in state.items() if "kpt_heatmap_0" not in k}
    lacking[NECK + "conv2d" + BIAS] = np.zeros(63, np.float32)
    with pytest.raises(UserError, match=r"6 arrays are .*model_1/conv2d/BiasAdd"):
        pretrained.keypoint_variables(lacking)


def test_a_run_starts_with_the_head_and_an_export_can_get_it(state, tmp_path, monkeypatch):
    """Both from the file that has the prior itself."""
    network = small_network(prior=MOVENET)
    with_head = small_network(prior=MOVENET, prior_keypoints=True)
    variables = init_variables(with_head, 0, 64)
    made = {k: {"prior": v["prior"]} for k, v in variables.items()}
    monkeypatch.setattr(pretrained, "backbone_variables", lambda *_: _bare(made))
    file = tmp_path / "movenet.npz"
    np.savez(file, **state)
    init = {"checkpoint": "", "backbone": "", "prior": str(file), "skip": ()}
    model = {"norm": "group", "prior": MOVENET, "prior_keypoints": True}
    filled = fill(variables, init, model)
    wanted = pretrained.keypoint_variables(state)["params"]
    own = filled["params"]["prior_keypoints"]
    jax.tree.map(np.testing.assert_array_equal, own, wanted)
    image = jax.random.randint(jax.random.key(1), (1, 64, 96, 3), 0, 255)
    seen = with_head.apply(filled, image)
    plain = {k: v for k, v in filled["params"].items() if k != "prior_keypoints"}
    without = {**filled, "params": plain}
    assert network.apply(without, image).prior_keypoints is None
    given = export.see_keypoints(network, without, str(file)).apply(without, image)
    assert given.prior_keypoints.shape == (1, 16, 24, len(KEYPOINTS))
    jax.tree.map(np.testing.assert_array_equal, given, seen)


def _bare(variables):
    return {kind: tree["prior"] for kind, tree in variables.items()}


def test_only_movenet_s_backbone_has_the_head():
    with pytest.raises(UserError, match=r"prior_keypoints is of prior 'mobilenetv2_150'"):
        small_network(prior="efficientnet_lite0", prior_keypoints=True)


def test_what_the_prior_sees_is_mirrored_too():
    targets = CODEC.encode(scene(BOXES, 64), (64, 64))
    fields = perfect_fields(targets, BOXES)
    seen = jax.random.normal(jax.random.key(0), fields.keypoints.shape)
    mirrored = mirror.mirror_fields(fields.replace(prior_keypoints=seen)).prior_keypoints
    for here, there in enumerate(MIRRORED_KEYPOINT):
        np.testing.assert_array_equal(mirrored[..., here], seen[:, :, ::-1, there])


def test_a_score_falls_where_the_five_surest_keypoints_are_unsure():
    rng = np.random.default_rng(2)
    logits = rng.normal(-1, 2, (6, 7, 17))
    belongs, score = rng.random((3, 6, 7)), np.array([0.7, 0.3, 0.1])
    belongs[2] = 0.4  # nobody's cells: nothing is seen there
    expected = []
    for own, old in zip(belongs, score, strict=True):
        best = [1 / (1 + np.exp(-plane[own > 0.5].max(initial=-99))) for plane in logits.T
                .transpose(0, 2, 1)]  # fmt: skip
        seen = np.mean(sorted(best)[-5:])
        expected.append(old * min(seen / 0.3, 1))
    found = advice.confirm(jnp.array(score), jnp.array(logits), jnp.array(belongs))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    kept = np.isclose(expected, score)
    assert kept.any() and not kept.all()


def test_who_is_not_seen_scores_less():
    targets = CODEC.encode(scene(BOXES, 64), (64, 64))
    fields = perfect_fields(targets, BOXES)
    owner = np.asarray(targets.owner)
    seen = np.where(owner[..., None] == 0, np.full(17, 5.0), -5.0)
    counting = dataclasses.replace(CODEC, prior_score=True, min_score=0.001)
    with pytest.raises(UserError, match=r"prior_score needs .*prior_keypoints=True"):
        counting.decode(fields)
    plain = jax.jit(CODEC.decode)(fields)
    found = jax.jit(counting.decode)(fields.replace(prior_keypoints=jnp.array(seen)[None]))
    for slot, logit in ((0, 5.0), (1, -5.0)):
        y, x = STRIDE * np.argwhere(owner == slot).mean(0).astype(int)
        old, new = (f.score[0, int(f.owner[0, y, x])] for f in (plain, found))
        heat = 1 / (1 + np.exp(-logit))
        assert np.isclose(new, old * min(heat / 0.3, 1), rtol=1e-3)
