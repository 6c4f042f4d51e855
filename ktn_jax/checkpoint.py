"""Checkpoints by Orbax: the weights, the optimiser's state and the config of a run.

Weights and optimiser state are separate items, so that evaluation and export read the
weights alone. A run can be evaluated and exported from its folder and nothing else.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from orbax import checkpoint as ocp

from ktn_jax import files
from ktn_jax.errors import UserError
from ktn_jax.structs import TrainState

WEIGHTS = ("params", "frozen", "ema")
PROGRESS = ("step", "opt_state")

Run = ocp.CheckpointManager  # of a run's folder


@contextlib.contextmanager
def open_run(
    workdir: str | Path, *, keep: int | None = None, reads_only: bool = False
) -> Iterator[Run]:
    """The checkpoint manager of a run's folder, which ends when all is written.

    reads_only: for another run's folder, where half-written checkpoints are left alone:
    they may be in the making. Its own run removes them.
    """
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, cleanup_tmp_directories=not reads_only
    )
    folder = Path(workdir).absolute() / "checkpoints"
    handlers = {
        "weights": ocp.StandardCheckpointHandler(),
        "progress": ocp.StandardCheckpointHandler(),
        "config": ocp.JsonCheckpointHandler(),
    }
    run = Run(folder, options=options, item_handlers=handlers)
    try:
        yield run
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to tell
            run.close()
        raise
    run.close()


def still_to_come(run: Run, train: Mapping[str, Any]) -> int:
    """How many checkpoints will lie beside those there are, the one in the making too.

    train: config.train.
    """
    there = run.all_steps()
    left = train["steps"] - (max(there) if there else 0)
    more = -(-left // train["save_steps"])
    return max(0, min(len(there) + more, train["keep"] + 1) - len(there))


def save(run: Run, state: TrainState, config: dict[str, Any]) -> None:
    """Begin writing a checkpoint of state.step; atomic, in the background."""
    weights = {name: getattr(state, name) for name in WEIGHTS}
    progress = {name: getattr(state, name) for name in PROGRESS}
    items = ocp.args.Composite(
        weights=ocp.args.StandardSave(weights),
        progress=ocp.args.StandardSave(progress),
        config=ocp.args.JsonSave(config),
    )
    run.save(int(state.step), args=items)


def wait(run: Run) -> None:
    """Returns when all that was begun is written."""
    run.wait_until_finished()


def keep_best(
    workdir: str | Path, state: TrainState, config: dict[str, Any], score: float
) -> bool:
    """Whether a state is better than all before; then it is the one in WORKDIR/best.

    That is a run's folder like any other, with one checkpoint and score.json.
    """
    folder = Path(workdir) / "best"
    note = folder / "score.json"
    before = json.loads(note.read_text())["score"] if note.is_file() else float("-inf")
    if not score > before:
        return False
    step = int(state.step)
    with open_run(folder, keep=1) as run:
        if step not in run.all_steps():  # a kill came between it and its note
            save(run, state, config)
    if jax.process_index() == 0:
        files.write_bytes(note, json.dumps({"step": step, "score": score}).encode())
    return True


def restore(run: Run, like: TrainState) -> TrainState:
    """The newest checkpoint, laid out like a state of the same architecture."""
    step = run.latest_step()
    weights = {name: getattr(like, name) for name in WEIGHTS}
    progress = {name: getattr(like, name) for name in PROGRESS}
    _check_same(run, step, weights)
    items = run.restore(
        step,
        args=ocp.args.Composite(
            weights=ocp.args.StandardRestore(weights),
            progress=ocp.args.StandardRestore(progress),
        ),
    )
    return TrainState(**items["weights"], **items["progress"])


def read_config(workdir: str | Path) -> dict[str, Any]:
    """The config a run was trained with."""
    with _existing(workdir) as run:
        args = ocp.args.Composite(config=ocp.args.JsonRestore())
        return dict(run.restore(run.latest_step(), args=args)["config"])


def read_weights(
    workdir: str | Path, like: dict[str, Any] | None = None
) -> tuple[int, dict[str, Any]]:
    """Step and variables {"params", "frozen"} of the newest checkpoint, averaged if any.

    like: shapes of the network's variables, {"params": ..., "frozen": ...}, which the
    checkpoint's must equal; None takes them as they are.
    """
    with _existing(workdir) as run:
        step = run.latest_step()
        wanted = stored = dict(run.item_metadata(step)["weights"])
        averaged = bool(jax.tree.leaves(stored["ema"]))
        if like is not None:
            params = like["params"]
            wanted = {**like, "ema": params if averaged else {}}
            _check_same(run, step, wanted)
        args = ocp.args.Composite(weights=ocp.args.StandardRestore(_structs(wanted)))
        weights = run.restore(step, args=args)["weights"]
    best = weights["ema"] if averaged else weights["params"]
    return step, {"params": best, "frozen": weights["frozen"]}


@contextlib.contextmanager
def _existing(workdir: str | Path) -> Iterator[Run]:
    """A run's checkpoints, to read; raises UserError where there is none."""
    folder = Path(workdir) / "checkpoints"
    if not folder.is_dir():
        raise UserError(f"no checkpoint in {workdir}; give the --workdir of a training run")
    with open_run(workdir, reads_only=True) as run:
        if run.latest_step() is None:
            raise UserError(
                f"{folder} holds no finished checkpoint yet; let train.py save one"
            )
        yield run


def _check_same(run: Run, step: int, wanted: dict[str, Any]) -> None:
    """Raise with both differences where stored weights are another architecture's."""
    stored = _shapes(run.item_metadata(step)["weights"])
    expected = _shapes(wanted)
    if stored == expected:
        return
    only_stored = sorted(set(stored.items()) - set(expected.items()))
    only_expected = sorted(set(expected.items()) - set(stored.items()))
    raise UserError(
        f"checkpoint {run.directory}/{step} is of another architecture: "
        f"{len(only_stored)} weights there are not in this config's network "
        f"(first {_first(only_stored)}), {len(only_expected)} of the network are not there "
        f"(first {_first(only_expected)}); use the config it was trained with, "
        "or a new --workdir"
    )


def _structs(tree: Any) -> Any:
    """Shapes and types for this process's first device, wherever they were stored from."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), tree
    )


def _first(rows: list[tuple[str, tuple]]) -> str:
    return f"{rows[0][0]} {list(rows[0][1])}" if rows else "none"


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = ["/".join(str(getattr(k, "key", k)) for k in path) for path, _ in leaves]
    return {
        name: tuple(leaf.shape)
        for name, (_, leaf) in zip(names, leaves, strict=True)
        if hasattr(leaf, "shape")
    }
