#!/usr/bin/env python3
"""Builds small OCI images without any container tool, and puts them into a registry.

Used by quickstart.sh (the demo image) and by the tests (tests/integration/images.py adds the
images that a stranger might send).  Only Python's standard library; an image lives in memory.

    image_builder.py --busybox /bin/busybox --push 127.0.0.1:5000/hello:1
"""
import argparse
import gzip
import hashlib
import http.client
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile

OCI = {
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "index": "application/vnd.oci.image.index.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "layer": {"none": "application/vnd.oci.image.layer.v1.tar",
              "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
              "zstd": "application/vnd.oci.image.layer.v1.tar+zstd"},
}
DOCKER = {
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "layer": {"none": "application/vnd.docker.image.rootfs.diff.tar",
              "gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip"},
}


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def to_json(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


class Layer:
    """A layer's tar, entry by entry.  Every method gives the layer back, so calls can be chained."""

    def __init__(self):
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)
        self._bytes = None

    def entry(self, path, kind=tarfile.REGTYPE, data=b"", mode=0o644, uid=0, gid=0, link="",
              major=0, minor=0, xattrs=None, mtime=1700000000):
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.uid, info.gid = kind, mode, uid, gid
        info.linkname, info.mtime, info.size = link, mtime, len(data)
        info.devmajor, info.devminor = major, minor
        for name, value in (xattrs or {}).items():
            info.pax_headers["SCHILY.xattr." + name] = value
        self._tar.addfile(info, io.BytesIO(data))
        return self

    def file(self, path, data=b"", **more):
        return self.entry(path, data=data.encode() if isinstance(data, str) else data, **more)

    def folder(self, path, mode=0o755, **more):
        return self.entry(path, kind=tarfile.DIRTYPE, mode=mode, **more)

    def symlink(self, path, target, **more):
        return self.entry(path, kind=tarfile.SYMTYPE, link=target, mode=0o777, **more)

    def hardlink(self, path, target, **more):
        return self.entry(path, kind=tarfile.LNKTYPE, link=target, **more)

    def fifo(self, path, **more):
        return self.entry(path, kind=tarfile.FIFOTYPE, **more)

    def device(self, path, major, minor, **more):
        return self.entry(path, kind=tarfile.CHRTYPE, major=major, minor=minor, **more)

    def whiteout(self, path):
        folder, _, name = path.rpartition("/")
        return self.file((folder + "/" if folder else "") + ".wh." + name)

    def opaque(self, folder):
        return self.file(folder + "/.wh..wh..opq")

    def tar(self):
        if self._bytes is None:
            self._tar.close()
            self._bytes = self._buffer.getvalue()
        return self._bytes


