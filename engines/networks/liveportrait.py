"""The networks of LivePortrait: one-shot portrait animation with implicit 3-D keypoints.

    Guo et al., "LivePortrait: Efficient Portrait Animation with Stitching and Retargeting Control", arXiv 2407.03168
    on top of Wang et al., "One-Shot Free-View Neural Talking-Head Synthesis", arXiv 2011.15126 (face vid2vid)

    source  ──F──▶ feature_3d ─────────────┐
       └────M──▶ x_c,s R_s d_s s_s t_s ─┐  │
    driving ─M──▶ R_d d_d s_d t_d ──────┴─▶ keypoints, stitching, retargeting ──▶ W ──G──▶ image

The networks have the published state-dict names, so that the published checkpoints load strictly. ``stages``
combines them for inference: what depends on the portrait alone, the driver's motion, and the frame.

In the shape comments B is the batch, K = 21 keypoints, and a volume is (channels, depth 16, 64, 64). Coordinates are
normalised to [-1, 1], in the order x, y, z. Importing this file needs no torch; building anything in it does.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Mapping
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

KEYPOINTS = 21
SIZE = 256
"""Width and height of the source and of the driving crop."""
OUTPUT_SIZE = 512

LIP_KEYPOINTS = (6, 12, 14, 17, 19, 20)
"""The keypoints that move the mouth."""
EYE_KEYPOINTS = (11, 13, 15, 16, 18)
"""The keypoints that move the eyes."""

_DEPTH, _PLANE = 16, 64
_KP_VARIANCE = 0.01
_BINS = 66


# ---- blocks ----------------------------------------------------------------------------------------------------------


class SameBlock2d(nn.Module):
    """Convolution, norm, activation at the same size."""

    def __init__(self, inner: int, outer: int, *, slope: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, 3, padding=1)
        self.norm = nn.BatchNorm2d(outer)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))  # (B, outer, H, W)
        out: Tensor = F.leaky_relu(y, self.slope) if self.slope else F.relu(y)
        return out


class ResBlock3d(nn.Module):
    """Pre-activation residual block for volumes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm1 = nn.BatchNorm3d(channels)
        self.norm2 = nn.BatchNorm3d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))  # (B, C, D, H, W)
        out: Tensor = x + self.conv2(F.relu(self.norm2(y)))  # (B, C, D, H, W)
        return out


def by_slices(volume: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function of images to each slice of a volume: (B, C, D, H, W) -> (B, C, D, h, w).

    Channels that are last in memory stay so, without copies.
    """
    slices = volume.transpose(1, 2)  # (B, D, C, H, W)
    done = function(slices.flatten(0, 1))  # (B*D, C, h, w)
    return done.unflatten(0, slices.shape[:2]).transpose(1, 2)  # (B, C, D, h, w)


def _halved(images: Tensor) -> Tensor:
    return F.avg_pool2d(images, 2)


def _doubled(images: Tensor) -> Tensor:
    return F.interpolate(images, scale_factor=2.0)  # nearest


class DownBlock3d(nn.Module):
    """Convolution, norm, ReLU, and a pool to half the height and width, at the same depth."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inner, outer, 3, padding=1)
        self.norm = nn.BatchNorm3d(outer)
        self.channels_last = False

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv(x)))  # (B, outer, D, H, W)
        if self.channels_last:
            return by_slices(y, _halved)  # (B, outer, D, H/2, W/2)
        # slice by slice: the pool over volumes has no half precision on the CPU
        return F.avg_pool2d(y.flatten(1, 2), 2).unflatten(1, y.shape[1:3])  # (B, outer, D, H/2, W/2)


