//! The tables of the standards, and what keeps them true: every statement has its line, every line a test that exists
//! or a reason.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Sections with normative statements, and the numbers of the first and the last.
type Sections = &'static [(&'static str, u32, u32)];

/// Appendix B of 5.0. Number 1 of 2.2.1 was given to nothing.
const MQTT_5: Sections = &[
    ("1.5.4", 1, 3),
    ("1.5.5", 1, 1),
    ("1.5.7", 1, 1),
    ("2.1.3", 1, 1),
    ("2.2.1", 2, 6),
    ("2.2.2", 1, 1),
    ("3.1.0", 1, 2),
    ("3.1.2", 1, 30),
    ("3.1.3", 1, 12),
    ("3.1.4", 1, 6),
    ("3.2.0", 1, 2),
    ("3.2.2", 1, 22),
    ("3.3.1", 1, 13),
    ("3.3.2", 1, 20),
    ("3.3.4", 1, 10),
    ("3.4.2", 1, 3),
    ("3.5.2", 1, 3),
    ("3.6.1", 1, 1),
    ("3.6.2", 1, 3),
    ("3.7.2", 1, 3),
    ("3.8.1", 1, 1),
    ("3.8.3", 1, 5),
    ("3.8.4", 1, 8),
    ("3.9.2", 1, 2),
    ("3.9.3", 1, 2),
    ("3.10.1", 1, 1),
    ("3.10.3", 1, 2),
    ("3.10.4", 1, 6),
    ("3.11.2", 1, 2),
    ("3.11.3", 1, 2),
    ("3.12.4", 1, 1),
    ("3.14.0", 1, 1),
    ("3.14.1", 1, 1),
    ("3.14.2", 1, 4),
    ("3.14.4", 1, 3),
    ("3.15.1", 1, 1),
    ("3.15.2", 1, 3),
    ("4.1.0", 1, 2),
    ("4.2.0", 1, 1),
    ("4.3.1", 1, 1),
    ("4.3.2", 1, 5),
    ("4.3.3", 1, 13),
    ("4.4.0", 1, 2),
    ("4.5.0", 1, 2),
    ("4.6.0", 1, 6),
    ("4.7.0", 1, 1),
    ("4.7.1", 1, 2),
    ("4.7.2", 1, 1),
    ("4.7.3", 1, 4),
    ("4.8.2", 1, 6),
    ("4.9.0", 1, 3),
    ("4.12.0", 1, 7),
    ("4.12.1", 1, 2),
    ("4.13.1", 1, 1),
    ("4.13.2", 1, 1),
    ("6.0.0", 1, 4),
];

/// Appendix B of 3.1.1.
const MQTT_3_1_1: Sections = &[
    ("1.5.3", 1, 3),
    ("2.2.2", 1, 2),
    ("2.3.1", 1, 7),
    ("3.1.0", 1, 2),
    ("3.1.2", 1, 24),
    ("3.1.3", 1, 11),
    ("3.1.4", 1, 5),
    ("3.2.0", 1, 1),
    ("3.2.2", 1, 6),
    ("3.3.1", 1, 12),
    ("3.3.2", 1, 3),
    ("3.3.4", 1, 1),
    ("3.3.5", 1, 2),
    ("3.6.1", 1, 1),
    ("3.8.1", 1, 1),
    ("3.8.3", 1, 4),
    ("3.8.4", 1, 6),
    ("3.9.3", 1, 2),
    ("3.10.1", 1, 1),
    ("3.10.3", 1, 2),
    ("3.10.4", 1, 6),
    ("3.12.4", 1, 1),
    ("3.14.1", 1, 1),
    ("3.14.4", 1, 3),
    ("4.1.0", 1, 2),
    ("4.3.1", 1, 1),
    ("4.3.2", 1, 2),
    ("4.3.3", 1, 2),
    ("4.4.0", 1, 1),
    ("4.5.0", 1, 2),
    ("4.6.0", 1, 6),
    ("4.7.1", 1, 3),
    ("4.7.2", 1, 1),
    ("4.7.3", 1, 4),
    ("4.8.0", 1, 2),
    ("6.0.0", 1, 4),
    ("7.0.0", 1, 2),
    ("7.1.1", 1, 1),
    ("7.1.2", 1, 1),
];

/// By clause; the numbers are ours.
const MQTT_SN_1_2: Sections = &[
    ("5.2.1", 1, 3),
    ("5.2.2", 1, 2),
    ("5.3.4", 1, 3),
    ("5.3.8", 1, 1),
    ("5.3.10", 1, 1),
    ("5.3.11", 1, 1),
    ("5.4", 1, 3),
    ("5.5", 1, 5),
    ("6.1", 1, 3),
    ("6.2", 1, 4),
    ("6.3", 1, 2),
    ("6.4", 1, 2),
    ("6.5", 1, 5),
    ("6.6", 1, 4),
    ("6.7", 1, 2),
    ("6.8", 1, 2),
    ("6.9", 1, 4),
    ("6.10", 1, 6),
    ("6.11", 1, 2),
    ("6.12", 1, 2),
    ("6.13", 1, 2),
    ("6.14", 1, 12),
    ("7.2", 1, 2),
    ("7.3", 1, 1),
    ("A", 1, 29),
    ("P", 1, 6),
    ("F", 1, 16),
];

