#!/usr/bin/env python3
"""What a checkpoint costs: the same short run with one after every step and with the default interval, in turn.

    benches/checkpoint.py                                             # wrn-28-2 at 32 px, wide_resnet50_2 at 64 px
    benches/checkpoint.py --run wrn-28-2:64 --rounds 5 --data-dir /mnt/disk/scratch

An epoch's row tells its wall clock and how fast its steps were without anything between them; what is left is evaluation
and checkpoints. Both runs evaluate alike, so the difference, by the number of checkpoints, is what one costs: cloning,
hashing, writing, fsync. The first epoch is left out: before its end there are no best weights to write. The directory's
disk decides a good part of it: --data-dir puts it where the server's would be (the default is a temporary one)."""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

from serving import ROOT, Server, ask, clean_sheet, data_set, free_port, imported

# Of `mixmatch serve`, and of src/train/checkpoint: at most one in so many seconds, at the end of an epoch after a tenth
# of that, and never for more than a fiftieth of the time.
DEFAULT_SECONDS, EPOCH_SHARE, MOST_SHARE = 120, 10, 50


def largest(directory):
    """Bytes of the largest checkpoint that is there now; they come and go."""
    sizes = [0]
    for path in directory.glob("*/checkpoints/step-*.checkpoint"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            pass
    return max(sizes)


def train(binary, place, job, every, log):
    """Epochs after the first, as (seconds beside the steps, seconds), and a checkpoint's bytes."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    serve = [binary, "serve", "--data-dir", place, "--listen", f"127.0.0.1:{port}", "--checkpoint-seconds", every]
    size = 0
    with Server(serve, f"{base}/readyz", log, dict(os.environ)):
        url = f"{base}/jobs/{ask(f'{base}/jobs', job)['id']}"
        while ask(url)["state"] not in ("succeeded", "failed", "canceled"):
            size = max(size, largest(place / "runs"))
            time.sleep(0.05)
        rows = ask(f"{url}/metrics")["items"]
        # So short a run may fail as one that learned nothing, but not before its last epoch.
        if len(rows) < job["epochs"]:
            sys.exit(f"{job}: {ask(url)['error']}")
        rows = rows[1:]
    images = job["batch"] * job["steps_per_epoch"]
    return [(row["seconds"] - images / row["images_per_second"], row["seconds"]) for row in rows], size


def measure(args, place, network, size):
    log = place.parent / "server.log"
    job = {"dataset": "bench", "network": network, "size": size, "batch": args.batch, "validation_max": 40}
    job |= {"epochs": args.epochs, "steps_per_epoch": args.steps}
    costs, beside, total, size_of_one = [], 0, 0, 0
    for turn in range(args.rounds):
        rows = {}
        for every in (0, DEFAULT_SECONDS) if turn % 2 == 0 else (DEFAULT_SECONDS, 0):
            rows[every], found = train(args.binary, place, {**job, "seed": turn}, every, log)
            size_of_one = max(size_of_one, found)
        # After an epoch's last step the one behind its evaluation is written instead, outside of its clock.
        mean = lambda every: statistics.mean(row[0] for row in rows[every])
        costs.append((mean(0) - mean(DEFAULT_SECONDS)) / (args.steps - 1))
        beside, total = beside + costs[-1] * (args.steps - 1), total + statistics.mean(row[1] for row in rows[0])
        print(f"{network} {size}×{size}, round {turn + 1}: {1000 * costs[-1]:.1f} ms", file=sys.stderr)
    cost = statistics.median(costs)
    share = lambda interval: cost / (max(interval, MOST_SHARE * cost) + cost)
    return {
        "network": network, "size": size, "bytes": size_of_one, "milliseconds": 1000 * cost,
        "lowest_and_highest": [1000 * min(costs), 1000 * max(costs)], "share_after_every_step": beside / total,
        "share_at_default": share(DEFAULT_SECONDS), "share_with_short_epochs": share(DEFAULT_SECONDS / EPOCH_SHARE),
    }


def parse_run(text):
    network, _, size = text.partition(":")
    return network, int(size)


def main():
    data = data_set("mask")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=ROOT / "target/release/mixmatch")
    parser.add_argument("--images", default=data / "images.zip", help="a ZIP of images")
    parser.add_argument("--sheet", default=data / "train.csv", help="its sheet, with columns image and label")
    parser.add_argument("--run", dest="runs", action="append", type=parse_run, metavar="NETWORK:SIZE")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6, help="steps an epoch")
    parser.add_argument("--epochs", type=int, default=3, help="the first is not measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data-dir", help="where to put the data directory, for the disk that it is on")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.epochs < 2 or args.steps < 2:
        sys.exit("the first epoch and the last step are not measured: --epochs and --steps are at least 2")

    results = []
    with tempfile.TemporaryDirectory(dir=args.data_dir) as scratch:
        place, sheet = pathlib.Path(scratch) / "data", pathlib.Path(scratch) / "train.csv"
        clean_sheet(args.images, args.sheet, sheet, most=600)
        imported(args.binary, place, args.images, sheet)
        for network, size in args.runs or [("wrn-28-2", 32), ("wide_resnet50_2", 64)]:
            results.append(measure(args, place, network, size))
    if args.json:
        return print(json.dumps(results))
    print(f"{args.rounds} rounds of {args.epochs - 1} × {args.steps - 1} checkpoints; milliseconds are medians of the rounds (lowest to highest)")
    print(f"{'':24}{'MiB':>8}{'ms each':>10}{'(from to)':>20}{'every step':>12}{'every 120 s':>13}{'every 12 s':>12}")
    for row in results:
        low, high = row["lowest_and_highest"]
        name = f"{row['network']} {row['size']}×{row['size']}"
        shares = "".join(f"{100 * row[key]:>{width}.2f} %" for key, width in
                         [("share_after_every_step", 10), ("share_at_default", 11), ("share_with_short_epochs", 10)])
        print(f"{name:24}{row['bytes'] / 2**20:>8.1f}{row['milliseconds']:>10.1f}{f'{low:.1f} to {high:.1f}':>20}{shares}")
    print("shares of the run's time: as measured after every step; by the default interval in a long epoch; by its tenth where")
    print("epochs are short. A checkpoint that takes long comes as much later: no share goes beyond a fiftieth.")


main()
