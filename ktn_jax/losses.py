"""One function a loss term: (Fields, Targets) -> Mean(total, count).

Terms are sums and counts, added over devices and divided once in `weigh`: a mean per
device, averaged, gives gradients that are wrong by 42 % when people are spread unevenly.
Invalid entries are replaced before a formula is applied, for a `where` after it lets NaN
through to the gradient. Weights live in config.loss, by the names in TERMS.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from ktn_jax import embedding, geodesic, maps
from ktn_jax.anatomy import NUM_CHARTS, UNKNOWN_PART
from ktn_jax.geometry import STRIDE
from ktn_jax.structs import Fields, Mean, Targets

Array = jax.Array

FOCAL_POWER = 2.0  # of the prediction's error, in the focal losses
NEGATIVE_POWER = 4.0  # how much cells near a peak are spared (Law & Deng 2018)
BOX_REACH = 1.5  # rivals within this many boxes compete for an instance's cells
SMALL = 1e-6
NEVER = -1e4  # logit of what is out of the question; 0 * -inf would be NaN


# --- the surface (paper, losses of the IUV and 2D branches) ---------------------


def chart(fields: Fields, targets: Targets) -> Mean:
    """Cross-entropy of the chart at annotated points.

    Background is never a target: person or not is the mask's affair.
    """
    at_points = jax.vmap(maps.sample_points)(fields.chart, targets.points_yx)  # [B, N, 25]
    valid = targets.points_valid
    label = jnp.where(valid, targets.points_chart, 1)
    logits = jnp.where(valid[..., None], at_points, 0.0)
    return _mean(optax.softmax_cross_entropy_with_integer_labels(logits, label), valid)


def prior_chart(fields: Fields, targets: Targets) -> Mean:
    """The same of the second charts; only where there are some."""
    background = jnp.full_like(fields.prior_chart[..., :1], NEVER)
    logits = jnp.concatenate([background, fields.prior_chart], axis=-1)
    return chart(fields.replace(chart=logits), targets)


def uv(fields: Fields, targets: Targets) -> Mean:
    """Smooth-L1 (beta 1) of (U, V) in the annotated chart at annotated points.

    A mean; the authors' sum x 0.01 depends on batch and devices. See README, deviations.
    """
    label = jnp.clip(targets.points_chart, 0, NUM_CHARTS - 1)
    predicted = jax.vmap(maps.sample_channel)(fields.uv, label, targets.points_yx)
    valid = targets.points_valid[..., None]
    error = jnp.where(valid, predicted - targets.points_uv, 0.0)
    return _mean(optax.huber_loss(error).sum(-1), targets.points_valid)


def surface(fields: Fields, targets: Targets) -> Mean:
    """1 - the similarity to annotated points that charts and (U, V) let expect. Ours.

    GPS minds how far a point lies from the truth, not on which chart. So a chart that is
    wrong is told off less where it comes near, and its (U, V), which nothing else teaches
    there, learns to be its nearest point: the more, the likelier the chart is thought.
    """
    sample = jax.vmap(maps.sample_points)
    valid = targets.points_valid[..., None]
    logits = jnp.where(valid, sample(fields.chart, targets.points_yx), 0.0)
    rows = fields.uv.reshape(*fields.chart.shape[:3], 2 * NUM_CHARTS)
    rows = jnp.where(valid, sample(rows, targets.points_yx), 0.0)
    found = geodesic.locate(rows.reshape(*logits.shape, 2)[..., 1:, :])  # [B, N, 24, D]
    truth = geodesic.locate_on(targets.points_chart, targets.points_uv)
    apart = jnp.square(found - truth[..., None, :]).sum(-1)
    expected = (jax.nn.softmax(logits[..., 1:]) * geodesic.similarity(apart)).sum(-1)
    return _mean(1 - expected, targets.points_valid)


def parts(fields: Fields, targets: Targets) -> Mean:
    """Dense cross-entropy of the 14 parts and background, where they are known."""
    valid = targets.parts != UNKNOWN_PART
    label = jnp.where(valid, targets.parts, 0)
    return _mean(
        optax.softmax_cross_entropy_with_integer_labels(fields.parts, label), valid
    )


def mask(fields: Fields, targets: Targets) -> Mean:
    """Dense cross-entropy of the person mask, for every person: background suppression."""
    loss = optax.sigmoid_binary_cross_entropy(fields.mask, targets.mask)
    return _mean(loss, targets.mask_valid)


def prior_mask(fields: Fields, targets: Targets) -> Mean:
    """The same of the mask from the prior alone; only where there is one."""
    return mask(fields.replace(mask=fields.prior_mask), targets)


def keypoints(fields: Fields, targets: Targets) -> Mean:
    """Penalty-reduced focal loss of the keypoint heat-maps, per annotated keypoint."""
    valid = jnp.broadcast_to(targets.keypoints_valid[..., None], targets.keypoints.shape)
    return _focal(fields.keypoints, targets.keypoints, valid)


# --- the instances (ours) -------------------------------------------------------


def center(fields: Fields, targets: Targets) -> Mean:
    """Penalty-reduced focal loss of the anchors' heat-map, per person."""
    return _focal(fields.center, targets.center, targets.mask_valid)