/// The reasons why a statement has no test of its own.
const REASONS: [&str; 2] = ["client: ", "not here: "];

/// What is wrong with a table, line by line.
fn faults(table: &str, sections: Sections, is_test: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut expected = sections
        .iter()
        .flat_map(|(section, first, last)| (*first..=*last).map(move |number| format!("{section}-{number}")));
    let mut faults = Vec::new();
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let [statement, words, shown] = line.splitn(3, " | ").collect::<Vec<_>>()[..] else {
            faults.push(format!("{line}: not three columns"));
            continue;
        };
        let due = expected.next();
        if due.as_deref() != Some(statement) {
            faults.push(format!("{statement}: {due:?} is due"));
            return faults;
        }
        if words.len() < 8 || words.len() > 90 {
            faults.push(format!("{statement}: a few words, please: {words:?}"));
        }
        let tests: Vec<&str> = match REASONS.iter().find_map(|reason| shown.strip_prefix(reason)) {
            Some(why) if why.len() < 10 => {
                faults.push(format!("{statement}: that is no reason: {why:?}"));
                continue;
            }
            Some(why) => why.split('`').skip(1).step_by(2).filter(|word| word.contains('_')).collect(),
            None => shown.split(", ").collect(),
        };
        faults.extend(
            tests
                .iter()
                .filter(|test| !is_test(test))
                .map(|test| format!("{statement}: there is no test `{test}`")),
        );
    }
    faults.extend(expected.map(|missing| format!("{missing}: is missing")));
    faults
}

fn root() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this test").into()
}

/// The text of every source file below a directory.
fn sources(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("the source is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(fs::read_to_string(&path).expect("UTF-8"));
        }
    }
}

/// Whether `text` has a function of this name that is marked as a test.
fn has_test(text: &str, name: &str) -> bool {
    text.match_indices(&format!("fn {name}(")).any(|(at, _)| {
        let before = &text[..at];
        let item = before.rfind(['}', ';']).map_or(before, |end| &before[end..]);
        item.contains("test]")
    })
}

fn check(file: &str, sections: Sections, count: u32) {
    let mut texts = Vec::new();
    sources(&root().join("src"), &mut texts);
    sources(&root().join("tests"), &mut texts);
    let table = fs::read_to_string(root().join("tests/standard").join(file)).expect("the table");
    let stated: u32 = sections.iter().map(|(_, first, last)| last - first + 1).sum();
    assert_eq!(stated, count);
    assert!(table.contains(&format!("{count} normative statements")), "the header says how many there are");
    let faults = faults(&table, sections, &|name| texts.iter().any(|text| has_test(text, name)));
    assert!(faults.is_empty(), "{file}:\n{}", faults.join("\n"));
}

#[test]
fn every_statement_of_5_0_has_its_test_or_its_reason() {
    check("mqtt-5.0.txt", MQTT_5, 251);
}

#[test]
fn every_statement_of_3_1_1_has_its_test_or_its_reason() {
    check("mqtt-3.1.1.txt", MQTT_3_1_1, 141);
}

#[test]
fn every_statement_of_mqtt_sn_1_2_has_its_test() {
    check("mqtt-sn-1.2.txt", MQTT_SN_1_2, 125);
}

#[test]
fn a_table_that_rots_is_found() {
    const SECTIONS: Sections = &[("1.1", 1, 2), ("1.2", 2, 2)];
    let good = "# head\n1.1-1 | some ten words | it_is_shown_here\n\n1.1-2 | some ten words | client: is bound by it\n1.2-2 | some ten words | not here: see `it_is_shown_here`";
    let is_test = |name: &str| name == "it_is_shown_here";
    assert_eq!(faults(good, SECTIONS, &is_test), Vec::<String>::new());
    let spoilt = [
        good.replace("1.1-2 |", "1.1-3 |"),
        good.replace("\n1.2-2", "\n# 1.2-2"),
        good.replace("\n1.2-2", "\n1.1-2"),
        good.replace("| it_is", "| it_was"),
        good.replace("`it_is", "`it_was"),
        good.replace("client: is bound by it", "client: no"),
        good.replace("some ten words | it", ""),
        good.replace("client: ", "whoever: "),
    ];
    for table in spoilt {
        assert!(!faults(&table, SECTIONS, &is_test).is_empty(), "{table}");
    }
    let text = "#[test]\nfn a() {}\nfn b() {}\n#[tokio::test]\n#[expect(x)]\nasync fn c() {}";
    assert!(has_test(text, "a") && !has_test(text, "b") && has_test(text, "c") && !has_test(text, "d"));
}
