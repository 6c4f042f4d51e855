"""The network's modules against the authors' own, and what every network must do."""

import dataclasses
import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import tiny
from ktn_jax.errors import UserError
from ktn_jax.graph import Graph, build_graph, empty_graph
from ktn_jax.models.context import HEAD_WIDTH, WAVELENGTHS, Attention
from ktn_jax.models.decoder import MID
from ktn_jax.models.fpn import FPN, HRFPN
from ktn_jax.models.heads import Head, Raise, ScaleConvs
from ktn_jax.models.layers import ConvNormRelu, WideningBlock
from ktn_jax.models.network import build_network, init_variables
from ktn_jax.models.transfer import KnowledgeTransfer, kernel_rows, rows_kernel
from ktn_jax.models.wide import WideMap, WideSurface

REFERENCE = "tests/reference/ktn_modules.npz"  # KTN v2's PyTorch modules, random weights


@pytest.fixture(scope="module")
def reference():
    return dict(np.load(REFERENCE))


def nhwc(x):
    return jnp.asarray(x).transpose(0, 2, 3, 1)


def conv(weight):
    """torch out x in x kh x kw -> kh x kw x in x out."""
    return jnp.asarray(weight).transpose(2, 3, 1, 0)


def norm(reference, name):
    return {"scale": reference[f"{name}.weight"], "bias": reference[f"{name}.bias"]}


def biased(reference, name, kernel=conv):
    weight = kernel(reference[f"{name}.weight"])
    return {"kernel": weight, "bias": reference[f"{name}.bias"]}


def one_by_one(weight):
    return jnp.asarray(weight)[:, :, 0, 0].T


def mid_params(reference):
    """The authors' MID weights under our names."""
    params = {}
    for level in (3, 4, 5):
        adapt = f"sd/mid/bottom_up_p{level - 1}.adt_conv"
        params[f"adapt{level}"] = biased(reference, adapt)
    for level in (2, 3, 4, 5):
        for step in range(max(1, level - 2)):
            here = f"raise{level}_{step}"
            params[here] = biased(reference, f"sd/mid/p{level}.{3 * step}")
            if level > 2:
                grow = f"sd/mid/p{level}.{3 * step + 1}"
                params[here + "_grow"] = biased(reference, grow, one_by_one)
    for branch in range(4):
        weight = reference[f"sd/mid/trident_convs.{branch}.0.weight"]
        kernel = one_by_one(weight) if branch == 0 else conv(weight)
        scale = norm(reference, f"sd/mid/trident_convs.{branch}.1")
        params[f"branch{branch}"] = {"conv": {"kernel": kernel}, "norm": scale}
    params["project"] = biased(reference, "sd/mid/predictor", one_by_one)
    return params


@pytest.fixture
def thirty_two_groups(monkeypatch):
    """The reference is 32 channels wide and keeps the paper's 32 groups."""
    from flax import linen as nn

    from ktn_jax.models import heads, layers

    def group_norm(width, *, name, dtype=jnp.float32):
        return nn.GroupNorm(32, epsilon=1e-5, dtype=dtype, name=name)

    monkeypatch.setattr(heads, "group_norm", group_norm)
    monkeypatch.setattr(layers, "group_norm", group_norm)
    return group_norm


def test_mid_equals_the_authors(reference, thirty_two_groups):
    pyramid = [nhwc(reference[f"in/p{level}"]) for level in (2, 3, 4, 5)]
    params = mid_params(reference)
    module = MID(32)
    initial = jax.eval_shape(module.init, jax.random.key(0), pyramid)["params"]
    assert jax.tree.map(jnp.shape, initial) == jax.tree.map(jnp.shape, params)
    ours = jax.jit(module.apply)({"params": params}, pyramid)
    np.testing.assert_allclose(ours, nhwc(reference["mid/out"]), atol=1e-4)


