//! Plain text as a man page has it.

use std::fmt::Write;

/// Text that stands for itself.
pub fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

/// The head of a page.
pub fn title(name: &str, section: u8, manual: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(".TH {name} {section} \"\" \"moteway {version}\" \"{manual}\"\n")
}

/// Paragraphs under a heading.
pub fn section(page: &mut String, heading: &str, paragraphs: &[&str]) {
    writeln!(page, ".SH {heading}").unwrap();
    for (i, paragraph) in paragraphs.iter().enumerate() {
        if i > 0 {
            page.push_str(".PP\n");
        }
        writeln!(page, "{}", escape(paragraph)).unwrap();
    }
}

/// Terms with what they mean, under a heading.
pub fn list(page: &mut String, heading: &str, entries: &[(&str, &str)]) {
    writeln!(page, ".SH {heading}").unwrap();
    for (term, text) in entries {
        writeln!(page, ".TP\n\\fB{}\\fR\n{}", escape(term), escape(text)).unwrap();
    }
}
