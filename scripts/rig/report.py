"""Results as one table and as JSON."""
import json
import os
import statistics
import subprocess

NAME_COLUMN, VALUE_COLUMN, ROUNDS_COLUMN = 46, 14, 30

UNITS = {  # after a number, digits behind the point
    "s": (" s", 2), "ms": (" ms", 0), "x": (" x", 2), "/s": ("/s", 0), "%": (" %", 0),
    "MB": (" MB", 0), "us": (" us", 2), "B": (" B", 0), "n": ("", 0),
}


def show_number(value, unit):
    text, digits = UNITS[unit]
    return f"{value:,.{digits}f}{text}"


class Row:
    """One measured thing: a value per round, the median, and what it should be."""

    def __init__(self, name, unit, values, at_most=None, at_least=None, target=None):
        self.name, self.unit, self.values = name, unit, list(values)
        self.median = statistics.median(self.values)
        self.met = None
        self.target = target
        if at_most is not None:
            self.met = self.median <= at_most
            self.target = self.target or f"<= {show_number(at_most, unit)}"
        if at_least is not None:
            self.met = self.median >= at_least
            self.target = self.target or f">= {show_number(at_least, unit)}"

    def text(self):
        digits = UNITS[self.unit][1]
        rounds = " ".join(f"{value:.{digits}f}" for value in self.values)
        verdict = "" if self.met is None else f"{self.target}  {'ok' if self.met else 'MISSED'}"
        return (f"  {self.name:<{NAME_COLUMN}}{show_number(self.median, self.unit):>{VALUE_COLUMN}}"
                f"   {rounds if len(self.values) > 1 else '':<{ROUNDS_COLUMN}}{verdict}").rstrip()


class Report:
    """Sections of rows."""

    def __init__(self, facts):
        self.facts = facts
        self.sections = []  # (title, rows, note)
        self.noise = []

    def add(self, title, rows, note=None):
        """`note`: what else there is to say."""
        self.sections.append((title, rows, note))

    def print(self):
        if not self.sections:
            return
        machine = self.facts["machine"]
        print(f"\nwalter {self.facts['walter']}, PostgreSQL {self.facts['postgresql']}, pg_repack "
              f"{self.facts['pg_repack']}, Linux {machine['kernel']}")
        print(f"{machine['processors']} x {machine['model']}, {machine['memory_gb']} GB; pgbench "
              f"scale {self.facts['scale']}; "
              + ", ".join(f"{name}={value}" for name, value in self.facts["settings"].items()))
        if self.noise:
            print(f"other programs used {statistics.median(self.noise):.0%} of the processors, "
                  f"{max(self.noise):.0%} at worst")
        print(f"\n  {'':<{NAME_COLUMN}}{'median':>{VALUE_COLUMN}}   {'rounds':<{ROUNDS_COLUMN}}"
              "target")
        for title, rows, note in self.sections:
            print(title)
            for row in rows:
                print(row.text())
            if note:
                print(f"  {note}")

    def save(self, path):
        """Write the JSON file; returns its path."""
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        sections = [{"title": title, "rows": [vars(row) for row in rows], "note": note}
                    for title, rows, note in self.sections]
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.facts | {"others_share": self.noise, "sections": sections}, file,
                      indent=1)
            file.write("\n")
        return path


def first_line(*command):
    """What a program says of its version."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0]
