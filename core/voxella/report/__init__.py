"""The page about a run or a study: one HTML file that needs nothing else, and can be mailed."""
