"""Every output format against a picture of two people whose answer is known by hand."""

import hashlib
import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from ktn_jax import exports, inference, predict
from ktn_jax.errors import UserError
from ktn_jax.evaluation.encoded import decode_rle, read_iuv
from ktn_jax.formats import colored, outputs, raster, texture, torch_file
from ktn_jax.formats.colormaps import PARULA, VIRIDIS
from ktn_jax.geometry import Affine
from ktn_jax.records import Prediction
from ktn_jax.structs import Instances

SIZE = (8, 10)
IMAGE = np.random.default_rng(0).integers(1, 255, (*SIZE, 3)).astype(np.uint8)


def person(bbox, score, pixels):
    """pixels: {(row, column) in the box: (chart, 255 U, 255 V)}.

    Confidence is 250 at the last pixel, 10 less at the one before it, and so on.
    """
    iuv = np.zeros((bbox[3], bbox[2], 3), np.uint8)
    confidence = np.zeros((bbox[3], bbox[2]), np.uint8)
    for fewer, (at, value) in zip(range(len(pixels))[::-1], pixels.items(), strict=True):
        iuv[at], confidence[at] = value, 250 - 10 * fewer
    joints = np.c_[np.arange(17) + 0.5, np.arange(17) * 2 + 0.5, np.full(17, 0.5)]
    box, parts = np.array(bbox, np.int32), iuv[..., 0] // 2
    return Prediction(7, box, score, 0.5, iuv, parts, joints, confidence)


# (x, y) = (2, 1): pixels (row 1, column 2) and (2, 4); (5, 4): pixel (4, 5)
PEOPLE = [
    person((2, 1, 3, 2), 0.9, {(0, 0): (1, 0, 255), (1, 2): (24, 255, 0)}),
    person((5, 4, 1, 1), 0.4, {(0, 0): (8, 51, 102)}),
]
SCENE = outputs.Scene("a", "a.jpg", IMAGE, PEOPLE)


def made(name, scene=SCENE):
    return outputs.OUTPUTS[name].encode(scene)


def pixels(name, scene=SCENE):
    return np.asarray(Image.open(io.BytesIO(made(name, scene))))


def test_iuv_is_in_opencv_s_order_and_iuv_rgb_in_the_file_s():
    expected = np.zeros((*SIZE, 3), np.uint8)
    expected[1, 2], expected[2, 4], expected[4, 5] = (1, 0, 255), (24, 255, 0), (8, 51, 102)
    np.testing.assert_array_equal(pixels("iuv")[..., ::-1], expected)
    np.testing.assert_array_equal(pixels("iuv-rgb"), expected)


def test_inds_count_from_one():
    expected = np.zeros(SIZE, np.uint8)
    expected[1, 2] = expected[2, 4] = 1
    expected[4, 5] = 2
    np.testing.assert_array_equal(pixels("inds"), expected)
    crowd = [PEOPLE[1]] * 300  # more than a byte holds
    assert raster.inds(crowd, SIZE)[4, 5] == 300


def test_json_entries_are_the_challenge_s_and_the_coco_ones_a_part_of_them():
    entries = json.loads(made("json"))
    for entry, one in zip(entries, PEOPLE, strict=True):
        assert entry["image_id"] == "a" and entry["category_id"] == 1
        assert entry["score"] == one.score and entry["bbox"] == one.bbox.tolist()
        assert entry["uv_shape"] == [3, one.bbox[3], one.bbox[2]]
    np.testing.assert_array_equal(read_iuv(entries[0]), PEOPLE[0].iuv)
    assert entries[0]["keypoints"][:6] == [0, 0, 0.5, 2, 1, 0.5]
    for name, field in (("masks", "segmentation"), ("keypoints", "keypoints")):
        for whole, part in zip(entries, json.loads(made(name)), strict=True):
            names = ("image_id", "category_id", "score", field)
            assert part == {key: whole[key] for key in names}
    mask = decode_rle(entries[0]["segmentation"])
    assert np.argwhere(mask).tolist() == [[1, 2], [2, 4]]


def test_npz_holds_everything_and_nobody_is_an_empty_one():
    with np.load(io.BytesIO(made("npz"))) as arrays:
        assert arrays["size"].tolist() == [8, 10]
        assert arrays["bbox"].tolist() == [[2, 1, 3, 2], [5, 4, 1, 1]]
        assert arrays["keypoints"][0, 1].tolist() == [2.5, 1.5, 0.5]  # x, y, score
        np.testing.assert_array_equal(arrays["iuv_1"], PEOPLE[1].iuv)
        np.testing.assert_array_equal(arrays["parts_0"], PEOPLE[0].parts)
        assert arrays["confidence_0"].tolist() == [[240, 0, 0], [0, 0, 250]]
        assert arrays["quality"].tolist() == [0.5, 0.5]
    with np.load(io.BytesIO(made("npz", SCENE._replace(people=[])))) as arrays:
        assert arrays["bbox"].shape == (0, 4) and arrays["keypoints"].shape == (0, 17, 3)