def test_shared_dilations_equal_the_authors(reference, thirty_two_groups):
    head = "sd/head/ScaleConvs"
    params = {
        "kernel": conv(reference[f"{head}.weight"]),
        "one": {
            "conv": {"kernel": one_by_one(reference[f"{head}.conv1.0.weight"])},
            "norm": norm(reference, f"{head}.conv1.1"),
        },
        "project": {"kernel": one_by_one(reference[f"{head}.project.0.weight"])},
        **{
            f"norm{dilation}": norm(reference, f"{head}.norms.{i}")
            for i, dilation in enumerate((1, 6, 12))
        },
    }
    ours = ScaleConvs(32).apply({"params": params}, nhwc(reference["roi/out"]))
    np.testing.assert_allclose(ours, nhwc(reference["head/scale"]), atol=1e-4)


def torch_rows(weight):
    """A transposed convolution's weight, in x out x kh x kw -> out x (in, kh, kw)."""
    return jnp.asarray(weight).transpose(1, 0, 2, 3).reshape(weight.shape[1], -1)


def test_transfer_equals_the_authors(reference):
    names = {"keypoint": "kpt", "part": "part", "person": "bbox"}
    graph = Graph(*(reference[f"sd/pred/{name}_crgk_matrix"] for name in names.values()))
    frozen = {f"graph_{name}": getattr(graph, name) for name in names}
    layer = "sd/pred/parameter_transformer"
    params = {
        name: {
            "kernel": reference[f"{layer}.{i}.weight"].T,
            "bias": reference[f"{layer}.{i}.bias"],
        }
        for name, i in (("l1", 0), ("l2", 2))
    }
    module = KnowledgeTransfer(graph, train_graph=False, own_kernel=False, width=512)
    keypoint = torch_rows(reference["sd/pred/k_lowres.weight"])
    part = torch_rows(reference["sd/pred/ann_index_lowres.weight"])
    variables = {"params": params, "frozen": frozen}
    ours = module.apply(variables, keypoint, part, reference["pred/bbox_params"])
    theirs = torch_rows(reference["pred/surface_weight"])
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_rows_and_kernels_are_each_other_s_inverse():
    kernel = jnp.arange(3 * 3 * 4 * 5.0).reshape(3, 3, 4, 5)
    rows = kernel_rows(kernel)
    # output 2, input 1, row 0, column 2 stands at 1 * 9 + 0 * 3 + 2
    assert rows[2, 11] == kernel[0, 2, 1, 2]
    np.testing.assert_array_equal(rows_kernel(rows, 3), kernel)


def test_transfer_s_gradient_reaches_all_but_the_person_rows():
    module = KnowledgeTransfer(build_graph(), train_graph=True, own_kernel=True, width=8)
    keys = jax.random.split(jax.random.key(0), 4)
    rows = [jax.random.normal(k, (n, 8)) for k, n in zip(keys, (17, 15, 6), strict=False)]
    variables = module.init(keys[3], *rows)

    def size(variables, *rows):
        return jnp.square(module.apply(variables, *rows)).sum()

    grads = jax.grad(size, argnums=(0, 1, 2, 3))(variables, *rows)
    assert not grads[3].any() and grads[1].any() and grads[2].any()
    reached = {
        k: any(x.any() for x in jax.tree.leaves(v)) for k, v in grads[0]["params"].items()
    }
    # the own kernel is reached only once gamma has left zero
    assert reached.pop("own") is False and all(reached.values()), reached


def test_the_graph_tells_all_charts_apart_unless_the_paper_s_form_is_asked_for():
    for split, distinct in ((True, 24), (False, 16)):
        rows = np.concatenate(build_graph(split_pairs=split), axis=1)[1:]
        assert len(np.unique(rows.round(6), axis=0)) == distinct
    # chart 3 is the right hand: 0.3 (R + G), and G of the same words is 1
    assert build_graph().part[3, 2] == pytest.approx(0.6, abs=1e-6)


def small_network(**changes):
    model = tiny.get_config().model
    model.update(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), width=16, **changes)
    return build_network(model)


@pytest.mark.parametrize(
    ("mid", "ktm", "fine"),
    [
        (True, True, 0),
        (False, True, 0),
        (True, False, 0),
        (False, False, 0),
        (True, True, 8),
    ],
)
def test_every_parameter_learns(mid, ktm, fine):
    network = small_network(mid=mid, ktm=ktm, fine=fine)
    image = jax.random.randint(jax.random.key(1), (2, 64, 96, 3), 0, 255)
    variables = init_variables(network, 0, 64)

    @jax.jit
    @jax.grad
    def gradient(variables):
        fields = network.apply(variables, image)
        return sum(jnp.square(x - 1).sum() for x in jax.tree.leaves(fields))

    fields = jax.jit(network.apply)(variables, image)
    assert all(
        x.dtype == jnp.float32 and x.shape[:3] == (2, 16, 24)
        for x in jax.tree.leaves(fields)
    )
    assert "transfer" in variables["params"]["head"] if ktm else True
    silent = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(variables))
        if not np.isfinite(leaf).all() or not np.any(leaf)
    ]
    assert silent == []


