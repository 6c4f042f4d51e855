"""docs/formats.md: every snippet runs and is right, every format and table is there.

The snippets run in a folder of all formats' files of a scene, two people
of three pixels and one; CHECKS compares what they leave behind with that scene.
"""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ktn_jax import anatomy
from ktn_jax.formats import outputs
from ktn_jax.formats.colormaps import PARULA
from tests import test_formats
from tests.test_formats import IMAGE, SIZE, TorchFile

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
TEXT = PAGE.read_text()

CHART = np.zeros(SIZE, np.uint8)  # the scene
CHART[1, 2], CHART[2, 4], CHART[1, 4], CHART[4, 5] = 1, 24, 9, 8
U, V = np.zeros((2, *SIZE))
U[2, 4], U[1, 4], U[4, 5] = 1, 1, 51 / 255
V[1, 2], V[1, 4], V[4, 5] = 1, 1, 102 / 255
FIRST, SECOND = np.isin(CHART, (1, 9, 24)), CHART == 8
PEOPLE = [  # the same as predictions; the last pixel of each is the surest
    test_formats.person(
        (2, 1, 3, 2),
        0.9,
        {(0, 0): (1, 0, 255), (1, 2): (24, 255, 0), (0, 2): (9, 255, 255)},
    ),
    test_formats.person((5, 4, 1, 1), 0.4, {(0, 0): (8, 51, 102)}),
]


def same(found, expected):
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float))


def check_maps(found):
    same(found.chart, CHART)
    same(found.u, U)
    same(found.v, V)


def check_inds(found):
    same(found.masks, [FIRST, SECOND])


def check_json(found):
    assert (found.x, found.y, found.width, found.height) == (2, 1, 3, 2)
    same(found.iuv, PEOPLE[0].iuv)
    same(found.mask, FIRST)
    same(found.keypoints[:2], [[0, 0, 0.5], [2, 1, 0.5]])
    assert (found.quality, found.confidence) == (0.5, 0.9412)  # of 230, 240, 250


def check_masks(found):
    same(found.masks, [FIRST, SECOND])


def check_keypoints(found):
    assert [found.nose_x, found.nose_y, found.nose_score] == [0, 0, 0.5]
    assert len(found.people) == 2


def check_npz(found):
    sure = np.isin(CHART, (9, 8))  # 250 of 255: more than .97, which 230 and 240 are not
    same(found.whole, np.stack([CHART, 255 * U, 255 * V], axis=-1) * sure[..., None])
    assert not found.torso.any()  # parts_0 holds 0, 4 and 12


def check_detectron2(found):
    same(found.boxes, [[2, 1, 5, 3], [5, 4, 6, 5]])
    np.testing.assert_allclose(found.scores, [0.9, 0.4], rtol=1e-6)
    same(found.labels, CHART[1:3, 2:5])
    same(found.uv, np.stack([U, V])[:, 1:3, 2:5])


def check_picture(found):
    assert found.picture.shape == (*SIZE, 3)


def check_people(found):
    same(found.people, CHART > 0)


def check_chart(found):
    same(found.chart, CHART)


def check_viton(found):
    check_chart(found)
    with Image.open("densepose.jpg") as picture:
        assert picture.size == (768, 1024)


def check_texture(found):
    tile, row, column = np.nonzero(found.seen)
    # charts 1, 9 and 24: U 0, V 1 is top left, U 1, V 1 top right, U 1, V 0 bottom right
    at = [(0, 0, 0), (8, 0, 199), (23, 199, 199)]
    assert [*zip(tile, row, column, strict=True)] == at
    assert not found.torso_front.any()
    same(found.tiles[0, 0, 0], [*IMAGE[1, 2], 255])


def check_filled(found):
    same(found.guessed.sum(), 3 * 200 * 200 - 3)  # three charts were seen, at a texel each


def check_points(found):
    chart, u, v = found.place
    x, y = found.pixel
    # 255 U of 0 and 255: the first and the last of 32 cells
    low, high = 1 / 64, 63 / 64
    same(np.c_[chart, u, v], [[1, low, high], [9, high, high], [24, high, low]])
    same(np.c_[x, y], [[2.5, 1.5], [4.5, 1.5], [4.5, 2.5]])