def test_confidence_is_said_of_pixels_and_people_unless_the_export_is_too_old():
    entries = json.loads(made("json"))
    # the mean over the person's two pixels, not over its box of six
    assert [one["confidence"] for one in entries] == [0.9608, 0.9804]  # 245, 250 of 255
    assert [one["quality"] for one in entries] == [0.5, 0.5]
    old = SCENE._replace(people=[one._replace(confidence=None) for one in PEOPLE])
    assert all("confidence" not in one for one in json.loads(made("json", old)))
    with np.load(io.BytesIO(made("npz", old))) as arrays:
        assert "iuv_1" in arrays and "confidence_1" not in arrays


class TorchFile(pickle.Unpickler):
    """Reads torch's form with numpy alone; foreign classes become dictionaries."""

    def __init__(self, blob):
        self.archive = zipfile.ZipFile(io.BytesIO(blob))
        assert all(not record.compress_type for record in self.archive.infolist())
        super().__init__(self.archive.open("archive/data.pkl"))
        self.named = set()

    def find_class(self, module, name):
        self.named.add(f"{module}.{name}")
        if name == "_rebuild_tensor_v2":
            return lambda storage, offset, shape, strides, gradient, hooks: (
                np.lib.stride_tricks.as_strided(
                    storage[offset:], shape, np.multiply(strides, storage.itemsize)
                ).copy()
            )
        types = {"FloatStorage": "<f4", "LongStorage": "<i8"}
        return types.get(name) or type(
            name, (dict if name == "OrderedDict" else object,), {}
        )

    def persistent_load(self, key):
        kind, dtype, number, place, size = key
        assert (kind, place) == ("storage", "cpu")
        array = np.frombuffer(self.archive.read(f"archive/data/{number}"), dtype)
        assert len(array) == size
        return array


def test_detectron2_s_dump_is_what_torch_save_makes_of_its_classes():
    reader = TorchFile(made("detectron2-pkl"))
    [content] = reader.load()
    assert reader.archive.read("archive/version") == b"3\n"
    result = "densepose.structures.chart_result.DensePoseChartResultWithConfidences"
    torch = {"_utils._rebuild_tensor_v2", "FloatStorage", "LongStorage"}
    own = {result, "collections.OrderedDict", *(f"torch.{name}" for name in torch)}
    assert reader.named == own
    assert content["file_name"] == "a.jpg"
    assert content["pred_boxes_XYXY"].tolist() == [[2, 1, 5, 3], [5, 4, 6, 5]]
    assert content["scores"].tolist() == pytest.approx([0.9, 0.4])
    first = content["pred_densepose"][0]
    assert first.labels.dtype == np.int64 and first.labels.tolist() == [
        [1, 0, 0],
        [0, 0, 24],
    ]
    assert first.uv.shape == (2, 2, 3) and first.uv[:, 1, 2].tolist() == [1, 0]
    names = "sigma_1 sigma_2 kappa_u kappa_v fine_segm_confidence coarse_segm_confidence"
    assert all(getattr(first, name) is None for name in names.split())
    with np.load(io.BytesIO(made("detectron2"))) as arrays:
        np.testing.assert_array_equal(arrays["labels_0"], first.labels)
        np.testing.assert_array_equal(arrays["uv_0"], first.uv)
        assert arrays["scores"].tolist() == content["scores"].tolist()


def test_only_what_torch_files_can_hold_is_written():
    value = [{"a": (1, True, None, -7), "é": [False]}, np.arange(6.0, dtype=np.float32)]
    blob = torch_file.saved([value, np.eye(3, dtype=np.int64)[:, ::2]])
    [plain, ramp], eye = TorchFile(blob).load()
    assert plain == value[0] and ramp.tolist() == [0, 1, 2, 3, 4, 5]
    assert eye.tolist() == [[1, 0], [0, 0], [0, 1]]
    for wrong in (1.5, np.zeros(2), b"bytes"):
        with pytest.raises(ValueError, match="has no form in a torch file"):
            torch_file.saved([wrong])


