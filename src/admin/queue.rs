//! Queues and dead letters: what lies in them, and what an operator does with it.
//!
//! How full queues are is asked of the engine. What lies in them is read from the store over a connection of its own, on
//! a thread of its own, so a long list costs the engine nothing. What changes something goes through the engine, a few
//! at a time.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::interval;

use crate::admin::Office;
use crate::admin::answer::{body, stopped};
use crate::admin::http::{Body, Request, Response};
use crate::engine::{Letter, LineStatus, Replayed};
use crate::mqtt::Message;
use crate::queue::{DeadLetter, Delivery, Look, Looks, Row, Seq};
use crate::time::Duration;

/// Pieces of a list that wait for its reader.
const PIECES: usize = 4;
/// Dead letters that the engine is given at once.
const AT_ONCE: usize = 50;
/// A commit is waited for this long, and looked for this often.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// Depth and counters of every stored queue.
pub(super) async fn list(office: &Office) -> Response {
    let Some(lines) = office.desk.ask(|engine, _| engine.status().lines).await else { return stopped() };
    Response::json(&json!({ "queues": lines.iter().map(line).collect::<Vec<_>>() }))
}

fn line(line: &LineStatus) -> Value {
    let stats = &line.stats;
    json!({
        "name": line.name,
        "messages": line.depth.messages,
        "bytes": line.depth.bytes,
        "oldest": line.depth.oldest.map(crate::time::Wall::as_millis),
        "accepted": stats.accepted,
        "delivered": stats.delivered,
        "dropped": {
            "oldest": stats.dropped_oldest,
            "newest": stats.dropped_newest,
            "replaced": stats.replaced,
            "expired": stats.expired,
            "qos0": stats.dropped_qos0,
            "denied": stats.denied,
            "purged": stats.purged,
            "lost": stats.lost,
        },
        "refused": stats.refused,
        "dead": stats.buried,
    })
}

/// What `after` and `limit` of a request say.
fn range(request: &Request) -> Result<(u64, usize), Response> {
    let number = |name: &str, default: u64| match request.query(name).map(str::parse) {
        None => Ok(default),
        Some(Ok(number)) => Ok(number),
        Some(Err(_)) => Err(Response::error(400, &format!("`{name}` is a number"))),
    };
    Ok((number("after", 0)?, usize::try_from(number("limit", u64::MAX)?).unwrap_or(usize::MAX)))
}

/// Stored messages of a queue, oldest first, a line of JSON for each.
pub(super) fn rows(office: &Office, request: &Request) -> Response {
    let Some(name) = request.query("queue").map(str::to_owned) else {
        return Response::error(400, "`queue` names the queue");
    };
    let (after, limit) = match range(request) {
        Ok(range) => range,
        Err(refused) => return refused,
    };
    stream(&office.looks, move |look, say| {
        let Some(dest) = look.find(&name)? else { return Err(format!("there is no queue {name:?}")) };
        let (mut after, mut left) = (Seq(after), limit);
        while left > 0 {
            let rows = look.rows(dest, after)?;
            let Some(last) = rows.last() else { break };
            after = last.seq;
            let shown: Vec<Value> = rows.iter().take(left).map(row).collect();
            left -= shown.len();
            if !say(&shown) {
                break;
            }
        }
        Ok(())
    })
}

/// Dead letters, oldest first, a line of JSON for each.
pub(super) fn dead(office: &Office, request: &Request) -> Response {
    let queue = request.query("queue").map(str::to_owned);
    let (mut after, mut left) = match range(request) {
        Ok(range) => range,
        Err(refused) => return refused,
    };
    stream(&office.looks, move |look, say| {
        while left > 0 {
            let letters = look.dead(queue.as_deref(), after)?;
            let Some(last) = letters.last() else { break };
            after = last.id;
            let shown: Vec<Value> = letters.iter().take(left).map(letter).collect();
            left -= shown.len();
            if !say(&shown) {
                break;
            }
        }
        Ok(())
    })
}

/// How many dead letters are kept, and how many were dropped for newer ones.
pub(super) async fn dead_count(office: &Office) -> Response {
    let looks = Arc::clone(&office.looks);
    match spawn_blocking(move || looks.open()?.dead_count()).await {
        Ok(Ok(count)) => Response::json(&json!({ "kept": count.kept, "dropped": count.dropped })),
        Ok(Err(error)) => Response::error(503, &error),
        Err(error) => Response::error(500, &error.to_string()),
    }
}

/// Lines that are read while they are sent. `say` hands some over, and says whether anybody still listens.
fn stream(
    looks: &Arc<Looks>,
    read: impl FnOnce(&dyn Look, &dyn Fn(&[Value]) -> bool) -> Result<(), String> + Send + 'static,
) -> Response {
    let ((sender, receiver), looks) = (mpsc::channel(PIECES), Arc::clone(looks));
    spawn_blocking(move || {
        let say = |values: &[Value]| {
            let text: String = values.iter().map(|value| format!("{value}\n")).collect();
            sender.blocking_send(Ok(text.into_bytes())).is_ok()
        };
        if let Err(error) = looks.open().and_then(|look| read(&*look, &say)) {
            // Nobody may listen any more: then nobody is told.
            drop(sender.blocking_send(Err(error)));
        }
    });
    Response::new("application/x-ndjson", Body::Stream(receiver))
}

fn row(row: &Row) -> Value {
    let mut value = message(&row.delivery, &row.message);
    value["seq"] = json!(row.seq.0);
    value
}

