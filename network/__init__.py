"""How containers reach each other and the world.  Imports nothing.

slirp4netns: a user-mode TCP/IP stack behind a tap device, for one container's network namespace.
forwarder: slirp4netns's own name server (10.0.2.3), which asks those of the host.
publish: make a container's port reachable on the host.
host gateway: the host's address as a container can reach it ("host.containers.internal").
"""
