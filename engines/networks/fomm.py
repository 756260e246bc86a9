"""The networks of the First Order Motion Model, vox-256.

    Siarohin et al., "First Order Motion Model for Image Animation", NeurIPS 2019, arXiv 2003.00196

Keypoints with Jacobians are found in the source and in the driving frame; the pairs give a dense motion and an
occlusion; the source's features are warped by the motion and decoded. The networks have the published state-dict names,
so that the published checkpoint loads strictly; ``stages`` combines them for inference.

In the shape comments B is the batch and K = 10 keypoints. Coordinates are normalised to [-1, 1], in the order x, y.
Importing this file needs no torch; building anything in it does.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import NamedTuple

from engines.backends.network_stage import GridSample, NetworkStage, TensorSpec
from engines.networks.blocks import Decoder, DownBlock2d, Encoder, fold_norms, ticks

try:
    import torch
    import torch.nn.functional as F  # noqa: N812 - its usual name
    from torch import Tensor, nn
except ModuleNotFoundError:  # then the classes can be named, but not built
    from types import SimpleNamespace

    nn = SimpleNamespace(Module=object)

KEYPOINTS = 10
SIZE = 256
"""Width and height of the source, the driving crop and the output image."""
OUTPUT_SIZE = SIZE

_SMALL = 64
"""Width and height at which keypoints and motion are computed, a quarter of the image's."""
_TEMPERATURE = 0.1
_KP_VARIANCE = 0.01


class Keypoints(NamedTuple):
    """Positions and local affine frames of K keypoints."""

    value: Tensor  # (B, K, 2)
    jacobian: Tensor  # (B, K, 2, 2)


# ---- blocks ----------------------------------------------------------------------------------------------------------


class SameBlock2d(nn.Module):
    """Convolution 7x7, norm, ReLU at the same size."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, 7, padding=3)
        self.norm = nn.BatchNorm2d(outer)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))  # (B, outer, H, W)


class UpBlock2d(nn.Module):
    """Upsampling to twice the size, convolution, norm, ReLU."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, 3, padding=1)
        self.norm = nn.BatchNorm2d(outer)

    def forward(self, x: Tensor) -> Tensor:
        y = F.interpolate(x, scale_factor=2.0)  # (B, inner, 2H, 2W), nearest
        return F.relu(self.norm(self.conv(y)))  # (B, outer, 2H, 2W)


class ResBlock2d(nn.Module):
    """Pre-activation residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(channels)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))  # (B, C, H, W)
        out: Tensor = x + self.conv2(F.relu(self.norm2(y)))  # (B, C, H, W)
        return out


class Hourglass(nn.Module):
    """U-Net of five levels."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.encoder = Encoder(DownBlock2d, width, inner, 5, 1024)
        self.decoder = Decoder(UpBlock2d, width, inner, 5, 1024)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.encoder(x))
        return out


class AntiAliasDown(nn.Module):
    """Downsampling to a quarter of the size, with a fixed Gaussian of 1.5 pixels."""

    def __init__(self) -> None:
        super().__init__()
        at = torch.arange(13, dtype=torch.float32) - 6
        bell = torch.exp(-(at**2) / (2 * 1.5**2))
        kernel = bell[:, None] * bell[None, :]  # (13, 13)
        self.register_buffer("weight", (kernel / kernel.sum()).expand(3, 1, 13, 13).clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.get_buffer("weight"), stride=4, padding=6, groups=3)  # (B, 3, H/4, W/4)


def coordinate_grid(height: int, width: int, device: torch.device) -> Tensor:
    """Return the position of each pixel, (height, width, 2) float32, x y; the outermost centres are at -1 and 1."""
    y = ticks(height, device).view(height, 1).expand(height, width)
    x = ticks(width, device).view(1, width).expand(height, width)
    return torch.stack([x, y], dim=-1)


def sample(image: Tensor, grid: Tensor) -> Tensor:
    """Sample bilinearly, zero outside, in float32 inside: (B, C, H, W) at (B, h, w, 2) -> (B, C, h, w)."""
    return F.grid_sample(image.float(), grid.float(), align_corners=False).to(image.dtype)


# ---- keypoints -------------------------------------------------------------------------------------------------------