fn letter(letter: &DeadLetter) -> Value {
    let mut value = message(&letter.delivery, &letter.message);
    value["id"] = json!(letter.id);
    value["queue"] = json!(letter.queue);
    value["reason"] = json!(letter.reason);
    value["buried_at"] = json!(letter.buried_at.map(crate::time::Wall::as_millis));
    value
}

fn message(delivery: &Delivery, message: &Message) -> Value {
    let mut value = json!({
        "topic": message.topic(),
        "qos": delivery.qos.as_u8(),
        "retain": delivery.retain,
        "received_at": message.received_at.as_millis(),
        "expires_at": message.expires_at.map(crate::time::Wall::as_millis),
        "bytes": message.payload().len(),
    });
    match std::str::from_utf8(message.payload()) {
        Ok(text) => value["payload"] = json!(text),
        Err(_) => {
            let hex: String = message.payload().iter().map(|octet| format!("{octet:02x}")).collect();
            value["payload_hex"] = json!(hex);
        }
    }
    value
}

#[derive(Deserialize)]
struct Purge {
    queue: String,
}

/// Empties a queue of an upstream.
pub(super) async fn purge(office: &Office, request: &Request) -> Response {
    let Purge { queue } = match body(request) {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    let name = queue.clone();
    let asked = office.desk.ask(move |engine, now| (engine.purge_queue(now, &name), engine.batch())).await;
    match asked {
        None => stopped(),
        Some((None, _)) => Response::error(404, &format!("there is no queue {queue:?} of an upstream")),
        Some((Some(count), batch)) => {
            tracing::warn!(queue, count, "queue emptied by an operator");
            committed(office, batch, json!({ "purged": count })).await
        }
    }
}

/// Which dead letters are meant: all, or those of one queue, or those with these numbers.
#[derive(Deserialize)]
struct Which {
    queue: Option<String>,
    ids: Option<Vec<u64>>,
}

impl Which {
    /// The next that are meant, after number `after`, and the number to go on from.
    async fn next(&self, office: &Office, after: u64) -> Result<(Vec<DeadLetter>, Option<u64>), Response> {
        let (looks, queue) = (Arc::clone(&office.looks), self.queue.clone());
        let read = spawn_blocking(move || looks.open()?.dead(queue.as_deref(), after)).await;
        let mut letters = match read {
            Ok(Ok(letters)) => letters,
            Ok(Err(error)) => return Err(Response::error(503, &error)),
            Err(error) => return Err(Response::error(500, &error.to_string())),
        };
        letters.truncate(AT_ONCE);
        let last = letters.last().map(|letter| letter.id);
        if let Some(ids) = &self.ids {
            letters.retain(|letter| ids.contains(&letter.id));
        }
        Ok((letters, last))
    }
}

/// Sends dead letters through the rules anew.
pub(super) async fn replay(office: &Office, request: &Request) -> Response {
    let which: Which = match body(request) {
        Ok(which) => which,
        Err(refused) => return refused,
    };
    // One at a time: what one has put back, the next must not find.
    let _turn = office.replay.lock().await;
    let (mut after, mut batch) = (0, 0);
    let mut done: Vec<(u64, Replayed)> = Vec::new();
    loop {
        let (letters, last) = match which.next(office, after).await {
            Ok(next) => next,
            Err(refused) => return refused,
        };
        let Some(last) = last else { break };
        after = last;
        let asked = office.desk.ask(move |engine, now| {
            let replay = |letter: DeadLetter| {
                let DeadLetter { id, queue, delivery, message, .. } = letter;
                (id, engine.replay(now, Letter { id, queue, delivery, message }))
            };
            let done: Vec<(u64, Replayed)> = letters.into_iter().map(replay).collect();
            (done, engine.batch())
        });
        let Some((some, in_batch)) = asked.await else { return stopped() };
        done.extend(some);
        batch = in_batch;
    }
    let queued = done.iter().filter(|(_, what)| *what == Replayed::Queued).count();
    let left: Vec<Value> = done
        .iter()
        .filter(|(_, what)| *what != Replayed::Queued)
        .map(|(id, what)| json!({ "id": id, "reason": what.as_str() }))
        .collect();
    tracing::info!(queued, left = left.len(), "dead letters replayed by an operator");
    committed(office, batch, json!({ "queued": queued, "left": left })).await
}

/// Deletes dead letters.
pub(super) async fn purge_dead(office: &Office, request: &Request) -> Response {
    let which: Which = match body(request) {
        Ok(which) => which,
        Err(refused) => return refused,
    };
    let _turn = office.replay.lock().await;
    let (mut after, mut batch, mut count) = (0, 0, 0);
    loop {
        let (letters, last) = match which.next(office, after).await {
            Ok(next) => next,
            Err(refused) => return refused,
        };
        let Some(last) = last else { break };
        after = last;
        let ids: Vec<u64> = letters.iter().map(|letter| letter.id).collect();
        count += ids.len();
        let asked = office.desk.ask(move |engine, now| {
            engine.purge_dead(now, &ids);
            engine.batch()
        });
        let Some(in_batch) = asked.await else { return stopped() };
        batch = in_batch;
    }
    tracing::warn!(count, "dead letters deleted by an operator");
    committed(office, batch, json!({ "purged": count })).await
}

/// The answer, once what it tells is durable.
async fn committed(office: &Office, batch: u64, answer: Value) -> Response {
    let mut looks = interval(LOOK);
    for _ in 0..COMMIT_LIMIT.as_millis() / LOOK.as_millis() {
        looks.tick().await;
        match office.desk.ask(move |engine, _| engine.is_safe(batch)).await {
            None => return stopped(),
            Some(true) => return Response::json(&answer),
            Some(false) => {}
        }
    }
    Response::error(503, "the disk has not taken it yet; `moteway queue ls` tells when it has")
}
