#!/usr/bin/env python3
"""What labels are worth that the model picks, to somebody who labels N images: all of them drawn at random, or half drawn and half picked.

As a user does it (README, step 5), on a data set whose labels are all known: the sheet has the N/2 or N labels and empty cells, a fifth of
the drawn ones validates, and the test sheet is met once by each model. --drawn begins with another number than N/2; with --rounds 2 and more
the rest is picked a part at a time, each by a model that was trained on the labels before; with --validate 1000 all N train, and as many
further labels choose the epoch.
Prints each model's figures on validation and test, and how many of the images that were picked the model had got wrong. Trainings run one
after another in a data directory of its own (docs/benchmarks.md has figures).
"""

import argparse
import csv
import random
import subprocess
import sys
from pathlib import Path


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with images.zip, train.csv and test.csv (columns image, label)")
    parser.add_argument("--binary", default="target/release/mixmatch")
    parser.add_argument("--data-dir", default="target/label-next", help="where data sets and models go")
    parser.add_argument("--labels", type=int, default=250, help="how many images are labelled in all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--drawn", type=int, help="how many of them are drawn before any is picked (half of --labels)")
    parser.add_argument("--rounds", type=int, default=1, help="in how many parts the rest is picked")
    parser.add_argument("--validate", type=int, default=0, help="labels besides that choose the epoch and are neither trained on nor picked")
    parser.add_argument("--set", action="append", default=[], help="a hyper-parameter of all trainings, as batch=32")
    parser.add_argument("--final", action="append", default=[], help="one of the trainings on all N labels alone, as epochs=60")
    parser.add_argument("--without-drawn", action="store_true", help="leave out the training on N drawn labels")
    return parser.parse_args()


class Lab:
    def __init__(self, asked):
        self.asked = asked
        self.sheets = Path(asked.data_dir) / "sheets"
        self.sheets.mkdir(parents=True, exist_ok=True)
        with open(asked.data / "train.csv", newline="") as sheet:
            self.labels = {row["image"]: row["label"] for row in csv.DictReader(sheet)}

    def run(self, command, *rest):
        ran = [self.asked.binary, command, "--data-dir", self.asked.data_dir, *map(str, rest)]
        return subprocess.run(ran, check=True, stdout=subprocess.PIPE, text=True).stdout

    def train(self, name, seed, labelled, picked=frozenset(), final=False):
        """Trains on these labels alone, and prints the figures."""
        sheet = self.sheets / f"{name}.csv"
        with open(sheet, "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["image", "label", "picked"])
            for image, label in self.labels.items():
                rows.writerow([image, label if image in labelled else "", "yes" if image in picked else ""])
        data = self.asked.data
        self.run("import", "--name", name, "--task", name, "--images", data / "images.zip", "--train", sheet, "--test", data / "test.csv")
        settings = self.asked.set + (self.asked.final if final else [])
        if held_out := self.asked.validate:
            # Of the drawn labels, as many as are asked for validate.
            drawn = len(labelled) - len(picked)
            settings = settings + [f"validation={held_out / drawn:.6f}", f"validation_max={held_out}"]
        words = [word for setting in settings for word in ("--set", setting)]
        print(self.run("train", "--dataset", name, "--seed", seed, *words), flush=True)
        print(self.run("test", "--model", name, "--dataset", name), flush=True)

    def picks(self, model, count):
        """The images without a label that the model is least sure of; prints how many of them it gets wrong."""
        rows = list(csv.DictReader(self.run("predictions", "--model", model, "--rows", "unlabelled", "--limit", count).splitlines()))
        if not rows:
            sys.exit(f"{model} has no image left to pick: one of each group of near duplicates is offered; lower --labels")
        predicted = next(column for column in rows[0] if column.startswith("predict"))
        wrong = sum(self.labels[row["image"]] != row[predicted] for row in rows)
        print(f"{model} is least sure of {len(rows)}, and wrong about {wrong} of them", flush=True)
        return {row["image"] for row in rows}


def main():
    asked = arguments()
    lab = Lab(asked)
    first = asked.labels // 2 if asked.drawn is None else asked.drawn
    if not 0 < first < asked.labels:
        sys.exit("--drawn must be 1 at least and less than --labels")
    if asked.labels + asked.validate > len(lab.labels):
        sys.exit(f"--labels and --validate together may be {len(lab.labels)} at most: the training sheet names no more images")
    if asked.validate > 99 * first:
        sys.exit("--validate may be 99 times the drawn labels at most: a job holds out 99 % of its labels at most")
    for seed in asked.seeds:
        order = list(lab.labels)
        random.Random(1000 + seed).shuffle(order)
        name = f"{asked.data.resolve().name.replace('_', '-')}-{asked.labels}-{seed}"
        drawn, picked = set(order[: first + asked.validate]), set()
        model = f"{name}-first-{first}"
        lab.train(model, seed, drawn)
        for number in range(1, asked.rounds + 1):
            wanted = (asked.labels - first) * number // asked.rounds
            picked |= lab.picks(model, wanted - len(picked))
            model = f"{name}-picked-{len(picked)}"
            lab.train(model, seed, drawn | picked, picked, final=number == asked.rounds)
        if not asked.without_drawn:
            lab.train(f"{name}-drawn", seed, set(order[: asked.labels + asked.validate]), final=True)


if __name__ == "__main__":
    main()
