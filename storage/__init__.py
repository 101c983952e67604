"""References, registries, blobs, layers, images, volumes; compiles to rootless plan values."""
