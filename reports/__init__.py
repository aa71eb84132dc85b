"""Turns records into verdicts, tables, figures. Works from files; imports nothing of the suite but itself."""
