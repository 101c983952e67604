"""What Quadlet's keys become, and what is told of mistakes; the semantics are Podman 5.4's."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyctl.units import keys, systemd_keys
from pyctl.units.check import why_no_command
from tests.support.units import lines, services, told, write

IMAGE = "[Container]\nImage=x.org/a:1\n"


def command(folder: Path, text: str, **more: str) -> str:
    """The words of `pyctl run` that the lines of [Container] come to, without those that are always there."""
    write(folder, {"w.container": IMAGE + text, **{name.replace("_", "."): t for name, t in more.items()}})
    made = services(folder)["w.service"]
    assert told(made, folder) == []
    (line,) = lines(made, "Service", "ExecStart")
    before = "/usr/bin/pyctl run --name systemd-%N --replace --rm -d --label PODMAN_SYSTEMD_UNIT=%n --cgroups split"
    before += " --sdnotify conmon "
    assert line.startswith(before), line
    return line[len(before) :]


def problems(folder: Path, text: str, kind: str = "container") -> list[str]:
    write(folder, {f"w.{kind}": text})
    return told(next(iter(services(folder).values())), folder)


def test_a_whole_service(tmp_path: Path) -> None:
    write(tmp_path, {"w.container": f"[Unit]\nDescription=W\n{IMAGE}[Service]\nRestart=always\n"})
    made = services(tmp_path)["w.service"]
    run = (
        "/usr/bin/pyctl run --name systemd-%N --replace --rm -d --label PODMAN_SYSTEMD_UNIT=%n --cgroups split"
        " --sdnotify conmon x.org/a:1"
    )
    assert made.text.splitlines() == [
        f"# Made by pyctl of {tmp_path}/w.container; change that file, and have this one made again",
        "",
        "[Unit]",
        "Wants=pyctl-network-online.service",
        "After=pyctl-network-online.service",
        "Description=W",
        f"SourcePath={tmp_path}/w.container",
        "",
        "[X-Container]",
        "Image=x.org/a:1",
        "",
        "[Service]",
        "Restart=always",
        "Environment=PYCTL_SYSTEMD_UNIT=%n",
        "KillMode=mixed",
        "Delegate=yes",
        "Type=notify",
        "NotifyAccess=all",
        "SyslogIdentifier=%N",
        f"ExecStart={run}",
        "ExecStop=/usr/bin/pyctl rm -v -f -i systemd-%N",
        "ExecStopPost=-/usr/bin/pyctl rm -v -f -i systemd-%N",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("AddCapability=NET_ADMIN CHOWN\nDropCapability=KILL", "--cap-add NET_ADMIN --cap-add CHOWN --cap-drop KILL"),
        ("AddDevice=-/dev/not-there\nAddDevice=/dev/null", "--device /dev/null"),
        ("AddHost=a:1.2.3.4\nAddHost=b:::1", "--add-host a:1.2.3.4 --add-host b:::1"),
        ('Annotation=a=b "c=d e"', '--annotation a=b --annotation "c=d e"'),
        ("DNS=1.1.1.1\nDNSOption=ndots:1\nDNSSearch=x.org", "--dns 1.1.1.1 --dns-option ndots:1 --dns-search x.org"),
        ('Entrypoint=["a","b"]', r'--entrypoint "[\"a\",\"b\"]"'),
        ("Environment=A=b 'Q=it is' \"D=$$x %h\"", '--env A=b --env "Q=it is" --env "D=$$x %h"'),
        ("Environment=A=b\nEnvironment=\nEnvironment=C=d", "--env C=d"),
        ("EnvironmentHost=yes", "--env-host"),
        ("EnvironmentHost=no", "--env-host=false"),
        ("ExposeHostPort=50-59", "--expose 50-59"),
        ("User=10\nGroup=12", "--user 10:12"),
        ("User=10\nUser=\nUser=11", "--user 11"),
        ("GroupAdd=keep-groups", "--group-add keep-groups"),
        ("HealthCmd=cmd \"x y\"\nHealthInterval=2m\nHealthRetries=4",
         r'--health-cmd "cmd \"x y\"" --health-interval 2m --health-retries 4'),
        ("HostName=h", "--hostname h"),
        ('Label="a=b c" d=e', '--label "a=b c" --label d=e'),
        ("LogDriver=k8s-file\nLogOpt=max-size=1m max-file=2",
         "--log-driver k8s-file --log-opt max-size=1m --log-opt max-file=2"),
        ("Mask=/a:/b\nUnmask=ALL", "--security-opt mask=/a:/b --security-opt unmask=ALL"),
        ("Mount=type=tmpfs,dst=/y", "--mount type=tmpfs,dst=/y"),
        ("Network=none", "--network none"),
        ("NoNewPrivileges=true\nSecurityLabelDisable=yes",
         "--security-opt no-new-privileges --security-opt label=disable"),
        ("NoNewPrivileges=false", ""),
        ("PidsLimit=10\nShmSize=100m", "--pids-limit 10 --shm-size 100m"),
        ("PodmanArgs=--cpus=2 \"--label=x=a b\"", '--cpus=2 "--label=x=a b"'),
        ("PublishPort=8080:80\nPublishPort=127.0.0.1:53:53/udp", "--publish 8080:80 --publish 127.0.0.1:53:53/udp"),
        ("Pull=never", "--pull never"),
        ("ReadOnly=true\nReadOnlyTmpfs=no", "--read-only --read-only-tmpfs=false"),
        ("RunInit=yes", "--init"),
        ("SeccompProfile=unconfined", "--security-opt seccomp=unconfined"),
        ("StopSignal=INT\nStopTimeout=20", "--stop-signal INT --stop-timeout 20"),
        ("Sysctl=net.core.somaxconn=9 kernel.msgmax=1", "--sysctl net.core.somaxconn=9 --sysctl kernel.msgmax=1"),
        ("Timezone=local\nTmpfs=/work:size=1m", "--tz local --tmpfs /work:size=1m"),
        ("UIDMap=0:1:10 10:20:5\nGIDMap=0:1:20", "--uidmap 0:1:10 --uidmap 10:20:5 --gidmap 0:1:20"),
        ("Ulimit=nofile=10:10", "--ulimit nofile=10:10"),
        ("UserNS=keep-id:uid=200,gid=210", "--userns keep-id:uid=200,gid=210"),
        ("Volume=named:/n:ro", "--volume named:/n:ro"),
        ("Volume=/anonymous", "--volume /anonymous"),
        ("Volume=/usr/share:/s:ro", "--volume /usr/share:/s:ro"),
        ("WorkingDir=/w", "--workdir /w"),
    ],
)  # fmt: skip
def test_what_a_key_becomes(text: str, words: str, tmp_path: Path) -> None:
    assert command(tmp_path, text + "\n") == f"{words} x.org/a:1".lstrip()


def test_exec_is_quoted_anew_and_keeps_what_systemd_expands(tmp_path: Path) -> None:
    text = 'Exec=/bin/sh -c "echo \\"hi\\" ${BAR} 100%% it\'s; true" \'a b\' ; %i \\\n  more\n'
    words = r"""/bin/sh -c "echo \"hi\" ${BAR} 100%% it's; true" "a b" ";" %i more"""
    assert command(tmp_path, text) == f"x.org/a:1 {words}"


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    write(tmp_path, {"e.env": "A=b\n", "data/x": ""})
    words = command(
        tmp_path, "EnvironmentFile=e.env %T/../etc/hosts\nVolume=./data:/d\nMount=type=bind,src=./data,dst=/m\n"
    )
    assert words == (
        f"--env-file {tmp_path}/e.env --env-file %T/../etc/hosts --volume {tmp_path}/data:/d"
        f" --mount type=bind,src={tmp_path}/data,dst=/m x.org/a:1"
    )
    assert lines(services(tmp_path)["w.service"], "Unit", "RequiresMountsFor") == [f"{tmp_path}/data"]
    odd = tmp_path / "50% $x"
    write(odd, {"w.container": f"{IMAGE}Volume=./d:/d\n", "d/x": ""})
    made = services(odd)["w.service"]
    assert f'--volume "{tmp_path}/50%% $$x/d:/d"' in lines(made, "Service", "ExecStart")[0]
    assert lines(made, "Unit", "SourcePath") == [f"{tmp_path}/50%% $x/w.container"]
    assert lines(made, "Unit", "RequiresMountsFor") == [f'"{tmp_path}/50%% $x/d"']


def test_references_become_dependencies(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "data.volume": "[Volume]\n",
            "named.volume": "[Volume]\nVolumeName=mine\n[Service]\nExecStartPre=true\n",
            "pulled.image": "[Image]\nImage=x.org/b:2\n",
            "db.container": f"{IMAGE}ContainerName=db\n",
        },
    )
    words = command(
        tmp_path,
        "Image=pulled.image\nVolume=data.volume:/d\nMount=type=volume,src=named.volume,dst=/n\nNetwork=db.container\n",
    )
    assert words == ("--network container:db --volume systemd-data:/d --mount type=volume,src=mine,dst=/n x.org/b:2")
    made = services(tmp_path)
    unit = made["w.service"]
    assert lines(unit, "Unit", "Requires") == [
        "pulled-image.service", "db.service", "data-volume.service", "named-volume.service"
    ]  # fmt: skip
    assert set(lines(unit, "Unit", "After")) > set(lines(unit, "Unit", "Requires"))
    assert lines(made["data-volume.service"], "Service", "ExecStart") == [
        "/usr/bin/pyctl volume create --ignore systemd-data"
    ]
    assert lines(made["pulled-image.service"], "Service", "ExecStart") == ["/usr/bin/pyctl image pull x.org/b:2"]
    assert lines(made["pulled-image.service"], "Service", "RemainAfterExit") == ["yes"]


def test_networks(tmp_path: Path) -> None:
    write(tmp_path, {"n.network": "[Network]\n", "o.network": "[Network]\nNetworkName=other\n"})
    assert command(tmp_path, "Network=n.network:ip=10.89.0.9\nNetwork=o.network\nNetworkAlias=db\n") == (
        "--network-alias db --network systemd-n:ip=10.89.0.9 --network other x.org/a:1"
    )
    made = services(tmp_path)
    assert lines(made["w.service"], "Unit", "Requires") == ["n-network.service", "o-network.service"]
    assert lines(made["n-network.service"], "Service", "ExecStart") == [
        "/usr/bin/pyctl network create --ignore systemd-n"
    ]


def test_a_volume_s_options(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"v.volume": '[Volume]\nUser=5\nGroup=root\nLabel=a=b "c d=e"\nVolumeName=v\nGlobalArgs=--log-level=debug\n'},
    )
    made = services(tmp_path)["v-volume.service"]
    assert told(made, tmp_path) == []
    assert lines(made, "Service", "ExecStart") == [
        '/usr/bin/pyctl --log-level=debug volume create --ignore --opt o=uid=5,gid=0 --label a=b --label "c d=e" v'
    ]


def test_how_a_service_tells_that_it_is_ready(tmp_path: Path) -> None:
    for text, mode in (("Notify=yes", "container"), ("Notify=healthy", "healthy"), ("Notify=no", "conmon")):
        write(tmp_path, {"w.container": f"{IMAGE}HealthCmd=true\n{text}\n"})
        assert f" --sdnotify {mode} " in services(tmp_path)["w.service"].text


def test_a_oneshot_runs_in_the_foreground(tmp_path: Path) -> None:
    write(tmp_path, {"w.container": f"{IMAGE}[Service]\nType=oneshot\nRemainAfterExit=yes\n"})
    made = services(tmp_path)["w.service"]
    words = "run --name systemd-%N --replace --rm --label PODMAN_SYSTEMD_UNIT=%n --cgroups split x.org/a:1"
    assert lines(made, "Service", "ExecStart") == [f"/usr/bin/pyctl {words}"]
    assert lines(made, "Service", "Type") == ["oneshot"]
    assert lines(made, "Service", "NotifyAccess") == []


def test_what_the_user_sets_in_service_stays(tmp_path: Path) -> None:
    text = f"{IMAGE}StopTimeout=300\n[Service]\nKillMode=control-group\nSyslogIdentifier=me\nTimeoutStopSec=7\n"
    write(tmp_path, {"w.container": text, "long.container": f"{IMAGE}StopTimeout=300\n"})
    made = services(tmp_path)
    assert lines(made["w.service"], "Service", "KillMode") == ["control-group"]
    assert lines(made["w.service"], "Service", "SyslogIdentifier") == ["me"]
    assert lines(made["w.service"], "Service", "TimeoutStopSec") == ["7"]
    assert lines(made["long.service"], "Service", "TimeoutStopSec") == ["330"]


def test_no_wait_for_the_network(tmp_path: Path) -> None:
    write(tmp_path, {"w.container": f"{IMAGE}[Quadlet]\nDefaultDependencies=false\n"})
    made = services(tmp_path)["w.service"]
    assert "network-online" not in made.text
    assert not made.waits_for_network


def test_install_becomes_links(tmp_path: Path) -> None:
    text = "[Install]\nWantedBy=no.target\nWantedBy=\nWantedBy=default.target multi-user.target\n"
    text += "RequiredBy=x.service\nAlias=b.service w.service\n"
    write(tmp_path, {"w.container": IMAGE + text})
    assert services(tmp_path)["w.service"].links == (
        ("default.target.wants/w.service", "../w.service"),
        ("multi-user.target.wants/w.service", "../w.service"),
        ("x.service.requires/w.service", "../w.service"),
        ("b.service", "w.service"),
    )


def test_service_names(tmp_path: Path) -> None:
    files = {
        "a.container": IMAGE,
        "b.volume": "[Volume]\n",
        "c.image": "[Image]\nImage=x.org/a\n",
        "d@.volume": "[Volume]\n",
    }
    write(tmp_path, {**files, "e.container": f"{IMAGE}ServiceName=other\n", "f@.container": f"{IMAGE}ServiceName=g\n"})
    assert set(services(tmp_path)) == {
        "a.service", "b-volume.service", "c-image.service", "d-volume@.service", "other.service", "g@.service"
    }  # fmt: skip


# --- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Imagee=x", "w.container:3: unknown key Imagee= in [Container]"),
        ("Environment=A", "w.container:3: Environment=A: 'A' is not KEY=VALUE"),
        ("Label=\"a", 'w.container:3: Label="a: a quotation mark " is not closed'),
        ("Group=1", "w.container:3: Group=1: needs User="),
        ("ReadOnly=maybe", "w.container:3: ReadOnly=maybe: must be yes or no"),
        ("Notify=maybe", "w.container:3: Notify=maybe: must be yes or no"),
        ("Rootfs=/usr/share", "w.container:3: Rootfs=/usr/share: cannot be combined with Image="),
        ("Volume=no.volume:/x", "w.container:3: Volume=no.volume:/x: there is no no.volume"),
        ("Image=no.image", "w.container:3: Image=no.image: there is no no.image"),
        ("Image=A B", "w.container:3: Image=: image 'A B': a repository name must be lower case"),
        ("StopTimeout=abc", 'w.container:3: StopTimeout=: invalid value "abc" for --stop-timeout: not a whole number'),
        ("ShmSize=12q", 'w.container:3: ShmSize=: invalid value "12q" for --shm-size: not a size as 512m or 1.5g'),
        ("Pull=often", 'w.container:3: Pull=: invalid value "often" for --pull: it must be one of always, missing,'
         " never, newer"),
        ("PublishPort=80:x", "w.container:3: PublishPort=: --publish 80:x: 'x' is no port from 1 to 65535, nor a range"
         " of them"),
        ("PodmanArgs=stray", "w.container:3: PodmanArgs=: stray is no option"),
        ("PodmanArgs=--no-such", "w.container:3: PodmanArgs=: unknown option --no-such"),
        ("PodmanArgs=--help", "w.container:3: PodmanArgs=: --help and --version run nothing"),
        ("GlobalArgs=--no-such", "w.container:3: GlobalArgs=: unknown option --no-such"),
        ("RemapUsers=keep-id", "w.container:3: RemapUsers=keep-id: is not available"),
        ("StartWithPod=yes", "w.container:3: StartWithPod=yes: needs Pod="),
        ("[Nope]", "w.container:3: unknown section [Nope]"),
        ("[Volume]", "w.container:3: unknown section [Volume]"),
        ("[Quadlet]\nNope=1", "w.container:4: unknown key Nope= in [Quadlet]"),
        ("[Install]\nAlso=x.service", "w.container:4: unknown key Also= in [Install]"),
        ("[Install]\nWantedBy=../x.target", "w.container:4: WantedBy=../x.target: '../x.target' names no unit"),
        ("[Install]\nAlias=x.target", "w.container:4: Alias=x.target: x.target is not the name of a service"),
        ("AddDevice=-/dev/%i", "w.container:3: AddDevice=-/dev/%i: whether it exists must be known now: no specifiers"
         " after a dash"),
        ("[Unit]\nAfter=x.service y.volume", "w.container:4: After=x.service y.volume: y.volume is no unit of"
         " systemd's"),
        ("[Service]\nType=simple", "w.container:4: Type=simple: must be notify or oneshot"),
        ("[Service]\nKillMode=none", "w.container:4: KillMode=none: must be mixed or control-group"),
        ("[Service]\nExecStart=x", "w.container:4: ExecStart=x: the command is made of [Container]"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(text: str, told: str, tmp_path: Path) -> None:
    assert problems(tmp_path, f"{IMAGE}{text}\n") == [told]


def test_every_bad_value_is_named_not_only_the_first(tmp_path: Path) -> None:
    text = "PublishPort=80:x\nStopTimeout=z\nVolume=bad name:/v\nHostName=-\n"
    assert sorted(line.split(":")[1] for line in problems(tmp_path, IMAGE + text)) == ["3", "4", "5", "6"]
    same = f"{IMAGE}PublishPort=80:x\nPublishPort=80:x\n"
    assert sorted(line.split(":")[1] for line in problems(tmp_path, same)) == ["3", "4"]


def test_values_that_contradict_each_other(tmp_path: Path) -> None:
    (told_,) = problems(tmp_path, f"{IMAGE}ShmSize=1m\nPodmanArgs=--ipc=host\n")
    assert "--shm-size 1048576: cannot be combined with --ipc=host" in told_
    assert told_.startswith(("w.container:3: ShmSize=", "w.container:4: PodmanArgs="))


def test_what_is_missing_on_the_host_is_a_warning(tmp_path: Path) -> None:
    text = "Volume=./gone:/x\nEnvironmentFile=gone.env\nAddDevice=/dev/gone\nSeccompProfile=/gone.json\n"
    found = problems(tmp_path, IMAGE + text)
    assert all(": warning: " in line and line.endswith("does not exist") for line in found)
    assert len(found) == 4
    assert services(tmp_path)["w.service"].is_good
    assert len(problems(tmp_path, f"{IMAGE}Volume=./gone:/x:wrong\n")) == 2


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        ("container", "[Container]\n", "w.container: [Container] names no image"),
        ("container", "[Unit]\n", "w.container: there is no section [Container]"),
        ("volume", "[Volume]\nOptions=a\n", "w.volume:2: Options=a: needs Device="),
        ("volume", "[Volume]\nDriver=image\n", "w.volume:2: Driver=image: needs Image="),
        ("volume", "[Volume]\nVolumeName=-x\n", "w.volume:2: VolumeName=: unknown option -x"),
        (
            "volume",
            "[Volume]\nVolumeName=--root=/x\n",
            "w.volume:2: VolumeName=: --root=/x would be taken for an option",
        ),
        ("network", "[Network]\nGateway=10.1.0.1\n", "w.network:2: Gateway=10.1.0.1: there is no Subnet= for it"),
        ("network", "[Network]\nSubnet=10.1.0.0/33\n", None),
        (
            "network",
            "[Network]\nSubnet=10.1.0.0/24\nGateway=10.2.0.1\n",
            "w.network:3: Gateway=: --gateway 10.2.0.1: not in the subnet 10.1.0.0/24",
        ),
        ("network", "[Network]\nNetworkName=host\n", None),
        ("image", "[Image]\n", "w.image: [Image] names no image"),
        ("image", "[Image]\nImage=A:B:C\n", None),
        ("image", "[Image]\nImage=x.org/a\n[Service]\nType=notify\n", "w.image:4: Type=notify: must be oneshot"),
    ],
)
def test_mistakes_of_other_kinds(kind: str, text: str, told: str | None, tmp_path: Path) -> None:
    found = problems(tmp_path, text, kind)
    assert found[:1] == [told] if told else found


def test_keys_that_systemd_does_not_know(tmp_path: Path) -> None:
    known = systemd_keys.parse("[Unit]\nDescription=STRING\n[Service]\nRestart=X\nType=SERVICETYPE\n\n[Path]\nY=Z\n")
    text = f"[Unit]\nDescripton=x\nX-Mine=1\n{IMAGE}[Service]\nRestart=always\nRestat=always\n"
    write(tmp_path, {"w.container": text})
    assert told(services(tmp_path, systemd=known)["w.service"], tmp_path) == [
        "w.container:2: unknown key Descripton= in [Unit]",
        "w.container:8: unknown key Restat= in [Service]",
    ]
    assert services(tmp_path)["w.service"].is_good
    assert systemd_keys.known(("/nowhere",)) == {}
    of_this_machine = systemd_keys.known()
    assert not of_this_machine or {"Restart", "Type", "Delegate"} <= of_this_machine["Service"]


def test_two_sources_of_one_service(tmp_path: Path) -> None:
    write(tmp_path, {"a.container": IMAGE, "b.container": f"{IMAGE}ServiceName=a\n"})
    made = services(tmp_path)
    assert told(made["a.service"], tmp_path) == ["b.container: makes a.service, as a.container does"]


KINDS = {
    "network": ("[Network]\nSubnet=10.1.0.0/24\nGateway=10.1.0.1\nInternal=yes\nLabel=a=b\n", "network create --ignore"
                " --internal --label a=b --subnet 10.1.0.0/24 --gateway 10.1.0.1 systemd-w"),
    "build": ("[Build]\nImageTag=localhost/x\nSetWorkingDirectory=unit\nFile=./Containerfile\n",
              "build --tag localhost/x --file {}/Containerfile {}"),
    "pod": ("[Pod]\nPublishPort=80:80\n", "pod start --pod-id-file %t/%N.pod-id"),
    "kube": ("[Kube]\nYaml=./k.yaml\nPublishPort=80:80\n", "kube play --replace --service-container --publish 80:80"
             " {}/k.yaml"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_open_with_their_commands(kind: str, tmp_path: Path) -> None:
    """The service is written for the command; without the command the file is refused by name."""
    text, words = KINDS[kind]
    write(tmp_path, {f"w.{kind}": text})
    (made,) = services(tmp_path).values()
    assert lines(made, "Service", "ExecStart") == [f"/usr/bin/pyctl {words.replace('{}', str(tmp_path))}"]
    needed = keys.KINDS[kind].command
    missing = why_no_command(needed)
    if missing:
        assert told(made, tmp_path) == [
            f"w.{kind}:1: .{kind} files need pyctl {needed}, which is not available: {missing}"
        ]
    else:
        assert told(made, tmp_path) == []


def test_every_option_of_the_table_s_rows_is_known() -> None:
    """A row whose option no command has could never work; what is refused there is at least known."""
    from pyctl.cli import table
    from pyctl.cli.options_global import ROWS

    for kind in keys.KINDS.values():
        if why_no_command(kind.command):
            continue
        known = {f"--{row.name}" for row in (*table.find(kind.command).rows, *ROWS)} | {"--pod-id-file"}
        unknown = {row.key for row in kind.rows.values() if row.option and row.option not in known}
        assert not unknown, kind.name
