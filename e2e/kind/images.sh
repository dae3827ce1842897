#!/usr/bin/env bash
# Makes the images of the cluster, or gets them out of the cache: images.sh node for all and the node's, whose name it prints;
# images.sh others for agnhost's and the base of Weft's own only.
#
# Owns $cache/images-KEY.tar and the images it names. Must never ask a registry, and run nothing of an image but containerd.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$here/trees.sh"

case ${1:-} in
    node) "$here/binaries.sh" kubernetes plugins pause etcd coredns ;;
    others) "$here/binaries.sh" kubernetes ;;
    *) die "images.sh makes node or others" ;;
esac
tree=$("$here/rootfs.sh")
programs=$cache/go
path='ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

key() {
    {
        printf '%s\n' "$tree"
        readlink "$programs"/{kubernetes,plugins,pause,etcd,coredns}
        cat "$here/images.sh" "$here/trees.sh"
        find "$here/node" -type f -printf '%P %m\n' -exec cat {} \; | LC_ALL=C sort
    } | sha256sum | cut -c1-16
}

# Gives a program a tree: program_image IMAGE ARCHIVE PROGRAM PLACE CHANGE...
# ARCHIVE is taken over and may be missing.
program_image() {
    local image=$1 archive=$2 program=$3 place=$4 change changes=()
    shift 4
    for change in "$path" 'LABEL weft-kind=' "$@"; do
        changes+=(--change "$change")
    done
    install -D -m 755 "$program" "$work/program/$place"
    tar --append --file "$archive" --directory "$work/program" "$place"
    docker import "${changes[@]}" "$archive" "$image" >/dev/null
    rm -r "$work/program" "$archive"
}

