//! The configuration: any text.

use moteway::bridge::rule;
use moteway::config::{Document, Severity};
use moteway::engine::{Engine, Start};
use moteway::queue::Recovered;
use moteway::time::Now;

/// A text is a configuration, with which an engine starts, or there is an error that can be shown.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut document = Document::parse("fuzz.toml", &text);
    if let Ok(config) = document.draft().clone().resolve("box") {
        document.report(rule::check(&config));
    }
    let has_errors = document.diagnostics().count(Severity::Error) > 0;
    for diagnostic in document.diagnostics().iter() {
        assert!(!diagnostic.message.is_empty());
        assert!(text.get(diagnostic.span.clone()).is_some(), "{:?} is not a part of the text", diagnostic.span);
    }
    assert!(!has_errors || !document.diagnostics().to_string().is_empty());
    match document.finish() {
        Ok((config, warnings)) => {
            assert!(!has_errors && !warnings.has_errors());
            let Ok(config) = config.resolve("box") else { return };
            let start = Start { config: &config, recovered: Recovered::default(), seed: 1 };
            Engine::new(Now::default(), start).expect("a checked configuration has no rule that cannot work");
        }
        Err(_) => assert!(has_errors, "refused, and nobody knows why"),
    }
}
