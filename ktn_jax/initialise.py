"""Where a fresh run's parameters come from: config.init, into the network's own tree.

Strict in both directions: every parameter that a source is there for must be in it, with
its shape, and all of the source must find a place. What may differ is listed, in
config.init.skip. The seed's own values are only left where no source is for them.
"""

import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from ktn_jax import checkpoint
from ktn_jax.errors import UserError
from ktn_jax.names import compile_patterns
from ktn_jax.weights import State, find_exported, find_weights, read_state

Variables = dict[str, Any]  # {"params": tree, "frozen": tree}
Flat = dict[str, Any]  # "params/backbone/stem1/conv/kernel" -> array

ROOMS = ("backbone", "prior", "detector")  # that weights of others can fill
KEYPOINTS = "prior_keypoints"  # the module that the prior's file may fill, too
SHOWN = 3  # names of a kind that an error lists
CHART_KERNEL = "params/head/chart_kernel"  # what an export has in place of
TRANSFER = "head/transfer/.*"

# A detectron2 model: what is ours of it, and the parts that no network of ours has.
BOTTOM_UP = "backbone.bottom_up."
FPN_NAME = re.compile(r"backbone\.fpn_(lateral|output)([2-5])\.(weight|bias)")
OTHER_PARTS = re.compile(
    r"(proposal_generator|roi_heads|sem_seg_head|head|anchor_generator)\..*|pixel_(mean|std)"
)


def fill(
    variables: Variables, init: Mapping[str, Any], model: Mapping[str, Any]
) -> Variables:
    """The network's variables with config.init's in place of the seed's.

    variables: fresh ones.   init: config.init; backbone, prior and detector come from
    files of their own where those are named, and all else from the checkpoint.   model:
    config.model. Raises UserError with all differences.
    """
    if init["prior"] and not model.get("prior"):
        raise UserError(
            f"init.prior={init['prior']!r} has no place in a network without a prior; give "
            "--config.model.prior=mobilenetv2_150, too"
        )
    if init.get("detector") and not model.get("detector"):
        raise UserError(
            f"init.detector={init['detector']!r} has no place in a network without "
            "one; give --config.model.detector=nanodet_g, too"
        )
    own = [room for room in ROOMS if init.get(room)]
    if init["checkpoint"]:
        filled = [place for room in own for place in _places(room, model)]
        others = (*init["skip"], *(f"{place}/.*" for place in filled))
        variables = _from_checkpoint(variables, init["checkpoint"], others, model)
    elif lacking := [room for room in ROOMS if _needs(room, model) and room not in own]:
        if lacking == ["detector"]:
            raise UserError(
                "model.detector has weights of its makers alone, and none are named; give "
                "--config.init.detector=FILE"
            )
        raise UserError(
            f"the {lacking[0]} keeps the norms of pretrained weights (model.norm=frozen, "
            f"model.prior), and none are named; give --config.init.{lacking[0]}=FILE, or "
            "train with --config.model.norm=group and without a prior"
        )
    for room in own:
        source = find_weights(init[room]).expanduser()
        state, rooms = read_state(source), _places(room, model)
        found = _pretrained(state, model[room], rooms, source=source)
        variables = merge(variables, found, source=source, skip=init["skip"], rooms=rooms)
    return variables


def _places(room: str, model: Mapping[str, Any]) -> tuple[str, ...]:
    """The network's modules that a room's file fills."""
    both = room == "prior" and model.get(KEYPOINTS)
    return (room, KEYPOINTS) if both else (room,)


def _needs(room: str, model: Mapping[str, Any]) -> bool:
    """Whether a backbone is nothing without weights of others."""
    return model["norm"] == "frozen" if room == "backbone" else bool(model.get(room))


def _from_checkpoint(
    variables: Variables, name: str, skip: Sequence[str], model: Mapping[str, Any]
) -> Variables:
    """What a detectron2 file, an export or a run has for the network."""
    source, rooms = Path(name).expanduser(), None
    if source.is_file():
        found = read_detectron2(read_state(source), model["backbone"], source=source)
        rooms = ("backbone", "fpn")
    elif file := find_exported(source):
        return _from_export(variables, file, skip, model)
    else:
        _, stored = checkpoint.read_weights(source)
        found = _flat(stored)
    return merge(variables, found, source=source, skip=skip, rooms=rooms)


def _from_export(
    variables: Variables, file: Path, skip: Sequence[str], model: Mapping[str, Any]
) -> Variables:
    """An export's weights; the knowledge transfer that it folded away is found anew."""
    found: Flat = dict(read_state(file))
    source = file.parent
    skips = _skips(skip, [*_flat(variables), *found])
    learns = any(pattern.fullmatch(_bare(CHART_KERNEL)) for pattern in skips)
    if not model["ktm"] or learns or CHART_KERNEL not in found:
        return merge(variables, found, source=source, skip=skip)
    from ktn_jax.models.network import (
        build_network,
        unfold,
    )  # late: most runs start without

    kernel = found.pop(CHART_KERNEL)
    filled = merge(variables, found, source=source, skip=[*skip, TRANSFER])
    return unfold(build_network(model), filled, kernel)


