use proptest::prelude::*;

use super::check::{check, echo};
use super::mapping::{Mapping, Unmapped};
use super::shape::Shape;
use super::{CompiledRule, Fields, Part, RuleError};
use crate::config::{Config, Direction, Finding, Rule, Severity, Upstream, UpstreamVersion};
use crate::mqtt::topic;

fn mapping(filter: &str, remap: &str) -> Mapping {
    Mapping::compile(filter, remap, &[]).unwrap_or_else(|e| panic!("{filter} -> {remap}: {e}"))
}

fn mapped(filter: &str, remap: &str, topic: &str) -> Result<String, Unmapped> {
    let mut out = "left over".to_owned();
    mapping(filter, remap).remap(topic, &mut out).map(|()| out)
}

fn compile_error(filter: &str, remap: &str) -> RuleError {
    Mapping::compile(filter, remap, &[]).expect_err(&format!("{filter} -> {remap}"))
}

#[test]
fn names_carry_levels_from_the_filter_to_the_new_topic() {
    let cases = [
        ("site/{room}/{sensor}/{rest#}", "fleet/g/{room}/{sensor}/{rest}", "site/a/b/c/d", "fleet/g/a/b/c/d"),
        ("site/{room}/{sensor}/{rest#}", "fleet/g/{room}/{sensor}/{rest}", "site/a/b", "fleet/g/a/b"),
        ("a/{x}/{y}", "{y}/{x}/{y}", "a/1/2", "2/1/2"),
        ("a/{x}", "room-{x}.t/{x}", "a/7", "room-7.t/7"),
        ("a/+/{x}", "b/{x}", "a/any/7", "b/7"),
        ("a/#", "b/c", "a/1/2", "b/c"),
        ("a/{r#}", "b/{r}/end", "a/1/2", "b/1/2/end"),
        ("a/{r#}", "b/{r}/end", "a", "b/end"),
        ("a/{r#}", "{r}/end", "a", "end"),
        ("a/{r#}", "b/{r}", "a/", "b/"),
        ("a/{r#}", "{r}", "a/x", "x"),
        ("{all#}", "up/{all}", "/x", "up//x"),
        ("a/{x}", "b/{x}", "a/", "b/"),
        ("/{x}", "{x}", "/y", "y"),
        ("a/+/#", "", "a/b/c", "a/b/c"),
        ("$SYS/{x#}", "$SYS/up/{x}", "$SYS/load", "$SYS/up/load"),
        ("straße/{x}", "улица/{x}", "straße/ü", "улица/ü"),
    ];
    for (filter, remap, topic, expected) in cases {
        assert_eq!(mapped(filter, remap, topic).as_deref(), Ok(expected), "{filter} -> {remap}");
    }
}

#[test]
fn what_does_not_match_is_not_taken() {
    for (filter, topic) in
        [("a/{x}", "a"), ("a/{x}", "a/b/c"), ("a/b", "a/c"), ("{x#}", "$SYS/x"), ("+/x", "$SYS/x")]
    {
        assert_eq!(mapped(filter, "", topic), Err(Unmapped::NotMatched), "{filter}");
    }
}

#[test]
fn excluded_topics_are_not_taken_in_either_direction() {
    let excludes = ["site/+/debug/#".to_owned(), "site/secret".to_owned()];
    let out = Mapping::compile("site/{rest#}", "up/{rest}", &excludes).unwrap();
    let mut topic = String::new();
    assert_eq!(out.remap("site/a/debug/x", &mut topic), Err(Unmapped::Excluded));
    assert_eq!(out.remap("site/a/b", &mut topic), Ok(()));
    let back = out.reverse().unwrap();
    assert_eq!(back.remap("up/a/debug", &mut topic), Err(Unmapped::Excluded));
    assert_eq!(back.remap("up/secret", &mut topic), Err(Unmapped::Excluded));
    assert_eq!(back.remap("up/a/b", &mut topic), Ok(()));
}

