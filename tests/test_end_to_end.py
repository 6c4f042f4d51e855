"""A run's folder -> eval.py -> export -> predict, and that all of them agree."""

import functools
import gzip
import hashlib
import json
import lzma
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import eval as eval_script
from configs import tiny
from ktn_jax import export, exports, inference, initialise, predict, weights
from ktn_jax.codec import Codec
from ktn_jax.errors import EXIT_SKIPPED, EXIT_USER_ERROR, UserError
from ktn_jax.evaluation import encoded
from ktn_jax.models.network import init_variables

FOLDED = ("head/transfer/.*", "head/chart_kernel")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of orbax's own


def test_the_export_gives_what_the_network_gives(straight, exported):
    """Also with the knowledge transfer folded, and for any batch size."""
    config, network, _, variables = export.load_run(str(straight[0]))
    flip_test = config["data"]["flip_test"]
    native = inference.build_predict(
        network, Codec(**config["codec"]), variables, flip_test=flip_test
    )
    run, canvas, *_ = exports.read_export(exported)
    rng = np.random.default_rng(0)
    for batch in (1, 3):
        image = rng.integers(0, 255, (batch, canvas, canvas, 3)).astype(np.uint8)
        ours, theirs = inference.host(run(image)), inference.host(native(image))
        assert theirs.valid.any()
        np.testing.assert_array_equal(ours.valid, theirs.valid)
        for name in ("score", "box", "keypoints", "quality"):
            np.testing.assert_allclose(
                getattr(ours, name), getattr(theirs, name), atol=1e-4
            )
        for name in ("owner", "chart", "parts"):
            agree = (getattr(ours, name) == getattr(theirs, name)).mean()
            assert agree > 0.9999, name  # ties of an argmax may break another way
    assert exports.read_export(exported).test_time == "flip"  # as data.flip_test says
    names = {path.name for path in exported.iterdir()}
    assert names == {
        "weights.safetensors",
        *(f"{name}.stablehlo.gz" for name in exports.TEST_TIMES),
        "config.json",
        "MODEL_CARD.md",
    }
    checksum = hashlib.sha256((exported / "weights.safetensors").read_bytes()).hexdigest()
    assert checksum in (exported / "MODEL_CARD.md").read_text()


def test_weights_of_sixteen_bits_keep_their_leading_bits(straight, exported, tmp_path):
    """bfloat16 has 8 bits of fraction, the hidden one among them."""
    out = tmp_path / "bf16"
    assert export.main([str(straight[0]), str(out), "--weight-type=bfloat16"]) == 0
    sizes = [(f / "weights.safetensors").stat().st_size for f in (out, exported)]
    assert sizes[0] < 0.6 * sizes[1]
    short, whole = (weights.read_state(f / "weights.safetensors") for f in (out, exported))
    for name, value in whole.items():
        np.testing.assert_allclose(short[name], value, rtol=2.0**-8)
    image = np.random.default_rng(2).integers(0, 255, (1, 64, 64, 3)).astype(np.uint8)
    ours = inference.host(exports.read_export(out).run(image))
    theirs = inference.host(exports.read_export(exported).run(image))
    assert 0 < np.abs(ours.score - theirs.score).max() < 0.1


@pytest.mark.parametrize("test_time", ["flip", "smaller", "scales"])
def test_exported_averages_are_the_network_s_on_any_canvas(straight, exported, test_time):
    config, network, _, variables = export.load_run(str(straight[0]))
    whole = functools.partial(
        inference.predict, network=network, codec=Codec(**config["codec"])
    )
    native = jax.jit(functools.partial(whole, **exports.TEST_TIMES[test_time]))
    run = exports.read_export(exported, test_time=test_time).run
    image = np.random.default_rng(1).integers(0, 255, (1, 96, 128, 3)).astype(np.uint8)
    ours, theirs = inference.host(run(image)), inference.host(native(variables, image))
    np.testing.assert_allclose(ours.score, theirs.score, atol=1e-5)
    np.testing.assert_array_equal(ours.valid, theirs.valid)
    assert (ours.chart == theirs.chart).mean() > 0.9999
    plain = inference.host(exports.read_export(exported, test_time="plain").run(image))
    assert np.abs(plain.score - ours.score).max() > 1e-4  # it is another function


