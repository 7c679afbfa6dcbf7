"""Inputs that are almost valid: mutations that know the structure of what they damage, from one seeded source each."""

import copy
import io
import json
import pickle
import random
import struct
import warnings
import zipfile
from typing import Any

import numpy as np

CANARY = "JAXRNN_CANARY"  # an environment variable and the name of a file; whoever runs code out of an input sets or makes it
INTEGERS = (0, 1, 2, 3, 7, 255, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, -1, -2, -(2**31), -(2**63))
NAMES = (
    "", "xs", "targets", "weights", "lengths", "point", "../escape", "../../escape", "/tmp/escape", "C:\\escape", "a/../../b", ".", "..", "a\x00b",
    "a\nb", "\x1b[31mred", "ü" * 90, "x" * 5000, "<script>alert(1)</script>", "weight_hh_l99999999999", "weight_ih_l0_reverse", "weight_hr_l0",
    "[/b]", "bias_ih", "w_hh\u202e", "$\\frac{$", "%s%n", "{0.__class__}",
)  # fmt: skip
HOSTILE = (
    "<script>alert(1)</script>", "</textarea><script>", "</title><script>", "</style><script>", "</pre>", '" onerror="alert(1)', "' onload='x",
    "<!--", "-->", "&lt;script&gt;", "&", "javascript:alert(1)", "]]>", "{{ 7 * 7 }}", "{% raw %}", "\u202eabc", "<img src=x onerror=alert(1)>",
    "\x00", "\ud800", "<svg/onload=alert(1)>", "`${1}`", "$\\frac{$", "a$b$c", "\\",
)  # fmt: skip
TEXTS = ("", "nan", "inf", "-inf", "NaN", "stable", "1e999", "\ud800", "\x00", "x" * 10_000, *HOSTILE[:4], "٣", "true", "[]", "∞")
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 0.5, -0.0, 1e308, 5e-324, float("inf"), float("nan"), 2**31, 2**63, 10**30, 10**400, -(10**400), [], {}, [[]],
    [None], {"": {}}, [[1, 2], [3]], [1, "a"], {"a": 1}, {"lags": []}, *TEXTS,
)  # fmt: skip
DTYPES: tuple[Any, ...] = (
    "<f8", ">f8", "<f4", ">f4", "<f2", "<f16", "<i8", ">i4", "|i1", "<u8", "|u1", "|b1", "<c16", "<c8", "|S0", "|S5", "<U0", "<U3", "|V0", "|V8",
    "|V2", "<M8[ns]", "<m8", "|O", "O", [("a", "<f8")], [("a", "O")], [("a", "<f8", (10**5, 10**5))], [("", "<f4")], ("<f8", (2,)),
    {"names": ["a"], "formats": ["<f8"]}, "", "x", "<f99", "<f8,<f8", "f8" * 50, None, 5, True, [], (), b"<f8", "<i8'; import os", 10**400,
)  # fmt: skip
SHAPES: tuple[Any, ...] = (
    (), (0,), (1,), (2, 0), (-1,), (-1, -1), (-1, -8), (2**31,), (2**63,), (2**64, 2**64), (0, 2**62), (0, 2**80), (10**6, 5000), (True, True),
    ("3",), 1.5, [3], None, "abc", (None,), (1.0,), ((1,),), (1,) * 33, (1,) * 65, (2,) * 70, {}, 7, (10**400,), (10**15,),
)  # fmt: skip
TAGS = ("F64", "F32", "F16", "BF16", "I64", "I8", "U8", "BOOL", "C64", "F8_E4M3", "F8_E5M2", "F4", "", "f32", "O", None, 3, "F32\x00")


