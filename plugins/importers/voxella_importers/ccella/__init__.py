"""The released CCELLA code's lists, spreadsheet and images, both ways."""