class UpBlock3d(nn.Module):
    """Upsampling to twice the height and width, convolution, norm, ReLU."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inner, outer, 3, padding=1)
        self.norm = nn.BatchNorm3d(outer)
        self.channels_last = False

    def forward(self, x: Tensor) -> Tensor:
        # (B, inner, D, 2H, 2W), nearest
        y = by_slices(x, _doubled) if self.channels_last else F.interpolate(x, scale_factor=(1.0, 2.0, 2.0))
        return F.relu(self.norm(self.conv(y)))  # (B, outer, D, 2H, 2W)


class Decoder3d(Decoder):
    """The ascending half of an hourglass of volumes, with one convolution at the end."""

    def __init__(self, width: int, inner: int, blocks: int, widest: int) -> None:
        super().__init__(UpBlock3d, width, inner, blocks, widest)
        self.conv = nn.Conv3d(self.out_filters, self.out_filters, 3, padding=1)
        self.norm = nn.BatchNorm3d(self.out_filters)

    def forward(self, levels: list[Tensor]) -> Tensor:
        return F.relu(self.norm(self.conv(super().forward(levels))))  # (B, 142, D, 64, 64)


class Hourglass3d(nn.Module):
    """U-Net over a volume, at constant depth."""

    def __init__(self, width: int, inner: int, blocks: int, widest: int) -> None:
        super().__init__()
        self.encoder = Encoder(DownBlock3d, width, inner, blocks, widest)
        self.decoder = Decoder3d(width, inner, blocks, widest)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.encoder(x))
        return out


# ---- sampling a volume -----------------------------------------------------------------------------------------------


def coordinate_grid(depth: int, height: int, width: int, device: torch.device) -> Tensor:
    """Return the position of each voxel, (depth, height, width, 3), x y z; the outermost centres are at -1 and 1."""
    z = ticks(depth, device).view(depth, 1, 1).expand(depth, height, width)
    y = ticks(height, device).view(1, height, 1).expand(depth, height, width)
    x = ticks(width, device).view(1, 1, width).expand(depth, height, width)
    return torch.stack([x, y, z], dim=-1)


def sample_native(volume: Tensor, grid: Tensor) -> Tensor:
    """Sample trilinearly, zero outside, in float32 inside: (B, C, D, H, W) at (B, d, h, w, 3) -> (B, C, d, h, w)."""
    sampled = F.grid_sample(volume.float(), grid.float(), align_corners=False)
    return sampled.to(volume.dtype)


def sample_planar(volume: Tensor, grid: Tensor) -> Tensor:
    """Do the same as ``sample_native`` by sampling an image twice.

    The slices are stacked into one tall plane, with a row of zeros after each and a slice of zeros at either end, so
    that a bilinear sample at the height of slice k is zero outside of it. The two slices around the sample's depth are
    interpolated. Coordinates stay float32: float16 cannot resolve a plane 1170 pixels high.
    """
    batch, channels, depth, height, width = volume.shape
    d, h, w = grid.shape[1:4]
    padded = F.pad(volume.float(), (0, 0, 0, 1, 1, 1))  # (B, C, D+2, H+1, W)
    tall = (depth + 2) * (height + 1)
    plane = padded.reshape(batch, channels, tall, width)  # (B, C, tall, W)
    at = grid.float().reshape(batch, d * h, w, 3)  # (B, d*h, w, 3)
    x, y, z = at[..., 0], at[..., 1], at[..., 2]  # (B, d*h, w) each
    row = (((y + 1) * height - 1) / 2).clamp(-1, height)  # in pixels of a slice
    layer = (((z + 1) * depth - 1) / 2).clamp(-1, depth)  # in slices
    below = layer.floor().clamp(max=depth - 1)
    part = (layer - below).unsqueeze(1)  # (B, 1, d*h, w): how near the slice above is
    # The slice's height and the height inside it are scaled separately: their sum in rows would round more coarsely.
    first = (2 * (height + 1) * (below + 1) + (1 - tall)) / tall + row * (2 / tall)
    step = 2.0 * (height + 1) / tall
    lower = F.grid_sample(plane, torch.stack([x, first], -1), align_corners=False)  # (B, C, d*h, w)
    upper = F.grid_sample(plane, torch.stack([x, first + step], -1), align_corners=False)  # (B, C, d*h, w)
    sampled = lower + part * (upper - lower)
    return sampled.reshape(batch, channels, d, h, w).to(volume.dtype)


_SAMPLERS = {"native": sample_native, "planar": sample_planar}


# ---- F: appearance ---------------------------------------------------------------------------------------------------


class AppearanceFeatureExtractor(nn.Module):
    """F: computes the source's appearance as a volume (arXiv 2407.03168, section 3.1; face vid2vid, section 3.1)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = SameBlock2d(3, 64)
        self.down_blocks = nn.ModuleList([DownBlock2d(64, 128), DownBlock2d(128, 256)])
        self.second = nn.Conv2d(256, 512, 1)
        self.resblocks_3d = nn.Sequential()
        for index in range(6):
            self.resblocks_3d.add_module(f"3dr{index}", ResBlock3d(32))

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)  # (B, 64, 256, 256)
        for block in self.down_blocks:
            x = block(x)  # (B, 128, 128, 128), (B, 256, 64, 64)
        x = self.second(x)  # (B, 512, 64, 64)
        x = x.reshape(x.shape[0], 32, _DEPTH, _PLANE, _PLANE)  # (B, 32, 16, 64, 64)
        out: Tensor = self.resblocks_3d(x)  # (B, 32, 16, 64, 64)
        return out


# ---- M: motion -------------------------------------------------------------------------------------------------------


class LayerNormPlanes(nn.Module):
    """Layer norm over the channels of (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=1, keepdim=True)  # (B, C, H, W)
        normed = centred / torch.sqrt((centred * centred).mean(dim=1, keepdim=True) + 1e-6)  # (B, C, H, W)
        return self.weight[:, None, None] * normed + self.bias[:, None, None]


class GRN(nn.Module):
    """Global response normalisation (Woo et al., "ConvNeXt V2", arXiv 2301.00808, section 3, algorithm 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        energy = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)  # (B, 1, 1, C)
        relative = energy / (energy.mean(dim=-1, keepdim=True) + 1e-6)  # (B, 1, 1, C)
        out: Tensor = self.gamma * (x * relative) + self.beta + x  # (B, H, W, C)
        return out