#[test]
fn a_topic_that_would_become_illegal_is_not_taken() {
    assert_eq!(mapped("site/{rest#}", "{rest}", "site"), Err(Unmapped::Illegal));
    assert_eq!(mapped("site/{x}", "{x}", "site/"), Err(Unmapped::Illegal));
    assert_eq!(mapped("site/{rest#}", "{rest}", "site/$SYS/broker"), Err(Unmapped::Illegal));
    assert_eq!(mapped("a/{r#}", "b/{r}/{r}", &format!("a/{}", "x".repeat(40_000))), Err(Unmapped::Illegal));
}

#[test]
fn a_bad_filter_is_refused_with_its_remedy() {
    let long = (0..17).map(|i| format!("{{n{i}}}")).collect::<Vec<_>>().join("/");
    let cases = [
        ("", "topic filter"),
        ("a/x{b}", "whole levels"),
        ("a/b+", "whole levels"),
        ("a/{b", "whole levels"),
        ("a/{}", "whole levels"),
        ("a/{#}", "a name has"),
        ("a/{b c}", "a name has"),
        ("a/{b##}", "a name has"),
        ("a/{x}/{x}", "its own name"),
        ("a/{x#}/b", "{name} for one level"),
        ("a/#/b", "{name} for one level"),
        ("a\0", "topic filter"),
        ("$share/g/a", "without $share"),
        ("$share/+", "without $share"),
        (&long, "use +"),
    ];
    for (filter, remedy) in cases {
        let error = compile_error(filter, "");
        assert!(error.part == Part::Filter && error.help.contains(remedy), "{filter}: {error:?}");
    }
}

#[test]
fn a_bad_remap_is_refused_with_its_remedy() {
    let cases = [
        ("a/{room}", "b/{romm}", "names in the filter: {room}"),
        ("a/+", "b/{x}", "give the wildcards of the filter names"),
        ("a/+", "b/+", "give the wildcard of the filter a name"),
        ("a/#", "b/#", "give the wildcard of the filter a name"),
        ("a/{x#}", "b/{x#}", "write {x}"),
        ("a/{x#}", "b/y{x}", "between slashes"),
        ("a/{x}", "b/{x", "write {name}"),
        ("a/{x}", "b/x}", "write {name}"),
        ("a/{x}", "b/{x}#", "give the wildcard of the filter a name"),
        ("a/{x}", "b\0/{x}", "take it out"),
        ("a/{x}", "$aws{x}/y", "$aws/things/{name}"),
        ("a/{x}", "$share/g/{x}", "choose another topic"),
    ];
    for (filter, remap, remedy) in cases {
        let error = compile_error(filter, remap);
        assert!(error.part == Part::Remap && error.help.contains(remedy), "{filter} -> {remap}: {error:?}");
    }
    let error = Mapping::compile("a/#", "", &["b".to_owned(), "a/{x}".to_owned()]).unwrap_err();
    assert_eq!(error.path("upstream[0].rule[2]"), "upstream[0].rule[2].exclude[1]");
}

#[test]
fn what_a_message_says_of_itself_can_stand_in_a_topic_that_goes_out() {
    let rule = |direction: Direction, trace: bool, remap: &str| {
        let (filter, remap) = ("a/{x}".to_owned(), remap.to_owned());
        CompiledRule::new(&Rule { filter, remap, direction, trace, ..Rule::default() })
    };
    let said = Fields { time: "1753", seq: "7", epoch: "5f.r" };
    let mut topic = String::new();
    let out = rule(Direction::Out, true, "t{mw-time}/{mw-seq}/{x}.{mw-epoch}").unwrap().outward.unwrap();
    out.remap_with("a/b", said, &mut topic).unwrap();
    assert_eq!(topic, "t1753/7/b.5f.r");
    out.remap("a/b", &mut topic).unwrap();
    assert_eq!(topic, "t{mw-time}/{mw-seq}/b.{mw-epoch}", "for somebody who asks what becomes of a topic");
    assert!(rule(Direction::Out, false, "{mw-time}/{x}").is_ok(), "the time is known without numbers");
    let own = Mapping::compile("a/{mw-seq}", "b/{mw-seq}", &[]).unwrap();
    own.remap_with("a/1", said, &mut topic).unwrap();
    assert_eq!(topic, "b/1", "a name of the filter comes first");
    for (direction, trace, remap, remedy) in [
        (Direction::Out, false, "{mw-seq}/{x}", "trace = true"),
        (Direction::Out, false, "{x}.{mw-epoch}", "trace = true"),
        (Direction::In, true, "{mw-time}/{x}", "direction = \"out\""),
        (Direction::Both, true, "{mw-seq}/{x}", "direction = \"out\""),
        (Direction::Out, true, "{mw-date}/{x}", "names in the filter"),
    ] {
        let error = rule(direction, trace, remap).unwrap_err();
        assert!(error.part == Part::Remap && error.help.contains(remedy), "{remap}: {error:?}");
    }
}

