"""What is wrong with a data set: every problem at once, each with a one-line remedy."""
