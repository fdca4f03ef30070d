"""The images of the tests: good ones, and those that a stranger might send."""
import functools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

from image_builder import (DOCKER, OCI, Image, Layer, busybox_layer, demo_image,  # noqa: E402,F401
                           to_json)

BUSYBOX = "/bin/busybox"
PATH_ENV = "PATH=/bin:/usr/bin"


@functools.lru_cache(None)
def busybox(**more):
    """One layer with busybox; runs `sleep` for ever unless told otherwise."""
    config = {"Cmd": ["sleep", "2147483647"], "Env": [PATH_ENV]}
    return Image([busybox_layer(BUSYBOX)], config, **more)


@functools.lru_cache(None)
def web():
    return demo_image(BUSYBOX)


@functools.lru_cache(None)
def configured():
    """Every member of the configuration that a launch has to honour."""
    layer = Layer().folder("srv").folder("srv/data", uid=1000, gid=1000)
    return Image([busybox_layer(BUSYBOX), layer], {
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["id -u; id -g; pwd; echo $COLOUR; hostname; exec sleep 2147483647"],
        "Env": [PATH_ENV, "COLOUR=blue"], "WorkingDir": "/srv/data", "User": "web:staff",
        "StopSignal": "SIGINT", "Labels": {"made-by": "tests"}})


@functools.lru_cache(None)
def layered(compression="gzip", media_name="oci"):
    """Whiteouts, an opaque folder, hard links, xattrs, a device, a long name, in four layers."""
    long_name = "deep/" + "/".join("n" * 60 for _ in range(4)) + "/" + "f" * 120
    first = busybox_layer(BUSYBOX)
    second = Layer().folder("data").file("data/old", "old").file("data/kept", "kept")
    second.folder("data/sub").file("data/sub/gone", "gone").file("data/sub/gone2", "gone")
    second.file("data/setuid", "x", mode=0o4755).file("data/owned", "o", uid=1000, gid=50)
    second.file("data/one", "linked").hardlink("data/two", "data/one")
    second.symlink("data/absolute", "/data/kept").symlink("data/outside", "../../../../etc/passwd")
    second.fifo("data/pipe").file(long_name, "long")
    second.file("data/attributes", "a", xattrs={"user.colour": "green"})
    third = Layer().whiteout("data/old").folder("data/sub").opaque("data/sub")
    third.file("data/sub/new", "new")
    fourth = Layer().file("data/old", "again").file("data/ä ö", "name")
    return Image([first, second, third, fourth], {"Cmd": ["sleep", "2147483647"],
                                                  "Env": [PATH_ENV]},
                 compression=compression, media={"oci": OCI, "docker": DOCKER}[media_name])


def many_layers(count, compression="gzip"):
    layers = [busybox_layer(BUSYBOX)]
    layers += [Layer().file(f"layer{number}", str(number)) for number in range(1, count)]
    return Image(layers, {"Cmd": ["sleep", "2147483647"], "Env": [PATH_ENV]},
                 compression=compression)


def escaping(trick):
    """A layer that tries to write a file called `brume-escaped` out of its root."""
    layer = Layer()
    if trick == "dotdot":
        layer.file("../../../../../../tmp/brume-escaped", "out")
    elif trick == "absolute":
        layer.file("/../../../../../tmp/brume-escaped", "out")
    elif trick == "symlink":
        layer.symlink("way", "/tmp").file("way/brume-escaped", "out")
    elif trick == "symlink-dotdot":
        layer.symlink("way", "../../../../../../../../tmp").file("way/brume-escaped", "out")
    elif trick == "hardlink":
        layer.hardlink("stolen", "../../../../../../../../etc/passwd")
    elif trick == "hardlink-symlink":
        layer.symlink("way", "/etc").hardlink("stolen", "way/passwd")
    else:
        raise ValueError(trick)
    return Image([busybox_layer(BUSYBOX), layer], {"Cmd": ["true"], "Env": [PATH_ENV]})


def big(size_bytes):
    """A layer with one incompressible file of that size (for full disks and broken downloads)."""
    import random
    data = random.Random(7).randbytes(size_bytes)
    return Image([busybox_layer(BUSYBOX), Layer().file("big", data)],
                 {"Cmd": ["true"], "Env": [PATH_ENV]})


def manifest_list(images):
    """The index that offers one image per platform.  Gives (bytes, media type)."""
    return to_json({"schemaVersion": 2, "mediaType": OCI["index"], "manifests": [
        image.descriptor(platform={"os": image.os_name, "architecture": image.architecture})
        for image in images]}), OCI["index"]
