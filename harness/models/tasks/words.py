"""The vocabulary that the families draw from."""

from __future__ import annotations

__all__ = ["CITIES", "COLORS", "DAYS", "FUNCTION_NAMES", "JOBS", "NAMES", "SURNAMES"]

NAMES = [
    "Ana", "Bob", "Cid", "Dan", "Eva", "Fay", "Gus", "Hal", "Ida", "Jon", "Kay", "Leo", "Mia",
    "Ned", "Ola", "Pam", "Quin", "Ray", "Sue", "Tom", "Uma", "Val", "Wes", "Xia", "Yan", "Zoe",
]  # fmt: skip
SURNAMES = [
    "Silva", "Stone", "Meyer", "Novak", "Costa", "Khan", "Lopez", "Olsen", "Rossi", "Weber",
    "Adams", "Bauer", "Chen", "Diaz", "Evans", "Fox",
]  # fmt: skip
CITIES = [
    "Porto", "Lyon", "Oslo", "Kyoto", "Lima", "Turin", "Quito", "Delhi", "Ghent", "Malmo", "Sofia",
    "Tunis", "Perth", "Davos", "Bern", "Cairo",
]  # fmt: skip
JOBS = ["baker", "nurse", "pilot", "farmer", "lawyer", "painter", "teacher", "welder"]
COLORS = ["red", "blue", "green", "black", "white", "amber", "grey", "pink"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]
FUNCTION_NAMES = [
    "run", "work", "solve", "apply", "calc", "proc", "make", "tally", "scan", "probe", "gauge",
    "sift", "weigh", "pick", "fold",
]  # fmt: skip
