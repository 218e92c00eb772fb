"""Networks of other releases become model folders and weights files of ours."""
