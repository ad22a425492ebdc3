//! What must hold when the world is calm again: promises 1 to 3.

use std::collections::{BTreeMap, BTreeSet};

use moteway::mqtt::QoS;

use crate::client::MessageId;
use crate::mote::Mote;
use crate::world::World;

/// What was found wrong, in words; empty when all promises held.
pub fn check(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let cloud: Vec<(MessageId, QoS)> = world.cloud.received.iter().map(|(_, id, qos)| (*id, *qos)).collect();
    for publisher in publishers(world) {
        at_cloud(world, &publisher, &cloud, &mut missing, &mut wrong);
        for (topic, id, _) in &world.cloud.received {
            let expected = publisher.topic.replacen("site/", "fleet/box/", 1);
            if id.0 == publisher.number && *topic != expected {
                wrong.push(format!("{id:?} came as {topic}, not as {expected}"));
            }
        }
        for subscriber in world.clients.iter().filter(|client| client.subscribes == Some("site/#")) {
            arrived(&format!("subscriber {}", subscriber.number), &publisher, &subscriber.received, &mut wrong);
        }
        shared("$share/once/site/#", world, &publisher, &mut wrong);
        shared("$share/twice/site/#", world, &publisher, &mut wrong);
        for subscriber in world.clients.iter().filter(|client| client.subscribes == Some("#")) {
            // It may read this much of what it asked for.
            if publisher.topic.starts_with("site/a/") {
                arrived("subscriber to #", &publisher, &subscriber.received, &mut wrong);
            } else if subscriber.received.iter().any(|(id, _)| id.0 == publisher.number) {
                wrong.push(format!("a subscriber to # got {}, which it may not read", publisher.topic));
            }
        }
        if publisher.unacked > 0 {
            wrong.push(format!(
                "publisher {} still waits for {} acknowledgements",
                publisher.number, publisher.unacked
            ));
        }
    }
    for (rule, mut lost) in missing {
        // Promise 2: what a rule keeps back by its policy, it counts.
        let counted = world.evicted(rule);
        if lost.len() as u64 > counted {
            wrong.push(format!("rule {rule} counts {counted} dropped, of {} that did not arrive", lost.len()));
            wrong.append(&mut lost);
        }
    }
    for subscriber in world.clients.iter().filter(|client| client.subscribes == Some("command/#")) {
        acked_arrived("command subscriber", &world.cloud.acked, &subscriber.received, &mut wrong);
    }
    for mortal in world.clients.iter().filter(|client| client.topic.starts_with("will/")) {
        for watch in world.clients.iter().filter(|client| client.subscribes == Some("will/#")) {
            // While the disk is full, clients come in without it.
            if !world.had_full_disk {
                acked_arrived("those who wait for wills", &mortal.acked, &watch.received, &mut wrong);
            }
        }
    }
    for client in world.clients.iter().filter(|client| client.got_back && !world.had_full_disk) {
        wrong.push(format!("client {} has a session again that it was told is no more", client.number));
    }
    if world.cloud.unacked() > 0 {
        wrong.push(format!("the cloud still waits for {} acknowledgements", world.cloud.unacked()));
    }
    wrong
}

/// What a node published and the one that listens to it got.
pub fn from_one_to_one(publisher: &Mote, listener: &Mote, wrong: &mut Vec<String>) {
    let place = format!("mote {}", listener.number);
    let of = Publisher {
        number: publisher.number,
        topic: &publisher.topic,
        qos: publisher.qos,
        acked: &publisher.acked,
        unacked: usize::from(publisher.waits()),
    };
    arrived(&place, &of, &listener.received, wrong);
    if of.unacked > 0 {
        wrong.push(format!("mote {} still waits for an acknowledgement", publisher.number));
    }
}

/// A client or a radio node that publishes.
struct Publisher<'a> {
    number: u32,
    topic: &'a str,
    qos: QoS,
    acked: &'a [MessageId],
    unacked: usize,
}

fn publishers(world: &World) -> impl Iterator<Item = Publisher<'_>> {
    let clients = world.clients.iter().filter(|client| client.topic.starts_with("site/")).map(|client| Publisher {
        number: client.number,
        topic: &client.topic,
        qos: client.qos,
        acked: &client.acked,
        unacked: client.unacked(),
    });
    let nodes = world.nodes.iter().map(|node| Publisher {
        number: node.number,
        topic: node.topic,
        qos: node.qos,
        acked: &node.acked,
        unacked: usize::from(node.waits()),
    });
    clients.chain(nodes)
}

