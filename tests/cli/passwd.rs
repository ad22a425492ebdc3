//! `moteway passwd`: the file that it leaves behind.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use moteway::broker::login::users::Users;
use nix::pty::openpty;

use crate::Ran;

/// Runs it with this standard input.
fn passwd(args: &[&str], input: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moteway"));
    let mut child = command
        .arg("passwd")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // It may have complained and gone already.
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn passwords_are_set_changed_and_deleted_and_the_rest_of_the_file_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("passwords");
    let file = path.to_str().expect("UTF-8");
    let ran = passwd(&[file, "ann"], "first\n");
    assert!(ran.code == Some(1) && ran.err.contains("--create"), "{}", ran.err);
    for (args, input) in [
        (vec!["--create", file, "ann"], "first\n"),
        (vec![file, "bob"], "other"),
        (vec![file, "ann"], "second\r\n"),
    ] {
        let ran = passwd(&args, input);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "", ""), "{args:?}");
    }
    let text = fs::read_to_string(&path).expect("the file");
    assert!(text.starts_with("ann:$argon2id$") && text.lines().count() == 2, "{text}");
    assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
    let users = Users::parse(text.as_bytes()).expect("a good file");
    let is = |name: &str, password: &[u8]| users.get(name).is_some_and(|hash| hash.verify(password));
    assert!(is("ann", b"second") && is("bob", b"other") && !is("ann", b"first"));

    fs::write(&path, format!("# kept\n{text}")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
    assert_eq!(passwd(&["-D", file, "ann"], "").code, Some(0));
    assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o640, "its group may read it");
    let text = fs::read_to_string(&path).expect("the file");
    assert!(text.starts_with("# kept\nbob:") && text.lines().count() == 2, "{text}");
    let ran = passwd(&["-D", file, "ann"], "");
    assert!(ran.code == Some(1) && ran.err.contains("no user \"ann\""), "{}", ran.err);
    assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 1, "nothing is left beside it");
}

#[test]
fn names_and_passwords_that_cannot_work_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("passwords");
    let file = path.to_str().expect("UTF-8");
    for (user, input, reason) in [
        ("a:b", "x\n", "colon"),
        ("a\nb", "x\n", "control"),
        ("", "x\n", "has a name"),
        ("ann", "", "empty"),
        ("ann", "\n", "empty"),
    ] {
        let ran = passwd(&["--create", file, user], input);
        assert!(ran.code == Some(1) && ran.err.contains(reason), "{user:?}: {}", ran.err);
    }
    assert!(!path.exists());
}

#[test]
fn a_terminal_is_asked_twice_and_does_not_show_the_password() {
    for (typed, good) in [(["secret\n", "secret\n"], true), (["secret\n", "sceret\n"], false)] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("passwords");
        let pty = openpty(None, None).expect("a terminal");
        let end = || Stdio::from(pty.slave.try_clone().expect("a copy"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_moteway"));
        command.args(["passwd", "--create"]).arg(&path).arg("ann");
        let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("the binary runs");
        let mut terminal = fs::File::from(pty.master);
        let mut shown = String::new();
        for (line, question) in typed.into_iter().zip(["New password: ", "Once more: "]) {
            while !shown.ends_with(question) {
                let mut bytes = [0; 256];
                let count = terminal.read(&mut bytes).expect("it asks");
                shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            terminal.write_all(line.as_bytes()).expect("typed");
        }
        assert_eq!(child.wait().expect("it ends").success(), good);
        assert!(!shown.contains("cret"), "{shown:?}");
        assert_eq!(path.exists(), good);
    }
}

#[test]
fn check_looks_into_the_password_file_and_says_which_line_is_wrong() {
    let dir = tempfile::tempdir().expect("a directory");
    let passwords = dir.path().join("passwords");
    let config = dir.path().join("moteway.toml");
    let path = passwords.to_str().expect("UTF-8");
    fs::write(&config, format!("[gateway]\nname = \"b\"\n[auth]\npassword_file = {path:?}\n")).expect("written");
    let check = || crate::moteway(&["check", config.to_str().expect("UTF-8")]);
    let ran = check();
    assert!(ran.code == Some(78) && ran.err.contains(&format!("{path} cannot be read")), "{}", ran.err);
    fs::write(&passwords, "# people\nann:secret\n").expect("written");
    let ran = check();
    assert!(ran.code == Some(78) && ran.err.contains(&format!("{path}:2: this is no hash")), "{}", ran.err);
    assert!(ran.out.ends_with(": 1 error\n") && !ran.err.contains("secret"), "{}{}", ran.out, ran.err);
    fs::remove_file(&passwords).expect("removed");
    assert_eq!(passwd(&["--create", path, "ann"], "secret\n").code, Some(0));
    assert_eq!(check().code, Some(0));
}
