"""Every loss term against a plain loop, and what padding and neighbours may not do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from ktn_jax import geodesic, losses
from ktn_jax.anatomy import UNKNOWN_PART
from ktn_jax.geometry import STRIDE
from ktn_jax.structs import Fields, Mean
from tests.scenes import CODEC, perfect_fields, scene

SIZE = 64
BOXES = [(4, 4, 40, 28), (20, 24, 60, 60)]


@pytest.fixture(scope="module")
def targets():
    """Two images: two overlapping people, and nobody."""
    images = [CODEC.encode(scene(boxes, SIZE), (SIZE, SIZE)) for boxes in (BOXES, [])]
    return jax.tree.map(lambda *x: np.stack(x), *images)


def random_fields(seed=0, images=2):
    rng = np.random.default_rng(seed)
    cells = SIZE // STRIDE
    shapes = {
        "mask": (), "parts": (15,), "chart": (25,), "uv": (25, 2), "keypoints": (17,),
        "center": (), "offset": (2,), "bandwidth": (), "tag": (4,), "quality": (),
    }  # fmt: skip
    return Fields(
        **{
            name: jnp.asarray(rng.normal(size=(images, cells, cells, *shape)), jnp.float32)
            for name, shape in shapes.items()
        }
    )


def values(fields, targets):
    terms = jax.jit(losses.all_terms)(fields, targets)
    return {k: float(t.total / t.count) for k, t in terms.items()}


def bilinear(field, yx):
    """Value of field [h, w, ...] at a canvas point, by the textbook."""
    y, x = np.clip(np.asarray(yx) / STRIDE - 0.5, 0, np.array(field.shape[:2]) - 1)
    y0, x0 = int(min(y, field.shape[0] - 2)), int(min(x, field.shape[1] - 2))
    dy, dx = y - y0, x - x0
    top = (1 - dx) * field[y0, x0] + dx * field[y0, x0 + 1]
    return (1 - dy) * top + dy * ((1 - dx) * field[y0 + 1, x0] + dx * field[y0 + 1, x0 + 1])


def test_surface_terms_equal_a_loop(targets):
    fields = random_fields()
    chart, uv, count = 0.0, 0.0, 0
    for b in range(2):
        for n in np.flatnonzero(targets.points_valid[b]):
            at, label = targets.points_yx[b, n], targets.points_chart[b, n]
            logits = bilinear(np.asarray(fields.chart[b]), at)
            chart += np.log(np.exp(logits).sum()) - logits[label]
            error = np.abs(
                bilinear(np.asarray(fields.uv[b]), at)[label] - targets.points_uv[b, n]
            )
            uv += np.where(error < 1, error**2 / 2, error - 0.5).sum()
            count += 1
    found = values(fields, targets)
    assert count == 60  # two people of 30 points
    assert found["chart"] == pytest.approx(chart / count, rel=1e-5)
    assert found["uv"] == pytest.approx(uv / count, rel=1e-5)


def place(chart, uv):
    """Geodesic coordinates of a point, by scipy."""
    points = geodesic.load_points()[chart - 1]
    middles = (np.arange(len(points)) + 0.5) / len(points)
    look = RegularGridInterpolator((middles, middles), points)
    return look(np.clip(uv, middles[0], middles[-1]))[0]


def test_the_surface_term_expects_over_all_charts(targets):
    fields = random_fields()
    total, count = 0.0, 0
    for b in range(2):
        for n in np.flatnonzero(targets.points_valid[b]):
            at, label = targets.points_yx[b, n], targets.points_chart[b, n]
            likely = np.exp(bilinear(np.asarray(fields.chart[b]), at)[1:])
            uv = bilinear(np.asarray(fields.uv[b]), at)
            truth = place(label, targets.points_uv[b, n])
            for chart, weight in enumerate(likely / likely.sum(), 1):
                squared = np.square(place(chart, uv[chart]) - truth).sum()
                total += weight * (1 - np.exp(-squared / (2 * geodesic.SCALE**2)))
            count += 1
    assert values(fields, targets)["surface"] == pytest.approx(total / count, rel=1e-4)


def test_a_wrong_chart_learns_its_nearest_point(targets):
    """Descent on (U, V) of another chart than the true one ends near the seam."""
    forearm, other = 19, 21  # both sides of the left lower arm
    one = jax.tree.map(lambda x: x[:1], targets)
    one = one.replace(
        points_chart=np.where(one.points_valid, forearm, 0),
        points_uv=np.where(one.points_valid[..., None], np.float32((0.2, 0.4)), 0),
    )
    fields = random_fields(images=1)
    fields = fields.replace(
        chart=jnp.zeros_like(fields.chart).at[..., other].set(20.0),
        uv=jnp.full_like(fields.uv, 0.5),
    )

    def loss(uv):
        return losses.surface(fields.replace(uv=uv), one).total

    uv, descend = fields.uv, jax.jit(jax.grad(loss))
    for _ in range(300):
        uv = uv - 0.02 * descend(uv)
    truth = place(forearm, (0.2, 0.4))
    grid = np.stack(np.meshgrid(*2 * [np.linspace(0, 1, 41)], indexing="ij"), -1)
    nearest = min(np.linalg.norm(place(other, at) - truth) for at in grid.reshape(-1, 2))
    at = one.points_yx[0][one.points_valid[0]][0]
    found = np.linalg.norm(place(other, bilinear(np.asarray(uv[0]), at)[other]) - truth)
    start = np.linalg.norm(place(other, (0.5, 0.5)) - truth)
    assert nearest < start - 0.02  # so that there is something to learn
    assert found < nearest + 0.005


def test_dense_terms_equal_a_loop(targets):
    fields = random_fields()
    parts, mask, known = 0.0, 0.0, 0
    logit = np.asarray(fields.mask, np.float64)
    for b, i, j in np.ndindex(targets.parts.shape):
        share = targets.mask[b, i, j]
        p = 1 / (1 + np.exp(-logit[b, i, j]))
        mask -= share * np.log(p) + (1 - share) * np.log(1 - p)
        if targets.parts[b, i, j] != UNKNOWN_PART:
            row = np.asarray(fields.parts[b, i, j], np.float64)
            parts += np.log(np.exp(row).sum()) - row[targets.parts[b, i, j]]
            known += 1
    found = values(fields, targets)
    assert found["parts"] == pytest.approx(parts / known, rel=1e-5)
    assert found["mask"] == pytest.approx(mask / targets.mask.size, rel=1e-5)


def test_peak_terms_equal_a_loop(targets):
    fields = random_fields()
    for name, heat in (("center", targets.center), ("keypoints", targets.keypoints)):
        p = 1 / (1 + np.exp(-np.asarray(getattr(fields, name), np.float64)))
        loss = np.where(
            heat == 1,
            -((1 - p) ** 2) * np.log(p),
            -((1 - heat) ** 4) * p**2 * np.log(1 - p),
        )
        if name == "keypoints":
            loss = loss * targets.keypoints_valid[..., None]
        expected = loss.sum() / (heat == 1).sum()
        assert values(fields, targets)[name] == pytest.approx(expected, rel=1e-5)


def test_person_terms_equal_a_loop(targets):
    """Offset, bandwidth and tag, a person at a time."""
    fields = random_fields()
    owner, image = targets.owner[0], jax.tree.map(lambda x: np.asarray(x[0]), fields)
    centers = (np.stack(np.indices(owner.shape), -1) + 0.5) * STRIDE
    offset, width, pull = [], [], []
    for k in range(2):
        mine = owner == k
        size = STRIDE * np.sqrt(mine.sum())
        error = np.abs((centers + image.offset - targets.anchors[0, k])[mine] / size)
        offset.append(np.where(error < 1, error**2 / 2, error - 0.5).sum(-1).mean())
        tau = np.log(0.4 * size / 16)
        width.append(((image.bandwidth[mine] - tau) ** 2).mean())
        pull.append(((image.tag[mine] - image.tag[mine].mean(0)) ** 2).sum(-1).mean())
    means = [image.tag[owner == k].mean(0) for k in range(2)]
    push = np.exp(-((means[0] - means[1]) ** 2).sum() / 2)  # their boxes touch
    found = values(fields, targets)
    assert found["offset"] == pytest.approx(np.mean(offset), rel=1e-5)
    assert found["bandwidth"] == pytest.approx(np.mean(width), rel=1e-4)
    assert found["tag"] == pytest.approx(np.mean(pull) + push, rel=1e-5)


def test_right_fields_have_next_to_no_loss():
    people = scene(BOXES, SIZE)
    order = sorted(range(2), key=lambda i: -people[i].mask.sum())
    targets = CODEC.encode(people, (SIZE, SIZE))
    fields = perfect_fields(targets, [BOXES[i] for i in order])
    found = values(fields, jax.tree.map(lambda x: x[None], targets))
    larger = ("mask", "chart", "surface", "quality", "keypoints")
    small = {k: v for k, v in found.items() if k not in larger}
    assert max(small.values()) < 0.05, small
    assert found["quality"] < 0.3
    assert found["chart"] < 0.8 and found["surface"] < 0.2  # points between two bands


def test_what_weighs_nothing_is_told_and_changes_nothing():
    def loss(x, weights):
        terms = {"a": Mean(3 * x, 2.0), "b": Mean(jnp.sqrt(x - 1), 0.0)}
        return losses.weigh(terms, weights)

    whole = jax.value_and_grad(loss, has_aux=True)
    (total, means), slope = whole(0.0, {"a": 4.0, "b": 0.0})
    assert total == 0 and slope == 6 and np.isnan(means["b"])
    (total, _), slope = whole(0.0, {"a": 0.0, "b": 0.0})
    assert total == 0 and slope == 0


def test_garbage_in_padded_slots_changes_nothing(targets):
    """Neither the loss nor its gradient, to the last bit; not even where it is NaN."""

    @jax.jit
    def loss(fields, targets):
        return losses.weigh(
            losses.all_terms(fields, targets), dict.fromkeys(losses.TERMS, 1.0)
        )[0]

    fields = random_fields()
    free = ~targets.points_valid
    nobody = ~targets.people_valid
    spoilt = targets.replace(
        points_yx=np.where(free[..., None], np.float32(np.nan), targets.points_yx),
        points_chart=np.where(free, 9999, targets.points_chart),
        points_uv=np.where(free[..., None], np.float32(np.nan), targets.points_uv),
        anchors=np.where(nobody[..., None], np.float32(-1e9), targets.anchors),
        boxes=np.where(nobody[..., None], np.float32(1e9), targets.boxes),
    )
    both = [jax.value_and_grad(loss)(fields, t) for t in (targets, spoilt)]
    for clean, dirty in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_array_equal(clean, dirty)


def test_unlabelled_cells_get_no_gradient(targets):
    """A crowd's cells teach nothing: mask, centre, keypoints, parts."""
    inside = np.ones((SIZE // STRIDE,) * 2, bool)
    inside[:, 12:] = False
    image = CODEC.encode(scene(BOXES[:1], SIZE), (SIZE, SIZE), inside)
    image = jax.tree.map(lambda x: x[None], image)

    def loss(fields):
        terms = losses.all_terms(fields, image)
        return sum(t.total for t in terms.values())

    grads = jax.jit(jax.grad(loss))(random_fields(images=1))
    for name in ("mask", "center", "keypoints", "parts", "offset", "tag"):
        outside = getattr(grads, name)[:, :, 13:]  # a cell off: votes are read 3x3
        assert not np.any(outside), name
        assert np.any(getattr(grads, name)), name


def test_votes_of_one_person_do_not_move_another_s():
    """Far apart, the terms of one person have no gradient at the other's cells."""
    boxes = [(4, 4, 24, 16), (36, 44, 60, 60)]
    image = CODEC.encode(scene(boxes, SIZE), (SIZE, SIZE))
    alone = image.replace(
        owner=np.where(image.owner == 0, 0, -1),
        people_valid=image.people_valid & (np.arange(len(image.people_valid)) == 0),
    )
    alone = jax.tree.map(lambda x: x[None], alone)

    def loss(fields):
        names = ("offset", "bandwidth", "tag", "instance")
        return sum(losses.TERMS[name](fields, alone).total for name in names)

    grads = jax.jit(jax.grad(loss))(random_fields(images=1))
    other = image.owner == 1
    for name in ("offset", "bandwidth", "tag"):
        assert not np.any(np.asarray(getattr(grads, name))[0][other]), name
        assert np.any(getattr(grads, name)), name