class Image:
    """Layers and a configuration, with all the bytes that a registry or a layout folder holds."""

    def __init__(self, layers, config=None, architecture="amd64", os_name="linux",
                 compression="gzip", media=OCI):
        self.media, self.blobs, self.layers = media, {}, [layer.tar() for layer in layers]
        self.config = to_json({
            "architecture": architecture, "os": os_name, "created": "2026-01-01T00:00:00Z",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [sha256(tar) for tar in self.layers]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "image_builder"}
                        for _ in self.layers],
        })
        descriptors = [self._add(compress(tar, compression), media["layer"][compression])
                       for tar in self.layers]
        self.manifest = to_json({
            "schemaVersion": 2, "mediaType": media["manifest"],
            "config": self._add(self.config, media["config"]), "layers": descriptors})
        self.architecture, self.os_name = architecture, os_name

    def _add(self, data, media_type):
        self.blobs[sha256(data)] = data
        return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}

    @property
    def digest(self):
        return sha256(self.manifest)

    def push(self, reference, auth=None):
        """reference: HOST:PORT/NAME:TAG, spoken to in plain HTTP.  Gives the manifest's digest."""
        registry = Registry(reference.split("/", 1)[0], auth)
        name, _, tag = reference.split("/", 1)[1].rpartition(":")
        for digest, data in self.blobs.items():
            registry.put_blob(name, digest, data)
        registry.put_manifest(name, tag, self.manifest, self.media["manifest"])
        return self.digest

    def descriptor(self, **more):
        return {"mediaType": self.media["manifest"], "digest": self.digest,
                "size": len(self.manifest), **more}

    def write_layout(self, folder, tag="latest"):
        """Writes an OCI layout folder."""
        folder = pathlib.Path(folder)
        (folder / "blobs/sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        for digest, data in {**self.blobs, self.digest: self.manifest}.items():
            (folder / "blobs/sha256" / digest.split(":")[1]).write_bytes(data)
        named = self.descriptor(annotations={"org.opencontainers.image.ref.name": tag})
        (folder / "index.json").write_bytes(to_json(
            {"schemaVersion": 2, "mediaType": OCI["index"], "manifests": [named]}))
        return folder

    def write_docker_save(self, path, name="saved:1"):
        """Writes what `docker save` writes: manifest.json, the configuration, plain layer tars."""
        config_name = sha256(self.config).split(":")[1] + ".json"
        files, layer_names = {config_name: self.config}, []
        for number, tar in enumerate(self.layers):
            layer_names.append(f"{number:02d}/layer.tar")
            files[layer_names[-1]] = tar
        files["manifest.json"] = to_json(
            [{"Config": config_name, "RepoTags": [name], "Layers": layer_names}])
        out = Layer()
        for file, data in files.items():
            out.file(file, data)
        pathlib.Path(path).write_bytes(out.tar())
        return path


class Registry:
    """The pushing half of the distribution protocol, in plain HTTP."""

    def __init__(self, host, auth=None):
        self.host, self.auth = host, auth

    def call(self, method, path, body=None, headers=None):
        headers = dict(headers or {})
        if self.auth:
            headers["Authorization"] = self.auth
        connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def put_blob(self, name, digest, data):
        status, _, _ = self.call("HEAD", f"/v2/{name}/blobs/{digest}")
        if status == 200:
            return
        status, headers, body = self.call("POST", f"/v2/{name}/blobs/uploads/")
        if status != 202:
            raise RuntimeError(f"{self.host} refused an upload to {name}: {status} {body!r}")
        place = headers["Location"]
        if "://" in place:
            place = "/" + place.split("://", 1)[1].split("/", 1)[1]
        place += ("&" if "?" in place else "?") + "digest=" + digest
        status, _, body = self.call("PUT", place, data,
                                    {"Content-Type": "application/octet-stream"})
        if status != 201:
            raise RuntimeError(f"{self.host} refused blob {digest} of {name}: {status} {body!r}")

    def put_manifest(self, name, tag, manifest, media_type):
        status, _, body = self.call("PUT", f"/v2/{name}/manifests/{tag}", manifest,
                                    {"Content-Type": media_type})
        if status != 201:
            raise RuntimeError(f"{self.host} refused {name}:{tag}: {status} {body!r}")


def compress(data, how):
    if how == "gzip":
        return gzip.compress(data, 6, mtime=0)
    if how == "zstd":
        return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE,
                              check=True).stdout
    return data


def busybox_layer(busybox="/bin/busybox", like=None):
    """A root file system with all of busybox's commands and two users.

    `like`: one that can be run here, when `busybox` is another architecture's.
    """
    names = subprocess.run([like or busybox, "--list"], stdout=subprocess.PIPE, check=True, text=True)
    layer = Layer()
    for folder in ("bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var",
                   "var/www"):
        layer.folder(folder)
    layer.folder("tmp", mode=0o1777)
    layer.file("bin/busybox", pathlib.Path(busybox).read_bytes(), mode=0o755)
    for name in names.stdout.split():
        if name != "busybox":
            layer.symlink("bin/" + name, "busybox")
    layer.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"
                             "web:x:1000:1000:web:/home/web:/bin/sh\n")
    layer.file("etc/group", "root:x:0:\nweb:x:1000:\nstaff:x:50:web\n")
    layer.folder("home/web", uid=1000, gid=1000)
    return layer


def demo_image(busybox="/bin/busybox", like=None, **more):
    """A web server with one page: what quickstart.sh launches."""
    page = Layer().file("var/www/index.html",
                        "<!doctype html>\n<title>brume</title>\n"
                        "<h1>It works</h1>\n<p>This page comes out of an instance.</p>\n")
    return Image([busybox_layer(busybox, like), page],
                 {"Cmd": ["httpd", "-f", "-v", "-p", "80", "-h", "/var/www"],
                  "Env": ["PATH=/bin:/usr/bin"], "WorkingDir": "/var/www",
                  "ExposedPorts": {"80/tcp": {}}, "Labels": {"title": "brume demo"}}, **more)


def main():
    parser = argparse.ArgumentParser(description="Build the demo image.")
    parser.add_argument("--busybox", default="/bin/busybox", help="a statically linked busybox")
    parser.add_argument("--push", metavar="HOST:PORT/NAME:TAG", help="put it into this registry")
    parser.add_argument("--layout", metavar="FOLDER", help="write it as an OCI layout folder")
    options = parser.parse_args()
    if not os.access(options.busybox, os.X_OK):
        sys.exit(f"{options.busybox} is not there: apt-get install busybox-static")
    image = demo_image(options.busybox)
    if options.push:
        try:
            image.push(options.push)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            sys.exit(f"cannot push to {options.push}: {error}")
    if options.layout:
        image.write_layout(options.layout)
    print(image.digest)


if __name__ == "__main__":
    main()
