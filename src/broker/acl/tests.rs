//! The rules against what they mean, asked name by name.

use proptest::prelude::*;

use super::*;
use crate::config::Document;
use crate::mqtt::topic;

fn acl(toml: &str) -> Acl {
    Acl::new(&Config::parse(toml).unwrap_or_else(|error| panic!("{error}")), 1).unwrap()
}

fn names<'a>(client_id: &'a str, user: Option<&'a str>) -> Names<'a> {
    Names { client_id: Some(client_id), user }
}

fn may(acl: &Acl, who: Names<'_>, action: Action, topic: &str) -> bool {
    acl.explain(who, action, topic).allowed
}

#[test]
fn a_rule_is_for_those_of_whom_all_its_keys_hold() {
    let acl = acl("
        auth.groups = { ops = ['ann', 'bob'], empty = ['nobody'] }
        [[acl]]
        publish = 'everyone'
        [[acl]]
        user = ['ann', 'eve']
        publish = 'user'
        [[acl]]
        group = ['ops', 'empty']
        publish = 'group'
        [[acl]]
        user = ['ann', 'eve']
        group = 'ops'
        client_id = ['panel-*', 'desk']
        publish = 'all'
        [[acl]]
        anonymous = true
        publish = 'anonymous'
        [[acl]]
        anonymous = false
        publish = 'named'
    ");
    let rights = |who: Names<'_>| -> Vec<&str> {
        let topics = ["everyone", "user", "group", "all", "anonymous", "named"];
        topics.into_iter().filter(|topic| may(&acl, who, Action::Publish, topic)).collect()
    };
    assert_eq!(rights(Names::default()), ["everyone", "anonymous"]);
    assert_eq!(rights(names("panel-1", None)), ["everyone", "anonymous"]);
    assert_eq!(rights(names("panel-1", Some("ann"))), ["everyone", "user", "group", "all", "named"]);
    assert_eq!(rights(names("desk", Some("ann"))), ["everyone", "user", "group", "all", "named"]);
    assert_eq!(rights(names("desk-1", Some("ann"))), ["everyone", "user", "group", "named"]);
    assert_eq!(rights(names("panel-1", Some("bob"))), ["everyone", "group", "named"]);
    assert_eq!(rights(names("panel-1", Some("eve"))), ["everyone", "user", "named"]);
}