def check_converting(first, second):
    # from the IUV image all charts are seen, of both people
    alpha = first.atlas[..., 3].reshape(6, 200, 4, 200) > 0
    seen = [1 + 6 * column + row for row, column in np.argwhere(alpha.all((1, 3)))]
    assert sorted(seen) == [1, 8, 9, 24] and alpha.any((1, 3)).sum() == 4
    same(first.atlas[0, 0, :3], IMAGE[1, 2])
    Path("again.png").write_bytes(second.picture)
    drawn = np.asarray(Image.open("again.png"))
    same(drawn[1, 2], PARULA[10])
    assert not drawn[4, 5].any()  # the second person was left out


CHECKS = {
    "iuv": check_maps,
    "iuv-rgb": check_maps,
    "inds": check_inds,
    "json": check_json,
    "masks": check_masks,
    "keypoints": check_keypoints,
    "npz": check_npz,
    "detectron2": check_detectron2,
    "detectron2-pkl": check_detectron2,
    "overlay": check_picture,
    "segm": check_people,
    "magic-animate": check_people,
    "controlnet": check_chart,
    "viton": check_viton,
    "contour": check_picture,
    "cutout": check_people,
    "texture": check_texture,
    "texture-filled": check_filled,
    "points": check_points,
    "Converting": check_converting,
}


def sections():
    """Text by heading, of ## and ###."""
    parts = re.split(r"^##+ (.*)$", TEXT, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def snippets():
    """The python blocks of each section that has some, by the first name in its heading."""
    found = {}
    for heading, text in sections().items():
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        if blocks:
            found[heading.split(",")[0].strip("`")] = blocks
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every format's file of the scene, and the photograph."""
    out = tmp_path_factory.mktemp("formats")
    Image.fromarray(IMAGE).save(out / "skier.png")
    scene = outputs.Scene("skier", "skier.png", IMAGE, PEOPLE)
    for ending, encode in outputs.OUTPUTS.values():
        (out / f"skier{ending}").write_bytes(encode(scene))
    return out


# pycocotools' decode hands numpy 2 an array in the old way
@pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")
@pytest.mark.parametrize("name", CHECKS)
def test_a_snippet_reads_what_the_scene_is(name, folder, monkeypatch):
    def load(path, *, weights_only):
        assert not weights_only  # torch 2.6 and later refuse foreign classes otherwise
        return TorchFile(Path(path).read_bytes()).load()

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=load))
    monkeypatch.chdir(folder)
    left = []
    for number, block in enumerate(snippets()[name]):
        names = {}
        exec(compile(block, f"{PAGE.name}, {name}, {number + 1}", "exec"), names)
        left.append(types.SimpleNamespace(**names))
    CHECKS[name](*left)


def test_no_snippet_is_unchecked_and_no_format_without_a_section():
    assert set(snippets()) == set(CHECKS)
    described = {}
    for heading, text in sections().items():
        for name in re.findall(r"`([\w-]+)`", heading):
            described[name] = text
    assert set(described) == set(outputs.OUTPUTS)
    for name, output in outputs.OUTPUTS.items():
        assert f"`NAME{output.ending}`" in described[name], name


def test_links_within_the_page_lead_somewhere():
    anchors = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in sections()}
    assert set(re.findall(r"\(#([\w-]+)\)", TEXT)) <= anchors
    for target in re.findall(r"\]\(([^#)]+)\)", TEXT):
        assert (PAGE.parent / target).is_file(), target


def rows(heading):
    """The cells of a section's table, below its head."""
    lines = [line for line in sections()[heading].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_the_page_s_charts_are_the_code_s():
    turned = {(False, False): "", (True, False): "1 - U", (False, True): "1 - V"}
    expected = []
    for chart in range(1, anatomy.NUM_CHARTS):
        part = anatomy.PART_OF_CHART[chart]
        mirror = anatomy.MIRRORED_CHART[chart]
        name, turn = anatomy.CHARTS[chart], turned[tuple(anatomy.TURNED_UV[chart].tolist())]
        expected.append(
            [f"{chart}", name, f"{part} {anatomy.PARTS[part]}", f"{mirror}", turn]
        )
    assert rows("The 24 charts") == expected


@pytest.mark.parametrize(
    ("heading", "names", "mirror", "first"),
    [
        ("The 14 parts", anatomy.PARTS, anatomy.MIRRORED_PART, 1),
        ("The 17 keypoints", anatomy.KEYPOINTS, anatomy.MIRRORED_KEYPOINT, 0),
    ],
)
def test_the_page_s_parts_and_keypoints_are_the_code_s(heading, names, mirror, first):
    expected = [[f"{k}", names[k], f"{mirror[k]}"] for k in range(first, len(names))]
    assert rows(heading) == expected