def offset(fields: Fields, targets: Targets) -> Mean:
    """Smooth-L1 of votes from their anchor, in units of the person's size.

    A mean over each person's cells first, so that small people count as much.
    """

    def one(fields: Fields, targets: Targets) -> Mean:
        cells, size = _own_cells(targets)
        anchor = _of_owner(targets.anchors, targets.owner)
        someone = (targets.owner >= 0)[..., None]
        error = jnp.where(someone, embedding.votes(fields) - anchor, 0.0)
        error /= jnp.where(someone, _of_owner(size, targets.owner)[..., None], 1.0)
        return _mean(_person_means(optax.huber_loss(error).sum(-1), cells), _seen(cells))

    return _over_images(one, fields, targets)


def bandwidth(fields: Fields, targets: Targets) -> Mean:
    """Squared error of tau: sigma is to be the person's size x SIGMA_OF_SIZE, everywhere.

    Equal on all cells of a person, for the anchor's reading speaks for them; and told, not
    left to the instance loss: with tags to tell people apart, it lets every sigma grow
    until votes say nothing, and the head's places within a person with them.
    """

    def one(fields: Fields, targets: Targets) -> Mean:
        cells, size = _own_cells(targets)
        wanted = _of_owner(embedding.bandwidth_of(size), targets.owner)
        error = jnp.square(fields.bandwidth - wanted)
        return _mean(_person_means(error, cells), _seen(cells))

    return _over_images(one, fields, targets)


def tag(fields: Fields, targets: Targets) -> Mean:
    """Pull tags to their person's mean; push apart means of people whose boxes touch."""

    def one(fields: Fields, targets: Targets) -> Mean:
        cells, _ = _own_cells(targets)
        means = jax.vmap(_person_means, (-1, None), -1)(fields.tag, cells)  # [P, T]
        spread = jnp.square(fields.tag - _of_owner(means, targets.owner)).sum(-1)
        pull = _person_means(spread, cells)
        apart = jnp.square(means[:, None] - means[None]).sum(-1)
        rivals = _touching(targets.boxes) & _seen(cells)[:, None] & _seen(cells)[None]
        push = jnp.where(rivals, jnp.exp(-apart / 2), 0.0).sum(1)
        return _mean(pull + push, _seen(cells))

    return _over_images(one, fields, targets)


