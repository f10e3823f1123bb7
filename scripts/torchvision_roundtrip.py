#!/usr/bin/env python3
"""A published wide_resnet50_2 in Python's torchvision: does it load strictly, and does it answer the same?

    scripts/torchvision_roundtrip.py weights.safetensors model.json

The two files are those that a job publishes (GET /models/{name}/versions/{v}/weights, and `manifest` of
GET /models/{name}/versions/{v}). The weights are loaded with strict=True into torchvision.models.wide_resnet50_2 (for
head `reference`, its three layers into a Sequential behind it), and the golden images, seeded noise, are answered anew
and compared with the answers that mixmatch wrote at export. Needs torch, torchvision, numpy and safetensors.
Exit code 1 if logits differ by more than 1e-4 of the largest.
"""
import json
import sys

import numpy as np
import torch
from safetensors.torch import load_file
from torchvision.models import wide_resnet50_2
from torchvision.transforms import Normalize

TOLERANCE = 1e-4
IMAGES = 4  # src/model/golden.rs


def chacha8(seed, length):
    """The bytes of rand_chacha's ChaCha8Rng::seed_from_u64(seed)."""
    key, mask = [], 2**64 - 1
    for _ in range(8):  # rand_core expands the seed with PCG32
        seed = (seed * 0x5851F42D4C957F2D + 0xA17654E46FBE17F3) & mask
        word, turn = (((seed >> 18) ^ seed) >> 27) & 0xFFFFFFFF, seed >> 59
        key.append(((word >> turn) | (word << (32 - turn))) & 0xFFFFFFFF)
    blocks = -(-length // 64)
    counter = np.arange(blocks, dtype=np.uint64)
    start = np.zeros((16, blocks), dtype=np.uint32)
    start[:4] = np.frombuffer(b"expand 32-byte k", dtype="<u4")[:, None]
    start[4:12] = np.array(key, dtype=np.uint32)[:, None]
    start[12], start[13] = counter & np.uint64(0xFFFFFFFF), counter >> np.uint64(32)
    state = start.copy()

    def quarter(a, b, c, d):
        for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[x] += state[y]
            state[z] ^= state[x]
            state[z] = (state[z] << np.uint32(turn)) | (state[z] >> np.uint32(32 - turn))

    for _ in range(4):
        for at in range(4):
            quarter(at, at + 4, at + 8, at + 12)
        for at in range(4):
            quarter(at, 4 + (at + 1) % 4, 8 + (at + 2) % 4, 12 + (at + 3) % 4)
    return (state + start).T.astype("<u4").tobytes()[:length]


def network(weights, head, classes):
    """torchvision's network, and its state dict out of ours."""
    own = {name: tensor for name, tensor in weights.items() if not name.startswith("head.")}
    if head == "linear":
        model = wide_resnet50_2(num_classes=classes)
        model.load_state_dict(own, strict=True)
        return model
    backbone = wide_resnet50_2()
    backbone.load_state_dict(own, strict=True)
    layers = torch.nn.Sequential()
    for at, (inputs, outputs) in enumerate(((1000, 100), (100, 10), (10, classes)), 1):
        layers.add_module(f"fc{at}", torch.nn.Linear(inputs, outputs))
    layers.load_state_dict({name.removeprefix("head."): weights[name] for name in weights if name not in own}, strict=True)
    return torch.nn.Sequential(backbone, layers)


@torch.no_grad()
def main(weights_path, manifest_path):
    with open(manifest_path) as file:
        manifest = json.load(file)
    assert manifest["network"] == "wide_resnet50_2", f"made for wide_resnet50_2, this is {manifest['network']}"
    head, classes, size = manifest.get("head", "linear"), len(manifest["classes"]), manifest["preprocess"]["size"]
    model = network(load_file(weights_path), head, classes).eval()
    print(f"loaded strictly into torchvision's wide_resnet50_2, head {head}, {classes} classes")
    pixels = np.frombuffer(chacha8(manifest["golden"]["seed"], IMAGES * size * size * 3), dtype=np.uint8)
    images = torch.from_numpy(pixels.reshape(IMAGES, size, size, 3).copy()).permute(0, 3, 1, 2).float() / 255
    logits = model(Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(images))
    ours = torch.tensor(manifest["golden"]["logits"])
    difference, largest = (logits - ours).abs().max().item(), ours.abs().max().item()
    print(f"torchvision: {logits.tolist()}\nmixmatch:    {ours.tolist()}")
    print(f"largest difference {difference:.3g}, largest logit {largest:.3g}: {difference / largest:.2g} of it")
    return 0 if difference <= TOLERANCE * largest else 1


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2]))
