#!/usr/bin/env python3
"""Which faces `fit: face` finds, on real data: docs/benchmarks.md, "Cut to the face".

    make target/peers/.stamp                                       # for Pillow
    target/peers/bin/python scripts/faces.py photos mask /tmp/mask-photos.zip
        # mask's images at 30 to 90 % of the height of 320×240 photos, on images of cifar10; the sheets stay as they are
    target/peers/bin/python scripts/faces.py count mask /tmp/mask-photos.zip --server http://127.0.0.1:8080 --model mask --by source
        # asks a model with `fit: face` about each, and counts those with a face by label and by a column of the sheet
    target/peers/bin/python scripts/faces.py none --server http://127.0.0.1:8080 --model mask
        # cifar10's images, which show no faces of people, at 480×360
"""

import argparse
import collections
import concurrent.futures
import csv
import io
import json
import random
import urllib.request
import zipfile
from pathlib import Path

from PIL import Image

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def files(archive: zipfile.ZipFile) -> dict:
    """Where an image lies, by its name and by its whole path."""
    names = [name for name in archive.namelist() if name.endswith(".jpg")]
    return {name.rsplit("/", 1)[-1]: name for name in names} | {name: name for name in names}


def backgrounds(count: int) -> list:
    """Pictures of cifar10's training sheet, evenly spread over it."""
    archive = zipfile.ZipFile(DATA / "cifar10" / "images.zip")
    where = files(archive)
    with open(DATA / "cifar10" / "train.csv", newline="") as sheet:
        rows = list(csv.DictReader(sheet))
    return [Image.open(io.BytesIO(archive.read(where[row["image"]]))).convert("RGB") for row in rows[:: len(rows) // count]]


def jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


def rows(name: str, sheets=("train", "test")) -> list:
    found = []
    for sheet in sheets:
        with open(DATA / name / f"{sheet}.csv", newline="") as file:
            found += csv.DictReader(file)
    return found


def photos(name: str, out: Path, size=(320, 240), share=(0.3, 0.9)) -> None:
    """The data set's images as parts of photos of something else."""
    chance, scenes = random.Random(9), backgrounds(5000)
    archive = zipfile.ZipFile(DATA / name / "images.zip")
    where = files(archive)
    with zipfile.ZipFile(out, "w") as photos:
        for row in rows(name):
            face = Image.open(io.BytesIO(archive.read(where[row["image"]]))).convert("RGB")
            factor = chance.uniform(*share) * size[1] / max(face.size)
            face = face.resize([max(1, int(side * factor)) for side in face.size], Image.BICUBIC)
            photo = chance.choice(scenes).resize(size, Image.BICUBIC)
            photo.paste(face, [chance.randint(0, whole - part) for whole, part in zip(size, face.size)])
            photos.writestr(row["image"], jpeg(photo))


def faces(server: str, model: str, images: list) -> list:
    """For each image its face, None where there is none."""

    def ask(image: bytes):
        request = urllib.request.Request(f"{server}/predict?model={model}", image, {"content-type": "image/jpeg"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["results"][0]["face"]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(ask, images))


def count(name: str, photos: Path, server: str, model: str, by: str, most: int) -> None:
    archive = zipfile.ZipFile(photos)
    where, asked = files(archive), rows(name, ["train"])[:most]
    found = faces(server, model, [archive.read(where[row["image"]]) for row in asked])
    groups = collections.defaultdict(list)
    for row, face in zip(asked, found):
        groups[row["label"], row[by]].append(face is not None)
    for (label, value), told in sorted(groups.items()):
        print(f"{label:10} {value:12} {sum(told):5} of {len(told):5}  {100 * sum(told) / len(told):6.1f} %")


def none(server: str, model: str) -> None:
    pictures = [picture.resize((480, 360), Image.BICUBIC) for picture in backgrounds(2000)]
    found = faces(server, model, [jpeg(picture) for picture in pictures])
    print(f"{sum(face is not None for face in found)} of {len(found)} pictures without people have a face")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["photos", "count", "none"])
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("file", nargs="?", type=Path, help="a ZIP of images; for count the data set's own where it is left out")
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    parser.add_argument("--model", default="mask")
    parser.add_argument("--by", default="source")
    parser.add_argument("--most", type=int, default=10**6, help="rows that are asked about")
    args = parser.parse_args()
    if args.what == "none":
        return none(args.server, args.model)
    if args.dataset is None or (args.what == "photos" and args.file is None):
        parser.error("name a data set, and for photos the file to write")
    if args.what == "photos":
        return photos(args.dataset, args.file)
    count(args.dataset, args.file or DATA / args.dataset / "images.zip", args.server, args.model, args.by, args.most)


if __name__ == "__main__":
    main()