def instance(fields: Fields, targets: Targets) -> Mean:
    """Dice and focal loss of phi_k against the cells of person k, over k and its rivals."""

    def one(fields: Fields, targets: Targets) -> Mean:
        cells, _ = _own_cells(targets)
        logit = _anchor_logits(fields, targets)  # [P, h, w] <= 0
        region = cells | (_near(targets) & (targets.owner >= 0)[None])
        phi = jnp.where(region, jnp.exp(logit), 0.0)
        shared = (phi * cells).sum((1, 2))
        dice = 1 - 2 * shared / jnp.maximum((phi + cells).sum((1, 2)), SMALL)
        # -log phi = -logit; and -log(1 - phi) by expm1, exact near phi = 1
        miss = -jnp.where(cells, logit, 0.0) * jnp.square(1 - phi)
        false = -jnp.log(jnp.maximum(-jnp.expm1(jnp.minimum(logit, -SMALL)), SMALL))
        wrong = jnp.where(cells, miss, false * jnp.square(phi))
        focal = jnp.where(region, wrong, 0.0).sum((1, 2)) / jnp.maximum(
            region.sum((1, 2)), 1
        )
        return _mean(dice + focal, _seen(cells))

    return _over_images(one, fields, targets)


def quality(fields: Fields, targets: Targets) -> Mean:
    """Cross-entropy of the predicted mask IoU at anchors; AP is a ranking."""

    def one(fields: Fields, targets: Targets) -> Mean:
        cells, _ = _own_cells(targets)
        phi = jnp.exp(_anchor_logits(fields, targets)) * jax.nn.sigmoid(fields.mask)
        found = phi > 0.5
        union = (found | cells).sum((1, 2))
        iou = (found & cells).sum((1, 2)) / jnp.maximum(union, 1)
        at = embedding.anchor_cells(targets.anchors, *fields.quality.shape)
        predicted = fields.quality.reshape(-1)[at]
        loss = optax.sigmoid_binary_cross_entropy(predicted, jax.lax.stop_gradient(iou))
        return _mean(loss, _seen(cells))

    return _over_images(one, fields, targets)


TERMS: dict[str, Callable[[Fields, Targets], Mean]] = {
    term.__name__: term
    for term in (
        chart, prior_chart, uv, surface, parts, mask, prior_mask, keypoints,
        center, instance, offset, bandwidth, tag, quality,
    )
}  # fmt: skip
# those that only DensePose's annotations teach, and every network has
SURFACE_TERMS = ("chart", "uv", "surface", "parts")


def all_terms(fields: Fields, targets: Targets) -> dict[str, Mean]:
    """Every term, before division. Whatever stands in padded slots is replaced first.

    Of what the network has not from its prior there is no term.
    """
    targets = _without_padding(targets)
    absent = {n for n in ("prior_chart", "prior_mask") if getattr(fields, n) is None}
    return {n: term(fields, targets) for n, term in TERMS.items() if n not in absent}


def all_counts(shapes: Fields, targets: Targets) -> dict[str, Array]:
    """The count of every term: what is annotated, which no prediction changes.

    shapes: Fields of jax.ShapeDtypeStruct. The totals of blank fields are made as well, and
    left out by the compiler.
    """
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return {name: term.count for name, term in all_terms(blank, targets).items()}


def weigh(terms: Mapping[str, Mean], weights: Mapping[str, float]) -> tuple[Array, dict]:
    """The weighted loss and every term's mean.

    terms: totals may be one device's, counts must be all devices': then the sum of the
    losses over devices is the loss, and the sum of the gradients the gradient.
    """
    means = {name: t.total / jnp.maximum(t.count, 1) for name, t in terms.items()}
    # what weighs nothing is told, too, but nobody works out its gradient
    weighed = [weights[name] * mean for name, mean in means.items() if weights[name]]
    return sum(weighed, jnp.zeros(())), means


# --- shared arithmetic ----------------------------------------------------------


