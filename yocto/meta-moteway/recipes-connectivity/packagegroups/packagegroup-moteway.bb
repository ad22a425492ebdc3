SUMMARY = "A gateway between radios and a cloud"
DESCRIPTION = "moteway, and what a router needs around it: certificates, the time, and drivers for serial radios on USB."
BUGTRACKER = "https://moteway.example/issues"
SECTION = "net"
LICENSE = "Apache-2.0"

inherit packagegroup

RDEPENDS:${PN} = "ca-certificates \
                  moteway \
                  tzdata-core"

# As modules, or built into the kernel, where the machine has them.
RRECOMMENDS:${PN} = "kernel-module-cdc-acm \
                     kernel-module-ch341 \
                     kernel-module-cp210x \
                     kernel-module-ftdi-sio"
