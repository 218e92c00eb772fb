"""What this machine's processor does in bfloat16: whether soundly, and whether faster."""