def test_an_export_is_where_another_run_can_start(straight, tmp_path):
    """In half the bytes, with all but the folded knowledge transfer."""
    config, network, _, variables = export.load_run(str(straight[0]))
    about = tmp_path / "about.md"
    about.write_text("Made by a test.")
    options = ["--weight-type=float16", f"--about={about}", "--canvas=96"]
    options += ["--test-time=scales"]
    options += ["--codec", "bandwidth_scale=0.6", "chart_score=False"]
    out = tmp_path / "half"
    assert export.main([str(straight[0]), str(out), *options]) == 0
    assert (out / "MODEL_CARD.md").read_text().endswith(".\n\nMade by a test.")
    assert "is float16,\n  its" in (out / "MODEL_CARD.md").read_text()
    init = {"checkpoint": str(out), "backbone": "", "prior": "", "skip": FOLDED}
    fresh = init_variables(network, 5, config["data"]["canvas"])
    filled = initialise.fill(fresh, init, config["model"])
    for path, value in jax.tree_util.tree_leaves_with_path(filled["params"]):
        names = [key.key for key in path]
        source = fresh if names[:2] == ["head", "transfer"] else variables
        expected = functools.reduce(lambda tree, name: tree[name], names, source["params"])
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-6)
    assert exports.read_export(out).test_time == "scales"
    run, canvas, *_ = exports.read_export(out, test_time="flip")
    assert canvas == 96
    written = json.loads((out / "config.json").read_text())["run"]["codec"]
    assert written == config["codec"] | {"bandwidth_scale": 0.6, "chart_score": False}
    assert config["data"]["root"] not in (out / "config.json").read_text()
    here = str(Path(exports.__file__).parents[1]).encode()
    assert here not in gzip.decompress((out / "flip.stablehlo.gz").read_bytes())
    assert export.main([str(straight[0]), str(out), "--canvas=100"]) == EXIT_USER_ERROR
    image = np.random.default_rng(0).integers(0, 255, (1, canvas, canvas, 3))
    image = image.astype(np.uint8)
    before = inference.host(run(image))
    assert before.score.dtype == np.float32
    # and what can be exported anew, decoded otherwise
    again = tmp_path / "again"
    options = ["--weight-type=float16", "--codec", "min_score=0.0", "max_instances=3"]
    assert export.main([str(out), str(again), *options]) == 0
    assert exports.read_export(again).test_time == "scales"  # still
    weights = [(folder / "weights.safetensors").read_bytes() for folder in (out, again)]
    assert weights[0] == weights[1]
    run, canvas, *_ = exports.read_export(again, test_time="flip")
    after = inference.host(run(image))
    assert canvas == 96 and after.score.shape == (1, 3)
    (again / "weights.safetensors").write_bytes(weights[0][:-1])
    assert export.main([str(again), str(out)]) == EXIT_USER_ERROR


def test_packed_weights_are_rounded_and_a_third_smaller(exported, tmp_path, capsys):
    out = tmp_path / "out"
    short = ["--weight-type=float16", "--test-time=plain"]
    assert export.main([str(exported), str(out), *short]) == 0
    plain = (out / "weights.safetensors").stat().st_size
    assert export.main([str(exported), str(out), *short, "--packed"]) == 0
    assert not (out / "weights.safetensors").exists()  # never two at once
    file = out / "weights.safetensors.xz"
    assert file.stat().st_size < 0.72 * plain
    assert "(packed as .xz, 8 significant bits)" in (out / "MODEL_CARD.md").read_text()
    whole, packed = (
        weights.read_state(f) for f in (exported / "weights.safetensors", file)
    )
    blob = lzma.open(file).read()  # as the command xz would read it
    loaded = safetensors.numpy.load(blob)
    assert hashlib.sha256(blob).hexdigest() in (out / "config.json").read_text()
    for name, value in whole.items():
        assert packed[name].dtype == np.float16
        np.testing.assert_array_equal(packed[name], loaded[name])
        np.testing.assert_allclose(packed[name], value, rtol=2.0**-7.99, atol=1e-7)
        normal = np.abs(packed[name]) > 2.0**-14
        assert not (packed[name].view(np.uint16) & 7)[normal].any()  # of ten bits seven
    image = np.random.default_rng(2).integers(0, 255, (1, 64, 64, 3)).astype(np.uint8)
    ours = inference.host(exports.read_export(out).run(image))
    theirs = inference.host(exports.read_export(exported, test_time="plain").run(image))
    assert 0 < np.abs(ours.score - theirs.score).max() < 0.1
    # weights of a run, too
    again = tmp_path / "again"
    assert export.main([str(out), str(again), "--weight-type=float16"]) == 0
    assert (again / "weights.safetensors").read_bytes() == blob
    for damaged in (file.read_bytes()[:-9], b"\xfd7zXZ" + bytes(40)):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"weights\.safetensors\.xz is damaged"):
            exports.read_export(out)


