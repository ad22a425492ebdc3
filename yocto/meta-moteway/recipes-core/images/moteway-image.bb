# nooelint: oelint.var.suggestedvar.CVE_PRODUCT - an image is no product in the CVE list
SUMMARY = "A small image that is a gateway"
DESCRIPTION = "Boots into moteway. An example: a product has an image of its own."
BUGTRACKER = "https://moteway.example/issues"
SECTION = "base"
LICENSE = "Apache-2.0"

IMAGE_FEATURES += "ssh-server-dropbear"
IMAGE_INSTALL:append = " packagegroup-moteway"

inherit core-image