def test_the_network_is_blind_to_the_rest_of_the_batch():
    network = small_network()
    variables = init_variables(network, 0, 64)
    image = jax.random.randint(jax.random.key(1), (2, 64, 64, 3), 0, 255)
    apply = jax.jit(functools.partial(network.apply, variables))
    both, alone = apply(image), apply(image[1:])
    for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a[1:], b, atol=2e-4)


def test_a_run_from_before_a_field_has_its_default():
    model = tiny.get_config().model.to_dict()
    del model["fine"]
    assert build_network(model) == build_network(tiny.get_config().model)
    del model["width"]
    with pytest.raises(UserError, match=r"lacks or should not have width: "):
        build_network(model)


def test_a_prior_joins_the_pyramid_and_begins_as_nothing():
    """The same function as without it, until its laterals have learnt."""
    plain, network = small_network(), small_network(prior="mobilenetv2_150")
    variables = init_variables(network, 0, 64)
    params = dict(variables["params"])
    kept = {k: v for k, v in params["fpn"].items() if not k.startswith("prior")}
    without = {k: v for k, v in params.items() if k != "prior"} | {"fpn": kept}
    frozen = {k: v for k, v in variables["frozen"].items() if k != "prior"}
    image = jax.random.randint(jax.random.key(1), (1, 64, 64, 3), 0, 255)
    expected = plain.apply({"params": without, "frozen": frozen}, image)
    jax.tree.map(np.testing.assert_array_equal, network.apply(variables, image), expected)
    levels = [key for key in params["fpn"] if key.startswith("prior")]
    assert sorted(levels) == ["prior2", "prior3", "prior4", "prior5"]
    for level in levels:  # each level of it counts
        kernel = jnp.ones_like(params["fpn"][level]["kernel"])
        told = {**params, "fpn": {**params["fpn"], level: {"kernel": kernel}}}
        fields = network.apply({**variables, "params": told}, image)
        assert not np.allclose(fields.mask, expected.mask)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prior": "resnet50"}, r"model\.prior='resnet50' is not one of"),
        (
            {"backbone": "hrnet_w32", "norm": "frozen", "prior": "mobilenetv2_150"},
            "'hrnet_w32' has a pyramid",
        ),
    ],
)
def test_what_no_prior_is(changes, told):
    network = small_network(**changes)
    with pytest.raises(UserError, match=told):
        jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.uint8))


def test_an_unknown_model_field_is_refused():
    with pytest.raises(UserError, match=r"should not have depht: .*version"):
        small_network(depht=3)


def test_a_widening_block_adds_a_wide_convolution_s_view_of_its_input():
    x = np.random.default_rng(0).normal(size=(1, 4, 6, 8)).astype(np.float32)
    block = WideningBlock(8)
    params = block.init(jax.random.key(0), jnp.asarray(x))["params"]
    np.testing.assert_array_equal(block.apply({"params": params}, x), x)
    # the wide convolution keeps channel 0 as it is and drops the rest: one group has it
    kernel = np.zeros((3, 3, 8, 16), np.float32)
    kernel[1, 1, 0, 0] = 1
    out = np.arange(16 * 8, dtype=np.float32).reshape(16, 8) / 100
    params["wide"]["conv"]["kernel"], params["kernel"] = kernel, out
    group = np.zeros((4, 6, 8))
    group[..., 0] = x[0, ..., 0]
    wide = np.maximum((group - group.mean()) / np.sqrt(group.var() + 1e-5), 0)
    expected = x[0] + wide @ out[:8]
    np.testing.assert_allclose(block.apply({"params": params}, x)[0], expected, atol=1e-5)