def rewritten(folder, source, change):
    """A copy of an export with other weights. change: of the weights by name, in place."""
    shutil.copytree(source, folder)
    state = dict(weights.read_state(source / "weights.safetensors"))
    change(state)
    blob = safetensors.numpy.save(state)
    (folder / "weights.safetensors").write_bytes(blob)
    about = json.loads((folder / "config.json").read_text())
    about["sha256"] = hashlib.sha256(blob).hexdigest()
    (folder / "config.json").write_text(json.dumps(about))
    return str(folder)


def test_an_export_can_be_the_mean_of_several_runs(straight, exported, tmp_path, capsys):
    """Of a run, whose knowledge transfer is folded for it, and of two exports."""

    def triple(state):
        state.update({name: 3 * value for name, value in state.items()})

    others = [rewritten(tmp_path / "triple", exported, triple), str(exported)]
    out = tmp_path / "out"
    assert export.main([str(straight[0]), str(out), "--average", *others]) == 0
    one, mean = (weights.read_state(f / "weights.safetensors") for f in (exported, out))
    assert one.keys() == mean.keys()
    for name, value in one.items():
        np.testing.assert_allclose(mean[name], value * (1 + 3 + 1) / 3, rtol=1e-5)
    card = (out / "MODEL_CARD.md").read_text()
    assert f"the mean over this run's and `triple`, `{exported.name}`.\n" in card
    assert "mean over" not in (exported / "MODEL_CARD.md").read_text()

    def narrow(state):
        state["params/head/chart_kernel"] = state["params/head/chart_kernel"][..., :24]

    odd = rewritten(tmp_path / "odd", exported, narrow)
    refused = export.main([str(exported), str(out), "--average", str(exported), odd])
    assert refused == EXIT_USER_ERROR
    assert "/odd: its params/head/chart_kernel is not" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [("bandwidth", "not NAME=VALUE"), ("min_score=low", "not NAME=VALUE"),
     ("min_score=null", "not NAME=VALUE"), ("min_score=[1]", "not NAME=VALUE"),
     ("width=3", "there is no width; there are max_people, ")],
)  # fmt: skip
def test_settings_that_decoding_has_not_are_told(text, message):
    with pytest.raises(UserError, match=message):
        export.read_settings([text])


def test_a_run_that_starts_from_an_export_draws_its_charts(straight, exported):
    """The knowledge transfer that folding forgot is found anew; another seed begins it."""
    config, network, _, variables = export.load_run(str(straight[0]))
    init = {"checkpoint": str(exported), "backbone": "", "prior": "", "skip": ()}
    fresh = init_variables(network, 5, config["data"]["canvas"])
    filled = initialise.fill(fresh, init, config["model"])
    image = jax.random.randint(jax.random.key(0), (1, 64, 64, 3), 0, 255)
    fields = jax.jit(network.apply)
    ours, theirs = fields(filled, image), fields(variables, image)
    far = np.abs(np.asarray(ours.chart - theirs.chart)).max()
    assert far < 0.03 * np.asarray(theirs.chart).std()
    np.testing.assert_array_equal(ours.parts, theirs.parts)


