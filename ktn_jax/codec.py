"""People -> Targets (numpy, on the host) and Fields -> Instances (jax, inside jit).

The two directions are one object, so that they share every constant; tests close the
circle. Shapes are fixed by max_people, max_points and max_instances:
decoding costs the same for one person and for thirty. Grouping is ours (the paper works
on boxes).
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ktn_jax import advice, embedding, geodesic, grouping, maps
from ktn_jax.anatomy import NUM_KEYPOINTS, UNKNOWN_PART
from ktn_jax.errors import UserError
from ktn_jax.geometry import STRIDE
from ktn_jax.records import Person
from ktn_jax.structs import Fields, Instances, Targets

Array = jax.Array

ANCHOR_SIGMA = 0.12  # of a person's size sqrt(pixels), for the centre heat-map
KEYPOINT_SIGMA = 0.05  # the same for keypoints
MIN_SIGMA = 1.0  # cells
PAINTED = 14.5  # sigmas beyond which a Gaussian is 0 in float32: exp(-14.5^2 / 2)


@dataclasses.dataclass(frozen=True)
class Codec:
    """Sizes and thresholds of the way in and out."""

    max_people: int  # P: the largest people of an image are kept
    max_points: int  # N: surface points of an image
    max_instances: int  # K: people decoded
    mask_threshold: float  # a pixel is a person where sigmoid(mask) is above
    min_score: float  # instances below are dropped
    min_posterior: float  # pixels that fit no instance better belong to nobody
    max_overlap: float  # of two instances that share more, the weaker is dropped
    box_quantile: float  # share of an instance's pixels a box may cut on each side
    # younger than the first runs, which decode as the defaults say
    bandwidth_scale: float = 1.0  # of the learnt one, when decoding
    chart_score: bool = False  # whether a score counts how sure the charts are, too
    prior_score: bool = False  # ... and falls where the prior sees no keypoints
    detector_score: bool = False  # ... or where the detector sees no person like it
    detector_mask: float = 0.0  # how far the mask falls where no box of it is
    prior_mask: float = 0.0  # share of the mask that is told from the prior's maps alone
    prior_chart: float = 0.0  # share of the charts' logits that is of the second ones
    # whether a pixel's chart is the one expected nearest the truth, not the likeliest
    expected_similarity: bool = False

    def __post_init__(self) -> None:
        if not self.bandwidth_scale > 0:
            raise UserError(
                f"bandwidth_scale {self.bandwidth_scale} must be above 0; 1 is as learnt"
            )
        for name in ("prior_mask", "prior_chart"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise UserError(f"{name} {share} is a share; give 0 to 1")
        if not self.detector_mask >= 0:
            raise UserError(f"detector_mask {self.detector_mask} must be 0 or more")

    # --- in: one image, numpy ---------------------------------------------------

    def encode(
        self,
        people: Sequence[Person],
        size: tuple[int, int],
        inside: np.ndarray | None = None,
    ) -> Targets:
        """Targets of one image, without batch axis.

        people: on the canvas, masks [H, W].   size: (H, W), divisible by STRIDE.
        inside: [h, w] bool, False where the canvas lies beyond the image; None: all in.
        """
        height, width = size[0] // STRIDE, size[1] // STRIDE
        inside = np.ones((height, width), bool) if inside is None else inside
        crowd = np.zeros((height, width), bool)
        for region in people:
            if region.crowd:
                crowd |= _coverage(region.mask) > 0
        singles = [person for person in people if not person.crowd]
        singles.sort(key=lambda person: -np.count_nonzero(person.mask))
        cover = np.zeros((len(singles), height, width), np.float32)
        for row, person in zip(cover, singles, strict=True):
            row[:] = _coverage(person.mask)
        total = np.minimum(cover.sum(0), 1)
        owner = _owners(cover, total)
        free = inside & ~(crowd & (total == 0))  # where nobody annotated, nothing is known
        return Targets(
            **self._points(singles),
            mask=total,
            mask_valid=free,
            parts=np.where(free, _parts(singles, total), UNKNOWN_PART).astype(np.int32),
            **_keypoints(singles, owner, free),
            **self._people(owner),
        )

    def _points(self, people: Sequence[Person]) -> dict[str, np.ndarray]:
        """Every person's points in one padded list; evenly thinned if too many."""
        rows = [p.points for p in people if p.points is not None]
        yx = np.concatenate([np.zeros((0, 2)), *(r.yx for r in rows)])
        chart = np.concatenate([np.zeros(0), *(r.chart for r in rows)])
        uv = np.concatenate([np.zeros((0, 2)), *(r.uv for r in rows)])
        keep = np.arange(len(yx))
        if len(keep) > self.max_points:
            keep = np.linspace(0, len(keep) - 1, self.max_points).round().astype(int)
        pad = self.max_points - len(keep)
        return {
            "points_yx": np.pad(yx[keep], ((0, pad), (0, 0))).astype(np.float32),
            "points_chart": np.pad(chart[keep], (0, pad)).astype(np.int32),
            "points_uv": np.pad(uv[keep], ((0, pad), (0, 0))).astype(np.float32),
            "points_valid": np.arange(self.max_points) < len(keep),
        }

    def _people(self, owner: np.ndarray) -> dict[str, np.ndarray]:
        """Anchor, box and centre heat-map of the first max_people people seen."""
        height, width = owner.shape
        center = np.zeros((height, width), np.float32)
        anchors = np.zeros((self.max_people, 2), np.float32)
        boxes = np.zeros((self.max_people, 4), np.float32)
        kept = np.full((height, width), -1, np.int32)
        seen = [k for k in range(owner.max(initial=-1) + 1) if (owner == k).any()]
        for slot, k in enumerate(seen[: self.max_people]):
            cells = np.argwhere(owner == k)
            kept[owner == k] = slot
            # on the body always, and not shared by people whose boxes share a centre
            nearest = np.square(cells - cells.mean(0)).sum(1).argmin()
            anchors[slot] = (cells[nearest] + 0.5) * STRIDE
            boxes[slot] = (*cells.min(0) * STRIDE, *(cells.max(0) + 1) * STRIDE)
            spread = max(MIN_SIGMA, ANCHOR_SIGMA * np.sqrt(len(cells)))
            _paint(center, cells[nearest] + 0.5, spread)
        return {
            "center": center,
            "owner": kept,
            "anchors": anchors,
            "boxes": boxes,
            "people_valid": np.arange(self.max_people) < len(seen),
        }

    # --- out: a batch, jax ------------------------------------------------------

    def decode(self, fields: Fields, *others: Fields) -> Instances:
        """People found in a batch of Fields; jit-able, fixed shapes.

        others: Fields of the same images that know other people or know them better (those
        of another size, scales.bring_large); who is found in several is taken from
        where the score is highest, with all that the pixels show.
        """
        looks = (self._blended(look) for look in (fields, *others))
        return jax.vmap(self._decode_one)(*looks)

    def _blended(self, fields: Fields) -> Fields:
        """Fields whose mask and charts are what all that see them say."""
        return advice.heed(
            fields,
            prior_mask=self.prior_mask,
            prior_chart=self.prior_chart,
            detector_mask=self.detector_mask,
        )

    def _decode_one(self, *looks: Fields) -> Instances:
        each = [self._find(fields) for fields in looks]
        found = each[0].score.shape[0]
        some: grouping.Found = jax.tree.map(lambda *rows: jnp.concatenate(rows), *each)
        look = jnp.repeat(jnp.arange(len(looks)), found)
        score, rank = jax.lax.top_k(some.score, found)
        some, look = jax.tree.map(lambda rows: rows[rank], (some, look))
        valid = (score > self.min_score) & ~grouping.find_repeated(
            some.belongs, score, self.max_overlap, look
        )
        claims = grouping.claim(score)
        fields = grouping.read_owners(looks, look, some.fit + claims[:, None, None], valid)
        owner, surface = self._label(fields, some.fit, claims, valid)
        box, seen = grouping.find_boxes(owner, found, self.box_quantile)
        valid &= seen
        return Instances(
            valid=valid,
            score=jnp.where(valid, score, 0.0),
            quality=jnp.where(valid, some.quality, 0.0),
            box=jnp.where(valid[:, None], box, 0.0),
            keypoints=grouping.read_keypoints(fields.keypoints, some.belongs)
            * valid[:, None, None],
            owner=owner,
            tag=jnp.where(valid[:, None], some.tag, 0.0),
            **surface,
        )

    def _find(self, fields: Fields) -> grouping.Found:
        """Everybody whom one look may show."""
        height, width = fields.center.shape
        found = min(self.max_instances, height * width)
        peak, cell = jax.lax.top_k(grouping.find_peaks(fields.center).reshape(-1), found)
        seeds = embedding.read_seeds(fields, cell)
        seeds = seeds.replace(sigma=self.bandwidth_scale * seeds.sigma)
        seeds = grouping.sharpen(fields, seeds)
        fit = grouping.fit_cells(fields, seeds)
        belongs = jnp.exp(fit) * jax.nn.sigmoid(fields.mask)  # [K, h, w]
        quality = jax.nn.sigmoid(fields.quality.reshape(-1)[cell])
        score = peak * quality * grouping.mean_posterior(belongs)
        if self.chart_score:
            score *= grouping.mean_sureness(fields.chart, belongs)
        if self.prior_score:
            score = advice.confirm(score, advice.keypoints_of(fields), belongs)
        if self.detector_score:
            boxes = advice.boxes_of(fields)
            score = advice.detect(score, boxes, belongs, self.box_quantile)
        return grouping.Found(fit, belongs, score, quality, seeds.tag)

    def _label(
        self, fields: Fields, fit: Array, claims: Array, valid: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Instance, chart, (U, V), part and confidence of every canvas pixel.

        fit: [K, h, w] logits of belonging.   claims: [K], see grouping.assign. Logits, not
        labels, are brought to full resolution (as the paper's heads do).
        """
        mask = jax.nn.sigmoid(maps.upsample(fields.mask))
        height, width = mask.shape
        owner = grouping.assign(fit, claims, valid, jnp.log(self.min_posterior))
        owner = jnp.where(mask > self.mask_threshold, owner, -1)
        someone = owner >= 0
        # background is decided by the mask, so that only true charts and parts compete
        charts = fields.chart[..., 1:]
        best = charts
        if self.expected_similarity:
            best = jnp.log(geodesic.expected_similarity(charts, fields.uv[..., 1:, :]))
        choice = maps.upsample(best).argmax(-1)
        parts = maps.upsample(fields.parts[..., 1:]).argmax(-1) + 1
        pixels = maps.cell_centers(height, width).reshape(-1, 2) / STRIDE
        # P(somebody) P(chart | somebody): the softmax among the 24, at the chart chosen
        sure = jax.nn.softmax(charts)[..., None]
        sure = maps.sample_channel(sure, choice.reshape(-1), pixels).reshape(mask.shape)
        confidence = mask * sure
        chart = choice + 1
        uv = maps.sample_channel(fields.uv, chart.reshape(-1), pixels)
        uv = jnp.round(jnp.clip(uv, 0, 1) * 255).reshape(height, width, 2)
        surface = {
            "chart": jnp.where(someone, chart, 0).astype(jnp.uint8),
            "uv": jnp.where(someone[..., None], uv, 0).astype(jnp.uint8),
            "parts": jnp.where(someone, parts, 0).astype(jnp.uint8),
            "confidence": jnp.where(someone, jnp.round(255 * confidence), 0).astype(
                jnp.uint8
            ),
        }
        return owner, surface


# --- encode's pieces ------------------------------------------------------------


def _coverage(mask: np.ndarray) -> np.ndarray:
    """[h, w] f32 share of each cell that a canvas mask [H, W] covers."""
    height, width = mask.shape
    rows = mask.reshape(height // STRIDE, STRIDE, width).sum(1, dtype=np.uint8)
    # slices, not a reduction over axes of length STRIDE, which costs twenty times more
    count = sum(rows[:, column::STRIDE] for column in range(STRIDE))
    return count.astype(np.float32) / np.float32(STRIDE * STRIDE)


def _owners(cover: np.ndarray, total: np.ndarray) -> np.ndarray:
    """[h, w] i32 person who covers most of a cell that people cover half of, else -1."""
    if not len(cover):
        return np.full(total.shape, -1, np.int32)
    # the smaller of two whose masks overlap is the one in front more often
    last = len(cover) - 1 - cover[::-1].argmax(0)
    return np.where(total >= 0.5, last, -1).astype(np.int32)


def _parts(people: Sequence[Person], total: np.ndarray) -> np.ndarray:
    """[h, w] part seen at each cell's centre; 255 on people without part labels."""
    at = slice(STRIDE // 2, None, STRIDE)
    parts = np.zeros(total.shape, np.int32)
    for person in people:
        seen = person.mask[at, at]
        if person.parts is None:
            parts[seen] = UNKNOWN_PART
            continue
        label = person.parts[at, at]
        parts[seen | (label > 0)] = label[seen | (label > 0)]
    fringe = (parts == 0) & (total > 0)  # a cell whose centre misses its person
    return np.where(fringe, UNKNOWN_PART, parts)


def _keypoints(
    people: Sequence[Person], owner: np.ndarray, free: np.ndarray
) -> dict[str, np.ndarray]:
    """Heat-maps of all annotated keypoints, hidden ones too."""
    heat = np.zeros((NUM_KEYPOINTS, *owner.shape), np.float32)
    valid = free.copy()
    for k, person in enumerate(people):
        if person.keypoints is None:
            valid &= owner != k
            continue
        spread = KEYPOINT_SIGMA * np.sqrt(max((owner == k).sum(), 1))
        for plane, (y, x, visible) in zip(heat, person.keypoints, strict=True):
            if visible:
                _paint(plane, np.array([y, x]) / STRIDE, max(MIN_SIGMA, spread))
    return {"keypoints": np.moveaxis(heat, 0, -1), "keypoints_valid": valid}


def _paint(heat: np.ndarray, at: np.ndarray, spread: float) -> None:
    """Raise a heat-map to a Gaussian; the cell that holds the point gets exactly 1.

    heat: [h, w], changed in place.   at: (y, x) in cells, continuous.   spread: cells.
    """
    reach = PAINTED * spread
    ends = [
        (min(max(int(c - reach), 0), n), max(min(int(c + reach) + 1, n), 0))
        for n, c in zip(heat.shape, at, strict=True)
    ]
    axes = [
        np.exp(-((np.arange(low, high) + 0.5 - c) ** 2) / (2 * spread**2))
        for (low, high), c in zip(ends, at, strict=True)
    ]
    window = heat[tuple(slice(low, high) for low, high in ends)]
    np.maximum(window, np.outer(*axes), out=window)
    y, x = np.floor(at).astype(int)
    if 0 <= y < heat.shape[0] and 0 <= x < heat.shape[1]:
        heat[y, x] = 1
