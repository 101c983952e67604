"""What the tests stand on: the engine as a user calls it, images, registries, terminals, leak checks."""
