"""Units of systemd: made of containers (`generate systemd`) and of Quadlet's files (`quadlet`, the generator).

A *source* is a file of Quadlet's (web.container) with its drop-ins; a *service* is the unit that is generated of it; a
*problem* is what is wrong with a source, at a file and a line.  `syntax` reads and quotes as systemd does, `search`
finds sources, `keys` is the table of their keys, `draft` and `convert` make services, `check` tries what they would
run, `installed` writes them.  None of it is on the path of the everyday commands.
"""