class ConvNextBlock(nn.Module):
    """ConvNeXt V2 block: depthwise 7x7, then two pointwise layers with GRN between (arXiv 2301.00808, figure 5)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.grn = GRN(4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(x).permute(0, 2, 3, 1)  # (B, H, W, C)
        y = F.gelu(self.pwconv1(self.norm(y)))  # (B, H, W, 4C)
        y = self.pwconv2(self.grn(y))  # (B, H, W, C)
        out: Tensor = x + y.permute(0, 3, 1, 2)  # (B, C, H, W)
        return out


class Pose(NamedTuple):
    """The output of M for a face. Angles are in degrees."""

    pitch: Tensor  # (B, 1)
    yaw: Tensor  # (B, 1)
    roll: Tensor  # (B, 1)
    t: Tensor  # (B, 3)
    exp: Tensor  # (B, K, 3), the paper's delta
    scale: Tensor  # (B, 1)
    kp: Tensor  # (B, K, 3), canonical keypoints


class ConvNextDetector(nn.Module):
    """ConvNeXt V2 tiny with LivePortrait's heads: the published ``detector``."""

    def __init__(self) -> None:
        super().__init__()
        depths, dims = (3, 3, 9, 3), (96, 192, 384, 768)
        stem = nn.Sequential(nn.Conv2d(3, dims[0], 4, stride=4), LayerNormPlanes(dims[0]))
        self.downsample_layers = nn.ModuleList([stem])
        for inner, outer in itertools.pairwise(dims):
            self.downsample_layers.append(nn.Sequential(LayerNormPlanes(inner), nn.Conv2d(inner, outer, 2, stride=2)))
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvNextBlock(dim) for _ in range(depth))) for dim, depth in zip(dims, depths, strict=True)
        )
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)
        self.fc_kp = nn.Linear(dims[-1], 3 * KEYPOINTS)
        self.fc_scale = nn.Linear(dims[-1], 1)
        self.fc_pitch = nn.Linear(dims[-1], _BINS)
        self.fc_yaw = nn.Linear(dims[-1], _BINS)
        self.fc_roll = nn.Linear(dims[-1], _BINS)
        self.fc_t = nn.Linear(dims[-1], 3)
        self.fc_exp = nn.Linear(dims[-1], 3 * KEYPOINTS)

    def forward(self, image: Tensor) -> Pose:
        x = image
        for shrink, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(shrink(x))  # (B, 96, 64, 64), (B, 192, 32, 32), (B, 384, 16, 16), (B, 768, 8, 8)
        x = self.norm(x.mean(dim=(2, 3)))  # (B, 768)
        return Pose(
            pitch=degrees(self.fc_pitch(x)),  # (B, 1)
            yaw=degrees(self.fc_yaw(x)),  # (B, 1)
            roll=degrees(self.fc_roll(x)),  # (B, 1)
            t=self.fc_t(x),  # (B, 3)
            exp=self.fc_exp(x).reshape(-1, KEYPOINTS, 3),  # (B, K, 3)
            scale=self.fc_scale(x),  # (B, 1)
            kp=self.fc_kp(x).reshape(-1, KEYPOINTS, 3),  # (B, K, 3)
        )


class MotionExtractor(nn.Module):
    """M: computes canonical keypoints, head pose, expression deformation and scale (section 3.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.detector = ConvNextDetector()

    def forward(self, image: Tensor) -> Pose:
        pose: Pose = self.detector(image)
        return pose


# ---- the keypoint algebra --------------------------------------------------------------------------------------------


def degrees(logits: Tensor) -> Tensor:
    """Return the expectation over 66 bins of 3 degrees, the first at -97.5: (B, 66) -> (B, 1)."""
    index = torch.arange(_BINS, device=logits.device, dtype=logits.dtype)  # (66,)
    return (logits.softmax(dim=1) * index).sum(dim=1, keepdim=True) * 3 - 97.5


def rotation(pitch: Tensor, yaw: Tensor, roll: Tensor) -> Tensor:
    """Return R = (Rz Ry Rx)^T of three angles in degrees, (B, 1) each -> (B, 3, 3), to multiply row vectors by."""
    x, y, z = (angle / 180 * math.pi for angle in (pitch, yaw, roll))  # (B, 1) each
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    sin, cos = torch.sin, torch.cos
    rx = torch.cat([one, zero, zero, zero, cos(x), -sin(x), zero, sin(x), cos(x)], dim=1)  # (B, 9)
    ry = torch.cat([cos(y), zero, sin(y), zero, one, zero, -sin(y), zero, cos(y)], dim=1)  # (B, 9)
    rz = torch.cat([cos(z), -sin(z), zero, sin(z), cos(z), zero, zero, zero, one], dim=1)  # (B, 9)
    turned = rz.reshape(-1, 3, 3) @ ry.reshape(-1, 3, 3) @ rx.reshape(-1, 3, 3)  # (B, 3, 3)
    return turned.transpose(1, 2)


def keypoints(kp: Tensor, turn: Tensor, exp: Tensor, scale: Tensor, t: Tensor) -> Tensor:
    """Return x = s (x_c R + delta) + t without t's z (section 3.2, equation 2), (B, K, 3)."""
    flat = F.pad(t[:, :2], (0, 1))  # (B, 3); a constant would be copied from the host: no CUDA graph can
    return scale.unsqueeze(2) * (kp @ turn + exp) + flat.unsqueeze(1)


