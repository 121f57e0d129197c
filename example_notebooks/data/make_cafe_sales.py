"""Makes ``cafe_sales.csv``: four weeks of three cafes' tills, invented, and untidy in the ways of real exports.

Run it anywhere: the file is written beside this script, the same to the byte each time. Only ``random()`` is drawn from,
since it alone is promised to give the same numbers in every version of Python.
"""

import csv
import random
from datetime import date, timedelta
from pathlib import Path

TARGET = Path(__file__).with_name("cafe_sales.csv")
FIRST_DAY, DAYS = date(2025, 6, 2), 28  # a Monday; four whole weeks
PRICES = {"Flat white": 3.60, "Cold brew": 4.20, "Carrot cake": 4.50, "Toasted sandwich": 6.50, "Croissant": 2.40}

# Branch, product: sold on a weekday at first, factor at the weekend, growth from the first day to the last.
LINES = {
    ("Old Town", "Flat white"): (66, 1.25, 0.02),
    ("Old Town", "Carrot cake"): (21, 1.45, 0.00),
    ("Old Town", "Toasted sandwich"): (25, 1.10, -0.05),
    ("Harbour", "Flat white"): (41, 1.35, 0.05),
    ("Harbour", "Cold brew"): (26, 1.50, 2.10),
    ("Harbour", "Carrot cake"): (14, 1.50, 0.35),
    ("Station", "Flat white"): (72, 0.40, 0.00),
    ("Station", "Croissant"): (44, 0.45, 0.05),
}
# How each branch's till writes dates and prices, the usual way first; the others came with an update.
DATES = {
    "Old Town": ("%Y-%m-%d", "%Y-%m-%d", "%d/%m/%Y"),
    "Harbour": ("%Y-%m-%d", "%d.%m.%Y", "%d.%m.%Y"),
    "Station": ("%d/%m/%Y", "%d/%m/%Y", "%Y-%m-%d"),
}
MONEY = {
    "Old Town": ("{:.2f}", "{:.2f}", "€{:.2f}"),
    "Harbour": ("{:.2f}", "{:.2f} €", "{:.2f} €"),
    "Station": ("{:.2f}", "{:.2f}", "€{:.2f}"),
}
COMMA = {" €"}  # these tills write a decimal comma

draw = random.Random(848).random


def one_of(options):
    """Draw one of some options."""
    return options[int(draw() * len(options))]


def some_of(rows, count):
    """Draw so many different places in a list."""
    places = list(range(len(rows)))
    return sorted(places.pop(int(draw() * len(places))) for _ in range(count))


def misspelled(name):
    """Write a name as somebody in a hurry would."""
    return one_of([name.lower(), name.upper(), f"{name} ", f" {name}", name.replace(" ", "  ").lower() + " "])


def sold(branch, product, number):
    """Draw how many were sold on a day, numbered from 0."""
    base, weekend, growth = LINES[branch, product]
    day = FIRST_DAY + timedelta(days=number)
    noise = 1 + 0.16 * (draw() + draw() + draw() - 1.5)
    level = base * (1 + growth * number / (DAYS - 1))
    return round(level * (weekend if day.weekday() >= 5 else 1) * noise)


def written(branch, product, number):
    """Give a day's line as the till writes it: its first day in order, later ones as they come."""
    day, quantity = FIRST_DAY + timedelta(days=number), sold(branch, product, number)
    style = 0 if number == 0 else int(draw() * 3)
    money = MONEY[branch][0 if number < 4 else style].format(PRICES[product])
    if money.endswith(tuple(COMMA)):
        money = money.replace(".", ",")
    name = misspelled(branch) if number and draw() < 0.12 else branch
    return [day.strftime(DATES[branch][style]), name, product, str(quantity), money]


def main():
    """Write the file."""
    rows = [written(branch, product, number) for number in range(DAYS) for branch, product in LINES]
    for place in some_of(rows[len(LINES) :], 5):
        rows[place + len(LINES)][3] = ""
    croissants = [row for row in rows if row[2] == "Croissant" and row[3]]
    croissants[11][3] = "9999"
    again = [place for place in some_of(rows, 6) if rows[place][3] not in ("", "9999")]
    for place in reversed(again):
        date_, name, *rest = rows[place]
        name = name if draw() < 0.6 else misspelled(name.strip().title())
        rows.insert(min(len(rows), place + len(LINES)), [date_, name, *rest])
    with TARGET.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["date", "branch", "product", "quantity", "unit_price"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
