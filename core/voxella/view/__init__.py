"""``voxella view``: a model, a run, a data set or a study in the browser, on this machine alone."""