class KeypointMotion(NamedTuple):
    """A pose with the rotation as a matrix."""

    rotation: Tensor  # (B, 3, 3)
    exp: Tensor  # (B, K, 3)
    scale: Tensor  # (B, 1)
    t: Tensor  # (B, 3)


def relative_motion(
    source: KeypointMotion,
    driving: KeypointMotion,
    neutral: KeypointMotion,
    pose_weights: Tensor,
    expression_weights: Tensor,
) -> KeypointMotion:
    """Return the source's pose plus the driver's change since its neutral (section 3.4, "relative" driving).

    R = (R_d R_0^T) R_s, delta = delta_s + delta_d - delta_0, s = s_s s_d / s_0, t = t_s + t_d - t_0. ``pose_weights``
    (B, 3) blend rotation, scale and translation from the source's (0) to the result (1), ``expression_weights``
    (B, K, 3) the expression: the animation regions.
    """
    turn_by, scale_by, shift_by = pose_weights[:, 0:1], pose_weights[:, 1:2], pose_weights[:, 2:3]  # (B, 1) each
    turn = driving.rotation @ neutral.rotation.transpose(1, 2) @ source.rotation  # (B, 3, 3)
    ratio = driving.scale / neutral.scale  # (B, 1)
    return KeypointMotion(
        rotation=turn_by.unsqueeze(2) * turn + (1 - turn_by.unsqueeze(2)) * source.rotation,  # (B, 3, 3)
        exp=source.exp + expression_weights * (driving.exp - neutral.exp),  # (B, K, 3)
        scale=source.scale * (scale_by * ratio + (1 - scale_by)),  # (B, 1)
        t=source.t + shift_by * (driving.t - neutral.t),  # (B, 3)
    )


# ---- stitching and retargeting ---------------------------------------------------------------------------------------


