"""The user's cache of built engines: what is in it, whether it is whole, and how to make it smaller.

Every engine built goes there at once, so that a build that was stopped goes on where it was, and an unchanged model builds
nothing. BEFOREHAND_CACHE names another folder, BEFOREHAND_CACHE_SIZE another size (20GB); beyond it, those engines go
that were not used for longest. Converted models have copies of their own: nothing done here changes them.

  beforehand cache list
  beforehand cache show 3f2a
  beforehand cache verify
  beforehand cache prune --max-size 5GB --older-than 30d
  beforehand cache prune --all
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Sequence
from typing import Any

from beforehand.cli.format_inspection import format_table
from beforehand.cli.progress import format_bytes
from beforehand.errors import CacheError, OptionValueError
from beforehand.store.cache_content import (
    WHOLE,
    CachedEngine,
    Pruned,
    check_entry,
    clear,
    find_entry,
    list_engines,
    prune,
)
from beforehand.store.cache_folder import CacheFolder
from beforehand.store.manifest import encode_engine
from beforehand.store.parse_size import parse_bytes, parse_seconds

_ALTERED = 1
_KEY = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of `beforehand cache`."""
    verbs = parser.add_subparsers(dest="cache_verb", metavar="list|show|verify|prune", required=True)
    add = {
        name: verbs.add_parser(name, help=text, description=text, allow_abbrev=False) for name, text in _HELP.items()
    }
    for name in ("list", "show", "verify", "prune"):
        add[name].add_argument("--json", action="store_true", help="as JSON")
    add["show"].add_argument("key", metavar="KEY", help="the key of an engine, or how it begins")
    add["prune"].add_argument(
        "--max-size", metavar="5GB", help="remove what was not used for longest, down to this size"
    )
    add["prune"].add_argument("--older-than", metavar="30d", help="remove what was not used for so long")
    add["prune"].add_argument("--damaged", action="store_true", help="remove what is altered or incomplete")
    add["prune"].add_argument(
        "--all", action="store_true", help="remove every engine; what is known of past builds stays"
    )


_HELP = {
    "list": "Engines in the cache, the one used last first.",
    "show": "One engine: all that its record has.",
    "verify": "Read every engine, and compare it with its hash; 1 if one is altered or incomplete.",
    "prune": "Remove engines. Without an option: what is beyond BEFOREHAND_CACHE_SIZE.",
}


def run(arguments: argparse.Namespace) -> int:
    """Run a verb; 0, 1 where `verify` finds damage, or an error of beforehand."""
    try:
        return _VERBS[arguments.cache_verb](CacheFolder(), arguments)
    except (CacheError, BrokenPipeError):
        raise
    except OSError as error:
        raise CacheError(f"the cache cannot be used: {error}", advice="BEFOREHAND_CACHE=another folder") from error


def _list(cache: CacheFolder, arguments: argparse.Namespace) -> int:
    entries = list_engines(cache)
    if arguments.json:
        print(json.dumps({"folder": str(cache.folder), "engines": [_encode(entry) for entry in entries]}, indent=1))
        return 0
    total = sum(entry.bytes for entry in entries)
    print(f"{cache.folder}: {len(entries)} engines, {format_bytes(total)} of at most {format_bytes(cache.max_bytes)}")
    _print_table([_describe(entry) for entry in entries])
    return 0


def _show(cache: CacheFolder, arguments: argparse.Namespace) -> int:
    entry = find_entry(cache, arguments.key)
    data = _encode(entry)
    print(
        json.dumps(data, indent=1)
        if arguments.json
        else "\n".join(f"{name:16} {value}" for name, value in data.items())
    )
    return 0


def _verify(cache: CacheFolder, arguments: argparse.Namespace) -> int:
    states = [(entry, check_entry(entry)) for entry in list_engines(cache)]
    damaged = [(entry, state) for entry, state in states if state != WHOLE]
    if arguments.json:
        print(json.dumps({"engines": len(states), "damaged": {entry.key: state for entry, state in damaged}}, indent=1))
    else:
        print(f"{cache.folder}: {len(states)} engines, {len(states) - len(damaged)} whole, {len(damaged)} damaged")
        _print_table([(state, *_describe(entry)) for entry, state in damaged])
        if damaged:
            print("damaged engines are never used; `beforehand cache prune --damaged` removes them")
    return _ALTERED if damaged else 0


def _prune(cache: CacheFolder, arguments: argparse.Namespace) -> int:
    older = parse_seconds(arguments.older_than, "--older-than") if arguments.older_than else None
    size = parse_bytes(arguments.max_size, "--max-size") if arguments.max_size else None
    given = older is not None or size is not None or arguments.damaged
    if arguments.all and given:
        raise OptionValueError("--all is given with another option", advice="one of them")
    if arguments.all:
        pruned = clear(cache)
    else:
        size = size if given else cache.max_bytes
        pruned = prune(cache, max_bytes=size, older_than_s=older, damaged=arguments.damaged)
        cache.sweep()
    print(json.dumps(vars(pruned), indent=1) if arguments.json else _describe_pruned(pruned))
    return 0


def _describe_pruned(pruned: Pruned) -> str:
    busy = f"; {len(pruned.busy)} are in use just now and stay" if pruned.busy else ""
    return f"{len(pruned.keys)} engines removed, {format_bytes(pruned.bytes)}; {format_bytes(pruned.left_bytes)} left{busy}"


def _describe(entry: CachedEngine) -> tuple[str, ...]:
    used = datetime.datetime.fromtimestamp(entry.used, datetime.timezone.utc).isoformat(" ", "minutes")[:16]
    if entry.engine is None:
        return entry.key[:_KEY], "", "", "", format_bytes(entry.bytes), used, ""
    engine = entry.engine
    backend = f"{engine.backend} {engine.backend_version}"
    took = f"built in {engine.build_seconds:.1f} s"
    return entry.key[:_KEY], engine.shapes.describe(), backend, engine.target, format_bytes(entry.bytes), used, took


def _encode(entry: CachedEngine) -> dict[str, Any]:
    facts = encode_engine(entry.engine) if entry.engine is not None else {}
    return {"key": entry.key, "path": str(entry.file), "bytes": entry.bytes, "used": round(entry.used), **facts}


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    for line in format_table(rows) if rows else ():
        print(f"  {line}")


_VERBS = {"list": _list, "show": _show, "verify": _verify, "prune": _prune}
