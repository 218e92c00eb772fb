"""The check of reports and labels."""
