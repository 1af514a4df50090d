"""The reference implementation that the networks are tested against.

It spells out every operation of the published code: separate depthwise
convolutions, padding, stacking, two copies of each fused feature map, frames
selected by index. Parameters have the published names.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = {50: (3, 4, 6, 3), 101: (4, 8, 18, 3), 152: (5, 12, 30, 3)}


class ReferenceTAM(nn.Module):
    def __init__(self, channels: int, num_frames: int, r: int = 3) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.r = r
        layers = [nn.Conv2d(channels, channels, 1, groups=channels, bias=False) for _ in range(r)]
        if r == 3:
            self.prev, self.next, self.curr = layers[0], layers[2], layers[1]
        else:
            self.blending_layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        layers = (self.prev, self.curr, self.next) if self.r == 3 else self.blending_layers
        terms = []
        for j, layer in enumerate(layers):
            offset = j - self.r // 2
            y = layer(x)
            y = y.view((-1, self.num_frames) + y.shape[1:])
            # Shift by `offset` frames, with zeros outside of the clip.
            if offset >= 0:
                y = F.pad(y, (0, 0) * 3 + (0, offset))[:, offset:]
            else:
                y = F.pad(y, (0, 0) * 3 + (-offset, 0))[:, :offset]
            terms.append(y)
        y = F.relu(torch.sum(torch.stack(terms), dim=0))
        return y.reshape((-1,) + y.shape[2:])


class ReferenceShift(nn.Module):
    def __init__(self, num_frames: int) -> None:
        super().__init__()
        self.num_frames = num_frames

    def forward(self, x: Tensor) -> Tensor:
        clips = x.view((-1, self.num_frames) + x.shape[1:])
        fold = x.size(1) // 8
        y = clips.clone()
        y[:, :, : 2 * fold] = 0
        y[:, :-1, :fold] = clips[:, 1:, :fold]
        y[:, 1:, fold : 2 * fold] = clips[:, :-1, fold : 2 * fold]
        return y.view_as(x)


class ReferenceBottleneck(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1, last_relu=True, temporal=None):
        super().__init__()
        mid = out_channels // 4
        self.conv1 = nn.Conv2d(in_channels, mid, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, mid, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.conv3 = nn.Conv2d(mid, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        layers = []
        if stride != 1:
            layers.append(nn.AvgPool2d(3, 2, 1))
        if in_channels != out_channels:
            layers += [nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)]
        self.downsample = nn.Sequential(*layers) if layers else None
        self.tam = temporal
        self.last_relu = last_relu

    def forward(self, x):
        shortcut = x
        if self.tam is not None:
            x = self.tam(x)
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            after_tam = isinstance(self.tam, ReferenceTAM)
            shortcut = self.downsample(x if after_tam else shortcut)
        out = out + shortcut
        return F.relu(out) if self.last_relu else out


class ReferenceStage(nn.Module):
    def __init__(self, in_channels, out_channels, n, stride, alpha, beta, temporal, video):
        super().__init__()
        big = [ReferenceBottleneck(in_channels, out_channels, 2)]
        for i in range(1, n - 1):
            big.append(ReferenceBottleneck(out_channels, out_channels, last_relu=i < n - 2))
        self.big = nn.Sequential(*big)
        thin = out_channels // alpha
        little = [ReferenceBottleneck(in_channels, thin)]
        for _ in range(1, max(1, n // beta - 1)):
            little.append(ReferenceBottleneck(thin, thin))
        self.little = nn.Sequential(*little)
        self.little_e = nn.Sequential(nn.Conv2d(thin, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        self.fusion = nn.Sequential(ReferenceBottleneck(out_channels, out_channels, stride))
        self.tam = temporal
        self.video = video

    def forward(self, x):
        even = odd = x
        if self.video:
            # [2, N * K, ..] -> [N * K, 2, ..] -> [N * T, ..]
            x = torch.stack((x, x)).transpose(0, 1).reshape((-1,) + x.shape[1:])
            if self.tam is not None:
                x = self.tam(x)
            index = torch.arange(x.size(0))
            even, odd = x[index % 2 == 0], x[index % 2 == 1]
        big = self.big(odd)
        little = self.little_e(self.little(even))
        big = F.interpolate(big, little.shape[2:], mode='nearest')
        return self.fusion(F.relu(big + little))


class ReferenceNetwork(nn.Module):
    """bLResNet, bLVNet, bLVNet-TAM and bLVNet-TSM with their classifier.

    ``num_frames=1`` makes the image network, ``temporal`` is 'TAM', 'TSM' or
    None, ``r`` the frames a TAM blends, ``channels`` those of each stage.
    """

    def __init__(
        self,
        depth,
        num_frames,
        num_classes,
        temporal='TAM',
        r=3,
        alpha=2,
        beta=4,
        in_channels=3,
        channels=(256, 512, 1024, 2048),
    ):
        super().__init__()
        self.num_frames = num_frames
        self.video = num_frames > 1

        def make_temporal(channels, frames):
            if temporal == 'TAM':
                return ReferenceTAM(channels, frames, r)
            return ReferenceShift(frames) if temporal == 'TSM' else None

        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.b_conv0 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn_b0 = nn.BatchNorm2d(64)
        thin = 64 // alpha
        self.l_conv0 = nn.Conv2d(64, thin, 3, 1, 1, bias=False)
        self.bn_l0 = nn.BatchNorm2d(thin)
        self.l_conv1 = nn.Conv2d(thin, thin, 3, 2, 1, bias=False)
        self.bn_l1 = nn.BatchNorm2d(thin)
        self.l_conv2 = nn.Conv2d(thin, 64, 1, bias=False)
        self.bn_l2 = nn.BatchNorm2d(64)
        self.bl_init = nn.Conv2d(64, 64, 1, bias=False)
        self.bn_bl_init = nn.BatchNorm2d(64)
        self.tam = make_temporal(64, num_frames)
        n = BLOCKS[depth]
        inputs, strides = (64, *channels), (2, 2, 1)
        self.layer1, self.layer2, self.layer3 = (
            ReferenceStage(
                inputs[i], channels[i], n[i], strides[i], alpha, beta, make_temporal(inputs[i], num_frames), self.video
            )
            for i in range(3)
        )
        inputs = (channels[2], *[channels[3]] * (n[3] - 1))
        self.layer4 = nn.Sequential(
            *[
                ReferenceBottleneck(
                    inputs[i], channels[3], 1 if i else 2, temporal=make_temporal(inputs[i], num_frames // 2)
                )
                for i in range(n[3])
            ]
        )
        self.fc = nn.Linear(channels[3], num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the maps of layer4 for frames ``(N * T, C, H, W)``."""
        x = F.relu(self.bn1(self.conv1(x)))
        even = odd = x
        if self.video:
            if self.tam is not None:
                x = self.tam(x)
            index = torch.arange(x.size(0))
            even, odd = x[index % 2 == 0], x[index % 2 == 1]
        big = self.bn_b0(self.b_conv0(odd))
        little = F.relu(self.bn_l0(self.l_conv0(even)))
        little = F.relu(self.bn_l1(self.l_conv1(little)))
        little = self.bn_l2(self.l_conv2(little))
        x = F.relu(big + little)
        x = F.relu(self.bn_bl_init(self.bl_init(x)))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of clips ``(N, T, C, H, W)`` or images ``(N, C, H, W)``."""
        frames = x.flatten(0, 1) if self.video else x
        scores = self.fc(self.features(frames).mean((2, 3)))
        if not self.video:
            return scores
        return scores.view(x.size(0), self.num_frames // 2, -1).mean(1)