def test_surface_blocks_come_after_the_person_and_before_the_charts():
    heads = [Head(8, 1, 1, 4, (), empty_graph(), False, False, count) for count in (0, 2)]
    x = jax.random.normal(jax.random.key(1), (1, 4, 4, 8))
    params = dict(heads[1].init(jax.random.key(0), x)["params"])
    blocks = {name: params.pop(name) for name in ("surface_block0", "surface_block1")}
    plain = heads[0].apply({"params": params}, x)
    equal = heads[1].apply({"params": params | blocks}, x)
    jax.tree.map(np.testing.assert_array_equal, plain, equal)
    blocks["surface_block1"]["kernel"] += 1
    changed = heads[1].apply({"params": params | blocks}, x)
    names = (field.name for field in dataclasses.fields(plain))
    differ = {n for n in names if np.any(getattr(plain, n) != getattr(changed, n))}
    assert differ == {"parts", "chart", "uv", "keypoints"}


def test_a_place_that_fell_far_below_zero_goes_on_learning():
    head = Head(8, 1, 1, 4, (), empty_graph(), False, False)
    x = jax.random.normal(jax.random.key(1), (1, 4, 4, 8))
    params = head.init(jax.random.key(0), x)["params"]
    params["place_code"]["bias"] = params["place_code"]["bias"] - 100

    def total(params):
        return jnp.square(head.apply({"params": params}, x).chart).sum()

    assert np.abs(jax.grad(total)(params)["place_code"]["kernel"]).max() > 1e-5


def test_a_wide_map_joins_person_and_surface_and_begins_as_nothing():
    """The same function as without it, until what it adds has learnt."""
    sizes = {"prior": "mobilenetv2_150"}
    plain, network = small_network(**sizes), small_network(**sizes, wide=16)
    variables = init_variables(network, 0, 64)
    params = {k: v for k, v in variables["params"].items() if k != "wide"}
    added = ("wide_person", "wide", "wide_surface")
    head = {k: v for k, v in params["head"].items() if k not in added}
    assert set(params["head"]) - set(head) == set(added)
    image = jax.random.randint(jax.random.key(1), (1, 64, 64, 3), 0, 255)
    without = {**variables, "params": {**params, "head": head}}
    expected = plain.apply(without, image)
    jax.tree.map(np.testing.assert_array_equal, network.apply(variables, image), expected)
    differing = {}
    for name in ("wide_person", "wide_surface"):
        kernel = 0.1 * jnp.ones_like(params["head"][name]["grow"]["kernel"])
        told = {**variables["params"]["head"], name: {"grow": {"kernel": kernel}}}
        changed = {**variables, "params": {**variables["params"], "head": told}}
        fields = network.apply(changed, image)
        names = (n for n, value in vars(fields).items() if value is not None)
        differing[name] = {
            n for n in names if not np.allclose(getattr(fields, n), getattr(expected, n))
        }
        for level, backbone in itertools.product((3, 4, 5), (0, 1)):  # each map counts
            wide = variables["params"]["wide"]
            more = {"kernel": 1 + wide[f"lateral{level}_{backbone}"]["kernel"]}
            other = {
                **changed["params"],
                "wide": {**wide, f"lateral{level}_{backbone}": more},
            }
            others = network.apply({**changed, "params": other}, image)
            assert not np.allclose(others.chart, fields.chart)
    surface = {"parts", "chart", "uv", "keypoints"}
    assert differing["wide_surface"] == surface
    assert differing["wide_person"] > surface


def test_a_wide_map_is_the_sum_of_all_backbones_levels_normalised():
    """By numpy; its block starts as nothing."""
    rng = np.random.default_rng(0)
    both = [[rng.normal(size=(1, n, n, c)) for n in (8, 4, 2)] for c in (3, 5)]
    module = WideMap(8)
    levels = jax.tree.map(jnp.asarray, both)
    params = module.init(jax.random.key(0), *levels)["params"]
    total = np.zeros((8, 8, 8))
    for backbone, maps in enumerate(both):
        for level, x in enumerate(maps, 3):
            kernel = np.asarray(params[f"lateral{level}_{backbone}"]["kernel"])
            total += np.kron((x[0] @ kernel), np.ones((2 ** (level - 3),) * 2 + (1,)))
    normal = (total - total.mean()) / np.sqrt(total.var() + 1e-5)  # one group of eight
    ours = module.apply({"params": params}, *levels)[0]
    np.testing.assert_allclose(ours, np.maximum(normal, 0), atol=1e-4)


