FILESEXTRAPATHS:prepend := "${THISDIR}/files:"

SRC_URI += "file://50-site.toml;subdir=${BP} \
            file://site.conf;subdir=${BP} \
            file://var-lib-moteway.mount;subdir=${BP}"

do_install:append() {
    # A key takes the place of the same key in the package's file, which stays as it is.
    install -D -m 0644 ${S}/50-site.toml ${D}${sysconfdir}/moteway/conf.d/50-site.toml

    # Messages are on a partition of their own, so that the root need not be written to.
    install -D -m 0644 ${S}/var-lib-moteway.mount ${D}${systemd_system_unitdir}/var-lib-moteway.mount
    install -d ${D}${localstatedir}/lib/moteway

    # The password was put on the box by provisioning, encrypted for its TPM.
    install -D -m 0644 ${S}/site.conf ${D}${systemd_system_unitdir}/moteway.service.d/site.conf
}

FILES:${PN} += "${systemd_system_unitdir} ${localstatedir}/lib/moteway"
