"""A COCO directory in miniature, with the oddities of the real one."""

import io
import json

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 64
ROTATED, GREY, CMYK, TRUNCATED, TEXT, TURNED_SIZE, CROWD, NOBODY = 3, 4, 5, 6, 7, 8, 9, 10


def picture(number):
    """An RGB image of its own for each number."""
    rng = np.random.default_rng(number)
    small = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def encoded(number):
    """The image file of a number: some of them strange, some broken."""
    image, options = picture(number), {"quality": 95}
    if number == ROTATED:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 6  # "turn me by 90 degrees"
    if number in (GREY, CMYK):
        image = image.convert({GREY: "L", CMYK: "CMYK"}[number])
    if number == TURNED_SIZE:
        image = image.rotate(90, expand=True)
    data = io.BytesIO()
    image.save(data, "JPEG", **options)
    if number == TRUNCATED:
        return data.getvalue()[:-200]
    return b"<html>not found</html>" if number == TEXT else data.getvalue()


def person(number, image_id, **fields):
    """An annotation; dp_masks empty, keypoints missing, one polygon a mere line."""
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "area": 600.0,
        "bbox": [10, 8, 30, 20],
        "segmentation": [[10, 8, 40, 8, 40, 28, 10, 28], [1, 1, 2, 2]],
        "dp_x": [32.0, 128.0],
        "dp_y": [64.0, 128.0],
        "dp_I": [2.0, 4.0],
        "dp_U": [0.5, 0.25],
        "dp_V": [0.125, 1.0],
        "dp_masks": [[]] * 14,
    } | fields


def without_surface(annotation):
    return {key: value for key, value in annotation.items() if not key.startswith("dp_")}


def write_split(root, split, numbers, annotations, *, folder="val2014"):
    """One split's images and json."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    images = []
    for number in numbers:
        name = f"COCO_{folder}_{number:012d}.jpg"
        (root / folder / name).write_bytes(encoded(number))
        images.append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
    document = {"images": images, "annotations": annotations, "categories": []}
    path = root / "annotations" / f"densepose_{split}2014.json"
    path.write_text(json.dumps(document))
    return path


def write_miniature(root):
    """minival holds every oddity; valminusminival repeats annotation id 1."""
    crowd = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * 10, HEIGHT * (WIDTH - 10)]}
    single = {"size": [256, 256], "counts": [0, 256 * 256]}
    numbers = range(1, 11)
    annotations = [person(number, number) for number in numbers if number < CROWD]
    annotations[1] |= {"dp_masks": single, "keypoints": [12, 12, 2] * 17}
    annotations.append(without_surface(person(21, 2, bbox=[0, 0, 5, 5])))
    annotations.append(without_surface(person(22, CROWD, iscrowd=1, segmentation=crowd)))
    write_split(root, "minival", numbers, annotations)
    write_split(root, "valminusminival", [11], [person(1, 11)])