/// The rules drop what they say, and no more than they count. What was published last under a topic stays, of which only
/// the newest waits.
fn at_cloud<'w>(
    world: &'w World,
    publisher: &Publisher<'_>,
    received: &[(MessageId, QoS)],
    missing: &mut BTreeMap<&'w str, Vec<String>>,
    wrong: &mut Vec<String>,
) {
    let own: Vec<(MessageId, QoS)> = received.iter().filter(|(id, _)| id.0 == publisher.number).copied().collect();
    let rules = world.config.upstream[0].rule.iter().map(|rule| rule.name.as_str());
    let area = if publisher.topic.starts_with("site/a/") { "newest" } else { "fresh" };
    let evicts = !publisher.topic.starts_with("site/n/") && rules.clone().any(|rule| rule == area);
    let rule = if evicts { area } else { "all" };
    let rule = rules.clone().find(|name| *name == rule).unwrap_or("all");
    acked_arrived("cloud", publisher.acked, &own, missing.entry(rule).or_default());
    if rule == "newest" {
        let last: Vec<MessageId> = publisher.acked.iter().max().copied().into_iter().collect();
        acked_arrived("cloud as the newest", &last, &own, wrong);
    }
    if rule == "newest" && world.crashes > 0 {
        // A power cut may undo that a newer message took the place of an older one. Then both come, the newest last.
        let newest = own.iter().map(|(id, _)| id).max();
        if own.last().map(|(id, _)| id) != newest {
            wrong.push(format!("{:?} came last to the cloud, and the newest is {newest:?}", own.last()));
        }
    } else {
        in_order("cloud", &own, wrong);
    }
    // With an upstream that lost its session, what it had not completed comes again: a copy, not a loss.
    if publisher.qos == QoS::ExactlyOnce && world.cloud.forgotten == 0 {
        exactly_once("cloud", &own, wrong);
    }
}

fn arrived(place: &str, publisher: &Publisher<'_>, received: &[(MessageId, QoS)], wrong: &mut Vec<String>) {
    let own: Vec<(MessageId, QoS)> = received.iter().filter(|(id, _)| id.0 == publisher.number).copied().collect();
    acked_arrived(place, publisher.acked, &own, wrong);
    in_order(place, &own, wrong);
    if publisher.qos == QoS::ExactlyOnce {
        exactly_once(place, &own, wrong);
    }
}

/// The members of a shared subscription are one destination: what they got, put together, is what one would have got.
/// Order is not theirs to keep (MQTT 5.0, 4.6). What was begun at QoS 2 ends with the session [MQTT-4.8.2-5].
fn shared(filter: &str, world: &World, publisher: &Publisher<'_>, wrong: &mut Vec<String>) {
    let members = world.clients.iter().filter(|client| client.subscribes == Some(filter));
    let all = members.clone().flat_map(|member| member.received.iter());
    let own: Vec<(MessageId, QoS)> = all.filter(|(id, _)| id.0 == publisher.number).copied().collect();
    let mut missing = Vec::new();
    acked_arrived(filter, publisher.acked, &own, &mut missing);
    let exactly_once = publisher.qos == QoS::ExactlyOnce && members.clone().any(|m| m.qos == QoS::ExactlyOnce);
    let may_miss = if exactly_once { world.ended_with_session() } else { 0 };
    if missing.len() as u64 > may_miss {
        wrong.append(&mut missing);
    }
    if exactly_once {
        self::exactly_once(filter, &own, wrong);
    }
}

/// Promise 1: acknowledged means safe.
fn acked_arrived(place: &str, acked: &[MessageId], received: &[(MessageId, QoS)], wrong: &mut Vec<String>) {
    let there: BTreeSet<MessageId> = received.iter().map(|(id, _)| *id).collect();
    for id in acked.iter().filter(|id| !there.contains(id)) {
        wrong.push(format!("{id:?} was acknowledged and never reached {place}"));
    }
}

/// Promise 3: the first copies of each publisher's messages come in its order.
fn in_order(place: &str, received: &[(MessageId, QoS)], wrong: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    let mut last: BTreeMap<u32, u64> = BTreeMap::new();
    for (id, _) in received {
        if seen.insert(*id) {
            let before = last.insert(id.0, id.1).unwrap_or(0);
            if before > id.1 {
                wrong.push(format!("{id:?} reached {place} after {before}"));
            }
        }
    }
}

/// Promise 3: QoS 2 is exactly once.
fn exactly_once(place: &str, received: &[(MessageId, QoS)], wrong: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (id, qos) in received {
        if *qos == QoS::ExactlyOnce && !seen.insert(*id) {
            wrong.push(format!("{id:?} reached {place} twice at QoS 2"));
        }
    }
}
