"""Rows of a table, whatever file it is: CSV, JSON, workbook."""
