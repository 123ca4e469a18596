#!/usr/bin/env python3
"""Finds words that went out of use in code and documents, and names the word to use (docs/glossary.md)."""

import pathlib
import re
import subprocess
import sys

WORDS = {
    r"\bhalt(s|ed)?\b": "pause",
    r"\bbrakes?\b": "pause switch",
    r"\bmood\b": "circuit state",
    r"\bletterbox\b": "dlq_writer",
    r"\bmishap\b": "read error",
    r"\bpatiently\b": "retry::until_ok",
    r"\bat rest\b": "idle, paused",
    r"\bcannot be meant\b": "invalid, ambiguous",
    r"\bCourier\b": "ReplaySender",
    r"[Gg]limpse": "peek",
    r"\bgroup_numbers\b": "group_snapshot",
    r"\bhand_on\b": "deliver",
    r"\bheed(s|ed)?\b": "obey, apply",
    r"\bin_vain\b": "on_retry",
    r"\bjournal\b": "action log",
    r"\bout of place\b": "interrupted",
    r"\bsteering\b": "pause control",
    r"\bcontrol (stop|start)\b": "control pause, control resume",
}
# This file lists the words, and some texts are not ours to change.
LEFT_OUT = ("tests/words.py", "CHANGELOG.md", ".lock", "package-lock.json", "LICENSE")


def main() -> int:
    root = pathlib.Path(__file__).resolve().parent.parent
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True, text=True)
    words = [(re.compile(pattern), word) for pattern, word in WORDS.items()]
    found = 0
    for name in listed.stdout.split("\0"):
        if not name or name.endswith(LEFT_OUT) or not (root / name).is_file():
            continue
        for number, line in enumerate((root / name).read_text(encoding="utf-8", errors="ignore").splitlines(), start=1):
            for pattern, word in words:
                for match in pattern.finditer(line):
                    print(f"{name}:{number}: {match.group()!r}: use {word!r}")
                    found += 1
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main())
