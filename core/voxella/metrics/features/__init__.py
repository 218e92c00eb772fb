"""Networks whose features tell real from synthetic; their weights are local files."""
