#!/usr/bin/env python3
"""What torchvision's wide_resnet50_2 answers, for tests/torchvision.rs.

Run:  python make_torchvision.py        (torch 2.11.x, torchvision 0.26.x, numpy; one CPU minute)

The weights have 276 MB, so they are not committed but made by a formula that both languages follow to the last bit.
Number i of the tensor `name` lies between low and high, which depend on the kind of tensor:

    seed = FNV-1a of `name`, 64 bits        z = splitmix64's finaliser of (seed + i * 0x9E3779B97F4A7C15) mod 2^64
    value = float32(low + (high - low) * (z >> 40) / 2^24)        computed in float64

    4-dimensional       ± sqrt(6 / fan_in), fan_in = product of all but the first side
    2-dimensional       ± sqrt(3 / fan_in)
    *.running_mean      ± .2
    *.running_var       .5 … 1.5
    *.bn3.weight        0 … .5 (the sum of sixteen blocks stays small)
    other *bn*.weight, *.downsample.1.weight    .5 … 1.5
    *.bias              ± .2

Written beside this file:
wide_resnet50_2_keys.txt    one line a tensor of wide_resnet50_2(): name, sides; without num_batches_tracked
wide_resnet50_2.json        `size`, `batch`: the input "input" [batch, 3, size, size] by the formula in ±1, which stands for
                            0…1 before ImageNet's normalisation (torchvision.transforms.Normalize is applied to (x+1)/2);
                            `linear`: logits of wide_resnet50_2(num_classes=5) in evaluation; `linear_train`: the same by
                            batch statistics; `statistics`: for some BatchNorms the first four running means and variances
                            after that one pass (momentum .1); `reference`: logits of wide_resnet50_2() with
                            Linear(1000,100), Linear(100,10), Linear(10,2) behind it under the names head.fc1, head.fc2,
                            head.fc3
"""
import json
import os

import numpy as np
import torch
from torch import nn
from torchvision.models import wide_resnet50_2
from torchvision.transforms import Normalize

HERE = os.path.dirname(os.path.abspath(__file__))
SIZE, BATCH = 64, 2
STATISTICS = ("bn1", "layer1.0.downsample.1", "layer2.0.bn2", "layer4.2.bn3")


def bounds(name, shape):
    fan_in = int(np.prod(shape[1:]))
    if len(shape) == 4:
        return (-1, 1) if name == "input" else (-(6 / fan_in) ** 0.5, (6 / fan_in) ** 0.5)
    if len(shape) == 2:
        return -(3 / fan_in) ** 0.5, (3 / fan_in) ** 0.5
    if name.endswith("running_var"):
        return 0.5, 1.5
    if name.endswith("weight"):
        return (0.0, 0.5) if name.endswith("bn3.weight") else (0.5, 1.5)
    return -0.2, 0.2


def made(name, shape):
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) % 2**64
    z = np.arange(int(np.prod(shape)), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    low, high = bounds(name, shape)
    values = low + (high - low) * ((z >> np.uint64(40)).astype(np.float64) / 2**24)
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def fill(module, prefix=""):
    for name, tensor in module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            tensor.copy_(made(prefix + name, tuple(tensor.shape)))
    return module


@torch.no_grad()
def main():
    whole = fill(wide_resnet50_2())
    keys = [(name, tuple(tensor.shape)) for name, tensor in whole.state_dict().items() if "num_batches" not in name]
    with open(os.path.join(HERE, "wide_resnet50_2_keys.txt"), "w") as file:
        file.writelines(" ".join([name, *map(str, shape)]) + "\n" for name, shape in keys)
    assert sum(parameter.numel() for parameter in whole.parameters()) == 68_883_240

    image = made("input", (BATCH, 3, SIZE, SIZE))
    image = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))((image + 1) / 2)
    head = nn.Sequential()
    for at, (inputs, outputs) in enumerate(((1000, 100), (100, 10), (10, 2)), 1):
        head.add_module(f"fc{at}", nn.Linear(inputs, outputs))
    fill(head, "head.")
    reference = head(whole.eval()(image))

    linear = fill(wide_resnet50_2(num_classes=5))
    answers = {"size": SIZE, "batch": BATCH, "linear": linear.eval()(image).tolist()}
    answers["linear_train"] = linear.train()(image).tolist()
    state = linear.state_dict()
    answers["statistics"] = {
        f"{name}.{kind}": state[f"{name}.{kind}"][:4].tolist() for name in STATISTICS
        for kind in ("running_mean", "running_var")
    }
    answers["reference"] = reference.tolist()
    with open(os.path.join(HERE, "wide_resnet50_2.json"), "w") as file:
        json.dump(answers, file, indent=1)
        file.write("\n")
    print(json.dumps(answers, indent=1))
    exact = fill(wide_resnet50_2(num_classes=5)).double()
    print("off by float32's rounding alone:",
          (exact.eval()(image.double()) - torch.tensor(answers["linear"])).abs().max().item(),
          (exact.train()(image.double()) - torch.tensor(answers["linear_train"])).abs().max().item())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
