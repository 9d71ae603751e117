#!/usr/bin/python3
"""Turn tests/golden into seeds for the decoder's fuzz targets.

usage: seeds.py GOLDEN_DIR OUT_DIR DEPFILE

OUT_DIR/pgoutput and OUT_DIR/wal2json get one file per stream, in the format of stream_input.h,
OUT_DIR/frame some frames.  DEPFILE tells the build which files were read.
"""
import shutil
import struct
import sys
from pathlib import Path

TARGETS = {"pgoutput": ("pgoutput", "pgoutput-binary"), "wal2json": ("wal2json", "wal2json-oids")}
MOST_TABLES = 4
MOST_COLUMNS = 64
MOST_SEED_BYTES = 16000  # mutations of larger ones take long and find no more


def encode_table(relid, schema, name, columns):
    """One table as stream_input.h says."""
    head = struct.pack(">I", int(relid)) + f"{schema}\0{name}\0".encode()
    head += struct.pack("B", len(columns) - 1)
    for type_oid, sent, column in columns:
        head += struct.pack(">IB", int(type_oid), sent == "unsent") + f"{column}\0".encode()
    return head


def read_stream(path):
    """The tables and the messages of a stream file."""
    tables, messages = [], []
    for line in path.read_text().splitlines():
        kind, _, rest = line.partition("\t")
        if kind == "table":
            tables.append((*rest.split("\t", 2), []))
        elif kind == "column":
            tables[-1][3].append(rest.split("\t", 2))
        elif kind == "message":
            messages.append(bytes.fromhex(rest.split("\t")[1]))
    return tables, messages


def encode(tables, messages):
    """A whole input; as many messages as fit."""
    assert len(tables) <= MOST_TABLES and all(len(t[3]) <= MOST_COLUMNS for t in tables)
    data = struct.pack("B", len(tables) - 1) + b"".join(encode_table(*t) for t in tables)
    for message in messages:
        if len(data) + len(message) < MOST_SEED_BYTES:
            data += struct.pack(">H", len(message)) + message
    return data


def main():
    golden, out, depfile = (Path(argument) for argument in sys.argv[1:])
    shutil.rmtree(out, ignore_errors=True)
    read = []
    for target, variants in TARGETS.items():
        (out / target).mkdir(parents=True)
        for variant in variants:
            for path in sorted((golden / variant).glob("*.stream")):
                tables, messages = read_stream(path)
                (out / target / f"{variant}-{path.stem}").write_bytes(encode(tables, messages))
                read.append(path)
    assert read, f"no streams below {golden}"
    (out / "frame").mkdir()
    (out / "frame" / "data").write_bytes(b"w" + struct.pack(">QQq", 1, 2, 3) + messages[0])
    (out / "frame" / "keepalive").write_bytes(b"k" + struct.pack(">QqB", 2, 3, 1))
    depfile.write_text(f"{out}: " + " ".join(str(path) for path in read) + "\n")


if __name__ == "__main__":
    main()
