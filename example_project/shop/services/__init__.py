"""What the shop does: each service in `racy` and, under the same name, in `fixed`."""