def test_a_wide_map_that_fell_far_below_zero_goes_on_learning():
    rng = np.random.default_rng(0)
    module = WideMap(8)
    levels = [jnp.asarray(rng.normal(size=(1, n, n, 3)), jnp.float32) for n in (8, 4, 2)]
    params = module.init(jax.random.key(0), levels)["params"]
    params["block0"]["kernel"] = params["block0"]["kernel"] - 100

    def total(params):
        return jnp.square(module.apply({"params": params}, levels)).sum()

    assert module.apply({"params": params}, levels).max() < 5  # most lies at -100
    gradients = jax.grad(total)(params)["block0"]
    assert all(np.abs(leaf).max() > 1 for leaf in jax.tree.leaves(gradients["wide"]))

    surface = WideSurface(8)
    wide = jnp.asarray(rng.normal(size=(1, 4, 4, 8)) - 1000, jnp.float32)
    known = jnp.asarray(rng.normal(size=(1, 8, 8, 3)), jnp.float32)
    variables = surface.init(jax.random.key(0), wide, known)
    slope = jax.grad(lambda x: jnp.square(surface.apply(variables, x, known)).sum())(wide)
    assert np.abs(slope).max() > 0.1


def test_a_wide_map_needs_a_decoder_at_stride_4():
    with pytest.raises(UserError, match=r"model\.wide=16 .* set --config\.model\.wide=0"):
        small_network(wide=16, fine=8)


