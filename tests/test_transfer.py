"""The KTM with every option: the generated kernel, what learns through it, its folding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default, tiny
from ktn_jax import checkpoint, export, optim, training
from ktn_jax.errors import UserError
from ktn_jax.graph import Graph, build_graph, shipped_visual, write_graph
from ktn_jax.models.heads import PERSON_ROWS, Head
from ktn_jax.models.network import build_network, fold, unfold
from ktn_jax.models.transfer import SOURCES, KnowledgeTransfer

WIDTH = 8
PAPER = ("keypoint", "part", "person")
SUBSETS = [("keypoint",), ("keypoint", "part"), PAPER, ("person", "keypoint")]
GRAPH = build_graph()


def model(**changes):
    fields = tiny.get_config().model
    fields.update(width=WIDTH, head_depth=1, **changes)
    return fields


def build_head(sources, train_graph=True, kernel=1, own_kernel=False):
    """A head, its variables with nothing left at zero, and features.

    Nothing here is jitted: operation by operation, all cases share what is compiled.
    """
    head = Head(WIDTH, 1, kernel, 4, sources, GRAPH, train_graph, own_kernel)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 8, 8, WIDTH)).astype(np.float32)
    shapes = jax.eval_shape(head.init, jax.random.key(0), x)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32), shapes["params"]
    )
    variables = {"params": params}
    if not train_graph:
        graph = {f"graph_{name}": getattr(GRAPH, name) for name in sources}
        variables["frozen"] = {"transfer": graph}
        assert jax.tree.map(np.shape, graph) == jax.tree.map(
            np.shape, shapes["frozen"]["transfer"]
        )
    return head, variables, x


def test_charts_that_no_transfer_can_make_are_told():
    """The paper's graph gives the two charts of a limb equal rows; frozen, they stay so."""
    fields = model(graph_split_pairs=False, train_graph=False)
    _, variables, _ = build_head(SOURCES, train_graph=False)
    same = {f"graph_{name}": np.ones_like(getattr(GRAPH, name)) for name in SOURCES}
    whole = {
        "params": {"head": variables["params"]},
        "frozen": {"head": {"transfer": same}},
    }
    kernel = np.random.default_rng(1).normal(size=(1, 1, WIDTH, 25)).astype(np.float32)
    with pytest.raises(UserError, match=r"cannot be made.*train_graph"):
        unfold(build_network(fields), whole, kernel)


def kernel_by_hand(params, graph, sources, kernel, own):
    """The generated kernel in torch's layout [25, in, kh, kw], in plain numpy."""
    transfer = params["transfer"]
    mixed = []
    for name in ("keypoint", "person", "part"):  # the order of the authors' rows
        if name in sources:
            weight = np.array(params[f"{name}_kernel"]).transpose(3, 2, 0, 1)
            # a torch kernel out x in x kh x kw flattens to rows as (in, kh, kw)
            mixed.append(np.array(graph[f"graph_{name}"]) @ weight.reshape(len(weight), -1))
    hidden = np.concatenate(mixed, 1) @ transfer["l1"]["kernel"] + transfer["l1"]["bias"]
    hidden = np.where(hidden > 0, hidden, 0.02 * hidden)
    rows = hidden @ transfer["l2"]["kernel"] + transfer["l2"]["bias"]
    if own:
        rows += transfer["gamma"] * transfer["own"]
    return np.asarray(rows).reshape(25, WIDTH, kernel, kernel)


@pytest.mark.parametrize("own_kernel", [False, True])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("train_graph", [True, False])
@pytest.mark.parametrize("sources", SUBSETS)
def test_a_folded_head_is_the_same_function(sources, train_graph, kernel, own_kernel):
    """And its kernel is the one worked out by hand, whatever the options."""
    head, variables, x = build_head(sources, train_graph, kernel, own_kernel)
    network = build_network(
        model(
            ktm_sources=sources,
            train_graph=train_graph,
            head_kernel=kernel,
            own_kernel=own_kernel,
            graph="gone.npz",  # nothing may ask for it
        )
    )
    whole = {name: {"head": part} for name, part in variables.items()}
    plain, folded = fold(network, whole)
    params = folded["params"]["head"]
    assert not plain.ktm and "transfer" not in params
    graph = variables["params" if train_graph else "frozen"]["transfer"]
    by_hand = kernel_by_hand(variables["params"], graph, sources, kernel, own_kernel)
    np.testing.assert_allclose(
        params["chart_kernel"].transpose(3, 2, 0, 1), by_hand, rtol=1e-5, atol=1e-6
    )
    unfolded = head.apply(variables, x).chart
    theirs = head.clone(sources=()).apply({"params": params}, x).chart
    np.testing.assert_allclose(theirs, unfolded, rtol=0, atol=1e-6)
    assert unfolded.std() > 0.01  # of logits that say something


def reached(sources, train_graph=True, own_kernel=False):
    """Names of the parameters that a loss of the chart logits alone moves."""
    head, variables, x = build_head(sources, train_graph, 1, own_kernel)

    @jax.grad
    def gradient(params):
        fields = head.apply({**variables, "params": params}, x)
        chart = jnp.arange(64).reshape(1, 8, 8) % 24 + 1
        picked = jnp.take_along_axis(jax.nn.log_softmax(fields.chart), chart[..., None], -1)
        return -picked.mean()

    leaves = jax.tree_util.tree_leaves_with_path(gradient(variables["params"]))
    return {
        "/".join(str(k.key) for k in path)
        for path, leaf in leaves
        if np.asarray(leaf).any()
    }


