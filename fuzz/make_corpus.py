"""Writes the small corpora under fuzz/corpus: a few valid and a few crooked inputs for each target.

    python3 -m venv v && v/bin/pip install pillow==13.0.0 && v/bin/python fuzz/make_corpus.py

The images are also what tests/images.rs holds the table in docs/images.md against. Nothing here is random.
"""

import io
import json
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent / "corpus"


def write(target, name, data):
    path = HERE / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def picture(mode="RGB", size=(24, 16)):
    """Left half red, right half blue: which way is up can be seen."""
    image = Image.new("RGB", size, (220, 20, 20))
    image.paste((20, 20, 220), (size[0] // 2, 0, size[0], size[1]))
    return image.convert(mode)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bits, colour, rows, extra=b""):
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def webp(picture, block):
    """A lossless picture of 24×16 with an EXIF block behind it."""
    def part(kind, data):
        return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)

    flags = struct.pack("<I", 8)
    canvas = struct.pack("<I", 23)[:3] + struct.pack("<I", 15)[:3]
    content = b"WEBP" + part(b"VP8X", flags + canvas) + picture[12:] + part(b"EXIF", block)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def images():
    jpeg = saved(picture(), "JPEG", quality=90)
    write("image", "rgb.jpg", jpeg)
    write("image", "grey.jpg", saved(picture("L"), "JPEG"))
    write("image", "cmyk.jpg", saved(picture("CMYK"), "JPEG"))
    write("image", "progressive.jpg", saved(picture(), "JPEG", progressive=True))
    # Large enough to be decoded at a half of its size.
    large = picture().resize((88, 72))
    write("image", "small-420.jpg", saved(large, "JPEG", quality=60, subsampling="4:2:0"))
    write("image", "small-422-restarts.jpg", saved(large, "JPEG", quality=80, subsampling="4:2:2", restart_marker_blocks=3))
    write("image", "small-optimised.jpg", saved(large, "JPEG", quality=95, subsampling="4:4:4", optimize=True))
    write("image", "small-grey.jpg", saved(large.convert("L"), "JPEG", quality=40))
    for orientation in range(1, 9):
        write("image", f"orientation-{orientation}.jpg", saved(picture(), "JPEG", exif=exif(orientation), quality=95))
    write("image", "orientation-out-of-range.jpg", saved(picture(), "JPEG", exif=exif(99)))
    write("image", "truncated.jpg", jpeg[: len(jpeg) * 2 // 3])
    write("image", "truncated-before-another.jpg", jpeg[:-6] + jpeg)
    write("image", "two-pictures.jpg", jpeg + jpeg)
    write("image", "polyglot-jpeg-zip.jpg", jpeg + zipped([("a.txt", b"hello")]))
    write("image", "polyglot-html.html", b"<!doctype html><script>1</script>" + jpeg)
    write("image", "huge-header.jpg", jpeg.replace(struct.pack(">HH", 16, 24), struct.pack(">HH", 65500, 65500), 1))
    write("image", "rgb.png", saved(picture(), "PNG"))
    write("image", "grey.png", saved(picture("L"), "PNG"))
    write("image", "bits-1.png", saved(picture("1"), "PNG"))
    write("image", "palette.png", saved(picture("P"), "PNG"))
    write("image", "palette-alpha.png", saved(picture().quantize(4), "PNG", transparency=0))
    clear = picture("RGBA")
    clear.putalpha(Image.new("L", clear.size, 0))
    write("image", "alpha.png", saved(clear, "PNG"))
    write("image", "grey-alpha.png", saved(clear.convert("LA"), "PNG"))
    row = b"\0" + b"".join(struct.pack(">HHH", 0xFFFF, 0x8000, 0x0001) for _ in range(4))
    write("image", "rgb-16.png", png(4, 4, 16, 2, row * 4))
    write("image", "grey-16.png", png(4, 4, 16, 0, (b"\0" + struct.pack(">H", 0x8000) * 4) * 4))
    write("image", "interlaced.png", interlaced())
    write("image", "truncated.png", saved(picture(), "PNG")[:-40])
    write("image", "bad-checksum.png", saved(picture(), "PNG")[:-1] + b"\0")
    write("image", "huge-header.png", png(60000, 60000, 8, 2, b""))
    bomb = zlib.compress(bytes(64 << 20), 9)
    profile = chunk(b"iCCP", b"bomb\0\0" + bomb)
    write("image", "profile-bomb.png", png(4, 4, 8, 2, (b"\0" + bytes(12)) * 4, profile))
    rows = (b"\0" + bytes((220, 20, 20)) * 12 + bytes((20, 20, 220)) * 12) * 16
    # With what stands before an EXIF block in a JPEG, and without.
    block = exif(6).removeprefix(b"Exif\0\0")
    for name, block in [("orientation-6", block), ("orientation-6-as-in-jpeg", b"Exif\0\0" + block)]:
        write("image", f"{name}.png", png(24, 16, 8, 2, rows, chunk(b"eXIf", block)))
        write("image", f"{name}.webp", webp(saved(picture(), "WEBP", lossless=True), block))
    write("image", "animated.png", saved(picture(), "PNG", save_all=True, append_images=[picture("L").convert("RGB")]))
    write("image", "rgb.webp", saved(picture(), "WEBP", lossless=True))
    write("image", "lossy.webp", saved(picture(), "WEBP", quality=90))
    write("image", "alpha.webp", saved(clear, "WEBP", lossless=True, exact=True))
    write("image", "animated.webp", saved(picture(), "WEBP", save_all=True, append_images=[picture("L").convert("RGB")]))
    whole = saved(picture(), "WEBP", lossless=True)
    write("image", "truncated.webp", whole[: len(whole) // 2])
    head, exif_and_more = webp(whole, exif(6)).split(b"EXIF")
    write("image", "exif-bomb.webp", head + b"EXIF" + struct.pack("<I", 0xF000_0000) + exif_and_more[4:])
    write("image", "still.gif", saved(picture(), "GIF"))
    write("image", "picture.bmp", saved(picture(), "BMP"))
    write("image", "picture.tiff", saved(picture(), "TIFF"))
    write("image", "picture.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>')
    write("image", "picture.avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf")
    write("image", "film.mp4", b"\0\0\0\x18ftypisom\0\0\x02\0isommp41")
    write("image", "document.pdf", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n")
    write("image", "empty", b"")
    write("image", "one-byte", b"\xff")


def interlaced():
    """Adam7 by hand: a 1×1 picture has one pass."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 1)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\xff\x80\x00"))
            + chunk(b"IEND", b""))


def workbook(cells, dimension="A1:XFD1048576"):
    sheet = "".join(f'<row r="{row}"><c r="{column}{row}" t="inlineStr"><is><t>{text}</t></is></c></row>'
                    for row, column, text in cells)
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    return zipped([
        ("[Content_Types].xml", f'<Types xmlns="{package}/content-types"/>'),
        ("_rels/.rels", f'<Relationships xmlns="{package}/relationships"><Relationship Id="a" '
                        f'Type="{relations}/officeDocument" Target="xl/workbook.xml"/></Relationships>'),
        ("xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{package}/relationships"><Relationship Id="b" '
                                       f'Type="{relations}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>'),
        ("xl/workbook.xml", f'<workbook xmlns="{main}" xmlns:r="{relations}"><sheets>'
                            '<sheet name="one" sheetId="1" r:id="b"/></sheets></workbook>'),
        ("xl/worksheets/sheet1.xml", f'<worksheet xmlns="{main}"><dimension ref="{dimension}"/>'
                                     f"<sheetData>{sheet}</sheetData></worksheet>"),
    ])


def sheets():
    write("sheet", "plain.csv", b"image,label,artist\na.png,disc,0\nb.png,,1\n")
    write("sheet", "semicolons.csv", "\ufeffImage;Label\r\n\"a;1.jpg\";cat\r\n".encode())
    write("sheet", "tabs.tsv", b"image\tlabel\na\tb\n")
    write("sheet", "quotes.csv", b'image,label\n"a""b\nc",x\n"open')
    write("sheet", "latin-1.csv", b"image,label\n\xe9.png,caf\xe9\n")
    write("sheet", "zero.csv", b"image,label\0\n")
    write("sheet", "plain.xlsx", workbook([(1, "A", "image"), (2, "A", "a.png")]))
    write("sheet", "far-cell.xlsx", workbook([(1, "A", "image"), (1048576, "XFD", "x")]))
    # Found by libFuzzer: the spreadsheet's reader counts columns in 32 bits.
    write("sheet", "column-beyond-32-bits.xlsx", workbook([(1, "A", "image"), (2, "A", "a.png")], "A1:AIMENSIOXFD2"))
    write("sheet", "no-sheet.xlsx", zipped([("xl/workbook.xml", "<workbook/>")]))
    write("sheet", "empty", b"")


def archives():
    write("archive", "plain.zip", zipped([("a.png", b"one"), ("b/c.png", b"two")]))
    write("archive", "escape.zip", zipped([("../a.png", b"one")]))
    write("archive", "twice.zip", zipped([("a/x.png", b"one"), ("b/x.png", b"two")]))
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.png"), b"stored as it is")
    write("archive", "stored.zip", stored.getvalue())
    lie = bytearray(zipped([("a.png", bytes(100_000))]))
    at = lie.rindex(b"PK\x01\x02") + 24
    lie[at : at + 4] = struct.pack("<I", 10)
    write("archive", "lie.zip", bytes(lie))
    write("archive", "end-only.zip", b"PK\x05\x06" + bytes(18))


def cursors():
    write("cursor", "uuid", b"0192f0a2-3c1e-7c4d-8f00-000000000001")
    write("cursor", "braces", b"{0192f0a2-3c1e-7c4d-8f00-000000000001}")
    write("cursor", "number", b"42")
    write("cursor", "bytes", b"\xff\x00%00")


def predict_json():
    write("predict_json", "two.json", json.dumps({"images": [{"id": "a", "base64": "AAAA"}, {"base64": "%%"}]}).encode())
    write("predict_json", "data-url.json", b'{"images":[{"base64":"data:image/png;base64,iVBORw0KGgo="}]}')
    write("predict_json", "deep.json", b'{"images":' + b"[" * 200 + b"]" * 200 + b"}")
    write("predict_json", "wrong.json", b'{"images":[1, null, {"base64": 2}], "more": 1}')


def safetensors():
    def file(header, data=b""):
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    write("safetensors", "one.safetensors", file({"head.bias": one}, bytes(8)))
    write("safetensors", "half.safetensors", file({"head.bias": {**one, "dtype": "F16", "data_offsets": [0, 4]}}, bytes(4)))
    write("safetensors", "overlap.safetensors", file({"a": one, "b": one}, bytes(8)))
    write("safetensors", "huge-shape.safetensors", file({"a": {**one, "shape": [1 << 40, 1 << 40]}}, bytes(8)))
    write("safetensors", "huge-header.safetensors", struct.pack("<Q", 1 << 60) + b"{}")
    write("safetensors", "metadata.safetensors", file({"__metadata__": {"network": "wrn-10-1"}, "head.bias": one}, bytes(8)))


def pth():
    # The valid ones are tests/golden/pth, which the tests read as well.
    write("pth", "call.pth", zipped([("a/data.pkl", b"cos\nsystem\n(S'true'\ntR."), ("a/version", b"3\n")]))
    write("pth", "number.pth", zipped([("a/data.pkl", pickle.dumps(7, 2))]))
    write("pth", "dictionary.pth", zipped([("a/data.pkl", pickle.dumps({"a": [1, 2.5, None, "x", (1,)]}, 2))]))
    write("pth", "memo.pth", zipped([("a/data.pkl", b"\x80\x02}q\x00(X\x01\x00\x00\x00ah\x00h\x00u.")]))
    write("pth", "bare-pickle.pth", pickle.dumps({"a": 1}, 2))


for make in (images, sheets, archives, cursors, predict_json, safetensors, pth):
    make()