#[test]
fn both_needs_a_way_back() {
    let cases = [
        ("a/{x}/+", "b/{x}", "give each wildcard a name"),
        ("a/{x}/{y}", "b/{x}", "each name exactly once"),
        ("a/{x}", "b/{x}/{x}", "each name exactly once"),
        ("a/{x}", "b/r-{x}", "let each name fill its level"),
        ("a/{x#}", "b/{x}/c", "put {name#} last"),
    ];
    for (filter, remap, remedy) in cases {
        let rule = Rule {
            filter: filter.to_owned(),
            remap: remap.to_owned(),
            direction: Direction::Both,
            ..Rule::default()
        };
        let error = CompiledRule::new(&rule).expect_err(remap);
        assert!(error.help.contains(remedy), "{filter} -> {remap}: {error:?}");
        assert!(CompiledRule::new(&Rule { direction: Direction::Out, ..rule }).is_ok());
    }
    let rule = Rule {
        filter: "site/{a}/{b#}".to_owned(),
        remap: "x/{a}/y/{b}".to_owned(),
        direction: Direction::Both,
        ..Rule::default()
    };
    let both = CompiledRule::new(&rule).unwrap();
    assert_eq!(both.outward.map(|m| m.filter().to_owned()).as_deref(), Some("site/+/#"));
    assert_eq!(both.inward.map(|m| m.filter().to_owned()).as_deref(), Some("x/+/y/#"));
}

fn rule(name: &str, direction: Direction, filter: &str, remap: &str) -> Rule {
    Rule { name: name.to_owned(), direction, filter: filter.to_owned(), remap: remap.to_owned(), ..Rule::default() }
}

fn findings(rules: Vec<Rule>) -> Vec<Finding> {
    check(&Config { upstream: vec![Upstream { rule: rules, ..Upstream::default() }], ..Config::default() })
}

#[test]
fn rules_that_echo_each_other_are_refused_with_both_named_and_an_example() {
    let found = findings(vec![
        rule("up", Direction::Out, "site/{rest#}", "fleet/g/{rest}"),
        rule("down", Direction::In, "fleet/g/{rest#}", "site/{rest}"),
    ]);
    let [finding] = &found[..] else { panic!("{found:?}") };
    assert_eq!((finding.severity, finding.path.as_str()), (Severity::Error, "upstream[0].rule[1].filter"));
    for part in ["`up`", "`down`", "\"fleet/g\"", "\"site\"", "goes out again"] {
        assert!(finding.message.contains(part), "{part}: {}", finding.message);
    }
}

#[test]
fn echoes_are_found_wherever_they_hide_and_only_there() {
    use Direction::{Both, In, Out};
    let echoing = |a: (Direction, &str, &str), b: (Direction, &str, &str)| {
        let found = findings(vec![rule("a", a.0, a.1, a.2), rule("b", b.0, b.1, b.2)]);
        found.iter().any(|finding| finding.severity == Severity::Error)
    };
    assert!(echoing((Out, "#", ""), (In, "#", "")));
    assert!(echoing((In, "#", ""), (Out, "a/b", "")));
    assert!(echoing((Out, "a/{x}", "r/{x}"), (In, "r/{k}", "{k}/y")));
    assert!(echoing((Both, "a/#", ""), (In, "a/+/b", "")));
    assert!(echoing((Both, "a/{x}", "b/{x}"), (Both, "a/{x}", "b/{x}")));

    assert!(!echoing((Both, "a/#", ""), (Both, "b/#", "")));
    assert!(!echoing((Out, "site/#", ""), (In, "cmd/#", "")));
    assert!(!echoing((Out, "site/{r#}", "fleet/g/{r}"), (In, "fleet/g/cmd/{r#}", "cmd/{r}")));
    // What comes back has another local name, though both sides overlap when looked at alone.
    assert!(!echoing((Out, "a/{x}", "r/one/{x}"), (In, "r/{k}/{x}", "{k}/{x}")));
    assert!(!echoing((Out, "#", ""), (In, "$SYS/#", "")));
}

