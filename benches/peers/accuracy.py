#!/usr/bin/env python3
"""How well MixMatch in PyTorch learns from the files that ours learns from: the tuned peer's step, run to the end of the paper's
schedule, its averaged weights tested on the test sheet.

    accuracy.py --images images.zip --train train.csv --test test.csv --labelled 250 --steps 16384 --device cuda:0

Written after the paper (arXiv 1905.02249) and independently of ours: λ_u 75, rising over the whole run, T ½, α .75, K 2,
Adam .002, weight decay .02, EMA .999, mirroring and cropping."""

import argparse
import copy
import csv
import io
import json
import time
import zipfile

import numpy
import torch
from PIL import Image
from torch.nn import functional as F

from wrn import Wrn, freeze_statistics


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
    classes, side, k = int(labels.max()) + 1, args.size, 2
    each = args.labelled // classes
    shuffled = torch.randperm(len(labels), device=device)
    labelled = torch.cat([shuffled[labels[shuffled] == one][:each] for one in range(classes)])
    unlabelled = shuffled[~torch.isin(shuffled, labelled)]
    model = Wrn(args.network, classes).to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002, fused=device.type == "cuda")
    beta = torch.distributions.Beta(*torch.full((2,), 0.75, device=device))
    line = torch.arange(side, device=device)

    def normal(batch):
        return batch.float().div_(127.5).sub_(1.0).permute(0, 3, 1, 2)

    def augment(batch):
        count = len(batch)
        y, x = line + torch.randint(-4, 5, (2, count, 1), device=device)
        y, x = ((side - 1) - (side - 1 - i.abs()).abs() for i in (y, x))
        x = torch.where(torch.rand(count, 1, device=device) < 0.5, side - 1 - x, x)
        image = torch.arange(count, device=device)[:, None, None]
        return normal(batch[image, y[:, :, None], x[:, None, :]])

    def step(done):
        mine = labelled[torch.randint(0, len(labelled), (args.batch,), device=device)]
        other = unlabelled[torch.randint(0, len(unlabelled), (args.batch,), device=device)]
        y = F.one_hot(labels[mine], classes).float()
        x, views = augment(images[mine]), augment(images[other].repeat(k, 1, 1, 1))
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            freeze_statistics(model, True)
            guess = torch.softmax(model(views).float(), 1).view(k, -1, classes).mean(0)
            freeze_statistics(model, False)
            guess = guess**2
            guess = guess / guess.sum(1, keepdim=True)
        inputs, targets = torch.cat([x, views]), torch.cat([y, guess.repeat(k, 1)])
        mix = beta.sample((len(inputs), 1))
        mix = torch.maximum(mix, 1 - mix)
        order = torch.randperm(len(inputs), device=device)
        inputs = torch.lerp(inputs[order], inputs, mix[:, :, None, None])
        targets = torch.lerp(targets[order], targets, mix)
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(inputs).float()
        loss_x = -(F.log_softmax(logits[: len(x)], 1) * targets[: len(x)]).sum(1).mean()
        loss_u = ((torch.softmax(logits[len(x) :], 1) - targets[len(x) :]) ** 2).mean()
        optimizer.zero_grad(set_to_none=True)
        (loss_x + 75.0 * done / args.steps * loss_u).backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_mul_([p for p in model.parameters() if p.dim() > 1], 1 - 0.02 * 0.002)
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 0.001)
            for ours, theirs in zip(average.buffers(), model.buffers()):
                ours.copy_(theirs)

    @torch.no_grad()
    def accuracy():
        average.eval()
        with torch.autocast(device.type, torch.bfloat16):
            answers = torch.cat([average(normal(part)).argmax(1) for part in tested.split(1000)])
        return float((answers == truth).float().mean())

    model.train()
    started, course = time.perf_counter(), []
    for done in range(args.steps):
        step(done)
        if (done + 1) % max(1, args.steps // 16) == 0:
            course.append(round(accuracy(), 4))
            print(json.dumps({"step": done + 1, "test": course[-1], "seconds": round(time.perf_counter() - started)}), flush=True)
    print(json.dumps({"steps": args.steps, "labelled": args.labelled, "seed": args.seed, "test": course[-1], "seconds": time.perf_counter() - started}))


main()
