"""WRN-d-k in plain PyTorch: the network of both training peers (Zagoruyko & Komodakis, arXiv 1605.07146)."""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, first):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs, eps=1e-3, momentum=0.001)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.001)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        changes = inputs != outputs or stride != 1
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else None
        self.first = first

    def forward(self, x):
        activated = F.leaky_relu(self.bn1(x), 0.1, inplace=True)
        y = F.leaky_relu(self.bn2(self.conv1(activated)), 0.1, inplace=True)
        y = self.conv2(y)
        residual = activated if self.first else x
        return y + (residual if self.shortcut is None else self.shortcut(residual))


class Wrn(nn.Module):
    def __init__(self, name, classes):
        super().__init__()
        _, depth, width = name.split("-")
        count, width = (int(depth) - 4) // 6, int(width)
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        blocks, channels = [], 16
        for group in range(3):
            for block in range(count):
                outputs = (16 << group) * width
                stride = 2 if group > 0 and block == 0 else 1
                blocks.append(Block(channels, outputs, stride, group == 0 and block == 0))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.001)
        self.head = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] ** 2 * module.out_channels
                nn.init.normal_(module.weight, 0.0, (2.0 / fan_out) ** 0.5)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        x = F.leaky_relu(self.bn(x), 0.1, inplace=True)
        return self.head(x.mean((2, 3)))


def freeze_statistics(model, frozen):
    """Whether BatchNorm's running statistics stay as they are while batch statistics normalise."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0 if frozen else 0.001


def timed(step, arguments):
    """Runs `step` and prints the figures that `mixmatch bench train --json` prints."""
    import json
    import resource
    import statistics
    import time

    # As ours is timed: the loss is read, and a GPU waited for, after every tenth step.
    gpu = arguments.device.startswith("cuda")
    together = 10 if gpu else 1
    for _ in range(arguments.warm):
        float(step())
    times, started, loss = [], time.perf_counter(), 0.0
    for first in range(0, arguments.steps, together):
        at, now = time.perf_counter(), min(together, arguments.steps - first)
        for _ in range(now):
            loss = step()
        loss = float(loss)
        times.append((time.perf_counter() - at) * 1e3 / now)
    seconds = time.perf_counter() - started
    free, total = torch.cuda.mem_get_info() if gpu else (0, 0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "labelled_images_per_second": arguments.batch * arguments.steps / seconds,
                "step_ms": statistics.median(times),
                "peak_resident_mib": peak / 1024,
                "device_mib": (total - free) / 2**20,
                "last_loss": loss,
                "torch": torch.__version__,
            }
        )
    )


def arguments():
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help=".npz with images uint8 [N, H, W, 3] and labels [N]")
    parser.add_argument("--network", default="wrn-28-2")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--k", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warm", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    return parsed
