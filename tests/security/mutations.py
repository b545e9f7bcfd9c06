"""Changes to files that break what reads them: bytes, lines, values, structure, and what is no file at all."""

from __future__ import annotations

import json
import os
import random
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

#: Values of other types, scripts, sizes and languages than a reader expects.
WORDS = (
    *("", " ", "-", "-x", "--", "~", "null", "yes", "on", "=", "<<", "*a", "&a x", "!!python/name:os.system"),
    *("0", "-1", "007", "0x10", "1_000", "12:30", "1e999", ".nan", ".inf", "2026-11-29", "99999999999999999999"),
    *("9" * 400, "x" * 300, "x" * 5000, "é" * 150, "日本語", "\u202egpj", "👾", "a\nb", "a\tb", "a\x1b[31mb", "\x7f"),
    *("[bold]x[/]", "[/]", "[link=x]", "$(id)", "`id`", "$HOME", "'", '"', "\\", "a'b\"c", "%s", "{x}", "{{ x }}"),
    *("@@ADMIN_PASS@@", "@@X@@", "#x", "a: b", "a b", "; id", "a|b", "EOF", "END OF FILE", "]]>", "<b>", "&amp;"),
    *("..", ".", "/", "../../escaped", "/nonexistent/x", "a/b", "nul\\x00", "localhost", "a.b", "A", "a_b", "a-", "-a"),
    *("10.0.0.11", "10.0.0.0/24", "10.0.0.0/33", "0.0.0.0/0", "255.255.255.255", "127.0.0.1", "224.0.0.0/4", "::1"),
    *("fe80::/64", "10.0.0.9-10.0.0.1", "203.0.113.1-203.0.113.250", "none", "169.254.0.0/16", "10.0.0.0/31"),
    *("4 GiB", "1 B", "0 GiB", "0.0001 GiB", "9999999 TiB", "1" * 90 + " TiB", "1 min", "0 s", "9" * 90 + " h"),
    *("mitaka", "rocky", "train", "ussuri", "zed", "centos7", "centos8", "debian12", "nspawn", "libvirt", "vagrant"),
    *("keystone", "nova-compute", "swift-storage", "cinder-volume", "etcd", "horizon", "memcached", "mariadb"),
    *("management", "provider", "overlay", "later", "start", "controller", "compute", "kvm", "lvm", "openvswitch"),
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 64, 10**30, -(10**400), 0.5, 1e300, float("inf"), float("nan")),
    *([], {}, [[]], [None], {"a": 1}, {"": {}}, [1, "a", {}], ["x"] * 1000, {"x" * 300: 1}),
)


def word(dice: random.Random) -> str:
    """A word, or what some other characters are."""
    if dice.random() < 0.9:
        return dice.choice(WORDS)
    return "".join(chr(dice.randrange(dice.choice((128, 0xD7FF)))) for _ in range(dice.randrange(1, 40)))


# --- bytes and lines ---------------------------------------------------------------------------------


