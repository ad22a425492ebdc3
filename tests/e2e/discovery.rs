//! Being found, in a network namespace of its own.

use std::path::Path;
use std::process::Command;

use crate::harness::gateway::binary;
use crate::harness::process::Process;

#[test]
fn a_node_finds_both_gateways_of_its_network_over_ipv4_and_link_local_ipv6() {
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/clients/multicast_node.py");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "python3"]).arg(script).arg(binary()).arg(dir.path());
    command.env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET");
    let mut process = Process::start("multicast_node.py", &mut command);
    let status = process.wait();
    assert!(status.success(), "it ended with {status}:\n{}", process.text());
    for family in ["found AF_INET ", "found AF_INET6 "] {
        assert!(process.text().contains(family), "{}", process.text());
    }
}
