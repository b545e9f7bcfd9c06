"""``labctl`` for tests of what runs it. The suite is two tests that are written, not run. All else is, where the
script says ``"real": true``, the real labctl with the fake driver, and otherwise the mere record of a lab.

    python stand_in.py VERB WORDS

$STAND_IN names a directory: ``script.json`` says what becomes of each call of a verb for a lab whose name
holds a word, ``{"WORD": {"up": ["ok", "hang"]}}``; the last action stands for all later calls. Each call
and its end are lines of ``calls``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from xml.sax.saxutils import quoteattr

HOME = Path(os.environ["STAND_IN"])
#: An operation of the small topology, and what a node prints when it fails.
OPERATION = "database answers"


def script() -> dict[str, dict[str, list[str]]]:
    """What becomes of calls."""
    return dict(json.loads((HOME / "script.json").read_text()))


def action(verb: str, lab: str) -> str:
    """What is to become of this call; takes note of it."""
    calls = HOME / "calls"
    before = calls.read_text().splitlines() if calls.exists() else []
    count = sum(line.startswith(f"begin {verb} {lab} ") for line in before)
    with calls.open("a") as sink:
        sink.write(f"begin {verb} {lab} {os.getpid()} {time.time()}\n")
    for word, verbs in script().items():
        if word in lab and word != "real" and verb in verbs:
            return str(verbs[verb][min(count, len(verbs[verb]) - 1)])
    return "ok"


def suite(words: list[str], wanted: str) -> int:
    """Write the JUnit file of two tests; the first fails when that is wanted."""
    report = Path(words[words.index("--junit") + 1])
    result = f"<failure message={quoteattr('it broke <here>')}>E  it broke</failure>" if wanted == "fail" else ""
    report.write_text(
        "<testsuites><testsuite name='pytest'>"
        f"<testcase classname='e2e.test_compute' name='test_boots' time='1.5'>{result}</testcase>"
        "<testcase classname='e2e.test_image' name='test_lists' time='0.5'></testcase>"
        "</testsuite></testsuites>"
    )
    print("1 failed, 1 passed" if wanted == "fail" else "2 passed")
    return 1 if wanted == "fail" else 0


def main() -> int:
    verb, words = sys.argv[1], sys.argv[2:]
    lab = words[words.index("--name") + 1] if "--name" in words else words[1] if verb == "snapshot" else words[0]
    wanted = action(verb, lab)
    if wanted == "hang":
        time.sleep(600)
    if wanted.startswith("slow"):
        time.sleep(float(wanted.removeprefix("slow")))
    if verb == "test":
        return suite(words, wanted)
    status = real(verb, wanted) if script().get("real") else record(verb, lab, wanted)
    with (HOME / "calls").open("a") as sink:
        sink.write(f"end {verb} {lab} {os.getpid()} {time.time()}\n")
    return status


def record(verb: str, lab: str, wanted: str) -> int:
    """A lab that is a directory with a record that says nothing."""
    directory = Path(os.environ["LABCTL_HOME"]) / "labs" / lab
    if verb == "up":
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "lab.json").write_text("{}")
    elif verb == "down":
        shutil.rmtree(directory, ignore_errors=True)
    elif verb == "bundle":
        Path(sys.argv[-1]).write_text("everything")
    if wanted == "fail":
        print("error: it cannot be done\n  try: something else", file=sys.stderr)
    return 1 if wanted == "fail" else 0


def real(verb: str, wanted: str) -> int:
    """labctl with the fake driver; its operation fails when that is wanted."""
    from labctl import __main__, drivers
    from labctl.drivers.fake import Fake

    fake = Fake()
    drivers.LOADED["nspawn"] = fake
    if verb == "up" and wanted == "fail":
        fake.failures[OPERATION] = "it cannot be done"
    try:
        __main__.run()
    except SystemExit as left:
        return int(left.code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