def _without_padding(targets: Targets) -> Targets:
    """Zeros in the slots of padded points and people: 0 * NaN would still be NaN."""

    def blank(values: Array, valid: Array) -> Array:
        return jnp.where(valid.reshape(*valid.shape, *(1,) * (values.ndim - 2)), values, 0)

    points, people = targets.points_valid, targets.people_valid
    return targets.replace(
        points_yx=blank(targets.points_yx, points),
        points_chart=blank(targets.points_chart, points),
        points_uv=blank(targets.points_uv, points),
        anchors=blank(targets.anchors, people),
        boxes=blank(targets.boxes, people),
    )


def _mean(values: Array, valid: Array) -> Mean:
    return Mean(jnp.where(valid, values, 0.0).sum(), valid.sum().astype(jnp.float32))


def _over_images(
    one: Callable[[Fields, Targets], Mean], *batched: Fields | Targets
) -> Mean:
    """Sum of a per-image term: vmapped, so that no gather crosses images."""
    each = jax.vmap(one)(*batched)
    return Mean(each.total.sum(), each.count.sum())


def _focal(logits: Array, heat: Array, valid: Array) -> Mean:
    """Focal loss against Gaussians; counts the peaks (heat exactly 1)."""
    peak = heat == 1
    positive = jax.nn.sigmoid(logits)
    hit = -jax.nn.log_sigmoid(logits) * (1 - positive) ** FOCAL_POWER
    spared = (1 - heat) ** NEGATIVE_POWER
    miss = -jax.nn.log_sigmoid(-logits) * positive**FOCAL_POWER * spared
    total = jnp.where(valid, jnp.where(peak, hit, miss), 0.0).sum()
    return Mean(total, (peak & valid).sum().astype(jnp.float32))


def _own_cells(targets: Targets) -> tuple[Array, Array]:
    """[P, h, w] the cells where each person is seen, and [P] sizes in canvas pixels."""
    slots = jnp.arange(targets.people_valid.shape[0])
    cells = (targets.owner[None] == slots[:, None, None]) & targets.people_valid[
        :, None, None
    ]
    return cells, STRIDE * jnp.sqrt(jnp.maximum(cells.sum((1, 2)), 1.0))


def _seen(cells: Array) -> Array:
    return cells.any((1, 2))


def _of_owner(per_person: Array, owner: Array) -> Array:
    """[h, w, ...] each cell's row of a per-person table [P, ...]; 0 where nobody is.

    A gather's gradient is a serial scatter on CPUs, so this is a product with one-hots.
    """
    one_hot = jax.nn.one_hot(owner, per_person.shape[0], dtype=per_person.dtype)
    return jnp.tensordot(one_hot, per_person, 1)


def _person_means(values: Array, cells: Array) -> Array:
    """[P] mean of values [h, w] over each person's cells."""
    total = jnp.where(cells, values[None], 0.0).sum((1, 2))
    return total / jnp.maximum(cells.sum((1, 2)), 1)


def _anchor_logits(fields: Fields, targets: Targets) -> Array:
    """[P, h, w] logit of belonging to each person, as read at its anchor."""
    at = embedding.anchor_cells(targets.anchors, *fields.center.shape)
    seeds = embedding.read_seeds(fields, at)
    vote = embedding.votes(fields)
    return jax.vmap(lambda seed: embedding.logit(vote, fields.tag, seed))(seeds)


def _near(targets: Targets) -> Array:
    """[P, h, w] cells within BOX_REACH of each person's box."""
    low, high = targets.boxes[:, :2], targets.boxes[:, 2:]
    middle, reach = (low + high) / 2, BOX_REACH * (high - low) / 2
    away = jnp.abs(maps.cell_centers(*targets.owner.shape)[None] - middle[:, None, None])
    return (away <= reach[:, None, None]).all(-1)


def _touching(boxes: Array) -> Array:
    """[P, P] whether two different boxes (y0, x0, y1, x1) meet."""
    low = jnp.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = jnp.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    return (high >= low).all(-1) & ~jnp.eye(len(boxes), dtype=bool)
