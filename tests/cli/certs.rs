//! `moteway certs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

fn certs(dir: &Path, more: &[&str]) -> (Option<i32>, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_moteway")).arg("certs").arg(dir).args(more).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn a_ca_and_three_certificates_in_one_command_and_renewed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("tls");
    let (code, said) = certs(&dir, &["--server", "barn.example.com", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let made: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(made["ca"]["new"], true);
    assert_eq!(made["server"]["names"][3], "barn.example.com");
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    for name in ["ca", "server", "client", "upstream"] {
        let mode = fs::metadata(dir.join(format!("{name}.key"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let file = |name: &str| dir.join(name);
    // OpenSSL takes them, the old and the new.
    let before = ["ca.pem", "ca.key", "server.pem", "server.key"].map(read);
    for round in 0..2 {
        for name in ["server", "client", "upstream"] {
            let verified = Command::new("openssl")
                .args(["verify", "-x509_strict", "-CAfile"])
                .args([file("ca.pem"), file(&format!("{name}.pem"))])
                .output()
                .unwrap();
            assert!(verified.status.success(), "{round} {name}: {verified:?}");
        }
        let (code, said) = certs(&dir, &[]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("the CA that was there"), "{said}");
    }
    let after = ["ca.pem", "ca.key", "server.pem", "server.key"].map(read);
    assert_eq!([&before[0], &before[1], &before[3]], [&after[0], &after[1], &after[3]], "CA and keys stay");
    assert_ne!(before[2], after[2], "the certificate is new");
}

#[test]
fn a_ca_of_somebody_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    assert_eq!(certs(dir.path(), &[]).0, Some(0));
    assert_eq!(certs(other.path(), &[]).0, Some(0));
    fs::copy(other.path().join("ca.pem"), dir.path().join("ca.pem")).unwrap();
    let before = fs::read(dir.path().join("server.pem")).unwrap();
    let (code, said) = certs(dir.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("not a CA that `moteway certs` made, or ca.key is not its key"), "{said}");
    assert_eq!(fs::read(dir.path().join("server.pem")).unwrap(), before);
}
