"""Reads text of shells, command by command, and other languages, line by line."""

import re

from .findings import Findings, one_line
from .tables import BETWEEN, HARMLESS, INSTALL, Kind

_LONGEST_LINE = 1_000  # of which the rest is passed over, so that the time is bounded


def look_at_shell(text: str, findings: Findings, shown: str = "{}", *, calm: bool = False) -> None:
    """Look at shell text, with the format to show it in; where ``calm``, what only looks at packages is no risk."""
    commands = [part for part in BETWEEN.split(text.replace("\\\n", " ")) if not re.match(r"\s*(?:#|$)", part)]
    installs = [command for command in commands if INSTALL.match(command)]
    others = [command for command in commands if not INSTALL.match(command)]
    for command in installs:
        findings.add("install", shown.format(one_line(command)))
    if any(not HARMLESS.fullmatch(command) for command in others) or (others and not installs and not calm):
        findings.add("shell", shown.format(one_line(text)))
    findings.key_files(text)


def look_at_lines(code: str, table: dict[Kind, str], findings: Findings) -> None:
    """Look at code by a table of what its lines may hold."""
    for number, row in enumerate(code.split("\n")):
        findings.place = (number, 0)
        line = "" if row.lstrip().startswith("#") else row[:_LONGEST_LINE]
        quoted = re.findall(r"(?<=\")[^\"]+(?=\")|(?<=')[^']+(?=')", line)
        for kind, pattern in table.items():
            if re.search(pattern, line) and (kind != "overwrite" or any(map(findings.exists, quoted))):
                findings.add(kind, line)
        findings.key_files(line)