# What the pods of the control plane run, under the names that kubeadm asks for; the names go to standard output.
cluster_images() {
    local image name
    "$programs/kubernetes/kubeadm" config images list --kubernetes-version "$kubernetes" | while read -r image; do
        name=${image##*/}
        name=${name%:*}
        case $name in
            pause | coredns) program_image "$image" "$work/$name.tar" "$programs/$name/$name" "$name" "ENTRYPOINT [\"/$name\"]" ;;
            etcd) program_image "$image" "$work/$name.tar" "$programs/etcd/server" usr/local/bin/etcd ;;
            kube-proxy)
                # shellcheck disable=SC2046  # None of these names holds a blank.
                package_tree "$work/$name.tar" "iptables nftables conntrack kmod" $(cd "$tree" && ls -d etc/alternatives/*tables* usr/sbin/ip*tables*)
                program_image "$image" "$work/$name.tar" "$programs/kubernetes/$name" "usr/local/bin/$name"
                ;;
            *) program_image "$image" "$work/$name.tar" "$programs/kubernetes/$name" "usr/local/bin/$name" ;;
        esac
        printf '%s\n' "$image"
    done
}

# Adds a certificate for localhost and its key, which some of its servers show: self_signed ARCHIVE
self_signed() {
    local place
    place=$(mktemp --directory --tmpdir="${tree:?}/tmp")
    chroot "$tree" openssl req -x509 -newkey rsa:2048 -nodes -days 36500 -subj /O=weft-kind \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1 \
        -keyout "/tmp/${place##*/}/localhost.key" -out "/tmp/${place##*/}/localhost.crt" 2>"$work/openssl.log" ||
        die "agnhost gets no certificate: $(<"$work/openssl.log")"
    # Not every server that shows it runs as root.
    chmod a+r "$place"/*
    tar --append --file "$1" --directory "$place" localhost.crt localhost.key
    rm -r "$place"
}

# agnhost with a shell, the programs that tests call in it, and what Kubernetes' own suite wants of it.
agnhost_image() {
    # Two of these programs go by names that Debian gives them at their installation.
    package_tree "$work/agnhost.tar" \
        "dash bash coreutils grep sed hostname mawk libc-bin curl netcat-openbsd bind9-dnsutils iproute2 iputils-ping" \
        {etc/alternatives,usr/bin}/{awk,nc}
    self_signed "$work/agnhost.tar"
    program_image "$agnhost" "$work/agnhost.tar" "$programs/kubernetes/agnhost" agnhost 'ENTRYPOINT ["/agnhost"]' 'CMD ["pause"]'
}

# The least in which a dynamically linked program runs and may speak TLS.
base_image() {
    package_tree "$work/base.tar" "libc6 libgcc-s1" etc/ssl/certs/ca-certificates.crt
    docker import --change "$path" --change 'LABEL weft-kind=' "$work/base.tar" "$base" >/dev/null
}

# The node without images: bare_node IMAGE PAUSE
bare_node() {
    local image=$1 pause=$2 stage=$work/node unit
    cp -a "$tree" "$stage"
    rm -rf "${stage:?}"/etc/systemd/system/*.wants "${stage:?}"/dev/*
    mkdir -p "$stage"/{kind,opt/cni/bin,etc/cni/net.d,etc/kubernetes/manifests,etc/systemd/system/multi-user.target.wants}
    cp -a "$here/node/." "$stage/"
    sed -i "s|\"PAUSE\"|\"$pause\"|" "$stage/etc/containerd/config.toml"
    printf '%s\n' "$kubernetes" >"$stage/kind/version"
    cp "$programs"/kubernetes/{kubelet,kubeadm,kubectl} "$stage/usr/local/bin/"
    # kind calls them by these names; kubeadm too.
    ln -s ../local/bin/{kubelet,kubeadm,kubectl} "$stage/usr/bin/"
    cp "$programs"/plugins/* "$stage/opt/cni/bin/"
    ln -s ../lib/systemd/systemd "$stage/usr/sbin/init"
    for unit in containerd kubelet; do
        ln -s "../$unit.service" "$stage/etc/systemd/system/multi-user.target.wants/"
    done
    # These would change the machine, not the node.
    for unit in systemd-{sysctl,modules-load,binfmt,udevd,udev-trigger,remount-fs,logind,tmpfiles-setup,tmpfiles-setup-dev}.service getty.target; do
        ln -s /dev/null "$stage/etc/systemd/system/$unit"
    done
    tar --create --directory "$stage" . | docker import --change "$path" --change 'ENV container=docker' - "$image" >/dev/null
    rm -r "$stage"
    # systemd ends a machine by a signal of its own.
    printf 'FROM %s\nSTOPSIGNAL SIGRTMIN+3\nLABEL weft-kind=\n' "$image" | DOCKER_BUILDKIT=0 docker build --quiet --tag "$image" - >/dev/null 2>"$work/build.log" ||
        die "the node image cannot be given its signal: $(<"$work/build.log")"
}

# The node with images in its containerd's store: full_node BARE FULL IMAGE...
full_node() {
    local bare=$1 full=$2 worker=weft-node-build-$$
    shift 2
    # shellcheck disable=SC2064  # The name is known now.
    trap "docker rm --force $worker >/dev/null 2>&1 || true; rm -rf '$work'" EXIT
    docker run --detach --privileged --network none --name "$worker" --entrypoint containerd "$bare" >/dev/null
    timeout 60 sh -c "until docker exec $worker ctr version >/dev/null 2>&1; do sleep 0.2; done" ||
        die "containerd does not start in the node image: docker logs $worker"
    docker save "$@" | docker exec --interactive "$worker" ctr --namespace k8s.io images import --no-unpack - >/dev/null
    docker stop --time 20 "$worker" >/dev/null
    docker commit --change 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' "$worker" "$full" >/dev/null
    docker rm "$worker" >/dev/null
    docker rmi "$bare" >/dev/null
}

build() {
    local images
    step "Putting the images of the control plane together"
    images=$(cluster_images)
    agnhost_image
    base_image
    step "Putting the node image together"
    bare_node "$node-bare" "$(grep /pause: <<<"$images")"
    # shellcheck disable=SC2086  # A line for each.
    {
        full_node "$node-bare" "$node" $images "$agnhost"
        docker rmi $images >/dev/null
    }
    step "Keeping the images"
    docker save --output "$work/images.tar" "$node" "$agnhost" "$base"
    mv "$work/images.tar" "$kept"
    # They are large: this one and the one before will do.
    find "$cache" -maxdepth 1 -name 'images-*.tar' -printf '%T@ %p\n' | sort -rn | tail -n +3 | cut -d' ' -f2- | xargs --no-run-if-empty rm
    docker image ls --format '{{.Repository}}:{{.Tag}}' weft-node | grep -v "^$node\$" | xargs --no-run-if-empty docker rmi >/dev/null 2>&1 || true
    docker image prune --force --filter label=weft-kind >/dev/null
}

present() { docker image inspect "$node" "$agnhost" "$base" >/dev/null 2>&1; }

alone images
work=$cache/work
rm -rf "$work"
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT
if [ "$1" = others ]; then
    if ! docker image inspect "$agnhost" "$base" >/dev/null 2>&1; then
        step "Putting the images of tests together"
        agnhost_image
        base_image
    fi
    exit 0
fi
key=$(key)
node=weft-node:$kubernetes-$key
kept=$cache/images-$key.tar
if present; then
    :
elif [ -f "$kept" ]; then
    step "Loading the images"
    docker load --quiet --input "$kept" >/dev/null
else
    build
fi
printf '%s\n' "$node"
