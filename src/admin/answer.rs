//! Answers to simple questions.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::admin::http::{Body, Request, Response};
use crate::admin::{Office, Order, metrics, status};
use crate::config::LogLevel;
use crate::engine::Sample;
use crate::engine::drill::predict;
use crate::time::Duration;

/// An outage, and the time whose traffic it is predicted from, where nothing else is said.
const OUTAGE: Duration = Duration::from_secs(8 * 3600);
const LONGEST_OUTAGE: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Alive is whoever answers; this thread asks the engine's, so it speaks for both.
pub(super) async fn health(office: &Office) -> Response {
    match office.desk.ask(|_, _| ()).await {
        Some(()) => Response::new("text/plain; charset=utf-8", Body::Fixed(b"ok\n")),
        None => stopped(),
    }
}

/// Serving is whoever lives and can make messages safe. That an upstream is away is what the gateway is for.
pub(super) async fn ready(office: &Office) -> Response {
    match office.desk.ask(|engine, _| engine.is_store_failing()).await {
        Some(false) => Response::new("text/plain; charset=utf-8", Body::Fixed(b"ready\n")),
        Some(true) => Response::error(503, "the disk takes nothing"),
        None => stopped(),
    }
}

/// How the gateway is.
pub(super) async fn status(office: &Office) -> Response {
    match office.desk.ask(|engine, now| (now, engine.overview())).await {
        Some((now, overview)) => Response::json(&status::report(office, now, &overview)),
        None => stopped(),
    }
}

/// For Prometheus.
pub(super) async fn metrics(office: &Office) -> Response {
    match office.desk.ask(|engine, now| (now, engine.overview())).await {
        Some((now, overview)) => {
            let text = metrics::text(office, now, &overview);
            Response::new(metrics::CONTENT_TYPE, Body::Whole(text.into_bytes()))
        }
        None => stopped(),
    }
}

/// The last day, a row for each minute in which something happened.
pub(super) async fn history(office: &Office) -> Response {
    let Some(samples) = office.desk.ask(|engine, _| engine.history()).await else { return stopped() };
    let row = |sample: &Sample| {
        let Sample { at, waiting, oldest_secs, received, delivered, lost, up } = sample;
        serde_json::json!([at.as_millis(), waiting, oldest_secs, received, delivered, lost, up])
    };
    Response::json(&serde_json::json!({
        "columns": ["at", "waiting", "oldest_seconds", "received", "delivered", "lost", "up"],
        "rows": samples.iter().map(row).collect::<Vec<_>>(),
    }))
}

/// What an outage would do that began now.
pub(super) async fn drill(office: &Office, request: &Request) -> Response {
    let span = |name: &str, default: Duration| match request.query(name).map(humantime::parse_duration) {
        None => Ok(default),
        Some(Ok(span)) if (Duration::from_secs(1)..=LONGEST_OUTAGE).contains(&span) => Ok(span),
        Some(_) => {
            Err(Response::error(400, &format!("`{name}` is a span from 1s to 10years, such as 30min or 8h")))
        }
    };
    let (outage, over) = match (span("outage", OUTAGE), span("over", OUTAGE)) {
        (Ok(outage), Ok(over)) => (outage, over),
        (Err(refused), _) | (_, Err(refused)) => return refused,
    };
    match office.desk.ask(move |engine, now| engine.traffic(now, over)).await {
        Some(traffic) => Response::json(&predict(&traffic, office.disk, outage)),
        None => stopped(),
    }
}

/// Clients on one page, at most; more would hold up traffic while they are copied.
const MAX_CLIENTS: usize = 500;

/// Clients in order of their ids.
pub(super) async fn clients(office: &Office, request: &Request) -> Response {
    let after = request.query("after").unwrap_or_default().to_owned();
    let max = request.query("max").map_or(Some(MAX_CLIENTS), |max| max.parse().ok());
    let Some(max) = max.filter(|max| (1..=MAX_CLIENTS).contains(max)) else {
        return Response::error(400, "`max` is a number from 1 to 500");
    };
    let found = office.desk.ask(move |engine, now| (now, engine.clients(now, &after, max))).await;
    match found {
        Some((now, (clients, more))) => Response::json(&status::page(now, clients, more)),
        None => stopped(),
    }
}

#[derive(Deserialize)]
struct Kick {
    client_id: String,
}

/// Ends the connection of a client, which may come again.
pub(super) async fn kick(office: &Office, request: &Request) -> Response {
    let Kick { client_id } = match body(request) {
        Ok(kick) => kick,
        Err(refused) => return refused,
    };
    let asked = client_id.clone();
    match office.desk.ask(move |engine, now| engine.kick(now, &asked)).await {
        Some(true) => {
            tracing::info!(who = client_id, "client sent away by an operator");
            Response::json(&serde_json::json!({ "client_id": client_id }))
        }
        Some(false) => Response::error(404, "no client of this id is connected"),
        None => stopped(),
    }
}

/// The last lines of the log, from the number `from` on.
pub(super) fn log(office: &Office, request: &Request) -> Response {
    let Some(from) = request.query("from").map_or(Some(0), |from| from.parse().ok()) else {
        return Response::error(400, "`from` is the number of a line");
    };
    let Some(log) = &office.log else { return Response::error(409, NO_LOG) };
    let (lines, next) = log.lines(from);
    Response::json(&serde_json::json!({ "level": level_name(log.level()), "next": next, "lines": lines }))
}

const NO_LOG: &str = "the log of this process is not the gateway's";

fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    }
}

#[derive(Deserialize)]
struct SetLogLevel {
    level: String,
}

/// Changes what is logged from now on.
pub(super) fn set_log_level(office: &Office, request: &Request) -> Response {
    let asked: SetLogLevel = match body(request) {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    let level = match asked.level.as_str() {
        "error" => LogLevel::Error,
        "warn" => LogLevel::Warn,
        "info" => LogLevel::Info,
        "debug" => LogLevel::Debug,
        _ => return Response::error(400, "the level is error, warn, info or debug"),
    };
    let Some(log) = &office.log else { return Response::error(409, NO_LOG) };
    log.set_level(level);
    tracing::info!(level = asked.level, "log level changed");
    Response::json(&serde_json::json!({ "level": level_name(level) }))
}

/// Has the configuration read again. A file with mistakes is no fault of the request: what is wrong is the answer.
pub(super) async fn reload(office: &Office) -> Response {
    let Some(done) = office.orders.give(Order::Reload).await else { return stopped() };
    let reloaded = done.is_ok();
    let message = done.unwrap_or_else(|error| error);
    Response::json(&serde_json::json!({ "reloaded": reloaded, "message": message }))
}

/// Has the store copied. Whoever asked takes the file away.
pub(super) async fn backup(office: &Office) -> Response {
    match office.orders.give(Order::Backup).await {
        Some(Ok(file)) => Response::json(&serde_json::json!({ "file": file })),
        Some(Err(error)) => Response::error(409, &error),
        None => stopped(),
    }
}

/// What a request brings along.
pub(super) fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Response> {
    serde_json::from_slice(&request.body).map_err(|error| Response::error(400, &format!("the body: {error}")))
}

/// The engine has ended.
pub(super) fn stopped() -> Response {
    Response::error(503, "the gateway is stopping")
}