def raw(data: bytes, dice: random.Random) -> bytes:
    """Change bytes, wherever they are."""
    at = dice.randrange(len(data) + 1)
    end = min(len(data), at + dice.choice((1, 2, 8, 100, 5000)))
    some = dice.randbytes(dice.choice((1, 2, 8, 100)))
    odd = dice.choice((b"\0", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\t", b"\r", b"\x85", b"\x1b[2J"))
    changes = (
        lambda: data[:at] + some + data[at:],
        lambda: data[:at] + odd + data[at:],
        lambda: data[:at] + some + data[at + len(some) :],
        lambda: data[:at] + data[end:],
        lambda: data[:end] + data[at:],
        lambda: data[:at],
        lambda: b"\xef\xbb\xbf" + data,
        lambda: data.replace(b"\n", b"\r\n"),
        lambda: data.replace(b"  ", b"\t", dice.randrange(1, 5)),
        lambda: data.decode(errors="replace").encode("utf-16"),
        lambda: b"",
        lambda: data + data,
        lambda: data * (1 + (2 << 20) // max(1, len(data))),
    )
    return dice.choice(changes)()


def lines(data: bytes, dice: random.Random) -> bytes:
    """Remove, repeat, swap, indent lines; give a word another value."""
    found = data.split(b"\n")
    a, b = dice.randrange(len(found)), dice.randrange(len(found))
    new = word(dice).encode("utf-8", "surrogatepass")
    match dice.randrange(7):
        case 0:
            del found[min(a, b) : max(a, b) + 1 if dice.random() < 0.2 else min(a, b) + 1]
        case 1:
            found.insert(b, found[a])
        case 2:
            found[a], found[b] = found[b], found[a]
        case 3:
            found[a] = b" " * dice.randrange(1, 7) + found[a]
        case 4:
            found[a] = re.sub(rb"(: +|- +)[^#]*", lambda m: m[1] + new, found[a], count=1)
        case _:
            words = [m.span() for m in re.finditer(rb"[\w./-]+", found[a])] or [(0, 0)]
            start, end = dice.choice(words)
            found[a] = found[a][:start] + new + found[a][end:]
    return b"\n".join(found)


# --- structure ---------------------------------------------------------------------------------------


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Each (container, key) of a tree."""
    found: list[tuple[Any, Any]] = []
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        found += [(tree, key), *_places(tree[key])]
    return found


def tree(value: Any, dice: random.Random) -> Any:
    """A tree with one place changed: another value, key or order, one too few or too many, much deeper."""
    places = _places(value)
    if not places:
        return dice.choice(VALUES)
    holder, key = dice.choice(places)
    other, of = dice.choice(places)
    match dice.randrange(8):
        case 0:
            del holder[key]
        case 1:
            holder[key] = dice.choice(VALUES)
        case 2 | 3:
            holder[key] = word(dice)
        case 4:
            holder[key], other[of] = other[of], holder[key]
        case 5:
            for _ in range(dice.choice((1, 30, 400))):
                holder[key] = [holder[key]] if dice.random() < 0.5 else {"a": holder[key]}
        case 6 if isinstance(holder, dict):
            holder[word(dice)] = holder.pop(key)
        case 6:
            holder.append(holder[key])
        case _:
            if isinstance(holder, dict):
                holder.update({f"{key}{n}": holder[key] for n in range(dice.choice((1, 3, 300)))})
            else:
                holder.extend([holder[key]] * dice.choice((1, 3, 3000)))
    return value


def as_json(data: bytes, dice: random.Random) -> bytes:
    """Change the structure of a JSON text."""
    return json.dumps(tree(json.loads(data), dice), default=str, check_circular=False).encode("utf-8", "surrogatepass")


def as_yaml(data: bytes, dice: random.Random) -> bytes:
    """Change the structure of a YAML text."""
    changed = tree(json.loads(json.dumps(yaml.load(data, yaml.CSafeLoader), default=str, skipkeys=True)), dice)
    flow = dice.choice((None, True, False))
    written: str = yaml.dump(
        changed, Dumper=yaml.CSafeDumper, default_flow_style=flow, allow_unicode=True, sort_keys=False
    )
    return written.encode("utf-8", "surrogatepass")


def bomb(data: bytes, dice: random.Random) -> bytes:
    """Texts that grow when they are read."""
    many = dice.choice((30, 1000, 20000))
    laughs = "a0: &a0 [x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, dice.choice((3, 6, 12)))
    )
    texts = (
        laughs,
        laughs + data.decode(errors="replace"),
        "[" * many,
        "[" * many + "]" * many,
        '{"a":' * many + "1" + "}" * many,
        "".join(" " * n + "a:\n" for n in range(min(many, 1000))),
        "- " * many,
        "? " * many,
        "a: &x [*x]\n",
        "a: &x\n  <<: *x\n",
        "".join(f"k{n}: {n}\n" for n in range(many)),
        "x" * 2**20,
        "--- a\n" * many,
        "%YAML " + "9" * many + ".1\n---\na: 1",
        '"\\UFFFFFFFF"',
        "1" * many,
        '{"a": ' + "1" * many + "}",
        "*" * many,
        "&a " * many,
        "#" * many + "\n" + data.decode(errors="replace"),
        "'" + "\n" * many,
    )
    return dice.choice(texts).encode()


def text(structure: Callable[[bytes, random.Random], bytes]) -> Callable[[bytes, random.Random], bytes]:
    """A mutation of a text: one to three changes."""

    def mutate(data: bytes, dice: random.Random) -> bytes:
        if dice.random() < 0.03:
            return bomb(data, dice)
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            how = dice.choice((raw, lines, lines, lines, structure, structure, structure))
            try:
                data = how(data, dice)
            except (ValueError, RecursionError, yaml.YAMLError):  # no structure is left
                data = raw(data, dice)
        return data

    return mutate


# --- what is no file ---------------------------------------------------------------------------------


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def _huge(path: Path) -> None:
    with path.open("wb") as sink:
        sink.truncate(2**40)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "fifo": lambda path: os.mkfifo(path),
    "directory": lambda path: path.mkdir(),
    "socket": _socket,
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "full": lambda path: path.symlink_to("/dev/full"),
    "loop": lambda path: path.symlink_to(path.name),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "huge": _huge,
    "empty": lambda path: path.touch(),
    "missing": lambda path: None,
    "process": lambda path: path.symlink_to("/proc/self/mem"),
}


def special(path: Path, dice: random.Random) -> str:
    """Put something that is no usual file in the place of one; say what."""
    path.unlink(missing_ok=True)
    name = dice.choice(list(SPECIAL))
    SPECIAL[name](path)
    return name