def merge(
    variables: Variables,
    found: Flat,
    *,
    source: Path,
    skip: Sequence[str] = (),
    rooms: Sequence[str] | None = None,
) -> Variables:
    """Variables with what was found in its places, in their own types.

    found: by "params/" or "frozen/" and our name, or by a foreign name.   source: names
    the file in errors.   skip: regular expressions of whole names, without "params/", that
    stay fresh or unused.   rooms: the modules that the source is for; None: all.
    """
    ours = _flat(variables)
    skips = _skips(skip, [*ours, *found])

    def counts(name: str) -> bool:
        return not any(pattern.fullmatch(_bare(name)) for pattern in skips)

    wanted = {
        name: value.shape
        for name, value in ours.items()
        if counts(name) and (rooms is None or _bare(name).split("/")[0] in rooms)
    }
    given = {name: value.shape for name, value in found.items() if counts(name)}
    if wanted != given:
        raise _difference(source, wanted, given)
    taken = {name: np.asarray(found[name], ours[name].dtype) for name in wanted}
    return traverse_util.unflatten_dict(ours | taken, sep="/")


def read_detectron2(state: State, backbone: str, *, source: Path) -> Flat:
    """A detectron2 model's backbone and FPN by our names; its other parts are left.

    What else lies in its backbone keeps its name, for `merge` to tell.
    """
    if not any(name.startswith(BOTTOM_UP) for name in state):
        raise UserError(
            f"{source} has no {BOTTOM_UP}*: it is no detectron2 model with an FPN; give "
            "a backbone's weights as --config.init.backbone"
        )
    bottom_up: State = {}
    found: Flat = {}
    for name, value in state.items():
        if name.startswith(BOTTOM_UP):
            bottom_up[name.removeprefix(BOTTOM_UP)] = value
        elif match := FPN_NAME.fullmatch(name):
            kind, level, leaf = match.groups()
            ours = f"params/fpn/{kind}{level}/"
            found[ours + ("bias" if leaf == "bias" else "kernel")] = _kernel(value)
        elif not OTHER_PARTS.fullmatch(name):
            found[name] = value
    return _pretrained(bottom_up, backbone, ("backbone",), source=source) | found


def _pretrained(
    state: State, backbone: str, places: Sequence[str], *, source: Path
) -> Flat:
    """A backbone's weights under the names they have within the network.

    places: of _places: the backbone's module, and that of its keypoint head if wanted.
    """
    from ktn_jax.models import pretrained  # late: most runs start without

    try:
        if places[0] == "detector":
            made = {"detector": pretrained.detector_variables(state)}
        else:
            made = {places[0]: pretrained.backbone_variables(backbone, state)}
        if KEYPOINTS in places:
            made[KEYPOINTS] = pretrained.keypoint_variables(state)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    named: Flat = {}
    for place, variables in made.items():
        named |= _flat({kind: {place: tree} for kind, tree in variables.items()})
    return named


def _kernel(value: np.ndarray) -> np.ndarray:
    """torch's [out, in, h, w] -> [h, w, in, out], 1x1 -> [in, out]; a bias as it is."""
    if value.ndim != 4:
        return value
    value = value.transpose(2, 3, 1, 0)
    return value[0, 0] if value.shape[:2] == (1, 1) else value


def _skips(skip: Sequence[str], names: Sequence[str]) -> list[re.Pattern[str]]:
    """config.init.skip's expressions, of names with or without their collection."""
    bare = [_bare(name) for name in names]
    return compile_patterns(skip, bare, field="init.skip", example="head/.*")


def _difference(
    source: Path, wanted: dict[str, tuple], given: dict[str, tuple]
) -> UserError:
    """What is missing there, what has no place here, what has another shape."""
    shapes = {
        f"{name} {list(given[name])} there, {list(wanted[name])} here"
        for name in wanted.keys() & given.keys()
        if wanted[name] != given[name]
    }
    kinds = {
        "are not in it": wanted.keys() - given.keys(),
        "of it have no place here": given.keys() - wanted.keys(),
        "differ in shape": shapes,
    }
    lists = [f"{_list(names)} {kind}" for kind, names in kinds.items() if names]
    return UserError(
        f"{source} does not fit this network: {', '.join(lists)}; use the config.model it "
        "was made with, or name what may differ in --config.init.skip"
    )


def _list(names: Set[str]) -> str:
    """How many names, and the first of them."""
    first = ", ".join(_bare(name) for name in sorted(names)[:SHOWN])
    more = ", ..." if len(names) > SHOWN else ""
    return f"{len(names)} ({first}{more})"


def _flat(variables: Mapping[str, Any]) -> Flat:
    """Arrays by "params/..." and "frozen/..."."""
    return traverse_util.flatten_dict(dict(variables), sep="/")


def _bare(name: str) -> str:
    """A name without its collection, as config.init.skip has it."""
    return re.sub(r"^(params|frozen)/", "", name)
