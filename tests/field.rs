//! What users of other gateways suffer from has a test here for each, by name: the list is held to tests that exist.

use std::path::Path;

/// The names of all functions below a directory.
fn functions(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).expect("readable");
            let mut lines = text.lines().map(str::trim_start);
            while let Some(line) = lines.next() {
                if line == "#[test]" || line == "#[tokio::test]" {
                    let mut names = lines.by_ref().map(|line| line.strip_prefix("async ").unwrap_or(line));
                    let next = names.find(|line| line.starts_with("fn ")).unwrap_or_default();
                    found.extend(
                        next.strip_prefix("fn ").and_then(|next| next.split('(').next()).map(str::to_owned),
                    );
                }
            }
        }
    }
}

#[test]
fn every_row_of_the_field_list_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = Vec::new();
    for dir in ["src", "tests"] {
        functions(&root.join(dir), &mut tests);
    }
    let rows = include_str!("field/rows.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut count = 0;
    for row in rows {
        let (what, names) = row.split_once(": ").unwrap_or_else(|| panic!("no colon in {row:?}"));
        for name in names.split(' ') {
            assert!(tests.iter().any(|test| test == name), "{what}: there is no test {name}");
        }
        count += 1;
    }
    assert!(count >= 45, "{count} rows");
}
