#!/usr/bin/env python3
"""A MixMatch step as the popular PyTorch repositories write it: float32, default layout, a DataLoader over PIL
transforms, one view after another, one λ a batch, the moving average parameter by parameter."""

import copy

import numpy
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from wrn import Wrn, arguments, timed


class Views(Dataset):
    """`views` augmented views of each image, and its label."""

    def __init__(self, images, labels, views, side):
        self.images, self.labels, self.views = images, labels, views
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(side, padding=4, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * 3, (0.5,) * 3),
            ]
        )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = Image.fromarray(self.images[index])
        return [self.transform(image) for _ in range(self.views)], self.labels[index]


def endless(loader):
    while True:
        yield from loader


def main():
    args = arguments()
    device = torch.device(args.device)
    data = numpy.load(args.data)
    images, labels = data["images"], data["labels"].astype(numpy.int64)
    classes, side = int(labels.max()) + 1, images.shape[1]

    def loader(views):
        dataset = Views(images, labels, views, side)
        # Of fewer images than a batch has, some come twice: without its last batch such a loader would have none, for ever.
        few = RandomSampler(dataset, replacement=True, num_samples=args.batch) if len(dataset) < args.batch else None
        return endless(
            DataLoader(
                dataset,
                batch_size=args.batch,
                shuffle=few is None,
                sampler=few,
                drop_last=True,
                num_workers=args.workers,
                persistent_workers=args.workers > 0,
            )
        )

    labelled, unlabelled = loader(1), loader(args.k)
    model = Wrn(args.network, classes).to(device)
    average = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
    model.train()
    steps = 0

    def step():
        nonlocal steps
        (x,), y = next(labelled)
        views, _ = next(unlabelled)
        x, y = x.to(device), F.one_hot(y, classes).float().to(device)
        views = [view.to(device) for view in views]
        with torch.no_grad():
            guess = sum(torch.softmax(model(view), 1) for view in views) / args.k
            guess = guess ** (1 / 0.5)
            guess = guess / guess.sum(1, keepdim=True)
        inputs = torch.cat([x, *views])
        targets = torch.cat([y] + [guess] * args.k)
        mix = numpy.random.beta(0.75, 0.75)
        mix = max(mix, 1 - mix)
        order = torch.randperm(len(inputs), device=device)
        inputs = mix * inputs + (1 - mix) * inputs[order]
        targets = mix * targets + (1 - mix) * targets[order]
        # One forward a part, as the interleaving repositories do.
        logits = torch.cat([model(part) for part in torch.split(inputs, args.batch)])
        count = len(x)
        loss_x = -(F.log_softmax(logits[:count], 1) * targets[:count]).sum(1).mean()
        loss_u = ((torch.softmax(logits[count:], 1) - targets[count:]) ** 2).mean()
        loss = loss_x + 15.0 * min(1.0, steps / 1024) * loss_u
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for ours, theirs in zip(average.parameters(), model.parameters()):
                ours.mul_(0.999).add_(theirs * 0.001)
                theirs.mul_(1 - 0.02 * 0.002)
            for ours, theirs in zip(average.buffers(), model.buffers()):
                ours.copy_(theirs)
        steps += 1
        return loss.item()

    timed(step, args)


main()