@pytest.mark.parametrize("train_graph", [True, False])
@pytest.mark.parametrize("sources", SUBSETS)
def test_the_charts_loss_reaches_what_the_kernel_is_made_of(sources, train_graph):
    names = reached(sources, train_graph)
    kernels = {name for name in names if name.endswith("_kernel")}
    assert kernels == {f"{name}_kernel" for name in sources if name != "person"}
    layers = {
        f"transfer/{layer}/{leaf}" for layer in ("l1", "l2") for leaf in ("kernel", "bias")
    }
    graph = {f"transfer/graph_{name}" for name in sources if train_graph}
    assert {name for name in names if "transfer" in name} == layers | graph
    assert "block0/conv/kernel" in names  # and the features below


def test_the_own_kernel_and_its_gain_learn_too():
    assert {"transfer/own", "transfer/gamma"} < reached(PAPER, own_kernel=True)


def test_an_own_kernel_starts_as_the_paper_s_form():
    head = Head(WIDTH, 1, 1, 4, PAPER, GRAPH, True, True)
    x = jax.random.normal(jax.random.key(1), (1, 8, 8, WIDTH))
    params = jax.jit(head.init)(jax.random.key(0), x)["params"]
    assert params["transfer"]["gamma"] == 0 and params["transfer"]["own"].any()


def closest_rows(graph, sources):
    """The least distance of two of the 24 rows made at step 0, per their mean length."""
    keys = jax.random.split(jax.random.key(0), 4)
    rows = [
        jax.random.normal(k, (n, 64)) / 8 for k, n in zip(keys, (17, 15, 6), strict=False)
    ]
    transfer = KnowledgeTransfer(graph, True, False, width=64, sources=sources)
    made, _ = transfer.init_with_output(keys[3], *rows)
    made = np.asarray(made)[1:]
    gaps = np.linalg.norm(made[:, None] - made, axis=-1)[np.triu_indices(24, 1)]
    return gaps.min() / np.linalg.norm(made, axis=1).mean()


@pytest.mark.parametrize("sources", [*SUBSETS, ("part",), ("person",)])
@pytest.mark.parametrize("split_pairs", [True, False])
@pytest.mark.parametrize("visual", [None, shipped_visual()])
def test_at_step_0_no_two_charts_have_equal_kernels(visual, split_pairs, sources):
    """Words that tell front from back break the paper's tie; so do counts."""
    graph = build_graph(split_pairs=split_pairs, visual=visual)
    tied = not split_pairs and visual is None  # the paper's own form without counts
    closest = closest_rows(graph, sources)
    assert closest < 1e-6 if tied else closest > 0.005


def test_sources_that_make_no_kernel_are_refused():
    for sources in ((), ("keypoint", "tag")):
        with pytest.raises(UserError, match=r"model\.ktm_sources=.*model\.ktm=False"):
            build_network(model(ktm_sources=sources))
    assert set(default.get_config().model.ktm_sources) == set(SOURCES) == set(Graph._fields)
    assert GRAPH.person.shape[1] == PERSON_ROWS


# --- a graph from a file --------------------------------------------------------


@pytest.fixture
def own_graph(tmp_path):
    """A graph that no switches give, and its file."""
    rng = np.random.default_rng(0)
    graph = Graph(*(rng.random(matrix.shape).astype(np.float32) for matrix in GRAPH))
    write_graph(tmp_path / "own.npz", graph, ["visual"])
    return graph, tmp_path / "own.npz"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of orbax's own
@pytest.mark.parametrize("train_graph", [True, False])
def test_a_run_keeps_the_graph_of_a_file_that_is_gone(
    small_config, own_graph, tmp_path, train_graph
):
    graph, path = own_graph
    config = small_config.copy_and_resolve_references()
    config.model.update(graph=str(path), train_graph=train_graph)
    network = build_network(config.model)
    tx = optim.build_optimizer(config.optim, 4)
    state = training.build_state(config, network, tx)
    with checkpoint.open_run(tmp_path / "run") as run:
        checkpoint.save(run, state, config.to_dict())
    path.unlink()
    with pytest.raises(UserError, match=r"own\.npz cannot be read"):
        training.build_state(config, network, tx)
    _, again, _, variables = export.load_run(str(tmp_path / "run"))
    kept = variables["params" if train_graph else "frozen"]["head"]["transfer"]
    for name, matrix in graph._asdict().items():
        np.testing.assert_array_equal(kept[f"graph_{name}"], matrix)
    plain, folded = fold(again, variables)
    head = variables["params"]["head"]
    by_hand = kernel_by_hand({**head}, kept, PAPER, 1, False)
    made = folded["params"]["head"]["chart_kernel"].transpose(3, 2, 0, 1)
    np.testing.assert_allclose(made, by_hand, rtol=1e-5, atol=1e-6)
    assert not plain.ktm and not jax.tree.leaves(folded.get("frozen", {}))


def test_switches_choose_the_relations_of_the_start():
    changes = [{}, {"graph_visual": True}, {"graph_rules": False}]
    expected = [{}, {"visual": shipped_visual()}, {"rules": False}]
    for change, options in zip(changes, expected, strict=True):
        for a, b in zip(
            build_network(model(**change)).body_graph(), build_graph(**options), strict=True
        ):
            np.testing.assert_array_equal(a, b)
