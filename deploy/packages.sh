#!/bin/sh
# The Debian packages that targets of the Makefile need besides Python and make: this is the one list of them.
#   sh deploy/packages.sh TARGET...   installs what is missing, as root or by a sudo that asks nothing; else names it, fails
set -eu
PATH=$PATH:/usr/sbin:/sbin # not in everybody's PATH: ip, iptables, mkfs.ext4
missing=

wanted_by() { # TARGET
    case $1 in
    ci) need make ;;
    venv) need_venv "${PYTHON:-python3}" ;;
    test) need curl openssl nginx strace systemd:systemd-analyze golang-go:go nodejs:node npm prometheus prometheus:promtool prometheus-alertmanager prometheus-alertmanager:amtool && need_browser && need_postgresql ;;
    obs) need prometheus prometheus:promtool prometheus-alertmanager prometheus-alertmanager:amtool ;;
    watch) need prometheus ;;
    demo) need prometheus prometheus-alertmanager nodejs:node npm ;;
    edge) need nginx ;;
    newcomer) wanted_by demo && need_browser ;;
    bench) need wrk && need_postgresql ;;
    look) need prometheus prometheus:promtool nodejs:node npm fontconfig:fc-list && need_browser && need_chinese ;;
    faults) # whoever is not root tries only rows that need none of these
        [ "$(id -u)" != 0 ] || { need strace iptables iproute2:ip e2fsprogs:mkfs.ext4 e2fsprogs:e2fsck && need_postgresql; }
        ;;
    esac
}

need() { # PACKAGE or PACKAGE:PROGRAM, whose program is there or not; any of Debian's or of somebody else's
    for one; do
        command -v "${one#*:}" >/dev/null || lacks "${one%:*}"
    done
}

need_browser() {
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
        lacks chromium
}

need_postgresql() { # the server, which Debian keeps out of everybody's PATH
    set -- "${POSTGRESQL_DIR:-/usr/lib/postgresql}"/*/bin/initdb
    [ -x "$1" ] || command -v initdb >/dev/null || lacks postgresql
}

need_chinese() { # a font
    [ -n "$(fc-list :lang=zh 2>/dev/null)" ] || lacks fonts-wqy-microhei
}

need_venv() { # INTERPRETER; Debian keeps what makes a virtual environment apart from it
    "$1" -c 'import ensurepip' 2>/dev/null ||
        lacks "$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])' 2>/dev/null || echo python3-venv)"
}

lacks() { # PACKAGE
    case " $missing " in *" $1 "*) ;; *) missing="$missing $1" ;; esac
}

install() { # PACKAGE...; as root
    # Debian starts the services of what it installs, a Prometheus of its own; we only want the programs.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    apt-get update -qq || true # one source that is away need not be the one that is asked
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" >/dev/null
}

if [ "$1" = --install ]; then
    shift
    install "$@"
    exit
fi

for target; do wanted_by "$target"; done
[ -n "$missing" ] || exit 0
command="apt-get install --no-install-recommends$missing"

if ! command -v apt-get >/dev/null; then
    echo "missing here, by the names of Debian's packages:$missing" >&2
    exit 1
elif [ "$(id -u)" = 0 ]; then
    as_root=
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    echo "missing here; as root: $command" >&2
    exit 1
fi
echo "missing here, installing it: ${as_root:+sudo }$command"
# shellcheck disable=SC2086 # words, not one
$as_root sh "$0" --install $missing || { echo "could not be installed: $command" >&2 && exit 1; }
