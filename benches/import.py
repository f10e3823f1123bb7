#!/usr/bin/env python3
"""Import (decode, check, hash, pack) on one core against torchvision's ImageFolder with Resize on one core, in turn.

    benches/import.py --peers PYTHON
    benches/import.py --peers PYTHON --across 640 --most 500

Ours does more than the peer: every image is checked, hashed twice (exactly and by its likeness) and compared with all
others, and a packed file is written and synced.

`--across` makes photos of the pictures first, so many pixels across: enlarged, with the noise of a sensor, as JPEGs of
quality 90 with colours at half the size, as phones write them."""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
import zipfile

from serving import ROOT, clean_sheet, data_set, imported, run

PEER = """
import sys, time, json, numpy
from torchvision import datasets, transforms
transform = transforms.Compose([transforms.Resize((32, 32)), transforms.PILToTensor()])
at = time.perf_counter()
folder = datasets.ImageFolder(sys.argv[1], transform)
packed = numpy.stack([folder[index][0].numpy() for index in range(len(folder))])
print(json.dumps({"images": len(packed), "seconds": time.perf_counter() - at}))
"""

PHOTOS = """
import io, json, sys, zipfile, numpy
from PIL import Image
archive, out, across = sys.argv[1:]
width, height = int(across), int(across) * 3 // 4
noise = numpy.random.default_rng(1)
with zipfile.ZipFile(archive) as pictures, zipfile.ZipFile(out, "w") as photos:
    for path in json.load(sys.stdin):
        picture = Image.open(io.BytesIO(pictures.read(path))).convert("RGB").resize((width, height), Image.BICUBIC)
        noisy = numpy.asarray(picture) + noise.normal(0, 3, (height, width, 1))
        file = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(numpy.uint8)).save(file, "JPEG", quality=90, subsampling="4:2:0")
        photos.writestr(path, file.getvalue())
"""


def main():
    data = data_set("gender_aaf")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=os.environ.get("PEERS", ROOT / "target/peers/bin/python"))
    parser.add_argument("--binary", default=ROOT / "target/release/mixmatch")
    parser.add_argument("--images", default=data / "images.zip")
    parser.add_argument("--sheet", default=data / "train.csv")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most", type=int, help="take so many images at most")
    parser.add_argument("--across", type=int, help="make photos of so many pixels across of them")
    args = parser.parse_args()
    core = min(os.sched_getaffinity(0))
    pin = lambda: os.sched_setaffinity(0, {core})
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        sheet = scratch / "train.csv"
        rows = clean_sheet(args.images, args.sheet, sheet, args.most)
        # What the import leaves out (a broken picture) is none of the peer's either: it would end there.
        left_out = {row["image"] for row in imported(args.binary, scratch / "first", args.images, sheet)["report"]["rejected"]}
        rows = [row for row in rows if row[0] not in left_out]
        if args.across:
            photos = scratch / "photos.zip"
            command = [args.peers, "-c", PHOTOS, args.images, photos, args.across]
            run(command, input=json.dumps([path for path, _ in rows]))
            args.images = photos
        classes = sorted({label for _, label in rows})
        with zipfile.ZipFile(args.images) as archive:
            for number, (path, label) in enumerate(rows):
                # Named by number: labels and paths are anything.
                folder = scratch / "folder" / str(classes.index(label))
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{number}{pathlib.PurePosixPath(path).suffix}").write_bytes(archive.read(path))
        speeds, whole, images = {"ours": [], "torchvision": []}, {"ours": [], "torchvision": []}, {}
        for turn in range(args.rounds):
            for name in list(speeds) if turn % 2 == 0 else list(speeds)[::-1]:
                at = time.perf_counter()
                if name == "ours":
                    told = imported(args.binary, scratch / f"data{turn}", args.images, sheet, preexec_fn=pin, env=environment)
                    images[name] = sum(told["counts"]["train"].values())
                else:
                    command = [args.peers, "-c", PEER, scratch / "folder"]
                    told = json.loads(run(command, preexec_fn=pin, env=environment).splitlines()[-1])
                    images[name] = told["images"]
                whole[name].append(images[name] / (time.perf_counter() - at))
                speeds[name].append(images[name] / told["seconds"])
    if images["ours"] != images["torchvision"]:
        print(f"not the same images: {images}", file=sys.stderr)
    print(f"{images['ours']} images on one core, {args.rounds} rounds; images/s")
    for what, of in {"the import alone": speeds, "the whole command": whole}.items():
        ratios = [a / b for a, b in zip(of["ours"], of["torchvision"])]
        middle = {name: statistics.median(values) for name, values in of.items()}
        print(
            f"{what:18} ours {middle['ours']:7.0f}, torchvision {middle['torchvision']:7.0f}: "
            f"ours is {statistics.median(ratios):.2f}× ({min(ratios):.2f} to {max(ratios):.2f})"
        )


main()
