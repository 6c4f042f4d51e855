"""What one sees of a run: its clock, lines, pictures, traces, measures and best state."""

import functools
import json
import time

import jax.numpy as jnp
import numpy as np
import pytest

from ktn_jax import checkpoint, log, loop, pictures, snapshots, training
from ktn_jax.clock import Clock
from ktn_jax.errors import UserError
from ktn_jax.structs import Instances
from tests import toys
from tests.scenes import CODEC, scene

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of orbax's own


def lines_of(path):
    return [json.loads(row) for row in path.read_text().splitlines()]


class Step:
    """A step's output that is there after some seconds."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def block_until_ready(self):
        time.sleep(max(0.0, self.end - time.monotonic()))
        return self


def slow(seconds):
    while True:
        time.sleep(seconds)
        yield None


@pytest.mark.parametrize(
    ("fetching", "stepping", "lost"), [(0.3, 0.1, 0.2), (0.1, 0.3, 0.0), (0.2, 0.0, 0.2)]
)
def test_only_what_the_device_waits_for_is_lost(fetching, stepping, lost):
    clock, batches = Clock(), slow(fetching)
    clock.fetch(batches)
    assert clock.waited == 0
    clock.started({"loss": Step(stepping)})
    clock.fetch(batches)
    assert clock.waited == pytest.approx(lost, abs=0.08)
    clock.close()


class Value(float):
    """A metric that tells when the host reads it."""

    def __new__(cls, value, read):
        self = super().__new__(cls, value)
        self.read = read
        return self

    def __float__(self):
        self.read()
        return super().__float__()


def test_the_device_has_its_next_step_and_batch_before_the_host_reads_the_last(
    rendered, tmp_path
):
    config = toys.small_config(rendered)
    config.train.save_steps = 4  # its own step is looked at before a state is saved
    parts, happened = toys.machine(config), []

    def step(state, batch):
        state, metrics = parts.step(state, batch)
        number = sum(kind == "given" for kind, _ in happened) + 1
        happened.append(("given", number))
        read = functools.partial(happened.append, ("read", number))
        return state, {name: Value(value, read) for name, value in metrics.items()}

    toys.run(config, parts._replace(step=step), tmp_path)
    first = [event for at, event in enumerate(happened) if event not in happened[:at]]
    order = "given 1, given 2, read 1, given 3, read 2, given 4, read 3, read 4, given 5, "
    order += "given 6, read 5, read 6"
    assert ", ".join(f"{kind} {number}" for kind, number in first) == order


def test_the_share_of_waiting_is_that_since_the_last_line(tmp_path, capsys):
    with log.RunLog(tmp_path, steps=4, start=2, batch_size=8) as lines:
        lines.write(3, {"loss": 1.0}, waited=7.0)
        time.sleep(0.2)
        lines.write(4, {"loss": 2.5}, waited=7.1, skipped=1)
    rows = lines_of(tmp_path / "metrics.jsonl")
    assert rows[0]["waiting"] == 1 and 0.3 < rows[1]["waiting"] <= 0.5
    assert 20 < rows[1]["images_per_second"] <= 40
    lines.summarise(skipped=1, waited=0.1)
    said = capsys.readouterr().out
    assert said.startswith("steps 3 to 4 in 0 s: loss 2.5,") and "1 skipped; see" in said


def test_a_run_that_had_nothing_to_do_says_nothing(tmp_path, capsys):
    with log.RunLog(tmp_path, steps=4, start=4, batch_size=8) as lines:
        pass
    lines.summarise(skipped=0, waited=0.0)
    assert capsys.readouterr().out == ""


def test_a_row_shows_input_charts_points_and_people():
    size = 32
    people = scene([(4, 4, 28, 20)], size)
    targets = CODEC.encode(people, (size, size))
    image = np.full((size, size, 3), 100, np.uint8)
    chart = np.zeros((size, size), np.uint8)
    chart[10, 12] = 5
    found = Instances(
        valid=None, score=None, quality=None, box=None, keypoints=None, uv=None, parts=None,
        owner=np.where(chart > 0, 0, -1).astype(np.int8), chart=chart,
    )  # fmt: skip
    row = snapshots.draw_row(image, targets, found)
    assert row.shape == (size, 4 * size, 3) and row.dtype == np.uint8
    given, charts, annotated, owners = np.split(row, 4, axis=1)
    np.testing.assert_array_equal(given, image)
    colors = pictures.chart_colors()
    np.testing.assert_array_equal(charts[10, 12], colors[5])
    assert (charts[0, 0] == 40).all() and (owners[0, 0] == 40).all()
    assert (owners[10, 12] != 40).any()
    assert (annotated[0, 0] == 40).all()
    y, x = targets.points_yx[targets.points_valid][-1].astype(int)  # drawn last
    label = targets.points_chart[targets.points_valid][-1]
    np.testing.assert_array_equal(annotated[y, x], colors[label])


@pytest.mark.parametrize("text", ["3", "5:2", "a:b", "0:3", "-1:3"])
def test_a_trace_of_no_two_steps_is_refused(text, rendered):
    config = toys.small_config(rendered)
    config.train.profile = text
    with pytest.raises(UserError, match=r"is not two steps.*--profile=10:12"):
        training.train(config, "unused")


def test_a_run_shows_traces_and_keeps_its_best_state(rendered, tmp_path):
    """Scores 1, 3, 2 after steps two, four, six: the state of step four is kept."""
    config = toys.small_config(rendered)
    config.train.update(picture_steps=3, eval_steps=2, profile="2:3", save_steps=6)
    parts = toys.machine(config)
    scores, shown, states = [1.0, 3.0, 2.0], [], {}

    def measure(state):
        states[int(state.step)] = np.asarray(state.ema["mask"])
        return {loop.SCORE: scores[len(states) - 1], "iou/AP": 0.5}

    def show(state, batch):
        shown.append((int(state.step), len(batch.image)))
        return np.zeros((8, 8, 3), np.uint8)

    toys.run(config, parts, tmp_path, show=show, measure=measure)
    assert shown == [(3, 8), (6, 8)] and list(states) == [2, 4, 6]
    rows = lines_of(tmp_path / "evaluations.jsonl")
    assert [(r["step"], r["gpsm/AP"]) for r in rows] == [(2, 1.0), (4, 3.0), (6, 2.0)]
    step, weights = checkpoint.read_weights(tmp_path / "best")
    assert step == 4
    np.testing.assert_array_equal(weights["params"]["mask"], states[4])
    assert checkpoint.read_config(tmp_path / "best")["train"]["steps"] == 6
    note = json.loads((tmp_path / "best" / "score.json").read_text())
    assert note == {"step": 4, "score": 3.0}
    assert list((tmp_path / "tensorboard").rglob("*.xplane.pb"))
    board = b"".join(p.read_bytes() for p in (tmp_path / "tensorboard").glob("events*"))
    assert b"eval/gpsm/AP" in board and b"PNG" in board and b"waiting" in board


def test_a_worse_state_does_not_take_the_best_one_s_place(rendered, tmp_path):
    config = toys.small_config(rendered)
    state = toys.machine(config).state.replace(params={"a": jnp.ones(2)}, ema={})
    later = state.replace(step=np.int32(9))
    assert checkpoint.keep_best(tmp_path, state.replace(step=np.int32(5)), {}, 0.2)
    assert not checkpoint.keep_best(tmp_path, later, {}, 0.2)
    assert checkpoint.read_weights(tmp_path / "best")[0] == 5
    assert checkpoint.keep_best(tmp_path, later, {}, 0.3)
    assert checkpoint.read_weights(tmp_path / "best")[0] == 9