#[test]
fn an_exclude_breaks_an_echo_on_either_side() {
    let out = |exclude: &str| Rule { exclude: vec![exclude.to_owned()], ..rule("up", Direction::Out, "#", "") };
    let inward = rule("down", Direction::In, "cmd/#", "");
    assert!(findings(vec![out("cmd/#"), inward.clone()]).is_empty());
    assert_eq!(findings(vec![out("cmd/a/#"), inward]).len(), 1);
    let inward = Rule { exclude: vec!["a/#".to_owned()], ..rule("down", Direction::In, "+/x", "") };
    assert!(findings(vec![rule("up", Direction::Out, "a/#", ""), inward]).is_empty());
}

#[test]
fn what_surprises_is_a_warning() {
    let one = |rules: Vec<Rule>| {
        let found = findings(rules);
        assert!(found.len() == 1 && found[0].severity == Severity::Warning, "{found:?}");
        found[0].message.clone()
    };
    let twice = vec![rule("a", Direction::Out, "a/#", ""), rule("b", Direction::Out, "+/b", "")];
    assert!(one(twice).contains("both send \"a/b\" as \"a/b\""));
    let idle = Rule { exclude: vec!["b/#".to_owned()], ..rule("a", Direction::Out, "a/#", "") };
    assert!(one(vec![idle]).contains("excludes nothing"));
    assert!(one(vec![rule("a", Direction::In, "a/{x}", "$SYS/{x}")]).contains("begin with `$`"));
    let other = vec![rule("a", Direction::Out, "a/{x}", "u/{x}"), rule("b", Direction::Out, "a/{x}", "v/{x}")];
    assert!(findings(other).is_empty(), "two names for one topic are two messages");

    let old = Upstream {
        version: UpstreamVersion::V311,
        rule: vec![rule("a", Direction::Both, "a/#", "")],
        ..Upstream::default()
    };
    let found = check(&Config { upstream: vec![old], ..Config::default() });
    assert!(found.len() == 1 && found[0].message.contains("no local"), "{found:?}");
}

/// A level of a topic, from few, so that things meet.
fn level() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "", "$x"]).prop_map(str::to_owned)
}

fn topic() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a topic has a character", |topic| !topic.is_empty())
}

/// A filter whose wildcards all have names, and how many single and many names it has.
fn named_filter() -> impl Strategy<Value = (String, Vec<String>)> {
    (prop::collection::vec(prop_oneof![level(), Just("+".to_owned())], 1..4), any::<bool>()).prop_map(
        |(levels, rest)| {
            let mut names = Vec::new();
            let mut levels: Vec<String> = levels
                .into_iter()
                .enumerate()
                .map(|(i, level)| {
                    if level != "+" {
                        return level;
                    }
                    names.push(format!("{{n{i}}}"));
                    format!("{{n{i}}}")
                })
                .collect();
            if rest {
                levels.push("{r#}".to_owned());
                names.push("{r}".to_owned());
            }
            (levels.join("/"), names)
        },
    )
}

fn legal(filter: &str, remap: &str) -> Option<Mapping> {
    Mapping::compile(filter, remap, &[]).ok()
}

