//! What tells this box from the next one with the same image.

use std::fs;
use std::path::Path;

use ring::hmac;

/// The id of this application for machine-id(5), which asks not to publish the machine id itself.
/// `systemd-id128 machine-id --app-specific=da42b05e-9a31-4692-a4f7-7f04c6ffcf53` prints the same name.
const APPLICATION: u128 = 0xda42_b05e_9a31_4692_a4f7_7f04_c6ff_cf53;

/// The bits of a UUID that say of which version and variant it is.
const VERSION: u128 = 0xF << 76;
const VARIANT: u128 = 0b11 << 62;

/// Where Linux keeps the machine id, the usual place first.
const MACHINE_ID: [&str; 2] = ["etc/machine-id", "var/lib/dbus/machine-id"];

/// Where the firmware's device tree has the serial number, and where a BIOS does.
const SERIAL_NUMBER: [&str; 2] = ["sys/firmware/devicetree/base/serial-number", "sys/class/dmi/id/product_serial"];

/// Ethernet, Wi-Fi and their like (`ARPHRD_ETHER`).
const ETHERNET: &str = "1";
/// The address is the device's own, not made up at each start (`NET_ADDR_PERM`).
const PERMANENT: &str = "0";

/// 32 hexadecimal digits made from the machine id, which cannot be told from them.
#[must_use]
pub fn machine_name() -> Option<String> {
    machine_name_below(Path::new("/"))
}

/// The serial number that the device tree or the BIOS has for this box; the latter is shown to root only.
#[must_use]
pub fn serial_number() -> Option<String> {
    serial_number_below(Path::new("/"))
}

/// The address of a network interface, 12 hexadecimal digits: of this one, or of the first that has one of its own.
#[must_use]
pub fn network_address(interface: Option<&str>) -> Option<String> {
    network_address_below(Path::new("/"), interface)
}

/// The first line of a file.
#[must_use]
pub fn first_line(path: &Path) -> Option<String> {
    // A device tree ends its strings with a zero.
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim_end_matches('\0').trim();
    (!line.is_empty()).then(|| line.to_owned())
}

fn machine_name_below(root: &Path) -> Option<String> {
    // On its first boot an image may say "uninitialized".
    let proper = |id: &String| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = MACHINE_ID.iter().filter_map(|path| first_line(&root.join(path))).find(proper)?;
    let id = u128::from_str_radix(&id, 16).ok()?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &id.to_be_bytes());
    let tag = hmac::sign(&key, &APPLICATION.to_be_bytes());
    let (name, _) = tag.as_ref().split_first_chunk::<16>()?;
    // Dressed as a random UUID, as systemd does it.
    let name = u128::from_be_bytes(*name) & !VERSION & !VARIANT | 4 << 76 | 0b10 << 62;
    Some(format!("{name:032x}"))
}

fn serial_number_below(root: &Path) -> Option<String> {
    SERIAL_NUMBER.iter().find_map(|path| first_line(&root.join(path)))
}

fn network_address_below(root: &Path, interface: Option<&str>) -> Option<String> {
    let interfaces = root.join("sys/class/net");
    let field = |name: &str, field: &str| first_line(&interfaces.join(name).join(field));
    let address = |name: &str| {
        let digits: String = field(name, "address")?.chars().filter(|&c| c != ':').collect();
        (digits.bytes().any(|digit| digit != b'0')).then_some(digits)
    };
    if let Some(name) = interface {
        return address(name);
    }
    let mut names: Vec<(u32, String)> = fs::read_dir(&interfaces)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| field(name, "type").as_deref() == Some(ETHERNET))
        .filter(|name| field(name, "addr_assign_type").as_deref() == Some(PERMANENT))
        .filter_map(|name| Some((field(&name, "ifindex")?.parse().ok()?, name)))
        .collect();
    names.sort();
    names.iter().find_map(|(_, name)| address(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_name_is_what_systemd_makes_of_this_machine_id() {
        let box_1 = root(&[("etc/machine-id", "3d1219c7c4c5404aaa1f6d2a48adfda4\n")]);
        assert_eq!(machine_name_below(box_1.path()).as_deref(), Some("fe065c72b69944299903545c25d9936c"));
    }

    #[test]
    fn an_image_that_was_never_booted_has_no_machine_id() {
        assert_eq!(machine_name_below(root(&[]).path()), None);
        let fresh = root(&[("etc/machine-id", "uninitialized\n")]);
        assert_eq!(machine_name_below(fresh.path()), None);
        let old =
            root(&[("etc/machine-id", "\n"), ("var/lib/dbus/machine-id", "3d1219c7c4c5404aaa1f6d2a48adfda4\n")]);
        assert_eq!(machine_name_below(old.path()).as_deref(), Some("fe065c72b69944299903545c25d9936c"));
    }

    #[test]
    fn a_device_tree_ends_its_strings_with_a_zero() {
        let board = root(&[("sys/firmware/devicetree/base/serial-number", "10000000a1b2c3d4\0")]);
        assert_eq!(serial_number_below(board.path()).as_deref(), Some("10000000a1b2c3d4"));
        assert_eq!(serial_number_below(root(&[]).path()), None);
    }

    #[test]
    fn the_network_address_is_that_of_the_first_interface_with_one_of_its_own() {
        let interface = |name: &str, index: &str, kind: &str, assigned: &str, address: &str| {
            [("ifindex", index), ("type", kind), ("addr_assign_type", assigned), ("address", address)]
                .map(|(field, value)| (format!("sys/class/net/{name}/{field}"), format!("{value}\n")))
        };
        let files: Vec<(String, String)> = [
            interface("lo", "1", "772", "0", "00:00:00:00:00:00"),
            interface("veth", "2", "1", "1", "6a:0d:fe:42:89:b4"),
            interface("wlan0", "4", "1", "0", "02:fc:00:00:00:04"),
            interface("eth0", "3", "1", "0", "02:fc:00:00:00:03"),
        ]
        .concat();
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let router = root(&files);
        assert_eq!(network_address_below(router.path(), None).as_deref(), Some("02fc00000003"));
        assert_eq!(network_address_below(router.path(), Some("wlan0")).as_deref(), Some("02fc00000004"));
        assert_eq!(network_address_below(router.path(), Some("lo")), None);
        assert_eq!(network_address_below(router.path(), Some("wwan0")), None);
    }
}