def test_predict_writes_every_format_and_survives_a_broken_file(
    exported, rendered, tmp_path, capsys
):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 no picture")
    grey = tmp_path / "grey.png"
    Image.fromarray(np.full((50, 120), 128, np.uint8)).save(grey)
    out = tmp_path / "out"
    inputs = [str(rendered / "val2014"), str(broken), str(grey)]
    status = predict.main([str(exported), *inputs, f"--out={out}", "--min-score=0"])
    said = capsys.readouterr()
    assert status == EXIT_SKIPPED and "broken.jpg" in said.err and "1 of 6" in said.err
    names = sorted(path.name for path in out.iterdir())
    assert len(names) == 5 * 3 + 1 and "grey_iuv.png" in names
    iuv = np.asarray(Image.open(out / "grey_iuv.png"))[..., ::-1]  # as OpenCV reads it
    assert iuv.shape == (50, 120, 3) and iuv[..., 0].max() <= 24
    people = json.loads((out / "grey.json").read_text())
    drawn = np.zeros((50, 120), bool)
    for person in people:
        x, y, width, height = person["bbox"]
        crop = encoded.read_iuv(person)
        assert crop.shape[:2] == (height, width)
        seen = crop[..., 0] > 0
        full = iuv[y : y + height, x : x + width]
        np.testing.assert_array_equal(full[seen], crop[seen])
        drawn[y : y + height, x : x + width] |= seen
    np.testing.assert_array_equal(drawn, iuv[..., 0] > 0)


def test_eval_py_measures_a_run_and_its_results_file_alike(straight, rendered, tmp_path):
    out, results, again = (tmp_path / name for name in ("a.json", "results.json", "b.json"))
    arguments = [f"--workdir={straight[0]}", f"--out={out}", f"--results-out={results}"]
    assert eval_script.main([*arguments, "--processes=2", "--chart-parts"]) == 0
    gt = rendered / "annotations" / "densepose_minival2014.json"
    files = [f"--gt={gt}", f"--results={results}", f"--out={again}"]
    assert eval_script.main([*files, "--chart-parts"]) == 0
    first, second = (json.loads(path.read_text()) for path in (out, again))
    assert first.pop("parts_miou") >= 0
    assert first["diagnosis"]["errors"]["missed"]["count"] >= 0
    assert first == second and set(first["gpsm"]) >= {"AP", "AP50", "AP75", "APm", "APl"}


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (eval_script.main, [], "--gt and --results"),
        (eval_script.main, ["--gt=none.json", "--results=none.json"], "none.json"),
        (eval_script.main, ["--workdir=nowhere"], "no checkpoint in nowhere"),
        (export.main, ["nowhere", "out"], "no checkpoint in nowhere"),
        (predict.main, ["nowhere", "x.jpg", "--out=o"], "not an export"),
    ],
)
def test_mistakes_end_in_one_clear_line(main, arguments, message, capsys):
    assert main(arguments) == EXIT_USER_ERROR
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and message in said[0]


def test_a_damaged_export_is_refused(exported, tmp_path, capsys):
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    blob = bytearray((tmp_path / "weights.safetensors").read_bytes())
    blob[-1] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(blob)
    assert predict.main([str(tmp_path), "x.jpg", "--out=o"]) == EXIT_USER_ERROR
    assert "checksum" in capsys.readouterr().err


def test_folded_charts_equal_generated_ones(straight):
    from ktn_jax.models.network import fold

    _, network, _, variables = export.load_run(str(straight[0]))
    image = jax.random.randint(jax.random.key(0), (1, 64, 64, 3), 0, 255)
    folded, weights = fold(network, variables)
    assert network.ktm and not folded.ktm
    ours = jax.jit(folded.apply)(weights, image).chart
    np.testing.assert_allclose(
        ours, jax.jit(network.apply)(variables, image).chart, atol=1e-6
    )


def test_an_export_of_a_mix_names_its_folders_without_their_places():
    config = tiny.get_config().to_dict()
    config["data"]["mix"] = (
        ("/a/coco", "train", 0.7, "/b/uv.mat"),
        ("/c/made", "val", 0.3),
    )
    told = export.portable(config)["data"]["mix"]
    assert told == [["coco", "train", 0.7, "uv.mat"], ["made", "val", 0.3]]
    card = export.model_card(config, 10, 1, measured=None, about="", weight_type="float32")
    assert "10 steps on split `train` of `coco` and split `val` of `made`." in card
