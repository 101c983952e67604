"""All tables, in steps: step N takes a database from version N to N+1 and is never edited once released.

Weight: none.  Times are nanoseconds since the epoch (`_ns`), sizes bytes; big JSON stands last in a row, so that
reading the other columns does not touch its overflow pages.
"""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # id: 64 hex digits of the configuration's digest.  manifest_digest: of the manifest it came with last.
        # size: of the uncompressed layers.
        """CREATE TABLE images (
            id TEXT PRIMARY KEY, manifest_digest TEXT NOT NULL, manifest_type TEXT NOT NULL,
            created_ns INTEGER NOT NULL, added_ns INTEGER NOT NULL, size INTEGER NOT NULL,
            architecture TEXT NOT NULL, os TEXT NOT NULL, variant TEXT NOT NULL, squashed INTEGER NOT NULL DEFAULT 0,
            config TEXT NOT NULL)""",
        # name: "docker.io/library/alpine:latest", or "…@sha256:…" for what was pulled by digest.
        """CREATE TABLE image_names (
            name TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
            added_ns INTEGER NOT NULL) WITHOUT ROWID""",
        "CREATE INDEX image_names_by_image ON image_names(image_id)",
        # Every manifest and index digest under which an image is known; their bytes are blobs.
        """CREATE TABLE image_digests (
            image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE, digest TEXT NOT NULL,
            media_type TEXT NOT NULL, PRIMARY KEY (image_id, digest)) WITHOUT ROWID""",
        "CREATE INDEX image_digests_by_digest ON image_digests(digest)",
        # The blobs to keep for save and push: configuration and compressed layers of every manifest.
        """CREATE TABLE image_blobs (
            image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE, digest TEXT NOT NULL,
            PRIMARY KEY (image_id, digest)) WITHOUT ROWID""",
        "CREATE INDEX image_blobs_by_digest ON image_blobs(digest)",
        # key: the diff id, or the chain id where the unpacked form depends on the layers below.  size: of the
        # uncompressed archive.  root_explicit: it says what the root directory is; root_opaque: it hides all below.
        """CREATE TABLE layers (
            key TEXT PRIMARY KEY, diff_id TEXT NOT NULL, directory TEXT NOT NULL UNIQUE,
            size INTEGER NOT NULL, files INTEGER NOT NULL, created_ns INTEGER NOT NULL,
            root_explicit INTEGER NOT NULL DEFAULT 0, root_opaque INTEGER NOT NULL DEFAULT 0,
            squashed INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID""",
        # position: 0 is the base.
        """CREATE TABLE image_layers (
            image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE, position INTEGER NOT NULL,
            layer_key TEXT NOT NULL REFERENCES layers(key), PRIMARY KEY (image_id, position)) WITHOUT ROWID""",
        "CREATE INDEX image_layers_by_layer ON image_layers(layer_key)",
        # spec: pyctl.engine.model.ContainerSpec.  pid, pid_start, boot_id identify the first process.
        """CREATE TABLE containers (
            id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_ns INTEGER NOT NULL,
            status TEXT NOT NULL DEFAULT 'created', image_id TEXT REFERENCES images(id),
            remove INTEGER NOT NULL DEFAULT 0, pid INTEGER NOT NULL DEFAULT 0, pid_start INTEGER NOT NULL DEFAULT 0,
            supervisor_pid INTEGER NOT NULL DEFAULT 0, runtime_dir TEXT NOT NULL DEFAULT '',
            boot_id TEXT NOT NULL DEFAULT '',
            started_ns INTEGER NOT NULL DEFAULT 0, finished_ns INTEGER NOT NULL DEFAULT 0,
            exit_code INTEGER NOT NULL DEFAULT 0, exit_signal INTEGER NOT NULL DEFAULT 0,
            oom INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '', restart_count INTEGER NOT NULL DEFAULT 0,
            stopped_by_user INTEGER NOT NULL DEFAULT 0, health TEXT NOT NULL DEFAULT '', spec TEXT NOT NULL)""",
        "CREATE INDEX containers_by_image ON containers(image_id)",
        """CREATE TABLE exec_sessions (
            id TEXT PRIMARY KEY, container_id TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
            created_ns INTEGER NOT NULL, status TEXT NOT NULL DEFAULT 'created', pid INTEGER NOT NULL DEFAULT 0,
            exit_code INTEGER NOT NULL DEFAULT 0, spec TEXT NOT NULL)""",
        "CREATE INDEX exec_sessions_by_container ON exec_sessions(container_id)",
        # anonymous: goes with the container that it was made for.  labels, options: JSON objects.
        """CREATE TABLE volumes (
            name TEXT PRIMARY KEY, driver TEXT NOT NULL, created_ns INTEGER NOT NULL,
            anonymous INTEGER NOT NULL DEFAULT 0, needs_copy_up INTEGER NOT NULL DEFAULT 1,
            labels TEXT NOT NULL DEFAULT '{}', options TEXT NOT NULL DEFAULT '{}')""",
        """CREATE TABLE container_volumes (
            container_id TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
            volume_name TEXT NOT NULL REFERENCES volumes(name), PRIMARY KEY (container_id, volume_name))
            WITHOUT ROWID""",
        "CREATE INDEX container_volumes_by_volume ON container_volumes(volume_name)",
        """CREATE TABLE networks (
            id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, driver TEXT NOT NULL, created_ns INTEGER NOT NULL,
            config TEXT NOT NULL)""",
    ),
    (
        # A list of images for several platforms.  content: `storage.lists`' JSON.
        """CREATE TABLE manifest_lists (
            id TEXT PRIMARY KEY, created_ns INTEGER NOT NULL, content TEXT NOT NULL)""",
        # name: never also one of image_names.
        """CREATE TABLE manifest_list_names (
            name TEXT PRIMARY KEY, list_id TEXT NOT NULL REFERENCES manifest_lists(id) ON DELETE CASCADE,
            added_ns INTEGER NOT NULL) WITHOUT ROWID""",
        # name: "quay.io/me/model:1".  digest: of the manifest, a blob; size: of its files.
        """CREATE TABLE artifacts (
            name TEXT PRIMARY KEY, digest TEXT NOT NULL, size INTEGER NOT NULL, added_ns INTEGER NOT NULL)
            WITHOUT ROWID""",
        # The blobs of lists and artifacts.  owner: "list ID", "artifact NAME".
        """CREATE TABLE kept_blobs (
            owner TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (owner, digest)) WITHOUT ROWID""",
        "CREATE INDEX kept_blobs_by_digest ON kept_blobs(digest)",
    ),
    (
        # config: rootless.netplan.NetworkConfig.
        """CREATE TABLE container_networks (
            container_id TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
            network_id TEXT NOT NULL REFERENCES networks(id), PRIMARY KEY (container_id, network_id)) WITHOUT ROWID""",
        "CREATE INDEX container_networks_by_network ON container_networks(network_id)",
        # Who has an address.  No reference to the container: it is taken before the container's row is there, by the
        # process (pid, pid_start) that launches it, and counts as long as that or the container's supervisor lives.
        """CREATE TABLE network_leases (
            network_id TEXT NOT NULL REFERENCES networks(id) ON DELETE CASCADE, address TEXT NOT NULL,
            container_id TEXT NOT NULL, pid INTEGER NOT NULL DEFAULT 0, pid_start INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (network_id, address)) WITHOUT ROWID""",
        "CREATE INDEX network_leases_by_container ON network_leases(container_id)",
        """CREATE TRIGGER container_leases AFTER DELETE ON containers
            BEGIN DELETE FROM network_leases WHERE container_id = OLD.id; END""",
        # The network that `--network bridge` means, with Podman's name, id and subnet.
        """INSERT INTO networks (id, name, driver, created_ns, config) VALUES (
            '2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9', 'podman', 'bridge',
            CAST(strftime('%s', 'now') AS INTEGER) * 1000000000,
            '{"@":"NetworkConfig","id":"2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",'
            || '"name":"podman","interface":"podman0","dns_enabled":false,"subnets":'
            || '[{"@":"Subnet","subnet":"10.88.0.0/16","gateway":"10.88.0.1"}]}')""",
    ),
    (
        # store: the additional store that an image lies in, "" for one of this store.  Such an image has no names here,
        # is forgotten with its last container, and its layers' directories are absolute paths (`storage.additional`).
        "ALTER TABLE images ADD COLUMN store TEXT NOT NULL DEFAULT ''",
    ),
)
