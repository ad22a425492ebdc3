//! Answers to simple questions.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::admin::Office;
use crate::admin::http::{Body, Request, Response};
use crate::config::LogLevel;

/// Alive is whoever answers; this thread asks the engine's, so it speaks for both.
pub(super) async fn health(office: &Office) -> Response {
    match office.desk.ask(|_, _| ()).await {
        Some(()) => Response::new("text/plain; charset=utf-8", Body::Fixed(b"ok\n")),
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
    let Some(done) = office.reloads.ask().await else { return stopped() };
    let reloaded = done.is_ok();
    let message = done.unwrap_or_else(|error| error);
    Response::json(&serde_json::json!({ "reloaded": reloaded, "message": message }))
}

/// What a request brings along.
pub(super) fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Response> {
    serde_json::from_slice(&request.body).map_err(|error| Response::error(400, &format!("the body: {error}")))
}

/// The engine has ended.
pub(super) fn stopped() -> Response {
    Response::error(503, "the gateway is stopping")
}
