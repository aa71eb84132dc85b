"""Turns records into verdicts, tables, figures and pages. Works from files; imports nothing of the suite but itself."""
