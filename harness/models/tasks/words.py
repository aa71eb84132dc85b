"""The vocabulary that the families draw from."""

from __future__ import annotations

__all__ = ["CITIES", "COLORS", "DAYS", "FUNCTION_NAMES", "JOBS", "NAMES", "SURNAMES"]

NAMES = (
    "Ana Bob Cid Dan Eva Fay Gus Hal Ida Jon Kay Leo Mia Ned Ola Pam Quin Ray Sue Tom Uma Val Wes Xia Yan Zoe"
).split()
SURNAMES = "Silva Stone Meyer Novak Costa Khan Lopez Olsen Rossi Weber Adams Bauer Chen Diaz Evans Fox".split()
CITIES = "Porto Lyon Oslo Kyoto Lima Turin Quito Delhi Ghent Malmo Sofia Tunis Perth Davos Bern Cairo".split()
JOBS = "baker nurse pilot farmer lawyer painter teacher welder".split()
COLORS = "red blue green black white amber grey pink".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday".split()
FUNCTION_NAMES = "run work solve apply calc proc make tally scan probe gauge sift weigh pick fold".split()