def test_attention_is_what_a_loop_over_pairs_of_cells_says():
    """Pairs of channels as complex numbers, turned by how far two cells are apart."""
    rng = np.random.default_rng(0)
    h, w, width, size = 3, 5, 64, HEAD_WIDTH
    module, x = Attention(width), rng.normal(size=(2, h, w, width)).astype(np.float32)
    params = module.init(jax.random.key(0), x)["params"]
    assert not module.apply({"params": params}, x).any()  # at first nothing
    out = rng.normal(size=(width, width)).astype(np.float32)
    params = {**params, "project": {"kernel": jnp.asarray(out)}}
    groups = x.reshape(2, h * w, width // 8, 8)
    mean, var = (f(groups, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    normal = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(2, h, w, width)
    query, key, value = (normal @ params[n]["kernel"] for n in ("query", "key", "value"))
    first, last = WAVELENGTHS
    waves = [first * (last / first) ** (i / (size // 4 - 1)) for i in range(size // 4)]
    cells = list(itertools.product(range(h), range(w)))
    expected = np.zeros_like(x)
    for image, head, here in itertools.product(range(2), range(2), cells):
        part = slice(head * size, (head + 1) * size)
        scores = []
        for there in cells:
            a, b = query[image][here][part], key[image][there][part]
            halves = zip(a.reshape(2, 2, -1), b.reshape(2, 2, -1), strict=True)
            score = 0.0
            for axis, ((ar, ai), (br, bi)) in enumerate(halves):
                turn = 2j * np.pi * (there[axis] - here[axis]) / np.array(waves)
                score += ((ar - 1j * ai) * (br + 1j * bi) * np.exp(turn)).real.sum()
            scores.append(score / np.sqrt(size))
        weights = np.exp(scores) / np.exp(scores).sum()
        seen = sum(p * value[image][c][part] for p, c in zip(weights, cells, strict=True))
        expected[image][here] += seen @ out[part]
    ours = module.apply({"params": params}, x)
    np.testing.assert_allclose(ours, expected, atol=2e-4)


def test_context_begins_as_nothing_and_reads_c4_and_c5_of_every_backbone():
    rng = np.random.default_rng(0)
    both = [
        [rng.normal(size=(1, n, 2 * n, c)).astype(np.float32) for n in (16, 8, 4)]
        for c in (3, 5)
    ]
    plain, module = WideMap(32), WideMap(32, context=1)
    params = module.init(jax.random.key(0), *both)["params"]
    without = {k: v for k, v in params.items() if k != "context"}
    expected = plain.apply({"params": without}, *both)
    np.testing.assert_array_equal(module.apply({"params": params}, *both), expected)
    alive = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape), params)
    seen = module.apply({"params": alive}, *both)
    for backbone, level in itertools.product((0, 1), (4, 5)):
        lateral = f"lateral{level}_{backbone}"
        deaf = {**alive["context"], lateral: {"kernel": 0 * alive[lateral]["kernel"]}}
        others = module.apply({"params": {**alive, "context": deaf}}, *both)
        assert not np.allclose(others, seen)


@pytest.mark.parametrize("wide", [0, 48])
def test_context_needs_a_wide_map_of_whole_attention_heads(wide):
    with pytest.raises(UserError, match=rf"multiple of 32 \(it is {wide}\)"):
        small_network(wide=wide, context=1)


@pytest.mark.parametrize("module", [FPN, HRFPN, MID])
def test_levels_numbers_are_names_alone(module):
    """From C3 on, pyramids and MID do what they do from C2 on, a level further down."""
    rng = np.random.default_rng(0)
    levels = [jnp.asarray(rng.normal(size=(1, n, n, 8)), jnp.float32) for n in (16, 8, 4)]
    params = module(8, 3).init(jax.random.key(0), levels)["params"]
    renamed = {
        re.sub(r"\d", lambda n: str(int(n[0]) - 1), k, count=1): v
        for k, v in params.items()
    }
    if module is MID:  # its branches and steps are no levels
        branches = [f"branch{i}" for i in range(4)]
        renamed = {k: v for k, v in renamed.items() if not k.startswith("branch")}
        renamed |= {name: params[name] for name in branches}
    ours = module(8, 3).apply({"params": params}, levels)
    jax.tree.map(
        np.testing.assert_array_equal, ours, module(8, 2).apply({"params": renamed}, levels)
    )


def test_a_raised_map_is_a_pixel_shuffle_and_what_is_finer_smoothed():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 2, 3, 5)).astype(np.float32)
    fine = rng.normal(size=(1, 4, 6, 7)).astype(np.float32)
    module = Raise(8)
    params = module.init(jax.random.key(0), x, fine)["params"]
    grow, lateral = params["grow"], params["lateral"]["kernel"]
    grow["bias"] = bias = np.arange(32, dtype=np.float32) / 10
    joined = np.zeros((4, 6, 8))
    for row, col, channel in np.ndindex(joined.shape):
        output = 4 * channel + 2 * (row % 2) + col % 2
        raised = x[0, row // 2, col // 2] @ grow["kernel"][:, output] + bias[output]
        joined[row, col, channel] = raised + fine[0, row, col] @ lateral[:, channel]
    smooth = ConvNormRelu(8).apply(
        {"params": params["smooth"]}, np.maximum(joined, 0)[None].astype(np.float32)
    )
    ours = module.apply({"params": params}, x, fine)
    np.testing.assert_allclose(ours, smooth, atol=1e-5)


def test_a_fine_head_classifies_at_stride_4_what_it_made_at_stride_8():
    head = Head(16, 1, 1, 4, (), empty_graph(), False, False, 1, 8)
    x = jax.random.normal(jax.random.key(1), (1, 4, 6, 16))
    detail = jax.random.normal(jax.random.key(2), (1, 8, 12, 5))
    params = head.init(jax.random.key(0), x, detail)["params"]
    fields = head.apply({"params": params}, x, detail)
    assert all(leaf.shape[:3] == (1, 8, 12) for leaf in jax.tree.leaves(fields))
    assert params["chart_kernel"].shape == (1, 1, 8, 25)
    assert params["surface"]["conv"]["kernel"].shape == (3, 3, 16, 16)
    # the surface sees what is fine through what the person's rows have made of it
    lateral = {n: params[f"raise_{n}"]["lateral"]["kernel"] for n in ("person", "surface")}
    assert {n: kernel.shape[0] for n, kernel in lateral.items()} == {
        "person": 5,
        "surface": 8,
    }
    # a place is told to the four cells of a coarse one, each with its own
    assert params["place_code"]["kernel"].shape[0] == 4 * (2 + 2 * 2 * 3)
    finer = head.apply({"params": params}, x, detail.at[0, 5, 7].add(1))
    differs = (finer.mask != fields.mask)[0]
    assert differs[4:7, 6:9].all()
