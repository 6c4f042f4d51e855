"""The Ray Data example, on this machine: it writes what the predict command writes."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from configs import tiny
from ktn_jax import exports, predict
from ktn_jax.codec import Codec
from ktn_jax.errors import EXIT_SKIPPED, EXIT_USER_ERROR
from ktn_jax.models.network import build_network, init_variables

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An export of the smallest network with fresh weights, which finds people anywhere."""
    config = tiny.get_config()
    config.model.update(widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), width=8, head_depth=1)
    config.codec.update(min_score=0.0)
    config.data.update(eval_canvas=64, flip_test=False)
    network = build_network(config.model.to_dict())
    out = tmp_path_factory.mktemp("export")
    variables = jax.device_get(init_variables(network, 0, 64))
    with pytest.MonkeyPatch.context() as patch:  # one function, not three: quicker
        patch.setattr(exports, "TEST_TIMES", {"plain": exports.TEST_TIMES["plain"]})
        exports.write_export(
            out, network, Codec(**config.codec), variables, config=config.to_dict(), card=""
        )
    return out


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, without its web page."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Four photographs in two folders, and two files that are none."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for number, size in enumerate([(64, 64), (40, 80), (90, 50), (64, 64)]):
        path = root / f"{number % 2}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path)
    (root / "0" / "empty.jpg").write_bytes(b"")
    (root / "1" / "broken.png").write_bytes((root / "1" / "1.png").read_bytes()[:200])
    return root


def test_workers_write_what_the_command_writes(cluster, exported, photos, tmp_path, capsys):
    from examples import ray_predict

    flags = [str(exported), str(photos), "--format=npz,json", "--min-score=0"]
    command = [*flags, f"--out={tmp_path / 'ours'}", "--workers=2", "--block=2"]
    assert ray_predict.main(command) == EXIT_SKIPPED
    assert "on 4 images" in capsys.readouterr().out
    assert predict.main([*flags, f"--out={tmp_path / 'theirs'}"]) == EXIT_SKIPPED
    theirs = sorted((tmp_path / "theirs").rglob("*.npz"))
    assert len(theirs) == 4
    for path in theirs:
        name = path.relative_to(tmp_path / "theirs")
        with np.load(path) as want, np.load(tmp_path / "ours" / name) as found:
            assert set(found) == set(want)
            for key in want:
                np.testing.assert_array_equal(found[key], want[key])
    faults = (tmp_path / "ours" / "skipped.txt").read_text().splitlines()
    assert len(faults) == 2 and "empty.jpg" in faults[0] and "broken.png" in faults[1]
    settings = [
        json.loads((tmp_path / out / predict.SETTINGS).read_text())
        for out in ("ours", "theirs")
    ]
    assert settings[0] == settings[1]
    # again: all but the broken ones is done, and either goes on where the other stopped
    (tmp_path / "ours" / "0" / "0.npz").unlink()
    assert ray_predict.main(command) == EXIT_SKIPPED
    assert "on 1 images" in capsys.readouterr().out
    assert predict.main([*flags, f"--out={tmp_path / 'ours'}"]) == EXIT_SKIPPED
    assert "4 were done before" in capsys.readouterr().out


def test_what_is_no_export_is_told_before_any_worker_starts(photos, tmp_path, capsys):
    pytest.importorskip("ray")
    from examples import ray_predict

    command = [str(tmp_path / "none"), str(photos), f"--out={tmp_path / 'out'}"]
    assert ray_predict.main(command) == EXIT_USER_ERROR
    assert "is not an export" in capsys.readouterr().err