#[test]
fn publish_subscribe_and_read_are_told_apart_and_read_follows_subscribe() {
    let acl = acl("
        [[acl]]
        publish = 'p/#'
        subscribe = 's/#'
        [[acl]]
        user = 'ann'
        subscribe = '#'
        read = 'only/#'
        deny_subscribe = 's/secret'
    ");
    let (anyone, ann) = (names("c", None), names("c", Some("ann")));
    assert!(may(&acl, anyone, Action::Publish, "p/x") && !may(&acl, anyone, Action::Publish, "s/x"));
    assert!(may(&acl, anyone, Action::Subscribe, "s/+") && !may(&acl, anyone, Action::Subscribe, "p/x"));
    assert!(may(&acl, anyone, Action::Read, "s/x") && !may(&acl, anyone, Action::Read, "only/x"));
    assert!(may(&acl, ann, Action::Read, "only/x") && !may(&acl, ann, Action::Read, "p/x"));
    assert!(may(&acl, ann, Action::Subscribe, "p/#"));
    assert!(!may(&acl, ann, Action::Subscribe, "#") && !may(&acl, ann, Action::Subscribe, "s/+"), "part is denied");
    assert!(!may(&acl, ann, Action::Read, "s/secret"), "deny_read follows deny_subscribe");
    assert!(may(&acl, anyone, Action::Read, "s/secret"));
}

#[test]
fn a_share_and_what_begins_with_a_dollar_need_the_right_to_the_filter() {
    let acl = acl("[[acl]]\nsubscribe = ['#', '$SYS/broker/+']\npublish = '{client_id}/#'");
    let c = names("c", None);
    assert!(may(&acl, c, Action::Subscribe, "$share/g/a/#"));
    assert!(may(&acl, c, Action::Subscribe, "$share/g/$SYS/broker/x"));
    assert!(!may(&acl, c, Action::Subscribe, "$share/g/$SYS/#") && !may(&acl, c, Action::Subscribe, "$SYS/#"));
    assert!(!may(&acl, c, Action::Read, "$SYS/x") && may(&acl, c, Action::Read, "$SYS/broker/x"));
    assert!(!may(&acl, names("$SYS", None), Action::Publish, "$SYS/x"), "a name does not open the broker's own");
}

#[test]
fn filters_cover_together_what_none_covers_alone() {
    let acl = acl("[[acl]]\nsubscribe = ['a', 'a/+']\n[[acl]]\nsubscribe = ['a/+/+/#', 'b/+']");
    let c = names("c", None);
    assert!(may(&acl, c, Action::Subscribe, "a/#"));
    assert!(!may(&acl, c, Action::Subscribe, "b/#") && !may(&acl, c, Action::Subscribe, "+/x"));
    assert_eq!(acl.explain(c, Action::Subscribe, "a/#").by.as_deref(), Some("acl[0].subscribe[0]"));
    assert_eq!(acl.explain(c, Action::Subscribe, "b/x").by.as_deref(), Some("acl[1].subscribe[1]"));
}

#[test]
fn a_name_never_widens_a_filter() {
    let acl = acl("
        [[acl]]
        publish = ['dev/{client_id}/up', 'by/{user}-{client_id}/#']
        subscribe = 'home/{user}/#'
    ");
    let good = names("c1", Some("ann"));
    assert!(may(&acl, good, Action::Publish, "dev/c1/up") && may(&acl, good, Action::Publish, "by/ann-c1"));
    assert!(!may(&acl, good, Action::Publish, "dev/c2/up") && !may(&acl, good, Action::Publish, "by/ann-c"));
    assert!(may(&acl, good, Action::Subscribe, "home/ann/+"));
    for bad in ["+", "#", "c/1", "/", "x+"] {
        assert!(!may(&acl, names(bad, None), Action::Publish, &format!("dev/{bad}/up")), "{bad}");
        assert!(!may(&acl, names("c", Some(bad)), Action::Subscribe, &format!("home/{bad}/#")), "{bad}");
    }
    for nobody in [None, Some("")] {
        assert!(!may(&acl, names("c", nobody), Action::Subscribe, "home//x"));
        assert!(!may(&acl, names("c", nobody), Action::Publish, "by/-c"));
    }
}

#[test]
fn a_denial_that_cannot_be_filled_in_safely_denies_all() {
    let acl = acl("[[acl]]\npublish = '#'\ndeny_publish = 'private/{client_id}/#'\nsubscribe = '#'");
    assert!(may(&acl, names("c", None), Action::Publish, "private/d"));
    assert!(!may(&acl, names("c", None), Action::Publish, "private/c"));
    assert!(!may(&acl, names("a/b", None), Action::Publish, "x"));
    assert!(may(&acl, names("a/b", None), Action::Subscribe, "x"), "that is another list");
    assert!(may(&acl, Names::default(), Action::Publish, "private/c"), "it has no client id to be denied by");
}

#[test]
fn what_can_have_no_effect_is_told_with_its_place() {
    let only = |toml: &str| -> (usize, String) {
        let mut document = Document::parse("t.toml", toml);
        let found = check(document.draft());
        document.report(found);
        let all = document.diagnostics();
        let list: Vec<_> = all.iter().collect();
        assert_eq!(list.len(), 1, "{toml}\n{all}");
        (all.position(list[0]).0, format!("{} | {}", list[0].message, list[0].help))
    };
    let shadowed = "[[acl]]\ndeny_publish = 'a/#'\n[[acl]]\nuser = 'ann'\npublish = [\n'b',\n'a/{user}/x']\n";
    let (line, says) = only(shadowed);
    assert!(line == 7 && says.contains("allows nothing") && says.contains("`deny_publish` wins"), "{line} {says}");
    let own = "[[acl]]\nclient_id = 'x'\nread = ['a', 'c/{client_id}']\ndeny_read = ['c/{client_id}/#']\n";
    assert_eq!(only(own).0, 3);
    for fine in [
        "[[acl]]\nuser = 'bob'\ndeny_publish = '#'\n[[acl]]\nuser = 'ann'\npublish = 'a'\n",
        "[[acl]]\npublish = 'a/#'\ndeny_publish = 'a/+'\n",
        "[[acl]]\nsubscribe = '#'\ndeny_subscribe = '$SYS/#'\n",
    ] {
        assert_eq!(check(&Config::parse(fine).unwrap()), [], "{fine}");
    }
}

#[test]
fn sessions_with_the_same_rules_share_them_and_old_sets_are_let_go() {
    let mut acl = acl("[[acl]]\npublish = 'a'\n[[acl]]\nuser = 'ann'\npublish = 'b'");
    let (one, two) = (acl.access(names("1", None)), acl.access(names("2", None)));
    assert!(Rc::ptr_eq(&one.rules, &two.rules));
    let many: String = (0..200).map(|n| format!("[[acl]]\nuser = 'u{n}'\npublish = 'a'\n")).collect();
    let mut acl = self::acl(&many);
    for n in 0..200 {
        acl.access(names("c", Some(&format!("u{n}"))));
    }
    assert!(acl.sets.len() <= MIN_SETS + 1, "{}", acl.sets.len());
}

/// All topic names of up to five levels out of a few, of which `z` stands for whatever no filter spells out.
fn universe() -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut last: Vec<String> = ["a", "b", "$s", "", "z"].map(str::to_owned).to_vec();
    for _ in 0..4 {
        all.extend(last.iter().cloned());
        let longer = last.iter().flat_map(|name| ["a", "b", "", "z"].map(|level| format!("{name}/{level}")));
        last = longer.collect();
    }
    all.extend(last);
    all
}

/// A filter of up to three levels and perhaps `#`.
fn filters() -> impl Strategy<Value = String> {
    "([ab+]|[$]s|)(/([ab+]|)){0,2}(/#)?|#".prop_filter("empty", |filter| !filter.is_empty())
}

/// One `[[acl]]` of the model.
#[derive(Debug, Clone)]
struct Table {
    user: Option<&'static str>,
    client_id: Option<&'static str>,
    /// Allowed and denied, for publish, subscribe and read.
    lists: [(Vec<String>, Vec<String>); 3],
}

const KEYS: [(&str, &str); 3] =
    [("publish", "deny_publish"), ("subscribe", "deny_subscribe"), ("read", "deny_read")];
const ACTIONS: [Action; 3] = [Action::Publish, Action::Subscribe, Action::Read];

fn tables() -> impl Strategy<Value = Vec<Table>> {
    let own = "([ab+]|[{]user[}])/(x[{]client_id[}]|[{]client_id[}]|b)(/#)?";
    let granted = || prop::collection::vec(prop_oneof![3 => filters(), 1 => own], 0..4);
    let denied = || prop::collection::vec(prop_oneof![3 => filters(), 1 => own], 0..2);
    let list = || (granted(), denied());
    let who = (prop::option::of(prop::sample::select(vec!["a", "b"])), prop::option::of(Just("b*")));
    let table = (who, list(), list(), list());
    let table = table.prop_map(|((user, client_id), publish, subscribe, read)| Table {
        user,
        client_id,
        lists: [publish, subscribe, read],
    });
    prop::collection::vec(table, 1..4)
}

fn toml(tables: &[Table]) -> String {
    let mut text = String::new();
    for table in tables {
        text += "[[acl]]\n";
        text += &table.user.map(|user| format!("user = '{user}'\n")).unwrap_or_default();
        text += &table.client_id.map(|id| format!("client_id = '{id}'\n")).unwrap_or_default();
        for ((allow, deny), (allow_key, deny_key)) in table.lists.iter().zip(KEYS) {
            text += &format!("{allow_key} = {allow:?}\n{deny_key} = {deny:?}\n");
        }
    }
    text
}

/// The filter with the names written into it. `Err`: with such names it denies all and allows nothing.
fn written(filter: &str, client_id: &str, user: Option<&str>) -> Result<Option<String>, ()> {
    if filter.contains("{user}") && user.is_none() {
        return Ok(None);
    }
    let bad = |name: &str| name.contains(['+', '#', '/']);
    let uses = |key: &str, name: &str| filter.contains(key) && bad(name);
    if uses("{client_id}", client_id) || user.is_some_and(|user| uses("{user}", user)) {
        return Err(());
    }
    Ok(Some(filter.replace("{client_id}", client_id).replace("{user}", user.unwrap_or_default())))
}

/// What the tables mean, read as in the document.
fn model(tables: &[Table], client_id: &str, user: Option<&str>, action: usize, wanted: &[&String]) -> bool {
    let for_client = |table: &&Table| {
        table.user.is_none_or(|name| user == Some(name))
            && table.client_id.is_none_or(|_| client_id.starts_with('b'))
    };
    let lists: Vec<_> = tables.iter().filter(for_client).map(|table| &table.lists[action]).collect();
    let denied = lists.iter().flat_map(|(_, deny)| deny).any(|filter| match written(filter, client_id, user) {
        Err(()) => true,
        Ok(None) => false,
        Ok(Some(filter)) => wanted.iter().any(|name| topic::matches(&filter, name)),
    });
    let allowed: Vec<String> = lists
        .iter()
        .flat_map(|(allow, _)| allow)
        .filter_map(|filter| written(filter, client_id, user).ok().flatten())
        .collect();
    !denied && wanted.iter().all(|name| allowed.iter().any(|filter| topic::matches(filter, name)))
}

proptest! {
    #[test]
    fn filters_match_meet_and_cover_as_their_names_say(
        allowed in prop::collection::vec(filters(), 0..5),
        asked in filters(),
    ) {
        let config = Config::parse(&format!("[[acl]]\npublish = {allowed:?}\n")).unwrap();
        let filled: Vec<Filled<'_>> =
            config.acl[0].publish.iter().map(|filter| Filled::new(filter, Names::default())).collect();
        let all = universe();
        let wanted: Vec<&String> = all.iter().filter(|name| topic::matches(&asked, name)).collect();
        for (filter, text) in filled.iter().zip(&allowed) {
            for name in &all {
                prop_assert_eq!(filter.matches(name), topic::matches(text, name), "{} {}", text, name);
            }
            let meets = wanted.iter().any(|name| topic::matches(text, name));
            prop_assert_eq!(filter.meets(&asked), meets, "{} meets {}", text, asked);
        }
        let covers = wanted.iter().all(|name| allowed.iter().any(|filter| topic::matches(filter, name)));
        prop_assert_eq!(filter::cover(filled.into_iter(), &asked), covers, "{:?} cover {}", allowed, asked);
    }

    #[test]
    fn rules_say_what_their_tables_mean(
        tables in tables(),
        client_id in "[ab]|xb|a/b|[+]",
        user in prop::option::of("[ab]|a/b|#"),
        asked in filters(),
        topics in prop::collection::vec(prop::sample::select(universe()), 1..20),
    ) {
        let acl = acl(&toml(&tables));
        let who = names(&client_id, user.as_deref());
        for name in &topics {
            for action in [0, 2] {
                let expected = model(&tables, &client_id, user.as_deref(), action, &[name]);
                prop_assert_eq!(may(&acl, who, ACTIONS[action], name), expected, "{:?} {}", ACTIONS[action], name);
            }
        }
        let all = universe();
        // Names that a client brings along are levels of topics as well.
        let brought = [client_id.clone(), format!("x{client_id}")];
        let own = brought.iter().flat_map(|level| all.iter().map(|name| name.replace('z', level)));
        let names: Vec<String> = all.iter().cloned().chain(own).collect();
        let wanted: Vec<&String> = names.iter().filter(|name| topic::matches(&asked, name)).collect();
        let expected = model(&tables, &client_id, user.as_deref(), 1, &wanted);
        prop_assert_eq!(may(&acl, who, Action::Subscribe, &asked), expected, "subscribe {}", asked);
    }
}
