#!/usr/bin/env python3
"""How well MixMatch in PyTorch learns from the files that ours learns from: the tuned peer's step, run to the end of the paper's
schedule, its averaged weights tested on the test sheet.

    accuracy.py --images images.zip --train train.csv --test test.csv --labelled 250 --steps 16384 --device cuda:0

Written after the paper (arXiv 1905.02249) and independently of ours: λ_u 75, rising over the whole run, T ½, α .75, K 2,
Adam .002, weight decay .02, EMA .999, mirroring and cropping."""

import argparse
import csv
import io
import json
import time
import zipfile

import numpy
import torch
from PIL import Image

from train_tuned import Tuned, normal


def read(archive, sheet, size):
    with zipfile.ZipFile(archive) as images:
        where = {}
        for path in images.namelist():
            where[path] = path
            where.setdefault(path.rsplit("/", 1)[-1], path)
        rows = list(csv.DictReader(open(sheet, newline="")))
        names = sorted({row["label"] for row in rows})
        pixels = numpy.empty((len(rows), size, size, 3), dtype=numpy.uint8)
        for place, row in enumerate(rows):
            picture = Image.open(io.BytesIO(images.read(where[row["image"]]))).convert("RGB")
            pixels[place] = numpy.asarray(picture if picture.size == (size, size) else picture.resize((size, size)))
    return torch.from_numpy(pixels), torch.tensor([names.index(row["label"]) for row in rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--network", default="wrn-28-2")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--labelled", type=int, default=250)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=16384)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda:0")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    device = torch.device(args.device)
    images, labels = (part.to(device) for part in read(args.images, args.train, args.size))
    tested, truth = (part.to(device) for part in read(args.images, args.test, args.size))
    shuffled = torch.randperm(len(labels), device=device)
    classes = int(labels.max()) + 1
    each = args.labelled // classes
    labelled = torch.cat([shuffled[labels[shuffled] == one][:each] for one in range(classes)])
    unlabelled = shuffled[~torch.isin(shuffled, labelled)]
    peer = Tuned(args.network, images, labels, labelled, unlabelled, args.batch, lambda_u=75.0, ramp=args.steps)

    @torch.no_grad()
    def accuracy():
        peer.average.eval()
        with torch.autocast(device.type, torch.bfloat16):
            answers = torch.cat([peer.average(normal(part)).argmax(1) for part in tested.split(1000)])
        return round(float((answers == truth).float().mean()), 4)

    started = time.perf_counter()
    for done in range(1, args.steps + 1):
        peer.step()
        if done % max(1, args.steps // 16) == 0:
            figures = {"step": done, "test": accuracy(), "seconds": time.perf_counter() - started}
            print(json.dumps({**figures, "labelled": args.labelled, "seed": args.seed}), flush=True)


if __name__ == "__main__":
    main()
