"""Print the coverage of the unit tests by package, from the JSON report of coverage."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

statements: defaultdict[str, int] = defaultdict(int)
covered: defaultdict[str, int] = defaultdict(int)
for name, file in json.loads(Path(sys.argv[1]).read_text("utf-8"))["files"].items():
    folder = "/".join(Path(name).parts[:-1])
    for package in (folder, "total"):
        statements[package] += file["summary"]["num_statements"]
        covered[package] += file["summary"]["covered_lines"]
for package in sorted(statements, key=lambda each: (each == "total", each)):
    if statements[package]:
        print(f"{package:<32} {covered[package] / statements[package]:>5.0%}  of {statements[package]} lines")
