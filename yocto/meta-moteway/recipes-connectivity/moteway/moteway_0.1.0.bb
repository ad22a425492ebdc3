# nooelint: oelint.var.bbclassextend - a daemon has no use on the build machine
SUMMARY = "Edge gateway: MQTT broker, MQTT-SN gateway, store-and-forward bridge"
DESCRIPTION = "MQTT broker for the local network, MQTT-SN gateway for radios on UDP and serial lines, and a bridge that \
               keeps messages on disk while the link to the cloud is down."
HOMEPAGE = "https://moteway.example"
BUGTRACKER = "https://moteway.example/issues"
SECTION = "net"
# Its own, and those of the crates that are linked into it.
LICENSE = "Apache-2.0 & BSD-3-Clause & ISC & MIT & MPL-2.0 & Unicode-3.0 & Zlib"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

CVE_PRODUCT = "moteway:moteway"

require ${BPN}-crates.inc

# The layer is part of the source, and builds the tree that it lies in: recipe and program cannot go apart, and nothing
# but crates comes from the network. The README says how to build from a repository or an archive instead.
# nooelint: oelint.vars.fileextrapaths - the files are above the layer, for the reason above
FILESEXTRAPATHS:prepend := "${THISDIR}/../../../..:"
SRC_URI += "file://Cargo.lock;subdir=${BP} \
            file://Cargo.toml;subdir=${BP} \
            file://LICENSE;subdir=${BP} \
            file://config;subdir=${BP} \
            file://packaging;subdir=${BP} \
            file://src;subdir=${BP} \
            file://systemd;subdir=${BP} \
            file://tests;subdir=${BP}"

inherit bash-completion cargo cargo-update-recipe-crates features_check systemd useradd

REQUIRED_DISTRO_FEATURES = "systemd"

# rust-version in Cargo.toml.
MOTEWAY_OLDEST_RUST = "1.94"

# nooelint: oelint.task.noanonpython - only while parsing can a recipe be left out
python () {
    rust = (d.getVar("RUSTVERSION") or "").rstrip("%")
    oldest = d.getVar("MOTEWAY_OLDEST_RUST")
    if rust and bb.utils.vercmp_string_op(rust, oldest, "<"):
        raise bb.parse.SkipRecipe("needs Rust %s, and this build has %s: add a layer with a newer one" % (oldest, rust))
}

PACKAGECONFIG ??= ""
PACKAGECONFIG[demo] = "--features demo,,"
PACKAGECONFIG[pkcs11] = "--features pkcs11,,"

CARGO_BUILD_FLAGS:append = " --bin moteway --no-default-features ${PACKAGECONFIG_CONFARGS}"

# Symbols go to the -dbg package, which bitbake makes.
export CARGO_PROFILE_RELEASE_STRIP = "none"
export CARGO_PROFILE_RELEASE_DEBUG = "line-tables-only"

# SQLite as the store needs it: what .cargo/config.toml has, which cargo does not find from where bitbake calls it.
export LIBSQLITE3_FLAGS = "-USQLITE_ENABLE_FTS3 -USQLITE_ENABLE_FTS3_PARENTHESIS -USQLITE_ENABLE_FTS5 -USQLITE_ENABLE_RTREE \
                           -USQLITE_ENABLE_STAT4 -USQLITE_ENABLE_DBSTAT_VTAB -USQLITE_ENABLE_COLUMN_METADATA -USQLITE_SOUNDEX \
                           -USQLITE_ENABLE_LOAD_EXTENSION -DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_OMIT_JSON -DSQLITE_OMIT_DEPRECATED \
                           -DSQLITE_OMIT_SHARED_CACHE -DSQLITE_OMIT_PROGRESS_CALLBACK -DSQLITE_DEFAULT_MEMSTATUS=0 -DSQLITE_DQS=0"

do_install() {
    install -D -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/moteway ${D}${bindir}/moteway

    install -d ${D}${sysconfdir}/moteway/conf.d
    install -m 0644 ${S}/config/moteway.toml ${D}${sysconfdir}/moteway

    install -d ${D}${systemd_system_unitdir}
    sed -e 's,/usr/bin/,${bindir}/,' -e 's,/etc/moteway/,${sysconfdir}/moteway/,' \
        ${S}/systemd/moteway.service >${D}${systemd_system_unitdir}/moteway.service

    install -D -m 0644 ${S}/packaging/man/moteway.1 ${D}${mandir}/man1/moteway.1
    install -D -m 0644 ${S}/packaging/man/moteway.toml.5 ${D}${mandir}/man5/moteway.toml.5
    install -D -m 0644 ${S}/packaging/completions/bash/moteway ${D}${datadir}/bash-completion/completions/moteway
    install -D -m 0644 ${S}/packaging/completions/fish/moteway.fish \
        ${D}${datadir}/fish/vendor_completions.d/moteway.fish
    install -D -m 0644 ${S}/packaging/completions/zsh/_moteway ${D}${datadir}/zsh/site-functions/_moteway

    install -d ${D}${datadir}/moteway/monitoring
    install -m 0644 ${S}/packaging/monitoring/* ${D}${datadir}/moteway/monitoring

    install -d ${D}${docdir}/moteway/examples
    install -m 0644 ${S}/packaging/doc/*.md ${D}${docdir}/moteway
    install -m 0644 ${S}/config/examples/*.toml ${S}/config/examples/*.py ${D}${docdir}/moteway/examples
}

SYSTEMD_SERVICE:${PN} = "moteway.service"

# What sysusers.d has on other systems. Serial ports belong to dialout.
USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --user-group --groups dialout --no-create-home --home-dir /nonexistent \
                       --shell /sbin/nologin --comment 'moteway gateway' moteway"

PACKAGE_BEFORE_PN += "${PN}-examples ${PN}-fish-completion ${PN}-zsh-completion"
FILES:${PN}-examples += "${docdir}/moteway/examples"
FILES:${PN}-fish-completion += "${datadir}/fish"
FILES:${PN}-zsh-completion += "${datadir}/zsh"

CONFFILES:${PN} = "${sysconfdir}/moteway/moteway.toml"

# The trust anchors of public clouds.
RRECOMMENDS:${PN} = "ca-certificates"
