"""Write the arrays of the parity fixtures, computed by our networks, for any seed.

python tests/parity/dump.py liveportrait|fomm --weights WEIGHTS.py --seed N --out FILE.npz

WEIGHTS.py derives weights and inputs from the seed (``fill``, ``image``, ``keypoints``). liveportrait.keys.json and
fomm.keys.json beside it contain the names and shapes that the state dicts of the networks must have.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from torch import Tensor, nn

Arrays = dict[str, NDArray[Any]]


def load_weights(path: Path) -> ModuleType:
    """Import the module that derives weights and inputs from a seed."""
    spec = importlib.util.spec_from_file_location("parity_weights", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(family: ModuleType, weights: ModuleType, keys: Path, seed: int) -> dict[str, nn.Module]:
    """Return the family's parts with the seed's weights, loaded strictly with the names and shapes in ``keys``."""
    import torch

    parts: dict[str, nn.Module] = {}
    for name, shapes in json.loads(keys.read_text("utf-8")).items():
        filled = weights.fill({f"{name}.{key}": tuple(shape) for key, shape in shapes.items()}, seed)
        part = family.MODULES[name]().eval()
        own = part.state_dict()
        state = {}
        for key, shape in shapes.items():
            # The blur kernels are the network's own: they follow from the scale.
            value = torch.from_numpy(filled[f"{name}.{key}"]) if f"{name}.{key}" in filled else own[key]
            assert tuple(value.shape) == tuple(shape), f"{name}.{key}: {tuple(value.shape)}, not {tuple(shape)}"
            state[key] = value
        part.load_state_dict(state, strict=True)
        parts[name] = part
    return parts


def mean_std(x: Tensor) -> Tensor:
    """Return mean and standard deviation, (2,)."""
    import torch

    return torch.stack([x.mean(), x.std()])


def liveportrait(parts: dict[str, Any], weights: ModuleType, seed: int) -> dict[str, Tensor]:
    """Return LivePortrait's arrays."""
    import torch

    import engines.networks.liveportrait as lp

    out: dict[str, Tensor] = {}
    images = {name: torch.from_numpy(weights.image(seed, name)) for name in ("source", "driving0", "driving1")}

    def made(name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(weights.keypoints(seed, name, shape))

    feature = parts["appearance_feature_extractor"](images["source"])
    out["feature_3d.slice"], out["feature_3d.mean_std"] = feature[:, ::4, ::4, ::8, ::8], mean_std(feature)
    poses, moved = {}, {}
    for name, image in images.items():
        pose = poses[name] = parts["motion_extractor"](image)
        out |= {f"{name}.{field}": value for field, value in pose._asdict().items()}
        moved[name] = lp.KeypointMotion(lp.rotation(pose.pitch, pose.yaw, pose.roll), pose.exp, pose.scale, pose.t)
    kp = poses["source"].kp
    x_s = out["x_s"] = lp.keypoints(kp, *moved["source"])
    out["source.R"] = moved["source"].rotation
    everything = torch.ones(1, 3), torch.ones(1, lp.KEYPOINTS, 3)
    x_d = lp.keypoints(kp, *lp.relative_motion(moved["source"], moved["driving1"], moved["driving0"], *everything))
    out["x_d.relative"] = x_d
    delta = out["stitch.delta"] = parts["retarget_shoulder"](torch.cat([x_s.flatten(1), x_d.flatten(1)], 1))
    out["x_d.stitched"] = lp.stitched(x_d, delta, torch.ones(1, 1))
    for part, ratio in (("retarget_mouth", made("lip_ratio", (1, 2))), ("retarget_eye", made("eye_ratio", (1, 3)))):
        out[f"{part}.delta"] = parts[part](torch.cat([x_s.flatten(1), ratio], 1))
    shape = (1, lp.KEYPOINTS, 3)
    pairs = {
        "controlled": (made("kp_driving", shape), made("kp_source", shape)),
        "relative": (out["x_d.stitched"], x_s),
    }
    for name, (driving, source) in pairs.items():
        warped = parts["warping_module"](feature, driving, source)
        image = parts["spade_generator"](warped.feature)
        out[f"{name}.occlusion"] = warped.occlusion
        out[f"{name}.deformation.slice"] = warped.deformation[:, ::4, ::8, ::8]
        out[f"{name}.warped.slice"] = warped.feature[:, ::16, ::4, ::4]
        out[f"{name}.image.slice"], out[f"{name}.image.mean_std"] = image[:, :, ::4, ::4], mean_std(image)
    return out


def fomm(parts: dict[str, Any], weights: ModuleType, seed: int) -> dict[str, Tensor]:
    """Return the First Order Motion Model's arrays."""
    import torch

    import engines.networks.fomm as fo

    out: dict[str, Tensor] = {
        f"{part}.{name}": value
        for part in ("kp_detector", "generator")
        for name, value in parts[part].state_dict().items()
        if name.endswith("down.weight")
    }
    images = {name: torch.from_numpy(weights.image(seed, name)) for name in ("source", "driving0", "driving1")}
    found = {name: parts["kp_detector"](image) for name, image in images.items()}
    for name, keypoints in found.items():
        out[f"{name}.value"], out[f"{name}.jacobian"] = keypoints.value, keypoints.jacobian

    def made(name: str) -> fo.Keypoints:
        value = weights.keypoints(seed, f"{name}.value", (1, fo.KEYPOINTS, 2))
        jacobian = np.eye(2, dtype=np.float32) + weights.keypoints(
            seed, f"{name}.jacobian", (1, fo.KEYPOINTS, 2, 2), 0.1
        )
        return fo.Keypoints(torch.from_numpy(value), torch.from_numpy(jacobian))

    relative = fo.relative_keypoints(found["source"], found["driving1"], found["driving0"], torch.ones(1, 1))
    pairs = {"relative": (relative, found["source"]), "controlled": (made("kp_driving"), made("kp_source"))}
    for name, (driving, source) in pairs.items():
        made_of = parts["generator"](images["source"], driving, source)
        out[f"{name}.value"], out[f"{name}.jacobian"] = driving.value, driving.jacobian
        out[f"{name}.occlusion"] = made_of.occlusion
        out[f"{name}.image.slice"], out[f"{name}.image.mean_std"] = (
            made_of.image[:, :, ::2, ::2],
            mean_std(made_of.image),
        )
        out[f"{name}.deformed.slice"] = made_of.deformed[:, :, ::4, ::4]
    return out


def arrays(family: str, weights: Path, seed: int) -> Arrays:
    """Return all arrays of a family for a seed, by their names in the fixtures."""
    import torch

    module = importlib.import_module(f"engines.networks.{family}")
    derive = load_weights(weights)
    with torch.no_grad():
        parts = build(module, derive, weights.parent / f"{family}.keys.json", seed)
        out = {"liveportrait": liveportrait, "fomm": fomm}[family](parts, derive, seed)
        return {name: value.contiguous().numpy() for name, value in out.items()}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Write what our networks answer under seeded weights.")
    parser.add_argument("family", choices=("liveportrait", "fomm"))
    parser.add_argument("--weights", type=Path, required=True, help="weights.py, with the *.keys.json beside it")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    given = parser.parse_args(arguments)
    if not given.weights.is_file():
        parser.error(f"there is no {given.weights}")
    try:
        out = arrays(given.family, given.weights, given.seed)
    except ModuleNotFoundError as error:
        from engines.install_hint import install_command

        parser.error(f"{error.name} is not installed; {install_command('neural')}")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("wb") as file:
        np.savez_compressed(file, **out)


if __name__ == "__main__":
    main()
