//! Drop-ins: files that are laid over the main one.
//!
//! A key of a later file takes the place of the same key of an earlier one. A table with a name (`[[listener]]`,
//! `[[link]]`, `[[upstream]]`, `[[upstream.rule]]`) changes the one that has this name already; else it is one more.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What tells tables of one kind apart.
const NAME: &str = "name";

/// Lays `upper` over `lower`.
pub(super) fn lay_over<'t>(lower: &mut DeTable<'t>, upper: DeTable<'t>) {
    for (key, value) in upper {
        match lower.get_mut(key.get_ref().as_ref()) {
            Some(below) => lay_value_over(below, value),
            None => {
                lower.insert(key, value);
            }
        }
    }
}

fn lay_value_over<'t>(below: &mut Spanned<DeValue<'t>>, above: Spanned<DeValue<'t>>) {
    let span = above.span();
    match (below.get_mut(), above.into_inner()) {
        (DeValue::Table(lower), DeValue::Table(upper)) => lay_over(lower, upper),
        (DeValue::Array(lower), DeValue::Array(upper))
            if lower.iter().chain(upper.iter()).all(|item| item.get_ref().is_table()) =>
        {
            // Only what was there before can be meant: two of one name in one file are a mistake.
            let known = lower.len();
            for item in upper {
                let name = name_of(item.get_ref()).map(str::to_owned);
                let same = lower[..known]
                    .iter()
                    .position(|other| name.is_some() && name_of(other.get_ref()) == name.as_deref());
                match same.and_then(|at| lower.get_mut(at)) {
                    Some(other) => lay_value_over(other, item),
                    None => lower.push(item),
                }
            }
        }
        (_, value) => *below = Spanned::new(span, value),
    }
}

fn name_of<'v>(table: &'v DeValue<'_>) -> Option<&'v str> {
    table.as_table()?.get(NAME)?.get_ref().as_str()
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Document};

    const MAIN: &str = "[log]\nlevel = \"warn\"\nformat = \"plain\"\n[[upstream]]\nname = \"c\"\nurl = \"mqtt://a\"\nkeepalive = \"9s\"\n\
        [[upstream.rule]]\nname = \"r\"\nfilter = \"a/#\"\npriority = 1\n";

    fn merged(drop_ins: &[&str]) -> Document {
        let names = ["main.toml", "1.toml", "2.toml"];
        let files: Vec<_> = names.into_iter().zip([MAIN].iter().chain(drop_ins).copied()).collect();
        Document::parse_all(&files, &|_| None)
    }

    fn config(drop_ins: &[&str]) -> Config {
        merged(drop_ins).finish().unwrap_or_else(|error| panic!("{error}")).0
    }

    #[test]
    fn later_files_change_keys_and_add_tables() {
        let config = config(&[
            "[log]\nlevel = \"info\"\n[gateway]\nname = \"box\"\n[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:1\"\n",
            "[log]\nlevel = \"debug\"\n[[upstream]]\nname = \"d\"\nurl = \"mqtt://d\"\nclient_id = \"d\"\n\
                [[upstream.rule]]\nname = \"r\"\nfilter = \"d/#\"\n",
        ]);
        assert_eq!(format!("{:?} {:?}", config.log.level, config.log.format), "Debug Plain");
        assert_eq!(config.gateway.name, "box");
        assert_eq!(config.listener.len(), 1);
        assert_eq!(config.upstream.iter().map(|upstream| upstream.name.as_str()).collect::<Vec<_>>(), ["c", "d"]);
    }

    #[test]
    fn a_table_with_a_name_that_is_there_changes_that_one() {
        let config = config(&[
            "[[upstream]]\nname = \"c\"\nurl = [\"mqtt://b\"]\n[[upstream.rule]]\nname = \"r\"\npriority = 7\n\
            [[upstream.rule]]\nname = \"s\"\nfilter = \"b/#\"\n",
        ]);
        let [upstream] = &config.upstream[..] else { panic!("{:?}", config.upstream) };
        assert_eq!((upstream.url[0].host.as_str(), upstream.keepalive.as_secs()), ("b", 9));
        let rules: Vec<_> =
            upstream.rule.iter().map(|rule| (rule.name.as_str(), rule.filter.as_str(), rule.priority)).collect();
        assert_eq!(rules, [("r", "a/#", 7), ("s", "b/#", 5)]);
    }

    #[test]
    fn mistakes_are_shown_in_the_file_that_has_them() {
        let document = merged(&["\n[log]\nlevel = \"loud\"\n", "# fine\n[broker]\nnonsense = 1\n\n[oops\n"]);
        let shown = document.diagnostics().to_string();
        assert!(shown.contains("--> 2.toml:5:"), "{shown}");
        let document = merged(&["\n[log]\nlevel = \"loud\"\n", "# fine\n[broker]\nnonsense = 1\n"]);
        let shown = document.diagnostics().to_string();
        assert!(shown.contains("--> 1.toml:3:9\n  |\n3 | level = \"loud\"\n"), "{shown}");
        assert!(shown.contains("--> 2.toml:3:1\n  |\n3 | nonsense = 1\n"), "{shown}");
        // Found by looking at the whole, in a table that two files share.
        let document = merged(&["[[upstream]]\nname = \"c\"\nreconnect_max = \"1ms\"\n"]);
        let shown = document.diagnostics().to_string();
        assert!(shown.contains("--> 1.toml:3:17"), "{shown}");
    }

    #[test]
    fn two_of_one_name_in_one_file_are_still_a_mistake() {
        let twice = "[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:1\"\n[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:2\"\n";
        let shown = merged(&[twice]).diagnostics().to_string();
        assert!(shown.contains("--> 1.toml:5:8"), "{shown}");
    }
}
