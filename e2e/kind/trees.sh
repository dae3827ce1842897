# Cuts trees for images out of the Debian tree, package by package.
#
# Sourced. Reads $tree; writes archives to standard output and nothing else anywhere.
# shellcheck shell=bash disable=SC2154

# All packages that the given ones need, themselves included.
with_dependencies() {
    # shellcheck disable=SC2016  # The fields are dpkg's.
    chroot "${tree:?}" dpkg-query -W -f '${Package}\t${Pre-Depends}, ${Depends}\t${Provides}\n' | awk -F '\t' -v wanted="$*" '
        function names(list) { gsub(/\([^)]*\)|:[a-z0-9]+|[ ]/, "", list); return list }
        { needs[$1] = names($2); n = split(names($3), given, ","); for (i = 1; i <= n; i++) if (given[i]) gives[given[i]] = $1 }
        END {
            last = split(wanted, queue, " ")
            for (at = 1; at <= last; at++) {
                package = queue[at]
                if (!(package in needs)) package = gives[package]
                if (package == "" || package in seen) continue
                seen[package] = 1
                print package
                n = split(needs[package], next_ones, ",")
                for (i = 1; i <= n; i++) {
                    split(next_ones[i], choices, "|")
                    queue[++last] = choices[1]
                }
            }
        }'
}

# The paths of packages, relative to the tree, with the links of merged directories resolved.
paths_of() {
    local package list
    for package; do
        for list in "$tree/var/lib/dpkg/info/$package.list" "$tree/var/lib/dpkg/info/$package":*.list; do
            [ ! -f "$list" ] || cat "$list"
        done
    done | sed -E 's,^/(bin|sbin|lib|lib64)(/|$),/usr/\1\2,; s,^/,./,' | sort -u |
        grep -vE '^\./\.$|^\./usr/(share|include)(/|$)|/gconv(/|$)|^\./usr/lib/(systemd|tmpfiles.d)(/|$)|^\./(var|boot)(/|$)' |
        while read -r path; do
            if [ -e "$tree/$path" ] || [ -L "$tree/$path" ]; then
                printf '%s\n' "$path"
            fi
        done
}

# An archive of packages with their dependencies, of further paths, and of what every tree holds:
# package_tree OUT "PACKAGE..." [PATH...]
package_tree() {
    local out=$1 packages=$2
    shift 2
    # shellcheck disable=SC2046,SC2086  # Package names hold no blanks.
    {
        printf './%s\n' bin sbin lib lib64 etc/passwd etc/group etc/nsswitch.conf tmp var var/tmp run proc sys dev root "$@"
        paths_of $(with_dependencies $packages)
    } | sort -u | tar --create --file "$out" --directory "$tree" --no-recursion --files-from -
}