def torn(draw: random.Random, content: bytes) -> bytes:
    """A file with some bytes changed, cut off, left out, doubled, moved, or followed by others."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 5, 20))):
        size, how = len(data), draw.randrange(8)
        a = draw.randrange(size + 1)
        b = min(size, a + draw.choice((1, 2, 4, 8, 16, draw.randrange(size + 1))))
        if how == 0 and size:
            data[a % size] ^= 1 << draw.randrange(8)
        elif how == 1:
            del data[a:]
        elif how == 2:
            del data[a:b]
        elif how == 3:
            data[a:a] = data[a:b][:4096]
        elif how == 4:
            data[a:b] = draw.randbytes(min(b - a, 64))
        elif how == 5:
            packed = struct.pack("<Q", draw.choice(INTEGERS) % 2**64)[: draw.choice((1, 2, 4, 8))]
            data[a : a + len(packed)] = packed
        elif how == 6:
            data[a:b] = bytes(b - a)
        else:
            at = draw.randrange(size + 1)
            data[at : at + b - a] = data[a:b]
    return bytes(data)


# Archives.


def npy(draw: random.Random, array: np.ndarray, wild: float = 0.6) -> bytes:
    """An array as NumPy writes it, with a header that may lie."""
    if draw.random() > wild:
        stream = io.BytesIO()
        np.lib.format.write_array(stream, array, allow_pickle=False)
        return torn(draw, stream.getvalue()) if draw.random() < 0.1 else stream.getvalue()
    fields: dict[Any, Any] = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    for _ in range(draw.choice((1, 1, 2))):
        name, pool = draw.choice((("descr", DTYPES), ("shape", SHAPES), ("fortran_order", (True, 1, None, "x")), ("extra", (1,)), ("", ())))
        if pool:
            fields[name] = draw.choice(pool)
        else:
            fields.pop(draw.choice(list(fields)), None)
    if draw.random() < 0.2:  # as many bytes as the header says, where it says few
        fields["shape"] = draw.choice(((1,), (2, 3), (), (2, 3, 1), (0,), (3, 4, 2)))
    text = "{" + ", ".join(f"{name!r}: {value!r}" for name, value in fields.items()) + "}"
    if draw.random() < 0.15:
        deep = draw.choice((90, 3000))
        odd = ("{'descr': '<f8'", "__import__('os').putenv('a', 'b')", "1" * 5000, "\x00")
        text = draw.choice(("(" * deep, "-" * deep + "1", "[" * deep + "]" * deep, *odd))
    header = text.encode("latin-1", "replace") + b"\n"
    version = draw.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x09"))
    size = len(header) if draw.random() < 0.9 else draw.choice(INTEGERS) % 2**16
    data = array.tobytes()
    try:  # data of the size that a harmless header wants, so that what comes after the reading is met, too
        wanted = int(np.prod(fields["shape"])) * np.dtype(fields["descr"]).itemsize
        data = (data * (wanted // max(len(data), 1) + 1))[:wanted] if 0 <= wanted < 10_000 else data
    except Exception:
        data = torn(draw, data) if draw.random() < 0.5 else data
    return b"\x93NUMPY" + version + struct.pack("<H" if version[0] == 1 else "<I", size) + header + data


def numbers(draw: random.Random, shape: tuple[int, ...], kind: str = "") -> np.ndarray:
    """An array of numbers, some of them large, tiny, or none."""
    dtype = np.dtype(kind or draw.choice(("<f8", "<f4", "<f8", ">f8", "<f2", "<i8", "<i4", "|u1", "|b1", "<f16", "<u8", "<c16")))
    array = np.array([draw.gauss(0, 1) for _ in range(int(np.prod(shape)))]).reshape(shape)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if array.size and draw.random() < 0.2:
            array.flat[draw.randrange(array.size)] = draw.choice((np.nan, np.inf, -np.inf, 1e308, -1e308, 1e39, 1e-320, 123456789, -5, 2.0**63))
        return array.astype(dtype)


def zipped(draw: random.Random, members: list[tuple[str, bytes]], wild: float = 0.5) -> bytes:
    """A zip file whose members may be renamed, doubled, left out, bombs, or lied about."""
    members = list(members)
    for _ in range(draw.choice((0, 0, 1, 1, 2))):
        at, how = draw.randrange(len(members) + 1), draw.randrange(7)
        name, data = members[at - 1] if members else ("a.npy", b"")
        if how == 0:
            members.insert(at, (draw.choice(NAMES)[:60_000] + draw.choice((".npy", "", "/")), data))
        elif how == 1:
            members.append((name, torn(draw, data)))
        elif how == 2 and members:
            del members[at - 1]
        elif how == 3:
            members.append((draw.choice(("bomb.npy", name)), bytes(draw.choice((10**4, 10**6, 2 * 10**7)))))
        elif how == 4:
            members.append(("inner.npz", zipped(draw, members[:1], 0.0)))
        elif how == 5:
            members += [(f"weight_hh_l{i}.npy", data[:200]) for i in range(draw.choice((5, 50)))]
        elif members:
            members[at - 1] = (draw.choice(NAMES), data)
    content, method = io.BytesIO(), draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with warnings.catch_warnings(), zipfile.ZipFile(content, "w") as archive:
        warnings.simplefilter("ignore")  # names that come twice
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name or "a"), data, method)  # which does not tell the time
        if draw.random() < 0.05:
            archive.comment = draw.randbytes(50)
    whole = content.getvalue()
    if draw.random() < wild:
        whole = _lied(draw, whole)
    return torn(draw, whole) if draw.random() < wild / 2 else whole


def _lied(draw: random.Random, content: bytes) -> bytes:
    """One number in a record of the directory, or in a member's own header, replaced."""
    data, mark = bytearray(content), draw.choice((b"PK\x01\x02", b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"))
    places = [at for at in range(len(data)) if data.startswith(mark, at)] if len(data) < 10**5 else [data.find(mark)]
    fields = {  # offset and size of flags, method, checksum, sizes, lengths of names, offsets
        b"PK\x01\x02": ((4, 2), (6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (42, 4)),
        b"PK\x03\x04": ((4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)),
        b"PK\x05\x06": ((4, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)),
    }[mark]
    for place in places if draw.random() < 0.3 else [draw.choice(places)] if places else []:
        offset, size = draw.choice(fields)
        value = draw.choice((*INTEGERS, 8, 12, 14, 93, 99, 4 * 10**9, 10**8, len(data)))
        if place >= 0:
            data[place + offset : place + offset + size] = (value % 2**64).to_bytes(8, "little")[:size]
    return bytes(data)


def safetensors(draw: random.Random, arrays: dict[str, np.ndarray]) -> bytes:
    """A file of safetensors whose header may lie about types, shapes and places."""
    header: dict[str, Any] = {}
    data = b""
    for name, array in arrays.items():
        header[name] = {"dtype": {"f": "F", "i": "I"}[array.dtype.kind] + str(8 * array.itemsize), "shape": list(array.shape),
                        "data_offsets": [len(data), len(data) + array.nbytes]}  # fmt: skip
        data += array.tobytes()
    for _ in range(draw.choice((0, 1, 1, 2, 3))):
        name = draw.choice(list(header))
        entry, how = header[name], draw.randrange(9)
        if not isinstance(entry, dict):
            continue
        if how == 0:
            entry["dtype"] = draw.choice(TAGS)
        elif how == 1:
            entry["shape"] = draw.choice([list(s) if isinstance(s, tuple) else s for s in SHAPES])
        elif how == 2:
            places = ([0, 0], [8, 0], [0, 2**63], [-1, 4], [0], [], None, "ab", [0, len(data)], [0.0, 1.5], [2**64, 2**64])
            entry["data_offsets"] = draw.choice(places)
        elif how == 3:
            header[draw.choice(NAMES)] = dict(entry)
        elif how == 4:
            header["__metadata__"] = draw.choice(({"a": "b"}, {"a": 1}, [], {"__class__": {}}))
        elif how == 5:
            entry.pop(draw.choice(list(entry) or [""]), None)
        elif how == 6:
            header[name] = copy.deepcopy(draw.choice(VALUES[:20]))
        elif how == 7:
            data += bytes(draw.choice((1, 8, 1000)))
        else:
            del header[name]
            break
    text = written(draw, header, wild=0.15)
    size = len(text) if draw.random() < 0.9 else draw.choice(INTEGERS) % 2**64
    whole = struct.pack("<Q", size) + text + data
    return torn(draw, whole) if draw.random() < 0.3 else whole


class Payload:
    """Whoever unpickles it runs code, which leaves the canary."""

    def __init__(self, what: str, path: str) -> None:
        self.what, self.path = what, path

    def __reduce__(self) -> Any:
        import os

        return {
            "file": (os.mkdir, (self.path,)), "system": (os.system, (f"touch {self.path}",)),
            "environment": (exec, (f"__import__('os').environ['{CANARY}'] = '1'",)),
            "eval": (eval, (f"__import__('os').environ.setdefault('{CANARY}', '1')",)), "exec": (exec, (f"__import__('os').mkdir({self.path!r})",)),
        }[self.what]  # fmt: skip


def pickled(draw: random.Random, whole: bytes, canary: str) -> bytes:
    """The pickle of a file of torch's: damaged, replaced by one that runs code, or by opcodes that do not fit."""
    how = draw.randrange(7)
    if how == 0:
        return pickle.dumps({"weight_hh_l0": Payload(draw.choice(("file", "system", "environment", "eval", "exec")), canary)}, draw.randrange(6))
    if how == 1:  # before the tensors, its value thrown away
        return b"\x80\x02cos\nsystem\nX" + struct.pack("<I", len(canary) + 6) + f"touch {canary}".encode() + b"\x85R0" + whole[2:]
    if how == 2:
        module = draw.choice((
            b"os\nsystem", b"builtins\nexec", b"torch\nload", b"torch.storage\n_load_from_bytes", b"torch._utils\n_rebuild_tensor_v2", b"\n",
            b"collections\nOrderedDict", b"torch\nFloatStorage", b"numpy\nndarray", b"torch.jit\nload", b"nt\nsystem",
        ))  # fmt: skip
        arguments = draw.choice((b")R", b"(tR", b"K\x01\x85R", b"(K\x01K\x02K\x03tR", b"}b", b")\x81", b"", b"N\x85R", b"(X\x01\x00\x00\x00atR"))
        return b"\x80\x02c" + module + b"\n" + arguments + b"."
    if how == 3:
        return b"\x80\x02" + draw.choice((
            b"\x8b" + struct.pack("<i", 2**31 - 1), b"\x8a\xff" + b"\xff" * 255 + b".", b"h\xff.", b"j\xff\xff\xff\x7f.", b"t.", b"s.", b"R.",
            b"b.", b"}(u.", b"(" * 5000 + b"l" * 5000 + b".", b"]q\x00h\x00a.", b"}q\x00X\x01\x00\x00\x00ah\x00s.", b"X\xff\xff\xff\xffabc",
            b"N.", b"K\x05.", b"\x95" + b"\xff" * 8, b"]" * 3000 + b"a" * 2999 + b".", b"}" + b"X\x01\x00\x00\x00a}" * 1500 + b"s" * 1500 + b".",
            b"\x82\x01.", b"c__builtin__\neval\n.", b"Q.", b"P1\n.",
        ))  # fmt: skip
    if how == 4:  # sizes and strides of a tensor
        at = [i for i in range(len(whole) - 2) if whole[i] == ord("K")]
        data = bytearray(whole)
        for place in draw.sample(at, min(len(at), draw.choice((1, 1, 2, 4)))):
            data[place + 1] = draw.choice((0, 1, 2, 127, 255))
        return bytes(data)
    if how == 5:  # one small number becomes a large or a negative one
        at = [i for i in range(len(whole) - 2) if whole[i] == ord("K")]
        place = draw.choice(at) if at else 0
        large = b"\x8a\x08" + struct.pack("<q", draw.choice((-1, 2**62, 2**31, -(2**62), 10**12)))
        return whole[:place] + large + whole[place + 2 :]
    return torn(draw, whole)


# Text.


def shaken(draw: random.Random, tree: Any) -> Any:
    """A copy of nested JSON with a few of its values replaced, left out, renamed or added."""
    tree = copy.deepcopy(tree)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        places = list(_places(tree))
        if not places or draw.random() < 0.02:
            return _value(draw)
        owner, key = draw.choice(places)
        how = draw.randrange(6)
        if how < 3:
            owner[key] = _value(draw)
        elif how == 3:
            owner.pop(key)
        elif how == 4 and isinstance(owner, dict):
            owner[draw.choice((*NAMES[:4], str(key).upper(), "extra", ""))] = owner.pop(key) if draw.random() < 0.5 else _value(draw)
        elif isinstance(owner, list):
            owner[key:key] = draw.choice(([copy.deepcopy(owner[key])], [_value(draw)], copy.deepcopy(owner[:5])))
        else:
            owner[key] = [owner[key]] if draw.random() < 0.5 else {"a": owner[key]}
    return tree


def _value(draw: random.Random) -> Any:
    return copy.deepcopy(draw.choice(VALUES))


def _places(tree: Any, limit: int = 400) -> Any:
    """Every (container, key) of nested JSON, the first so many of a long list."""
    for key in list(tree) if isinstance(tree, dict) else range(min(len(tree), limit)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(tree[key], limit // 4)


def written(draw: random.Random, tree: Any, wild: float = 0.3) -> bytes:
    """JSON as bytes; now and then with depth, doubled keys, huge numbers, a byte order mark, or bytes that are no text."""
    text = _dumped(tree, draw)
    if draw.random() > wild:
        return text
    how = draw.randrange(9)
    if how == 0:
        deep = draw.choice((50, 200, 800, 950, 990, 1010, 100_000))
        part = b"[" * deep + b"]" * deep if draw.random() < 0.5 else b'{"a":' * deep + b"1" + b"}" * deep
        at = text.find(b": ") + 2
        end = text.find(b",", at)
        return text[:at] + part + text[end:] if at > 1 and end > at and draw.random() < 0.7 else part
    if how == 1:
        return text.replace(b"{", b'{"verdict": 1, "row": [], "format": 1, ', 1)
    if how == 2:
        return text.replace(b"1", draw.choice((b"1" * 4000, b"1" * 5000, b"1e9999", b"-", b"0x1", b"1_0")), 1)
    if how == 3:
        return draw.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b"  ", b"//\n")) + text
    if how == 4:
        return text.decode("utf-8", "surrogatepass").encode(draw.choice(("utf-16", "utf-32", "latin-1")), "replace")
    if how == 5:
        return draw.choice((b"", b"null", b"[]", b"{}", b"0", b'"a"', b"NaN", b"\n", b"{" * 3, b"true", b"-Infinity"))
    return torn(draw, text)


def _dumped(tree: Any, draw: random.Random) -> bytes:
    try:
        return json.dumps(tree, indent=draw.choice((None, 1)), ensure_ascii=draw.random() < 0.7).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):  # integers that Python does not write
        return b'{"a": ' + b"9" * 4999 + b"}"


def toml(draw: random.Random, settings: dict[str, Any]) -> bytes:
    """A TOML file with settings replaced, doubled, nested or spelt in other ways."""
    spelt = (
        "0", "-1", "1", "2.5", "nan", "inf", "true", '""', '"none"', '"\\u0000"', "[]", "[1, 2]", '["none", "clipping"]', "{}", "{ a = 1 }",
        "[[1], [2]]", "[3, 3]", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "0x10", "1_000", "99999999", "10000000000000", "9" * 30, "9" * 5000,
        "1e400", "[nan]", '"""a"""', "''",
        "[" * 20 + "]" * 20, "[" * 5000 + "]" * 5000, '"' + "x" * 5000 + '"', "[-5, 0]", "[1.5]", "[10000000000000]",
    )  # fmt: skip
    lines = {name: json.dumps(value) for name, value in settings.items()}
    for _ in range(draw.choice((0, 1, 1, 2))):
        name = draw.choice((*lines, "units", "sweep", "seeds", "key", "self", "__class__", '"a b"', "a.b", "steps", "treated", "lengths"))
        lines[name] = draw.choice(spelt)
    text = "\n".join(f"{name} = {value}" for name, value in lines.items()) + "\n"
    how = draw.random()
    if how < 0.05:
        text = draw.choice(("[sweep]\n", "[[sweep]]\n", "[a]\n", "a" + ".a" * 2000 + " = 1\n", "\ufeff")) + text
    data = text.encode()
    return torn(draw, data) if how > 0.8 else data.decode().encode(draw.choice(("utf-16", "latin-1"))) + b"\xff" if how > 0.77 else data


def words(draw: random.Random, options: dict[str, tuple[str, ...]], files: list[str]) -> list[str]:
    """A command with options, some of another command, some without what they need; ``options``: command -> its options."""
    numbers = ("0", "1", "-1", "2", "16", "1.5", "nan", "inf", "1e999", "9" * 25, "", "0x10", "1_0", "٣", "many", "true", "None", "-", "--", "-0")
    others = ("gru", "lstm", "none", "clipping:threshold=[[[", "clipping:=", ":", "a:b:c", "float64", "torch-gru", "adding", "text:", "npz:", "=",
              "a=b", "x" * 3000, "--help", "-h", "\u202e", "<script>", "é", "own:model", "clipping:" + "x=" + "[" * 3000)  # fmt: skip
    command = draw.choice((*options, *options, "", "diagnoze", "--help", "-x", "--version"))
    given = [command] if command or draw.random() < 0.5 else []
    for _ in range(draw.choice((0, 1, 1, 2, 3, 6))):
        pool = options.get(command) if draw.random() < 0.9 else None
        given.append(draw.choice(pool or [option for each in options.values() for option in each]) if draw.random() < 0.75 else draw.choice(files))
        given += [draw.choice(draw.choice((numbers, others, files))) for _ in range(draw.choice((0, 1, 1, 1, 2)))]
    return given
