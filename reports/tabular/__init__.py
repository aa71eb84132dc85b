"""Cells, columns and rows, that tables, figures and pages share."""
