#!/usr/bin/env python3
"""Golden pictures for mixmatch's augmentations, computed by torchvision 0.26 (torch 2.11, CPU, float32).

Run:  python make_augment.py     (needs torch 2.11.x, torchvision 0.26.x, pillow, safetensors; writes
                                  augment_operations.safetensors beside itself)

`images` [3,10,12,3] u8 NHWC: not square, so that width and height cannot be mistaken for each other. Every `NAME.expected`
is [3,3,10,12] float32 NCHW in 0..1, from `torchvision.transforms.v2.functional` on images / 255, image by image:

brightness, contrast, saturation, hue, gamma
                                            with `NAME.factor` [3]; hue in turns
grayscale                                   where `grayscale.drawn` [3] u8 is 1
flip                                        where `flip.drawn` [3] u8 is 1
rotate_black, rotate_nearest                `rotation` [3], degrees counter-clockwise; bilinear and nearest, zeros outside
rotate_pillow                               the same angles by Pillow on the u8 images, as the reference did it
affine_black                                `rotation` and `scale` [3] in one bilinear sampling, zeros outside
affine_reflect                              the same, mirrored at the border (torch's grid_sample; torchvision cannot)
erase                                       a square of half each side, middle at `hole` [3,2] (row, column, as shares),
                                            filled with .5
"""
import math
import os

import numpy as np
import torch
import torchvision
import torchvision.transforms.v2.functional as F
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import InterpolationMode as Mode

HERE = os.path.dirname(os.path.abspath(__file__))
assert torch.__version__.startswith("2.11") and torchvision.__version__.startswith("0.26")
torch.use_deterministic_algorithms(True)
torch.set_num_threads(1)
HEIGHT, WIDTH = 10, 12


def pictures():
    """A gradient with saturated colours, noise, and a dark picture with a bright spot."""
    generator = torch.Generator().manual_seed(11)
    y = torch.linspace(0, 255, HEIGHT).view(HEIGHT, 1).expand(HEIGHT, WIDTH)
    x = torch.linspace(0, 255, WIDTH).view(1, WIDTH).expand(HEIGHT, WIDTH)
    gradient = torch.stack([x, y, 255 - x], dim=2)
    noise = torch.randint(0, 256, (HEIGHT, WIDTH, 3), generator=generator)
    dark = torch.randint(0, 60, (HEIGHT, WIDTH, 3), generator=generator)
    dark[2:5, 7:10] = torch.tensor([250, 200, 30])
    return torch.stack([gradient.round().to(torch.uint8), noise.to(torch.uint8), dark.to(torch.uint8)])


def reflected(image, degrees, scale):
    """Rotation and zoom mirrored at the border, with the grid written out in pixels."""
    angle = math.radians(degrees)
    ys = torch.arange(HEIGHT, dtype=torch.float64) - (HEIGHT - 1) / 2
    xs = torch.arange(WIDTH, dtype=torch.float64) - (WIDTH - 1) / 2
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    from_x = (math.cos(angle) * x - math.sin(angle) * y) / scale
    from_y = (math.sin(angle) * x + math.cos(angle) * y) / scale
    grid = torch.stack([from_x / (WIDTH / 2), from_y / (HEIGHT / 2)], dim=2).float()
    return torch.nn.functional.grid_sample(
        image[None], grid[None], mode="bilinear", padding_mode="reflection", align_corners=False
    )[0]


def erased(image, hole):
    height, width = round(HEIGHT / 2), round(WIDTH / 2)
    top, left = int(hole[0] * HEIGHT) - height // 2, int(hole[1] * WIDTH) - width // 2
    bottom, right = min(top + height, HEIGHT), min(left + width, WIDTH)
    top, left = max(top, 0), max(left, 0)
    return F.erase(image, top, left, bottom - top, right - left, torch.tensor(0.5))


images = pictures()
floats = list(images.permute(0, 3, 1, 2).float() / 255)
factors = {
    "brightness": [0.5, 1.5, 0.9],
    "contrast": [1.5, 0.5, 0.8],
    "saturation": [0.5, 1.5, 1.2],
    "hue": [-0.5, 0.13, 0.4],
    "gamma": [0.5, 1.5, 1.1],
}
rotation, scale = [-10.0, 7.0, 33.0], [1.3, 0.7, 0.95]
drawn = [1, 0, 1]
holes = [(0.5, 0.5), (0.05, 0.9), (0.95, 0.3)]
operations = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
    "gamma": F.adjust_gamma,
}

out = {"images": images, "rotation": torch.tensor(rotation), "scale": torch.tensor(scale), "hole": torch.tensor(holes)}
for name, values in factors.items():
    out[f"{name}.factor"] = torch.tensor(values)
    out[f"{name}.expected"] = torch.stack([operations[name](x, value) for x, value in zip(floats, values)])
for name, operation in {"grayscale": lambda x: F.rgb_to_grayscale(x, 3), "flip": F.horizontal_flip}.items():
    out[f"{name}.drawn"] = torch.tensor(drawn, dtype=torch.uint8)
    out[f"{name}.expected"] = torch.stack([operation(x) if yes else x for x, yes in zip(floats, drawn)])
for name, mode in {"rotate_black": Mode.BILINEAR, "rotate_nearest": Mode.NEAREST}.items():
    out[f"{name}.expected"] = torch.stack([F.rotate(x, angle, mode) for x, angle in zip(floats, rotation)])
turned = [F.rotate(Image.fromarray(x.numpy()), angle) for x, angle in zip(images, rotation)]
out["rotate_pillow.expected"] = torch.stack([torch.from_numpy(np.array(x)).permute(2, 0, 1) / 255 for x in turned])
triples = list(zip(floats, rotation, scale))
# affine's angle is clockwise, rotate's is not.
out["affine_black.expected"] = torch.stack([F.affine(x, -a, [0, 0], s, [0, 0], Mode.BILINEAR) for x, a, s in triples])
out["affine_reflect.expected"] = torch.stack([reflected(x, a, s) for x, a, s in triples])
out["erase.expected"] = torch.stack([erased(x, hole) for x, hole in zip(floats, holes)])

for name, tensor in out.items():
    if name.endswith(".expected"):
        assert tensor.shape == (3, 3, HEIGHT, WIDTH) and tensor.dtype == torch.float32, name
        assert 0 <= tensor.min() and tensor.max() <= 1 + 1e-6, name
difference = (out["rotate_nearest.expected"] - out["rotate_pillow.expected"]).abs().amax(dim=1) > 1e-6
print("pixels where torchvision and Pillow rotate differently:", int(difference.sum()), "of", difference.numel())
path = os.path.join(HERE, "augment_operations.safetensors")
versions = {"torch": torch.__version__.split("+")[0], "torchvision": torchvision.__version__.split("+")[0]}
save_file({name: tensor.clone().contiguous() for name, tensor in out.items()}, path, metadata=versions)
print(f"{os.path.basename(path)}  {os.path.getsize(path)} bytes  {len(out)} tensors")
