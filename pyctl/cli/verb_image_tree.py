"""`image tree`.  Weight: `storage.images`, `storage.layers`."""

from __future__ import annotations

import sys

from pyctl.cli import output
from pyctl.engine.engine import Engine
from storage import images, lookup
from storage.layers import chain_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed
    from storage.database import Database


class _Node:
    """One layer above those that it was made on.  tops: the images whose last layer it is."""

    __slots__ = ("children", "size", "tops")

    def __init__(self, size: int) -> None:
        self.size = size
        self.tops: list[str] = []
        self.children: list[str] = []


def tree(parsed: Parsed) -> int:
    """Prints an image's layers, the base first, and of which images each is the last; or what is built upon it."""
    db = Engine(parsed.globals).db
    image_id, _ = lookup.resolve(db, parsed.args[0])
    (row,) = images.ImageStore(db).list(image_id)
    nodes, chains = _layers(db)
    chain = chains.get(image_id, [])
    lines = [
        f"Image ID: {image_id[:12]}",
        f"Tags:     [{' '.join(row.names)}]",
        f"Size:     {output.human_size(row.size, 4)}",
    ]
    lines.append("Image Layers" if chain else "No Image Layers")
    if not parsed.options.whatrequires:
        for position, key in enumerate(chain):
            lines.append(("└── " if position == len(chain) - 1 else "├── ") + _shown(key, nodes[key]))
    elif chain:
        _below(nodes, chain[-1], "", True, lines)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _layers(db: Database) -> tuple[dict[str, _Node], dict[str, list[str]]]:
    """Every layer by its chain id, and each image's chain, the base first."""
    names: dict[str, list[str]] = {}
    for image_id, name in db.query("SELECT image_id, name FROM image_names ORDER BY added_ns, name"):
        names.setdefault(image_id, []).append(name)
    stacks: dict[str, list[tuple[str, int]]] = {}
    for image_id, diff_id, size in db.query(
        "SELECT i.image_id, l.diff_id, l.size FROM image_layers i JOIN layers l ON l.key = i.layer_key"
        " ORDER BY i.image_id, i.position"
    ):
        stacks.setdefault(image_id, []).append((diff_id, size))
    nodes: dict[str, _Node] = {}
    chains: dict[str, list[str]] = {}
    for image_id, stack in stacks.items():
        chain = chains[image_id] = list(chain_ids([diff_id for diff_id, _ in stack]))
        for position, (key, (_, size)) in enumerate(zip(chain, stack, strict=True)):
            if key not in nodes:
                nodes[key] = _Node(size)
                if position:
                    nodes[chain[position - 1]].children.append(key)
        nodes[chain[-1]].tops += names.get(image_id) or [f"<none> {image_id[:12]}"]
    return nodes, chains


def _below(nodes: dict[str, _Node], key: str, prefix: str, last: bool, lines: list[str]) -> None:
    """The layer and those upon it; a single one upon another is no branch and stays at its depth."""
    node = nodes[key]
    single = len(node.children) == 1
    lines.append(prefix + ("└── " if last and not single else "├── ") + _shown(key, node))
    for position, child in enumerate(node.children):
        deeper = prefix if single else prefix + ("    " if last else "│   ")
        _below(nodes, child, deeper, last if single else position == len(node.children) - 1, lines)


def _shown(key: str, node: _Node) -> str:
    text = f"ID: {key.partition(':')[2][:12]} Size: {output.human_size(node.size, 4):>7}"
    return f"{text} Top Layer of: [{' '.join(node.tops)}]" if node.tops else text
