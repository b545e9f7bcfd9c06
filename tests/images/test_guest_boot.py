"""The built guest, really booted: software emulation, the machine type, disk and NIC that nova gives it."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest

from labctl.host import process
from labctl.images import guest

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        bool(process.missing("qemu-system-x86_64", "busybox", "ssh-keygen", "scp", *guest.HOST_PROGRAMS)),
        reason="qemu, busybox or the guest's host packages are not installed",
    ),
]
MIB = 1024 * 1024
USER_DATA = "#!/bin/sh\necho user data ran on $(hostname) >>/var/log/ran\n"


def eventually(what: str, check: Callable[[], Any], seconds: float = 180) -> Any:
    """Return the first true answer of a check."""
    deadline = time.monotonic() + seconds
    while not (got := check()):
        assert time.monotonic() < deadline, f"no {what} within {seconds:g} s"
        time.sleep(0.1)
    return got


class Qmp:
    """QEMU's control socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile()
        self._lines.readline()
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: object) -> Any:
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            answer = json.loads(self._lines.readline())
            assert "error" not in answer, answer
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class Machine:
    """One emulated server: 128 MiB, one core, a 1 GiB virtio disk over the image."""

    def __init__(self, directory: Path, image: Path, key: paramiko.PKey) -> None:
        self.directory, self.key = directory, key
        self.log = directory / "console.log"
        self.disk = directory / "disk.qcow2"
        process.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", self.disk, "1G"])
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]

    def start(self, netdev: str = "", *more: str) -> None:
        self.log.unlink(missing_ok=True)
        serial = f"socket,id=s,path={self.directory}/serial,server=on,wait=off,logfile={self.log}"
        self.began = time.monotonic()
        with (self.directory / "qemu.log").open("ab") as errors:
            self.qemu = process.start(
                ["qemu-system-x86_64", "-machine", "pc,accel=tcg", "-cpu", "qemu64", "-smp", "1", "-m", "128",
                 "-nodefaults", "-display", "none", "-vga", "cirrus", "-usb", "-device", "usb-tablet",
                 "-qmp", f"unix:{self.directory}/qmp,server=on,wait=off",
                 "-chardev", serial, "-serial", "chardev:s",
                 "-drive", f"file={self.disk},if=none,id=root", "-device", "virtio-blk-pci,drive=root",
                 "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:22{netdev}",
                 "-device", "virtio-net-pci,netdev=net", "-object", "rng-random,id=rng,filename=/dev/urandom",
                 "-device", "virtio-rng-pci,rng=rng", *more],
                log=errors,
            )  # fmt: skip
        self.qmp = eventually("QMP", self._connect, 20)

    def _connect(self) -> Qmp | None:
        assert self.qemu.poll() is None, (self.directory / "qemu.log").read_text()
        try:
            return Qmp(self.directory / "qmp")
        except OSError:
            return None

    def console(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_for_login(self, host: str, times: int = 1) -> float:
        """Wait for a login prompt with that host name; return the seconds since power-on."""
        try:
            eventually("login prompt", lambda: self.console().count(f"{host} login: ") >= times, 90)
        except AssertionError:
            print(self.console()[-3000:])
            raise
        return time.monotonic() - self.began

    def connect(self, password: str | None = None) -> paramiko.SSHClient:
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())  # a machine of this test, on loopback
        key = None if password else self.key
        client.connect("127.0.0.1", self.port, "cirros", password, key, timeout=30, banner_timeout=30,
                       auth_timeout=30, look_for_keys=False, allow_agent=False)  # fmt: skip
        return client

    def succeed(self, command: str) -> str:
        """Run a command over SSH; it must end with 0."""
        with self.connect() as client:
            _, out, err = client.exec_command(command, timeout=60)
            text = out.read().decode()
            status = out.channel.recv_exit_status()
            assert status == 0, f"{command}: {status}\n{text}{err.read().decode()}"
        return text.strip()

    def host_key(self) -> str:
        with self.connect() as client:
            transport = client.get_transport()
            assert transport is not None
            return transport.get_remote_server_key().get_base64()

    def wait_for_power_off(self) -> float:
        began = time.monotonic()
        eventually("power-off", lambda: self.qemu.poll() is not None, 30)
        self.qmp.close()
        return time.monotonic() - began

    def stop(self) -> None:
        if self.qemu.poll() is None:
            self.qemu.kill()
        self.qemu.wait(10)
        self.qmp.close()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> guest.GuestImage:
    return guest.build(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "id"
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab key", "-f", path])
    return path


@pytest.fixture(scope="module")
def metadata(key_file: Path) -> Iterator[int]:
    """An ec2 metadata service as neutron shows it; the first answer is an error, as it is in real labs."""
    base = "/2009-04-04/"
    answers = {
        f"{base}meta-data/instance-id": "i-00000007",
        f"{base}meta-data/hostname": "web1.novalocal",
        f"{base}meta-data/public-keys/": "0=mykey",
        f"{base}meta-data/public-keys/0/openssh-key": key_file.with_suffix(".pub").read_text(),
        f"{base}user-data": USER_DATA,
    }
    asked: list[str] = []

    class Service(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if len(asked) == 1 or self.path not in answers:
                self.send_error(503 if len(asked) == 1 else 404)
                return
            self.answer(answers[self.path].encode())

        def do_POST(self) -> None:
            self.answer(b"got " + self.rfile.read(int(self.headers["Content-Length"])))

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def machine(
    image: guest.GuestImage, key_file: Path, metadata: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    key = paramiko.Ed25519Key.from_private_key_file(str(key_file))
    machine = Machine(tmp_path_factory.mktemp("m"), image.path, key)
    # guestfwd takes only addresses of the guest's own network.
    relay = f"guestfwd=tcp:169.254.169.254:80-cmd:busybox nc 127.0.0.1 {metadata}"
    machine.start(f",net=169.254.169.0/24,{relay}")
    try:
        machine.wait_for_login("web1")
        yield machine
    finally:
        machine.stop()


def test_the_image_is_small_and_says_what_it_is(image: guest.GuestImage) -> None:
    assert image.path.stat().st_size < 80 * MIB
    assert "built from Debian packages" in image.origin
    info = json.loads(process.output(["qemu-img", "info", "--output=json", image.path]))
    assert info["format"] == "qcow2"
    assert info["virtual-size"] < 128 * MIB


def test_the_console_tells_the_boot_as_cirros_does(machine: Machine) -> None:
    console = machine.console()
    assert "Linux version" in console
    assert "checking http://169.254.169.254/2009-04-04/instance-id" in console
    assert "failed 1/20: up" in console
    assert re.search(r"successful after 2/20 tries: up [\d.]+\. iid=i-00000007", console)
    assert "=== cirros: current=labctl-" in console
    assert "login as 'cirros' user. default password: 'gocubsgo'." in console
    for word in ("segfault", "invalid option", "not found", "Kernel panic", "Call Trace"):
        assert word not in console


def test_the_user_logs_in_on_the_console(machine: Machine) -> None:
    with socket.socket(socket.AF_UNIX) as serial:
        serial.connect(str(machine.directory / "serial"))
        start = len(machine.console())
        serial.sendall(b"cirros\n")
        eventually("password prompt", lambda: "Password:" in machine.console()[start:], 20)
        serial.sendall(b"gocubsgo\n")
        eventually("shell", lambda: "$ " in machine.console()[start:], 20)
        serial.sendall(b"echo i am $(sudo id -un), $((40 + 2))\nexit\n")
        eventually("answer", lambda: "i am root, 42" in machine.console()[start:], 20)


def test_ssh_with_the_injected_key_and_with_the_password(machine: Machine) -> None:
    assert machine.succeed("id -un; hostname") == "cirros\nweb1"
    with machine.connect(password="gocubsgo") as client:
        assert client.exec_command("whoami")[1].read() == b"cirros\n"


def test_openssh_clients_copy_files_both_ways(machine: Machine, key_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("over there\n")
    options = ["-q", "-i", key_file, "-P", str(machine.port), "-o", f"UserKnownHostsFile={tmp_path}/known",
               "-o", "StrictHostKeyChecking=accept-new", "-o", "BatchMode=yes"]  # fmt: skip
    for protocol in ("-s", "-O"):
        remote = "cirros@127.0.0.1:copy"
        process.run(["scp", protocol, *options, tmp_path / "file", remote], timeout=60)
        process.run(["scp", protocol, *options, remote, tmp_path / "back"], timeout=60)
        assert (tmp_path / "back").read_text() == "over there\n"
        machine.succeed("rm copy")


def test_sudo_needs_no_password(machine: Machine) -> None:
    assert machine.succeed("sudo id -u; sudo -n -u cirros id -u; sudo sh -c 'echo $HOME'") == "0\n1000\n/root"
    assert machine.succeed("sudo -i pwd") == "/root"


def test_user_data_ran_once_as_root(machine: Machine) -> None:
    assert machine.succeed("cat /var/log/ran") == "user data ran on web1"


def test_the_root_fills_the_bigger_disk(machine: Machine) -> None:
    blocks = int(machine.succeed("df -k / | awk 'END { print $2 }'"))
    assert blocks > 900 * 1024


def test_the_tools_the_tests_use_are_there(machine: Machine) -> None:
    machine.succeed(
        "for tool in curl wget ping nc ip hostname uptime dmesg free mkfs.ext4 mke2fs mount sha256sum dd sync"
        " blockdev lsblk scp ssh nohup vi awk sed grep ps top route ifconfig nslookup reboot poweroff; do"
        " sudo which $tool >/dev/null || { echo no $tool; exit 1; }; done"
    )
    base = "http://169.254.169.254/2009-04-04/meta-data"
    assert machine.succeed(f"curl -sf -m 5 {base}/hostname") == "web1.novalocal"
    assert machine.succeed(f"curl -X POST -d secret {base}/password") == "got secret"
    assert machine.succeed(f"wget -q -O - {base}/instance-id") == "i-00000007"
    assert "1 packets received" in machine.succeed("ping -c 1 169.254.169.2")
    heard = "(nc -l -p 4000 >/tmp/heard &) ; sleep 1; echo hello | nc -w 1 127.0.0.1 4000; cat /tmp/heard"
    assert machine.succeed(heard) == "hello"


def test_a_volume_is_plugged_used_and_unplugged(machine: Machine) -> None:
    volume = machine.directory / "volume.raw"
    volume.write_bytes(b"")
    process.run(["qemu-img", "create", "-q", "-f", "raw", volume, "64M"])
    machine.qmp("blockdev-add", driver="raw", **{"node-name": "vol"}, file={"driver": "file", "filename": str(volume)})
    machine.qmp("device_add", driver="virtio-blk-pci", drive="vol", id="vol")
    eventually("vdb", lambda: "vdb" in machine.succeed("cat /proc/partitions"), 20)
    assert machine.succeed("sudo blockdev --getsize64 /dev/vdb; lsblk -dn -o NAME,SIZE /dev/vdb").split() == [
        str(64 * MIB), "vdb", "64M",
    ]  # fmt: skip
    machine.succeed("sudo mkfs.ext4 -q /dev/vdb && sudo mount /dev/vdb /mnt && sudo dd if=/dev/urandom"
                    " of=/mnt/data bs=1M count=4 2>/dev/null && sync")  # fmt: skip
    before = machine.succeed("sha256sum </mnt/data")
    machine.succeed("sudo umount /mnt && sudo mount /dev/vdb /mnt")
    assert machine.succeed("sha256sum </mnt/data; sudo umount /mnt") == before

    machine.qmp("device_del", id="vol")
    eventually("end of vdb", lambda: "vdb" not in machine.succeed("cat /proc/partitions"), 20)
    assert machine.succeed("ls /dev/vdb 2>&1 || true").endswith("No such file or directory")


def test_files_and_host_keys_outlive_a_reboot(machine: Machine) -> None:
    host_key = machine.host_key()
    prompts = machine.console().count("web1 login: ")
    machine.succeed("echo kept >kept; (sleep 1; sudo reboot) >/dev/null 2>&1 &")
    machine.wait_for_login("web1", prompts + 1)

    assert machine.succeed("cat kept") == "kept"
    assert machine.host_key() == host_key
    assert machine.succeed("cat /var/log/ran") == "user data ran on web1"
    assert "recovery complete" not in machine.succeed("dmesg")  # the root was unmounted cleanly


def _config_drive(directory: Path, kind: str, key_file: Path) -> Path:
    """Make a config drive as nova makes it, in one of its two formats."""
    latest = directory / "tree/openstack/latest"
    latest.mkdir(parents=True)
    public = key_file.with_suffix(".pub").read_text()
    facts = {
        "random_seed": "aGVsbG8=",
        "uuid": "0d3f2f0a-1c5d-4b51-9d6b-3a1b7b6a4c11",
        "hostname": "drive1.novalocal",
        "name": "drive1",
        "public_keys": {"mykey": public},
        "keys": [{"name": "mykey", "type": "ssh", "data": public}],
        "meta": {"uuid": "not this", "hostname": "nor this"},
    }
    (latest / "meta_data.json").write_text(json.dumps(facts))
    (latest / "user_data").write_text(USER_DATA)
    path = directory / "disk.config"
    if kind == "iso9660":
        process.run(["genisoimage", "-quiet", "-J", "-r", "-V", "config-2", "-o", path, directory / "tree"])
    else:
        process.run(["qemu-img", "create", "-q", "-f", "raw", path, "64M"])
        process.run(["mformat", "-i", path, "-v", "config-2", "::"])
        process.run(["mcopy", "-i", path, "-s", directory / "tree/openstack", "::"])
    return path


@pytest.mark.parametrize("kind", ["iso9660", "vfat"])
def test_a_config_drive_serves_and_the_power_button_ends_cleanly(
    kind: str, image: guest.GuestImage, key_file: Path, tmp_path: Path
) -> None:
    if kind == "iso9660" and shutil.which("genisoimage") is None:
        pytest.skip("genisoimage is not installed")
    drive = _config_drive(tmp_path, kind, key_file)
    key = paramiko.Ed25519Key.from_private_key_file(str(key_file))
    machine = Machine(tmp_path, image.path, key)
    attach = ["-drive", f"file={drive},if=none,id=config,format=raw,readonly=on", "-device",
              "ide-cd,drive=config" if kind == "iso9660" else "virtio-blk-pci,drive=config"]  # fmt: skip
    machine.start("", *attach)
    try:
        machine.wait_for_login("drive1")
        assert "found datasource (configdrive, local)" in machine.console()
        assert "checking http" not in machine.console()
        assert machine.succeed("cat /run/cirros/datasource/data/instance-id").startswith("0d3f2f0a-")
        assert machine.succeed("cat /var/log/ran") == "user data ran on drive1"
        machine.succeed("echo written >file")
        if kind == "iso9660":
            found = (
                "sudo mount $(PATH=$PATH:/usr/sbin; blkid -L config-2 -o device) /mnt; cat /mnt/openstack/latest/*.json"
            )
            assert "0d3f2f0a-" in machine.succeed(found)

        machine.qmp("system_powerdown")
        assert machine.wait_for_power_off() < 10

        machine.start("", *attach)
        machine.wait_for_login("drive1")
        assert machine.succeed("cat file; cat /var/log/ran") == "written\nuser data ran on drive1"
        assert "recovery complete" not in machine.succeed("dmesg")
    finally:
        machine.stop()


def test_without_metadata_the_guest_still_boots_with_its_password(
    image: guest.GuestImage, key_file: Path, tmp_path: Path
) -> None:
    machine = Machine(tmp_path, image.path, paramiko.Ed25519Key.from_private_key_file(str(key_file)))
    machine.start(",restrict=on")
    try:
        machine.wait_for_login("cirros")
        assert "failed to read iid from metadata. tried 20" in machine.console()
        assert "route-info: 10.0.2.0/24 dev eth0" in machine.console()  # though there is no router
        with machine.connect(password="gocubsgo") as client:
            assert client.exec_command("sudo id -u")[1].read() == b"0\n"
    finally:
        machine.stop()