class KeypointDetector(nn.Module):
    """Finds keypoints as expectations of heat maps, and their local affine frames (section 3.1, equations 2 to 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.predictor = Hourglass(32, 3)
        filters = self.predictor.decoder.out_filters
        self.kp = nn.Conv2d(filters, KEYPOINTS, 7)
        self.jacobian = nn.Conv2d(filters, 4 * KEYPOINTS, 7)
        self.down = AntiAliasDown()

    def forward(self, image: Tensor) -> Keypoints:
        seen = self.predictor(self.down(image))  # (B, 35, 64, 64)
        logits = self.kp(seen)  # (B, K, 58, 58)
        batch, _, height, width = logits.shape
        heat = (logits.reshape(batch, KEYPOINTS, -1) / _TEMPERATURE).softmax(dim=2)  # (B, K, 58*58)
        grid = coordinate_grid(height, width, image.device)  # (58, 58, 2)
        value = (heat.reshape(batch, KEYPOINTS, height, width, 1) * grid).sum(dim=(2, 3))  # (B, K, 2)
        frames = self.jacobian(seen).reshape(batch, KEYPOINTS, 4, -1)  # (B, K, 4, 58*58)
        jacobian = (heat.unsqueeze(2) * frames).sum(dim=3)  # (B, K, 4)
        return Keypoints(value, jacobian.reshape(batch, KEYPOINTS, 2, 2))


def inverse_2x2(m: Tensor) -> Tensor:
    """Return the inverse of (..., 2, 2) in closed form, which can be exported, unlike torch.inverse."""
    a, b, c, d = m[..., 0, 0], m[..., 0, 1], m[..., 1, 0], m[..., 1, 1]
    adjugate = torch.stack([d, -b, -c, a], dim=-1).reshape(m.shape)  # (..., 2, 2)
    return adjugate / (a * d - b * c)[..., None, None]


def relative_keypoints(source: Keypoints, driving: Keypoints, neutral: Keypoints, multiplier: Tensor) -> Keypoints:
    """Return the source's keypoints moved by the driver's change since its neutral (section 3.3, equation 11).

    value_s + multiplier (value_d - value_0), with ``multiplier`` (B, 1), and J_d J_0^-1 J_s.
    """
    value = multiplier.unsqueeze(2) * (driving.value - neutral.value) + source.value  # (B, K, 2)
    jacobian = driving.jacobian @ inverse_2x2(neutral.jacobian) @ source.jacobian  # (B, K, 2, 2)
    return Keypoints(value, jacobian)


def gaussians(kp: Tensor) -> Tensor:
    """Return exp(-|p - x_k|^2 / 0.02) at each pixel: (B, K, 2) -> (B, K, 64, 64)."""
    at = ticks(_SMALL, kp.device)  # (64,)
    bells = torch.exp(-0.5 / _KP_VARIANCE * (at - kp.unsqueeze(3)) ** 2)  # (B, K, 2, 64)
    return bells[:, :, 1, :, None] * bells[:, :, 0, None, :]  # (B, K, 64, 64)


# ---- dense motion and generator --------------------------------------------------------------------------------------


class DenseMotionNetwork(nn.Module):
    """Computes flow and occlusion from pairs of keypoints (section 3.2, equations 6 to 9)."""

    def __init__(self) -> None:
        super().__init__()
        self.hourglass = Hourglass(64, (KEYPOINTS + 1) * 4)
        filters = self.hourglass.decoder.out_filters
        self.mask = nn.Conv2d(filters, KEYPOINTS + 1, 7, padding=3)
        self.occlusion = nn.Conv2d(filters, 1, 7, padding=3)
        self.down = AntiAliasDown()

    def forward(self, small: Tensor, driving: Keypoints, source: Keypoints) -> tuple[Tensor, Tensor]:
        """Return the deformation (B, 64, 64, 2) and the occlusion (B, 1, 64, 64); ``small`` is (B, 3, 64, 64)."""
        batch = small.shape[0]
        grid = coordinate_grid(_SMALL, _SMALL, small.device)  # (64, 64, 2)
        at = self._local_motions(grid, driving, source)  # (B, K+1, 64, 64, 2)
        warped = sample(small, at.reshape(batch, -1, _SMALL, 2))  # (B, 3, (K+1)*64, 64)
        warped = warped.reshape(batch, 3, -1, _SMALL, _SMALL).transpose(1, 2)  # (B, K+1, 3, 64, 64)
        heat = gaussians(driving.value) - gaussians(source.value)  # (B, K, 64, 64)
        heat = F.pad(heat, (0, 0, 0, 0, 1, 0)).unsqueeze(2)  # (B, K+1, 1, 64, 64): none for the background
        both = torch.cat([heat.to(warped.dtype), warped], dim=2)  # (B, K+1, 4, 64, 64)
        both = both.reshape(batch, -1, _SMALL, _SMALL).to(self.mask.weight.dtype)  # (B, 44, 64, 64)
        seen = self.hourglass(both)  # (B, 108, 64, 64)
        mask = self.mask(seen).float().softmax(dim=1)  # (B, K+1, 64, 64)
        deformation = (mask.unsqueeze(4) * at).sum(dim=1)  # (B, 64, 64, 2)
        return deformation, self.occlusion(seen).sigmoid()

    @staticmethod
    def _local_motions(grid: Tensor, driving: Keypoints, source: Keypoints) -> Tensor:
        """Return T_k(z) = x_s,k + J_s J_d^-1 (z - x_d,k), after the still background (equation 4)."""
        batch = driving.value.shape[0]
        jacobian = source.jacobian @ inverse_2x2(driving.jacobian)  # (B, K, 2, 2)
        away = grid.reshape(-1, 2) - driving.value.unsqueeze(2)  # (B, K, 64*64, 2)
        moved = away @ jacobian.transpose(2, 3) + source.value.unsqueeze(2)  # (B, K, 64*64, 2)
        moved = moved.reshape(batch, KEYPOINTS, _SMALL, _SMALL, 2)
        still = grid.expand(batch, 1, _SMALL, _SMALL, 2)
        return torch.cat([still, moved], dim=1)  # (B, K+1, 64, 64, 2)


class Generated(NamedTuple):
    """The outputs of the generator."""

    image: Tensor  # (B, 3, 256, 256) in [0, 1]
    deformation: Tensor  # (B, 64, 64, 2)
    occlusion: Tensor  # (B, 1, 64, 64)
    deformed: Tensor  # (B, 3, 256, 256): the warped source, not inpainted


class OcclusionAwareGenerator(nn.Module):
    """Encoder, warp, occlusion, decoder (section 3.2, equation 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.dense_motion_network = DenseMotionNetwork()
        self.first = SameBlock2d(3, 64)
        self.down_blocks = nn.ModuleList([DownBlock2d(64, 128), DownBlock2d(128, 256)])
        self.bottleneck = nn.Sequential()
        for index in range(6):
            self.bottleneck.add_module(f"r{index}", ResBlock2d(256))
        self.up_blocks = nn.ModuleList([UpBlock2d(256, 128), UpBlock2d(128, 64)])
        self.final = nn.Conv2d(64, 3, 7, padding=3)

    def encode(self, source: Tensor) -> Tensor:
        """Return the source's features, (B, 256, 64, 64)."""
        x: Tensor = self.first(source)  # (B, 64, 256, 256)
        for block in self.down_blocks:
            x = block(x)  # (B, 128, 128, 128), (B, 256, 64, 64)
        return x

    def decode(self, features: Tensor, deformation: Tensor, occlusion: Tensor) -> Tensor:
        """Return the image from warped features, (B, 3, 256, 256)."""
        x = sample(features, deformation) * occlusion  # (B, 256, 64, 64)
        x = self.bottleneck(x)  # (B, 256, 64, 64)
        for block in self.up_blocks:
            x = block(x)  # (B, 128, 128, 128), (B, 64, 256, 256)
        out: Tensor = self.final(x)  # (B, 3, 256, 256)
        return out.sigmoid()

    def forward(self, source: Tensor, kp_driving: Keypoints, kp_source: Keypoints) -> Generated:
        small = self.dense_motion_network.down(source)  # (B, 3, 64, 64)
        deformation, occlusion = self.dense_motion_network(small, kp_driving, kp_source)
        image = self.decode(self.encode(source), deformation, occlusion)  # (B, 3, 256, 256)
        planes = deformation.permute(0, 3, 1, 2)  # (B, 2, 64, 64)
        full = F.interpolate(planes, size=source.shape[2:], mode="bilinear", align_corners=False)  # (B, 2, 256, 256)
        return Generated(image, deformation, occlusion, sample(source, full.permute(0, 2, 3, 1)))


MODULES: dict[str, type[nn.Module]] = {"kp_detector": KeypointDetector, "generator": OcclusionAwareGenerator}
"""The parts by the names of the published checkpoint."""


# ---- stages ----------------------------------------------------------------------------------------------------------


class PortraitStage(nn.Module):
    """Computes everything that depends on the source alone."""

    def __init__(self, kp_detector: KeypointDetector, generator: OcclusionAwareGenerator) -> None:
        super().__init__()
        self.kp_detector = kp_detector
        self.down = generator.dense_motion_network.down
        self.first, self.down_blocks = generator.first, generator.down_blocks

    def forward(self, source: Tensor) -> tuple[Tensor, ...]:
        x = self.first(source)  # (1, 64, 256, 256)
        for block in self.down_blocks:
            x = block(x)  # (1, 128, 128, 128), (1, 256, 64, 64)
        found: Keypoints = self.kp_detector(source)
        return x, self.down(source), found.value, found.jacobian


class MotionStage(nn.Module):
    """Finds the driver's keypoints."""

    def __init__(self, kp_detector: KeypointDetector) -> None:
        super().__init__()
        self.kp_detector = kp_detector

    def forward(self, crop: Tensor) -> tuple[Tensor, ...]:
        found: Keypoints = self.kp_detector(crop)
        return found.value, found.jacobian


class FrameStage(nn.Module):
    """Combines relative keypoints, dense motion, warp and decoder."""

    def __init__(self, generator: OcclusionAwareGenerator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, *inputs: Tensor) -> tuple[Tensor]:
        features, small, *found, multiplier = inputs
        source, driving, neutral = Keypoints(*found[:2]), Keypoints(*found[2:4]), Keypoints(*found[4:6])
        moved = relative_keypoints(source, driving, neutral, multiplier)
        half = self.generator.final.weight.dtype
        deformation, occlusion = self.generator.dense_motion_network(small.to(half), moved, source)
        return (self.generator.decode(features.to(half), deformation, occlusion).float(),)  # (1, 3, 256, 256)


def _keypoint_specs(whose: str) -> tuple[TensorSpec, ...]:
    return (
        TensorSpec(f"{whose}_value", (1, KEYPOINTS, 2)),
        TensorSpec(f"{whose}_jacobian", (1, KEYPOINTS, 2, 2), kind="matrix"),
    )


def stages(parts: Mapping[str, nn.Module], *, grid_sample: GridSample = "native") -> dict[str, NetworkStage]:
    """Return the networks for inference: ``portrait``, ``motion`` and ``frame``.

    ``parts`` are as in ``MODULES`` and are not changed: the stages have copies with the batch norms folded into the
    convolutions. Only images are sampled here, so ``grid_sample`` makes no difference. The driver's neutral is an
    earlier output of ``motion``, fed as ``neutral_...``; ``multiplier`` scales the keypoints' motion.
    """
    del grid_sample
    detector, generator = (folded(parts[name]) for name in ("kp_detector", "generator"))
    assert isinstance(detector, KeypointDetector)
    assert isinstance(generator, OcclusionAwareGenerator)
    image = (1, 3, SIZE, SIZE)
    source = (
        TensorSpec("source_features", (1, 256, _SMALL, _SMALL)),
        TensorSpec("source_small", (1, 3, _SMALL, _SMALL), kind="image"),
        *_keypoint_specs("source"),
    )
    driving = _keypoint_specs("driving")
    made = (
        NetworkStage(
            "portrait", PortraitStage(detector, generator).eval(), (TensorSpec("source", image, kind="image"),), source
        ),
        NetworkStage("motion", MotionStage(detector).eval(), (TensorSpec("crop", image, kind="image"),), driving),
        NetworkStage(
            "frame",
            FrameStage(generator).eval(),
            (*source, *driving, *_keypoint_specs("neutral"), TensorSpec("multiplier", (1, 1))),
            (TensorSpec("image", image, kind="image"),),
            halves=("generator",),
            defaults={"multiplier": (1.0,)},
        ),
    )
    return {stage.name: stage for stage in made}


_FOLDS = (("conv", "norm"), ("conv1", "norm2"))
"""Convolutions and the batch norms that follow them, by their names in a block."""


def folded(part: nn.Module) -> nn.Module:
    """Return an equivalent copy in eval mode, with the batch norms folded into the convolutions."""
    part = copy.deepcopy(part).eval().requires_grad_(False)
    fold_norms(part, _FOLDS)
    return part