class RetargetingNetwork(nn.Module):
    """A small MLP from keypoints and conditions to a shift of the keypoints (sections 3.3 and 3.4)."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inner, outer in itertools.pairwise(sizes):
            layers += [nn.Linear(inner, outer), nn.ReLU()]
        self.mlp = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp(x)  # (B, sizes[-1])
        return out


class Stitching(RetargetingNetwork):
    """S: keeps the shoulders in place: (x_s, x_d) -> 63 shifts, and one of all keypoints in x and y (section 3.3)."""

    def __init__(self) -> None:
        super().__init__(6 * KEYPOINTS, 128, 128, 64, 3 * KEYPOINTS + 2)


class LipRetargeting(RetargetingNetwork):
    """R_lip: (x_s, source's and target lip ratio) -> 63 shifts (section 3.4)."""

    def __init__(self) -> None:
        super().__init__(3 * KEYPOINTS + 2, 128, 128, 64, 3 * KEYPOINTS)


class EyeRetargeting(RetargetingNetwork):
    """R_eyes: (x_s, source's two eye ratios, target ratio) -> 63 shifts (section 3.4)."""

    def __init__(self) -> None:
        super().__init__(3 * KEYPOINTS + 3, 256, 256, 128, 128, 64, 3 * KEYPOINTS)


def stitched(x_d: Tensor, delta: Tensor, weight: Tensor) -> Tensor:
    """Return x_d plus S's output (B, 65) times ``weight`` (B, 1): (B, K, 3)."""
    points = delta[:, : 3 * KEYPOINTS].reshape(-1, KEYPOINTS, 3)  # (B, K, 3)
    common = F.pad(delta[:, 3 * KEYPOINTS :], (0, 1))  # (B, 3): in x and y, not in z
    return x_d + weight.unsqueeze(2) * points + weight.unsqueeze(2) * common.unsqueeze(1)


# ---- W: warping ------------------------------------------------------------------------------------------------------


def gaussians(kp: Tensor) -> Tensor:
    """Return exp(-|p - x_k|^2 / 0.02) at each voxel, a product of 1-D ones: (B, K, 3) -> (B, K, 16, 64, 64)."""

    def along(points: int, values: Tensor) -> Tensor:
        at = ticks(points, kp.device)  # (points,)
        return torch.exp(-0.5 / _KP_VARIANCE * (at - values.unsqueeze(2)) ** 2)  # (B, K, points)

    x, y, z = along(_PLANE, kp[:, :, 0]), along(_PLANE, kp[:, :, 1]), along(_DEPTH, kp[:, :, 2])
    flat = y[:, :, None, :, None] * x[:, :, None, None, :]  # (B, K, 1, 64, 64)
    return z[:, :, :, None, None] * flat  # (B, K, 16, 64, 64)


class DenseMotionNetwork(nn.Module):
    """Computes flow and occlusion from pairs of keypoints and a still background (face vid2vid, section 3.3)."""

    def __init__(self) -> None:
        super().__init__()
        self.hourglass = Hourglass3d(32, (KEYPOINTS + 1) * 5, blocks=5, widest=1024)
        filters = self.hourglass.decoder.out_filters
        self.mask = nn.Conv3d(filters, KEYPOINTS + 1, 7, padding=3)
        self.compress = nn.Conv3d(32, 4, 1)
        self.norm = nn.BatchNorm3d(4)
        self.occlusion = nn.Conv2d(filters * _DEPTH, 1, 7, padding=3)
        self.grid_sample: GridSample = "native"

    def extra_repr(self) -> str:
        """Return the setting as part of the module's text, which identifies an exported network."""
        return f"grid_sample={self.grid_sample}"

    def compressed(self, feature_3d: Tensor) -> Tensor:
        """Return the volume in four channels, which depends on the portrait alone."""
        return F.relu(self.norm(self.compress(feature_3d)))  # (B, 4, 16, 64, 64)

    def forward(self, compressed: Tensor, kp_driving: Tensor, kp_source: Tensor) -> tuple[Tensor, Tensor]:
        batch = compressed.shape[0]
        grid = coordinate_grid(_DEPTH, _PLANE, _PLANE, compressed.device)  # (16, 64, 64, 3)
        shift = F.pad(kp_source - kp_driving, (0, 0, 1, 0))  # (B, K+1, 3): the background stands still
        at = grid + shift[:, :, None, None, None, :]  # (B, K+1, 16, 64, 64, 3)
        stacked = at.reshape(batch, -1, _PLANE, _PLANE, 3)  # (B, (K+1)*16, 64, 64, 3)
        warped = _SAMPLERS[self.grid_sample](compressed, stacked)  # (B, 4, (K+1)*16, 64, 64)
        warped = warped.reshape(batch, 4, -1, _DEPTH, _PLANE, _PLANE).transpose(1, 2)  # (B, K+1, 4, 16, 64, 64)
        heat = gaussians(kp_driving) - gaussians(kp_source)  # (B, K, 16, 64, 64)
        heat = F.pad(heat, (0, 0, 0, 0, 0, 0, 1, 0)).unsqueeze(2)  # (B, K+1, 1, 16, 64, 64)
        both = torch.cat([heat.to(warped.dtype), warped], dim=2)  # (B, K+1, 5, 16, 64, 64)
        seen = self.hourglass(both.reshape(batch, -1, _DEPTH, _PLANE, _PLANE))  # (B, 142, 16, 64, 64)
        mask = self.mask(seen).float().softmax(dim=1)  # (B, K+1, 16, 64, 64)
        # The masks add up to 1, so the mixture of the K+1 shifted grids is the grid and a mixture of shifts.
        mixed = mask.reshape(batch, KEYPOINTS + 1, -1).transpose(1, 2) @ shift  # (B, 16*64*64, 3)
        deformation = grid + mixed.reshape(batch, _DEPTH, _PLANE, _PLANE, 3)  # (B, 16, 64, 64, 3)
        flat = seen.reshape(batch, -1, _PLANE, _PLANE)  # (B, 142*16, 64, 64)
        return deformation, self.occlusion(flat).sigmoid()  # occlusion: (B, 1, 64, 64)


class Warped(NamedTuple):
    """The outputs of W."""

    feature: Tensor  # (B, 256, 64, 64)
    deformation: Tensor  # (B, 16, 64, 64, 3)
    occlusion: Tensor  # (B, 1, 64, 64)


class WarpingNetwork(nn.Module):
    """W: warps the source's volume from x_s to x_d and flattens it (section 3.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.dense_motion_network = DenseMotionNetwork()
        self.third = SameBlock2d(512, 256, slope=0.01)
        self.fourth = nn.Conv2d(256, 256, 1)

    def forward(
        self, feature_3d: Tensor, kp_driving: Tensor, kp_source: Tensor, compressed: Tensor | None = None
    ) -> Warped:
        motion = self.dense_motion_network
        if compressed is None:
            compressed = motion.compressed(feature_3d)  # (B, 4, 16, 64, 64)
        deformation, occlusion = motion(compressed, kp_driving, kp_source)
        moved = _SAMPLERS[motion.grid_sample](feature_3d, deformation)  # (B, 32, 16, 64, 64)
        x = moved.reshape(moved.shape[0], -1, _PLANE, _PLANE)  # (B, 512, 64, 64)
        x = self.fourth(self.third(x))  # (B, 256, 64, 64)
        return Warped(x * occlusion, deformation, occlusion)


# ---- G: decoder ------------------------------------------------------------------------------------------------------


class SpectralConv2d(nn.Module):
    """A convolution divided by its largest singular value, u^T W v (Miyato et al., arXiv 1802.05957), as published."""

    def __init__(self, inner: int, outer: int, size: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight_orig = nn.Parameter(torch.zeros(outer, inner, size, size))
        self.bias = nn.Parameter(torch.zeros(outer)) if bias else None
        self.register_buffer("weight_u", torch.zeros(outer))
        self.register_buffer("weight_v", torch.zeros(inner * size * size))

    def weight(self) -> Tensor:
        """Return the weight to convolve with, (outer, inner, size, size)."""
        u, v = self.get_buffer("weight_u"), self.get_buffer("weight_v")
        return self.weight_orig / torch.dot(u, self.weight_orig.flatten(1) @ v)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight(), self.bias, padding=self.weight_orig.shape[2] // 2)  # (B, outer, H, W)

    def folded(self) -> nn.Conv2d:
        """Return a plain convolution that computes the same."""
        outer, inner, size = self.weight_orig.shape[:3]
        conv = nn.Conv2d(inner, outer, size, padding=size // 2, bias=self.bias is not None)
        conv.weight = nn.Parameter(self.weight().detach())
        if self.bias is not None:
            conv.bias = nn.Parameter(self.bias.detach().clone())
        return conv


def modulated(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Return instance_norm(x) (1 + gamma) + beta, (B, C, H, W) each, in the memory layout of x.

    PyTorch's own norm converts channels that are last, before and after. Sums and differences are in float32.
    """
    mean = x.mean(dim=(2, 3), keepdim=True, dtype=torch.float32)  # (B, C, 1, 1)
    centred = torch.sub(x, mean, out=torch.empty_like(x))  # (B, C, H, W)
    length = torch.linalg.vector_norm(centred, dim=(2, 3), keepdim=True, dtype=torch.float32)  # (B, C, 1, 1)
    scale = torch.rsqrt(length.square() / (x.shape[2] * x.shape[3]) + 1e-5).to(x.dtype)  # (B, C, 1, 1)
    return torch.addcmul(beta, centred, torch.addcmul(scale, gamma, scale))  # (B, C, H, W)


class SPADE(nn.Module):
    """Spatially adaptive normalisation (Park et al., arXiv 1903.07291, equation 1), over an instance norm."""

    def __init__(self, channels: int, labels: int) -> None:
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Conv2d(labels, 128, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(128, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(128, channels, 3, padding=1)
        self.channels_last = False

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        near = label if label.shape[2] == x.shape[2] else F.interpolate(label, size=x.shape[2:])  # (B, labels, H, W)
        shared = self.mlp_shared(near)  # (B, 128, H, W)
        gamma, beta = self.mlp_gamma(shared), self.mlp_beta(shared)  # (B, C, H, W) each
        if self.channels_last:
            return modulated(x, gamma, beta)  # (B, C, H, W)
        out: Tensor = F.instance_norm(x) * (1 + gamma) + beta  # (B, C, H, W)
        return out


class SPADEResnetBlock(nn.Module):
    """Two SPADE convolutions and a learned shortcut where the width changes (arXiv 1903.07291, figure 4)."""

    def __init__(self, inner: int, outer: int, labels: int) -> None:
        super().__init__()
        middle = min(inner, outer)
        self.conv_0 = SpectralConv2d(inner, middle, 3)
        self.conv_1 = SpectralConv2d(middle, outer, 3)
        self.norm_0 = SPADE(inner, labels)
        self.norm_1 = SPADE(middle, labels)
        self.learned = inner != outer
        if self.learned:
            self.conv_s = SpectralConv2d(inner, outer, 1, bias=False)
            self.norm_s = SPADE(inner, labels)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        short = self.conv_s(self.norm_s(x, label)) if self.learned else x  # (B, outer, H, W)
        y = self.conv_0(F.leaky_relu(self.norm_0(x, label), 0.2))  # (B, middle, H, W)
        y = self.conv_1(F.leaky_relu(self.norm_1(y, label), 0.2))  # (B, outer, H, W)
        out: Tensor = short + y
        return out


class SPADEDecoder(nn.Module):
    """G: decodes the warped feature, also the label of every norm, to 512x512 by pixel shuffle (section 3.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Conv2d(256, 512, 3, padding=1)
        for index in range(6):
            self.add_module(f"G_middle_{index}", SPADEResnetBlock(512, 512, 256))
        self.up_0 = SPADEResnetBlock(512, 256, 256)
        self.up_1 = SPADEResnetBlock(256, 64, 256)
        self.conv_img = nn.Sequential(nn.Conv2d(64, 3 * 4, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, feature: Tensor) -> Tensor:
        x = self.fc(feature)  # (B, 512, 64, 64)
        for index in range(6):
            x = self.get_submodule(f"G_middle_{index}")(x, feature)  # (B, 512, 64, 64)
        x = self.up_0(F.interpolate(x, scale_factor=2.0), feature)  # (B, 256, 128, 128)
        x = self.up_1(F.interpolate(x, scale_factor=2.0), feature)  # (B, 64, 256, 256)
        out: Tensor = self.conv_img(F.leaky_relu(x, 0.2))  # (B, 3, 512, 512)
        return out.sigmoid()


MODULES: dict[str, type[nn.Module]] = {
    "appearance_feature_extractor": AppearanceFeatureExtractor,
    "motion_extractor": MotionExtractor,
    "warping_module": WarpingNetwork,
    "spade_generator": SPADEDecoder,
    "retarget_shoulder": Stitching,
    "retarget_mouth": LipRetargeting,
    "retarget_eye": EyeRetargeting,
}
"""The parts by the names of the published checkpoints."""


# ---- stages ----------------------------------------------------------------------------------------------------------


class PortraitStage(nn.Module):
    """Computes everything that depends on the source alone."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.appearance_feature_extractor = parts["appearance_feature_extractor"]
        self.motion_extractor = parts["motion_extractor"]
        warping = parts["warping_module"]
        assert isinstance(warping, WarpingNetwork)
        self.compress = warping.dense_motion_network.compress
        self.norm = warping.dense_motion_network.norm

    def forward(self, source: Tensor) -> tuple[Tensor, ...]:
        feature_3d = self.appearance_feature_extractor(source)  # (1, 32, 16, 64, 64)
        compressed = F.relu(self.norm(self.compress(feature_3d)))  # (1, 4, 16, 64, 64)
        pose: Pose = self.motion_extractor(source)
        turn = rotation(pose.pitch, pose.yaw, pose.roll)  # (1, 3, 3)
        x_s = keypoints(pose.kp, turn, pose.exp, pose.scale, pose.t)  # (1, K, 3)
        return feature_3d, compressed, x_s, pose.kp, turn, pose.exp, pose.scale, pose.t


class MotionStage(nn.Module):
    """Computes the driver's pose and expression."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.motion_extractor = parts["motion_extractor"]

    def forward(self, crop: Tensor) -> tuple[Tensor, ...]:
        pose: Pose = self.motion_extractor(crop)
        return rotation(pose.pitch, pose.yaw, pose.roll), pose.exp, pose.scale, pose.t, pose.kp


class FrameStage(nn.Module):
    """Combines keypoint algebra, retargeting, stitching, W and G."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.retarget_shoulder = parts["retarget_shoulder"]
        self.retarget_mouth = parts["retarget_mouth"]
        self.retarget_eye = parts["retarget_eye"]
        warping = parts["warping_module"]
        assert isinstance(warping, WarpingNetwork)
        self.warping_module = warping
        self.spade_generator = parts["spade_generator"]

    def forward(self, *inputs: Tensor) -> tuple[Tensor]:
        feature_3d, compressed, x_s, kp, *moved = inputs[:16]
        source, driving, neutral = KeypointMotion(*moved[:4]), KeypointMotion(*moved[4:8]), KeypointMotion(*moved[8:12])
        multiplier, pose_weights, expression_weights, *retargeting = inputs[16:]
        new = relative_motion(source, driving, neutral, pose_weights, expression_weights)
        x_d = keypoints(kp, *new)  # (1, K, 3)
        x_d = self._corrected(x_s, x_d, *retargeting)  # (1, K, 3)
        x_d = x_s + multiplier.unsqueeze(2) * (x_d - x_s)  # (1, K, 3)
        half = self.warping_module.fourth.weight.dtype
        warped = self.warping_module(feature_3d.to(half), x_d, x_s, compressed.to(half)).feature  # (1, 256, 64, 64)
        dtype = next(self.spade_generator.parameters()).dtype
        return (self.spade_generator(warped.to(dtype)).float(),)  # (1, 3, 512, 512)

    def _corrected(
        self,
        x_s: Tensor,
        x_d: Tensor,
        stitching: Tensor,
        eye_ratio: Tensor,
        eye_weight: Tensor,
        lip_ratio: Tensor,
        lip_weight: Tensor,
    ) -> Tensor:
        flat = x_s.flatten(1)  # (1, 63)
        eyes = self.retarget_eye(torch.cat([flat, eye_ratio], dim=1)).reshape(-1, KEYPOINTS, 3)  # (1, K, 3)
        lips = self.retarget_mouth(torch.cat([flat, lip_ratio], dim=1)).reshape(-1, KEYPOINTS, 3)  # (1, K, 3)
        x_d = x_d + eye_weight.unsqueeze(2) * eyes + lip_weight.unsqueeze(2) * lips  # (1, K, 3)
        delta = self.retarget_shoulder(torch.cat([flat, x_d.flatten(1)], dim=1))  # (1, 65)
        return stitched(x_d, delta, stitching)  # (1, K, 3)


_SOURCE = (
    TensorSpec("feature_3d", (1, 32, _DEPTH, _PLANE, _PLANE)),
    TensorSpec("compressed", (1, 4, _DEPTH, _PLANE, _PLANE)),
    TensorSpec("x_s", (1, KEYPOINTS, 3)),
    TensorSpec("source_keypoints", (1, KEYPOINTS, 3)),
)
_CONTROLS = (
    TensorSpec("multiplier", (1, 1)),
    TensorSpec("pose_weights", (1, 3)),
    TensorSpec("expression_weights", (1, KEYPOINTS, 3)),
    TensorSpec("stitching", (1, 1)),
    TensorSpec("eye_ratio", (1, 3)),
    TensorSpec("eye_weight", (1, 1)),
    TensorSpec("lip_ratio", (1, 2)),
    TensorSpec("lip_weight", (1, 1)),
)
_DEFAULTS = {
    "multiplier": (1.0,),
    "pose_weights": (1.0,) * 3,
    "expression_weights": (1.0,) * (3 * KEYPOINTS),
    "stitching": (1.0,),
    "eye_ratio": (0.0,) * 3,
    "eye_weight": (0.0,),
    "lip_ratio": (0.0,) * 2,
    "lip_weight": (0.0,),
}


def _pose_specs(whose: str) -> tuple[TensorSpec, ...]:
    return (
        TensorSpec(f"{whose}_rotation", (1, 3, 3), kind="matrix"),
        TensorSpec(f"{whose}_expression", (1, KEYPOINTS, 3)),
        TensorSpec(f"{whose}_scale", (1, 1), kind="scale"),
        TensorSpec(f"{whose}_translation", (1, 3)),
    )


def stages(parts: Mapping[str, nn.Module], *, grid_sample: GridSample = "native") -> dict[str, NetworkStage]:
    """Return the networks for inference: ``portrait``, ``motion`` and ``frame``.

    ``parts`` are as in ``MODULES`` and are not changed: the stages have copies, with batch and spectral norms folded
    into the convolutions. The outputs of ``motion`` are named ``driving_...``; the driver's neutral is an earlier one
    of them, fed as ``neutral_...``. Feeding the source's own pose as the neutral makes the motion absolute.

    Controls of ``frame``: ``multiplier`` of the whole motion; ``pose_weights`` of rotation, scale, translation and
    ``expression_weights`` of each keypoint, 0 (the source's) or 1 (the driver's); ``stitching`` weight; ``eye_ratio``
    (source's left, source's right, target) and ``lip_ratio`` (source's, target) with the weight of each retargeting.
    """
    parts = {name: folded(part) for name, part in parts.items()}
    warping = parts["warping_module"]
    assert isinstance(warping, WarpingNetwork)
    warping.dense_motion_network.grid_sample = grid_sample
    image = (1, 3, SIZE, SIZE)
    source = _SOURCE + _pose_specs("source")
    driving = _pose_specs("driving")
    made = (
        NetworkStage("portrait", PortraitStage(parts).eval(), (TensorSpec("source", image, kind="image"),), source),
        NetworkStage(
            "motion",
            MotionStage(parts).eval(),
            (TensorSpec("crop", image, kind="image"),),
            (*driving, TensorSpec("driving_keypoints", (1, KEYPOINTS, 3))),
        ),
        NetworkStage(
            "frame",
            FrameStage(parts).eval(),
            source + driving + _pose_specs("neutral") + _CONTROLS,
            (TensorSpec("image", (1, 3, OUTPUT_SIZE, OUTPUT_SIZE), kind="image"),),
            halves=("warping_module", "spade_generator"),
            defaults=_DEFAULTS,
        ),
    )
    return {stage.name: stage for stage in made}


_FOLDS = (("conv", "norm"), ("compress", "norm"), ("conv1", "norm2"))
"""Convolutions and the batch norms that follow them, by their names in a block."""


def folded(part: nn.Module) -> nn.Module:
    """Return an equivalent copy in eval mode, with batch and spectral norms folded into the convolutions."""
    part = copy.deepcopy(part).eval().requires_grad_(False)
    for block in list(part.modules()):
        for name, child in list(block.named_children()):
            if isinstance(child, SpectralConv2d):
                setattr(block, name, child.folded().requires_grad_(False))
    fold_norms(part, _FOLDS)
    return part.eval()
