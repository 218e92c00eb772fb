"""One fact of a report changed at the same noise: does the right place change, and enough?"""
