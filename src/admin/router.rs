//! What can be asked for: one table for both doors. The document api.md describes each.

use crate::admin::guard::{self, Door, Right};
use crate::admin::http::{Method, Request, Response};
use crate::admin::{Office, answer, page, queue};

/// A place and what it takes to go there.
struct Route {
    path: &'static str,
    right: Right,
    place: Place,
}

/// Who answers.
#[derive(Debug, Clone, Copy)]
enum Place {
    Page,
    Health,
    Ready,
    Metrics,
    Status,
    History,
    Drill,
    Clients,
    Kick,
    Log,
    SetLogLevel,
    Reload,
    Backup,
    Queues,
    QueueRows,
    PurgeQueue,
    Dead,
    DeadCount,
    Replay,
    PurgeDead,
}

const ROUTES: &[Route] = &[
    Route { path: "/healthz", right: Right::Open, place: Place::Health },
    Route { path: "/", right: Right::Open, place: Place::Page },
    Route { path: "/readyz", right: Right::Open, place: Place::Ready },
    Route { path: "/metrics", right: Right::Read, place: Place::Metrics },
    Route { path: "/api/status", right: Right::Read, place: Place::Status },
    Route { path: "/api/history", right: Right::Read, place: Place::History },
    Route { path: "/api/drill", right: Right::Read, place: Place::Drill },
    Route { path: "/api/clients", right: Right::Read, place: Place::Clients },
    Route { path: "/api/clients/kick", right: Right::Change, place: Place::Kick },
    Route { path: "/api/log", right: Right::Read, place: Place::Log },
    Route { path: "/api/log/level", right: Right::Change, place: Place::SetLogLevel },
    Route { path: "/api/backup", right: Right::Change, place: Place::Backup },
    Route { path: "/api/reload", right: Right::Change, place: Place::Reload },
    Route { path: "/api/queue", right: Right::Read, place: Place::Queues },
    Route { path: "/api/queue/rows", right: Right::Read, place: Place::QueueRows },
    Route { path: "/api/queue/purge", right: Right::Change, place: Place::PurgeQueue },
    Route { path: "/api/dead", right: Right::Read, place: Place::Dead },
    Route { path: "/api/dead/count", right: Right::Read, place: Place::DeadCount },
    Route { path: "/api/dead/replay", right: Right::Change, place: Place::Replay },
    Route { path: "/api/dead/purge", right: Right::Change, place: Place::PurgeDead },
];

/// Answers a request.
pub(super) async fn answer(office: &Office, door: Door, request: &Request) -> Response {
    let route = ROUTES.iter().find(|route| route.path == request.path);
    let Some(route) = route else {
        return Response::error(404, "there is nothing here: api.md says what there is");
    };
    if let Err(fault) = guard::check(office, door, route.right, request) {
        return Response::error(fault.0, fault.1);
    }
    if route.right != Right::Change && !matches!(request.method, Method::Get | Method::Head) {
        return Response::error(405, "this only shows something: GET it");
    }
    match route.place {
        Place::Health => answer::health(office).await,
        Place::Page => page::page(),
        Place::Ready => answer::ready(office).await,
        Place::Metrics => answer::metrics(office).await,
        Place::Status => answer::status(office).await,
        Place::History => answer::history(office).await,
        Place::Drill => answer::drill(office, request).await,
        Place::Clients => answer::clients(office, request).await,
        Place::Kick => answer::kick(office, request).await,
        Place::Log => answer::log(office, request),
        Place::SetLogLevel => answer::set_log_level(office, request),
        Place::Backup => answer::backup(office).await,
        Place::Reload => answer::reload(office).await,
        Place::Queues => queue::list(office).await,
        Place::QueueRows => queue::rows(office, request),
        Place::PurgeQueue => queue::purge(office, request).await,
        Place::Dead => queue::dead(office, request),
        Place::DeadCount => queue::dead_count(office).await,
        Place::Replay => queue::replay(office, request).await,
        Place::PurgeDead => queue::purge_dead(office, request).await,
    }
}