# every 32nd colour and the last of cv2.applyColorMap (OpenCV 4.14 and 5.0, RGB), and the
# SHA-256 of all 256 as bytes
OPENCV = {
    "parula": (
        PARULA,
        [[53, 42, 135], [3, 99, 225], [20, 133, 212], [7, 167, 198], [57, 185, 157],
         [147, 191, 114], [218, 186, 85], [252, 207, 45], [249, 251, 14]],
        "fa607f470c0499170769934d2c88fe6e682b70558780e7fbf8614ee678b6e08f",
    ),
    "viridis": (
        VIRIDIS,
        [[68, 1, 84], [71, 45, 123], [59, 82, 139], [44, 114, 142], [33, 145, 140],
         [40, 174, 128], [94, 201, 98], [173, 220, 48], [253, 231, 37]],
        "18545f7c72a02f02a54f2e3f6ff9dcf357e0190ab9117a1f8fae44c6eaf179e0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPENCV)
def test_colour_maps_are_opencv_s(name):
    table, anchors, digest = OPENCV[name]
    assert table[[*range(0, 256, 32), 255]].tolist() == anchors
    assert table.shape == (256, 3) and table.dtype == np.uint8
    assert hashlib.sha256(table.tobytes()).hexdigest() == digest


def test_presets_have_their_background_and_colours():
    # chart 8 at 255 / 24: 85
    for name, table, back in (
        ("viton", PARULA, [0, 0, 0]),
        ("controlnet", VIRIDIS, [68, 1, 84]),
    ):
        drawn = pixels(name)
        assert drawn[0, 0].tolist() == back and drawn[4, 5].tolist() == table[85].tolist()
    drawn = pixels("magic-animate")
    assert drawn[0, 0].tolist() == [68, 1, 84]
    blend = np.array([68, 1, 84]) * 0.3 + VIRIDIS[85] * 0.7
    np.testing.assert_allclose(drawn[4, 5], blend, atol=1)


def test_overlays_keep_the_grey_photograph_where_nobody_is():
    luma = IMAGE @ [0.299, 0.587, 0.114]
    for name, value in (("segm", 85), ("u", 51), ("v", 102)):
        drawn = pixels(name)
        np.testing.assert_allclose(drawn[0, 0], [luma[0, 0]] * 3, atol=1)
        np.testing.assert_allclose(
            drawn[4, 5], luma[4, 5] * 0.3 + PARULA[value] * 0.7, atol=2
        )
        viridis = pixels(f"{name}-viridis")[4, 5]
        np.testing.assert_allclose(viridis, luma[4, 5] * 0.3 + VIRIDIS[value] * 0.7, atol=2)


def test_contours_lie_where_a_tenth_is_passed_within_a_chart():
    row = {(0, i): (2, u, 128) for i, u in enumerate((0, 20, 30, 40))}
    row[0, 4] = (3, 200, 128)  # another chart: no line before it
    drawn = colored.contour(IMAGE, [person((1, 3, 5, 1), 1.0, row)])
    changed = np.argwhere((drawn != IMAGE).any(-1)).tolist()
    assert changed == [[3, 2]]  # between 20 and 30 lies 25.6


def test_the_cut_out_is_the_photograph_where_somebody_is():
    drawn = pixels("cutout")
    assert np.argwhere(drawn[..., 3]).tolist() == [[1, 2], [2, 4], [4, 5]]
    assert drawn[4, 5].tolist() == [*IMAGE[4, 5], 255] and not drawn[0, 0].any()


def test_the_atlas_has_detectron2_s_layout_and_averages_over_frames():
    seen = texture.unwrap(IMAGE, PEOPLE[0], 10)
    drawn = texture.atlas(seen)
    assert drawn.shape == (60, 40, 4)
    # chart 1, U 0, V 1: top left; chart 24, U 1, V 0: bottom right of the last tile
    assert np.argwhere(drawn[..., 3]).tolist() == [[0, 0], [59, 39]]
    assert drawn[0, 0, :3].tolist() == IMAGE[1, 2].tolist()
    two = texture.average([seen, texture.unwrap(IMAGE // 2, PEOPLE[0], 10)])
    mean = (IMAGE[1, 2] / 2 + (IMAGE // 2)[1, 2] / 2).round()
    assert texture.atlas(two)[0, 0, :3].tolist() == mean.tolist()
    assert pixels("texture").shape == (1200, 1600, 4)


def test_holes_are_filled_by_the_nearest_texel_of_the_same_chart():
    rng = np.random.default_rng(0)
    drawn = np.zeros((60, 40, 4), np.uint8)
    seen = rng.random((60, 40)) < 0.02
    seen[:10, :10] = False  # chart 1: unseen
    seen[10:20, :10] = False  # chart 2: one texel, far from its neighbours
    seen[10, 9] = True
    seen[5::10, 5::10] = True
    seen[5, 5] = seen[15, 5] = False
    drawn[seen] = np.c_[rng.integers(1, 255, (seen.sum(), 3)), np.full(seen.sum(), 255)]
    whole = texture.filled(drawn)
    assert not whole[:10, :10].any() and (whole[..., 3].astype(bool).sum() == 2300)
    for y, x in np.ndindex(60, 40):
        corner = np.array([y // 10 * 10, x // 10 * 10])
        tile = seen[corner[0] : corner[0] + 10, corner[1] : corner[1] + 10]
        at = np.argwhere(tile) + corner
        if len(at):  # several may be as near as each other
            away = np.square(at - [y, x]).sum(1)
            nearest = at[away == away.min()]
            assert whole[y, x].tolist() in [drawn[i, j].tolist() for i, j in nearest]
    assert (pixels("texture-filled")[:200, :200] == [*IMAGE[1, 2], 255]).all()
    assert pixels("texture-filled").shape == (1200, 1600, 4)


def test_points_say_where_a_surface_cell_is_seen():
    lines = made("points").decode().splitlines()
    assert lines[0] == "person,chart,u,v,x,y,pixels" and len(lines) == 4
    # 51 * 32 // 256 = 6, 102 * 32 // 256 = 12: centres 6.5 / 32 and 12.5 / 32
    assert lines[3] == "2,8,0.203125,0.390625,5.50,4.50,1"


@pytest.mark.parametrize("name", outputs.OUTPUTS)
def test_every_format_can_be_made_of_nobody(name):
    assert made(name, SCENE._replace(people=[]))


def test_formats_are_read_from_a_list_and_unknown_ones_refused():
    assert outputs.parse("npz, iuv,npz") == ("npz", "iuv")
    with pytest.raises(UserError, match="unknown format jet; known: iuv"):
        outputs.parse("iuv,jet")
    for nothing in ("", " , "):
        with pytest.raises(UserError, match=f"unknown format '{nothing}'; known: iuv"):
            outputs.parse(nothing)


def crowd_of_three(canvases):
    """Instances of three people side by side on every canvas, the middle one best."""
    batch, side = canvases.shape[:2]
    owner = np.repeat(np.arange(3, dtype=np.int8), 20)[None].repeat(60, axis=0)
    owner = np.pad(owner, ((0, side - 60), (0, side - 60)), constant_values=-1)
    seen = (owner >= 0).astype(np.uint8)
    boxes = np.array([[0, 20 * k, 60, 20 * k + 20] for k in range(3)], np.float32)
    one = {
        "valid": np.ones(3, bool),
        "score": np.array([0.5, 0.9, 0.7], np.float32),
        "quality": np.ones(3, np.float32),
        "box": boxes,
        "keypoints": np.zeros((3, 17, 3), np.float32),
        "owner": owner,
        "chart": seen,
        "uv": np.stack([seen, seen], axis=-1),
        "parts": seen,
    }
    return Instances(**{k: np.repeat(v[None], batch, axis=0) for k, v in one.items()})


def test_each_person_has_the_confidence_of_its_own_pixels():
    found = inference.one_image(crowd_of_three(np.zeros((1, 64, 64, 3), np.uint8)), 0)
    columns = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    found.owner[20:22, 20:22] = -1  # nobody's, within the second person's box
    half = Affine((0.5, 0.5))  # an image of half the canvas's size: means of four pixels
    for plane in (columns, None):
        people = inference.unpack(found.replace(confidence=plane), half, (32, 32), 0)
        assert [one.bbox[0] for one in people] == [10, 20, 0]
        for one in people:
            x, _, width, height = one.bbox
            if plane is None:  # the exports of before
                assert one.confidence is None
                continue
            expected = np.tile(2 * np.arange(x, x + width), (height, 1))  # 2 x + 0.5
            expected[10] *= np.arange(x, x + width) != 10
            np.testing.assert_array_equal(one.confidence, expected)


def test_the_best_people_stay_where_their_number_is_bounded(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    export = exports.Export(crowd_of_three, 64, "", "plain")
    monkeypatch.setattr(exports, "read_export", lambda *_, **__: export)
    for flags, scores in (
        (["--max-people=2"], [0.9, 0.7]),
        (["--max-people=9"], [0.9, 0.7, 0.5]),
        (["--min-score=0.6"], [0.9, 0.7]),
        ([], [0.9, 0.7, 0.5]),
    ):
        out = tmp_path / "".join(flags)
        arguments = ["e", str(tmp_path / "a.png"), f"--out={out / 'o'}", "--format=json"]
        assert not predict.main([*arguments, *flags])
        found = json.loads((out / "o" / "a.json").read_text())
        assert [one["score"] for one in found] == pytest.approx(scores), flags


def test_a_wrong_number_of_people_is_one_line(capsys):
    assert predict.main(["e", "x.jpg", "--out=o", "--max-people=0"]) == 2
    assert "--max-people=0 is not a number from 1 on" in capsys.readouterr().err
