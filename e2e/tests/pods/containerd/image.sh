#!/bin/sh
# Makes the one image that a pod without containers needs: a program that waits. Usage: image.sh DIRECTORY
set -eu
cd "$1"
printf 'int pause(void);\nint main(void) { for (;;) pause(); }\n' | cc -static -O1 -x c -o pause -
tar -cf layer.tar pause
case $(uname -m) in
    x86_64) arch=amd64 ;;
    aarch64) arch=arm64 ;;
    *) arch=$(uname -m) ;;
esac
layer=$(sha256sum layer.tar | cut -d' ' -f1)
cat >config.json <<JSON
{"architecture":"$arch","os":"linux","config":{"Entrypoint":["/pause"]},
 "rootfs":{"type":"layers","diff_ids":["sha256:$layer"]}}
JSON
printf '[{"Config":"config.json","RepoTags":["weft.test/pause:1"],"Layers":["layer.tar"]}]\n' >manifest.json
tar -cf image.tar manifest.json config.json layer.tar