/// A mapping for one direction: names in any order and number, parts of levels too.
fn any_mapping() -> impl Strategy<Value = Mapping> {
    (named_filter(), prop::collection::vec((0..6usize, level(), any::<bool>()), 0..4))
        .prop_map(|((filter, names), picks)| {
            let levels: Vec<String> = picks
                .into_iter()
                .map(|(pick, text, part)| match names.get(pick) {
                    Some(name) if part && name != "{r}" => format!("{text}{name}"),
                    Some(name) => name.clone(),
                    None => text,
                })
                .collect();
            legal(&filter, &levels.join("/"))
        })
        .prop_filter_map("legal", |mapping| mapping)
}

/// A mapping with a way back: each name once, in any order, `{r}` last.
fn both_ways() -> impl Strategy<Value = Mapping> {
    (named_filter(), prop::collection::vec((level(), any::<prop::sample::Index>()), 0..3))
        .prop_map(|((filter, names), extra)| {
            let (mut levels, rest): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| name != "{r}");
            levels.reverse();
            for (text, at) in extra {
                levels.insert(at.index(levels.len() + 1), text);
            }
            levels.extend(rest);
            legal(&filter, &levels.join("/"))
        })
        .prop_filter_map("legal", |mapping| mapping)
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => level(), 2 => Just("+".to_owned())];
    (prop::collection::vec(level, 1..5), any::<bool>())
        .prop_map(|(mut levels, rest)| {
            if rest {
                levels.push("#".to_owned());
            }
            levels.join("/")
        })
        .prop_filter("a filter has a character", |filter| topic::check_filter(filter).is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pattern_matches_what_its_filter_matches(filter in filter(), topic in topic()) {
        let mut out = String::new();
        let taken = mapping(&filter, "").remap(&topic, &mut out);
        prop_assert_eq!(taken.is_ok(), topic::matches(&filter, &topic));
    }

    #[test]
    fn what_comes_out_is_a_legal_topic_and_within_the_image(mapping in any_mapping(), topic in topic()) {
        let mut out = String::new();
        if mapping.remap(&topic, &mut out).is_ok() {
            prop_assert!(topic::check_name(&out).is_ok(), "{topic:?} -> {out:?}");
            let image = mapping.image(&mapping.shape());
            prop_assert!(Shape::of_filter(&out).is_within(&image), "{out:?} {image:?}");
        }
    }

    #[test]
    fn both_leads_back_to_the_same_topic(mapping in both_ways(), topic in topic()) {
        let back = mapping.reverse().map_err(|e| TestCaseError::fail(e.to_string()))?;
        let (mut remote, mut local) = (String::new(), String::new());
        if mapping.remap(&topic, &mut remote).is_ok() {
            prop_assert!(topic::matches(back.filter(), &remote));
            prop_assert_eq!(back.remap(&remote, &mut local), Ok(()), "{}", remote);
            prop_assert_eq!(local, topic);
        }
    }

    #[test]
    fn overlap_is_symmetric_and_exact(a in filter(), b in filter(), topic in topic()) {
        let (x, y) = (Shape::of_filter(&a), Shape::of_filter(&b));
        let meet = x.meet(&y);
        prop_assert_eq!(&meet, &y.meet(&x));
        let both = topic::matches(&a, &topic) && topic::matches(&b, &topic);
        let met = meet.is_some_and(|meet| Shape::of_filter(&topic).is_within(&meet));
        prop_assert_eq!(both, met, "{} {}", a, b);
    }

    #[test]
    fn an_example_of_an_overlap_is_in_both(a in filter(), b in filter()) {
        if let Some(meet) = Shape::of_filter(&a).meet(&Shape::of_filter(&b)) {
            let example = meet.example();
            prop_assert!(topic::matches(&a, &example) && topic::matches(&b, &example), "{example}");
        }
    }

    #[test]
    fn no_echo_is_missed(out in any_mapping(), inward in any_mapping(), topic in topic()) {
        let (mut remote, mut local, mut again) = (String::new(), String::new(), String::new());
        let goes_round = out.remap(&topic, &mut remote).is_ok()
            && inward.remap(&remote, &mut local).is_ok()
            && out.remap(&local, &mut again).is_ok();
        if goes_round {
            prop_assert!(echo(&out, &inward).is_some(), "{topic} -> {remote} -> {local} -> {again}");
        }
    }
}
