//! `${NAME}` in any text of the configuration: a variable of the environment, put in before anything is read.
//!
//! What is put in is a part of a value and never more of the file: a quote or a bracket in it means nothing.

use std::borrow::Cow;

use toml::de::{DeTable, DeValue};

use crate::config::diagnostic::{Diagnostic, Severity};

/// Longer names are none.
const MAX_NAME_BYTES: usize = 128;
/// Where systemd puts the credentials of a service.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// The same place as others see it, who are not started by systemd: `moteway check` at a terminal.
const CREDENTIALS_OF_THE_SERVICE: &str = "/run/credentials/moteway.service";

/// Looks up a variable of the environment.
pub type Variables<'v> = &'v dyn Fn(&str) -> Option<String>;

/// Puts variables into all texts of a table and what is in it. One that is not set is an error at its place.
pub(super) fn expand(table: &mut DeTable<'_>, variables: Variables<'_>, found: &mut Vec<Diagnostic>) {
    for (_, value) in table.iter_mut() {
        let span = value.span();
        expand_value(value.get_mut(), span, variables, found);
    }
}

fn expand_value(
    value: &mut DeValue<'_>,
    span: std::ops::Range<usize>,
    variables: Variables<'_>,
    found: &mut Vec<Diagnostic>,
) {
    match value {
        DeValue::Table(table) => expand(table, variables, found),
        DeValue::Array(items) => {
            for item in items.iter_mut() {
                let span = item.span();
                expand_value(item.get_mut(), span, variables, found);
            }
        }
        DeValue::String(text) => match expanded(text, variables) {
            Ok(None) => {}
            Ok(Some(whole)) => *text = Cow::Owned(whole),
            Err(name) => found.push(Diagnostic {
                severity: Severity::Error,
                span,
                message: format!("the environment has no variable `{name}`"),
                help: format!("set it where moteway is started, in the unit with Environment={name}=..."),
            }),
        },
        _ => {}
    }
}

/// The text with its variables put in; `None` if there are none in it. The error is the name of one that is not set.
fn expanded(text: &str, variables: Variables<'_>) -> Result<Option<String>, String> {
    let (mut whole, mut rest) = (String::new(), text);
    while let Some((before, name, after)) = next_variable(rest) {
        whole.push_str(before);
        match variables(name) {
            Some(value) => whole.push_str(&value),
            None if name == CREDENTIALS => whole.push_str(CREDENTIALS_OF_THE_SERVICE),
            None => return Err(name.to_owned()),
        }
        rest = after;
    }
    if rest.len() == text.len() {
        return Ok(None);
    }
    whole.push_str(rest);
    Ok(Some(whole))
}

/// What lies before the first `${NAME}`, the name, and what lies after.
fn next_variable(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(at) = text[from..].find("${").map(|at| from + at) {
        let inside = &text[at + 2..];
        let legal = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let len = inside.find(|c| !legal(c)).unwrap_or(inside.len());
        if (1..=MAX_NAME_BYTES).contains(&len) && inside[len..].starts_with('}') {
            return Some((&text[..at], &inside[..len], &inside[len + 1..]));
        }
        from = at + 2;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Document;

    fn variables(name: &str) -> Option<String> {
        match name {
            "USER_NAME" => Some("ann \"x\"".to_owned()),
            "DIR" => Some("/run/creds".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_put_in_and_what_is_none_is_left() {
        let put = |text: &str| expanded(text, &variables).map(|whole| whole.unwrap_or_else(|| text.to_owned()));
        for (text, whole) in [
            ("${DIR}/cert.pem", "/run/creds/cert.pem"),
            ("a${DIR}b${USER_NAME}", "a/run/credsbann \"x\""),
            ("${CREDENTIALS_DIRECTORY}/k", "/run/credentials/moteway.service/k"),
            ("$DIR ${dir} ${} ${DIR", "$DIR ${dir} ${} ${DIR"),
            ("{gateway}/{room}", "{gateway}/{room}"),
            ("${${DIR}", "${/run/creds"),
        ] {
            assert_eq!(put(text), Ok(whole.to_owned()), "{text}");
        }
        assert_eq!(put("${DIR}/${MISSING}"), Err("MISSING".to_owned()));
    }

    #[test]
    fn the_whole_file_is_served_and_a_missing_variable_is_told_with_its_place() {
        let text = "[[upstream]]\nname = \"c\"\nurl = \"mqtts://h\"\nusername = \"${USER_NAME}\"\n\
                    tls = { cert = \"${DIR}/c\", key = \"${NONE}/k\" }\n[[upstream.rule]]\nname = \"r\"\nfilter = \"a\"\n";
        let document = Document::parse_with("t.toml", text, &variables);
        let all = document.diagnostics();
        let [only] = &all.iter().collect::<Vec<_>>()[..] else { panic!("{all}") };
        assert_eq!((all.position(only), only.message.contains("`NONE`")), ((5, 34), true), "{all}");
        let upstream = &document.draft().upstream[0];
        assert_eq!(upstream.username.as_deref(), Some("ann \"x\""));
        let tls = upstream.tls.as_ref().unwrap();
        assert_eq!(tls.cert.as_deref(), Some(std::path::Path::new("/run/creds/c")));
    }
}
